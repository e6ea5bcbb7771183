package main

import (
	"bytes"
	"testing"
	"time"

	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
)

// Each signal is a line, what was lost and what can't be shown goes to stderr, and no
// control character of an author's reaches the terminal.
func TestSignalPrinter(t *testing.T) {
	t.Parallel()
	at := time.Unix(1_700_000_000, 0).UTC()
	payload, err := sdk.Marshal(map[string]string{"m": "a\x1b[2J\nb"})
	if err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]struct {
		json     bool
		out, err string
	}{
		"text": {false, "{\"m\":\"a\\u001b[2J\\nb\"}\n", "watching d\n3 signals were lost: this came too slowly\na signal of 1 bytes has no JSON form: see it with --json\n"},
		"JSON": {true, "{\"seq\":1,\"time\":\"2023-11-14T22:13:20Z\",\"dna\":\"d\",\"value\":{\"m\":\"a\\u001b[2J\\nb\"}}\n" +
			"{\"seq\":5,\"time\":\"2023-11-14T22:13:20Z\",\"dna\":\"d\",\"lost\":3,\"payload\":\"wQ==\"}\n", "watching d\n"},
	} {
		var out, errOut bytes.Buffer
		c := &cli{out: &out, errOut: &errOut, json: x.json}
		tell := c.signalPrinter(2)
		for i, s := range []control.Signal{{DNA: "d", Began: true}, {Seq: 1, Time: at, DNA: "d", Payload: payload},
			{Seq: 5, Time: at, DNA: "d", Payload: []byte{0xc1}, Lost: 3}} {
			if err := tell(s); (err == errEnough) != (i == 2) {
				t.Errorf("%s: signal %d: %v", name, i, err)
			}
		}
		if out.String() != x.out || errOut.String() != x.err {
			t.Errorf("%s prints\n%s%s\nwant\n%s%s", name, out.String(), errOut.String(), x.out, x.err)
		}
	}
}

func TestWatchNeedsADNA(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"watch"}, {"watch", "a", "b"}, {"watch", "a", "--count", "-1"}, {"online", "nobody"}} {
		if code := cmd(append(args, "--data", t.TempDir())...).code; code != exitUsage {
			t.Errorf("%v: exit code %d", args, code)
		}
	}
}
