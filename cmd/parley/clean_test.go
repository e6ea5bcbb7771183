package main

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/parley-p2p/parley/node/control"
)

func TestCleanLine(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain ä 漢":              "plain ä 漢",
		"a\nb\r\nc\n":            "a; b; c",
		"\n\n":                   "",
		"\x1b[2Jgone":            "\ufffd[2Jgone",
		"c1 \u009b31m":           "c1 \ufffd31m",
		"bidi \u202eevil":        "bidi \ufffdevil",
		"zero\u200bwidth":        "zero\ufffdwidth",
		"bad \xff utf8":          "bad \ufffd utf8",
		"tab\there":              "tab here",
		"line\u2028sep\x00\x7f!": "line\ufffdsep\ufffd\ufffd!",
	} {
		if got := cleanLine(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func FuzzClean(f *testing.F) {
	f.Add("x\x1b[31m\u009b\u202e\U000e0001\n\xff")
	f.Fuzz(func(t *testing.T, s string) {
		if line := cleanLine(s); !utf8.ValidString(line) || strings.ContainsFunc(line, hostile) {
			t.Errorf("%q", line)
		}
		b, err := json.Marshal(map[string]string{"k": s})
		if err != nil {
			t.Fatal(err)
		}
		clean := cleanJSON(b)
		if strings.ContainsFunc(clean, hostile) {
			t.Errorf("%q", clean)
		}
		var before, after map[string]string
		if err := json.Unmarshal(b, &before); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(clean), &after); err != nil || !reflect.DeepEqual(before, after) {
			t.Errorf("%q became %q, %v", before, after, err)
		}
	})
}

// TestTablesAreClean fills a status with texts that a handler or another node
// could have written.
func TestTablesAreClean(t *testing.T) {
	t.Parallel()
	evil := "\x1b]0;owned\x07\nfake line\u202e"
	s := control.Status{Version: evil, Network: evil, DataDir: evil, NotReady: evil, Clock: evil,
		Handlers: []control.HandlerStatus{{DNA: evil, State: evil, LastError: evil, File: evil, Functions: []string{evil}}},
		Rejected: []control.RejectedFile{{File: evil, Reason: evil}},
		Damaged:  []control.DamagedChain{{DNA: evil, Reason: evil, Path: evil}},
		Sessions: []control.SessionStatus{{}},
		DHT:      control.DHTStatus{LastError: evil},
		Limits:   []control.LimitStatus{{Name: evil}},
	}
	l := control.LookupResult{Source: control.Source(evil), Route: []control.RouteStep{{Answer: evil}}}
	plugins := []control.PluginStatus{{File: evil, DNA: evil, Integrity: evil, State: evil, SHA256: evil, LastError: evil, Good: evil + "g", Trying: evil,
		Refused: evil + "r", Draining: []control.DrainingPlugin{{SHA256: evil}}, Quarantined: []control.QuarantinedPlugin{{SHA256: evil, Reason: evil}},
		Layers: []control.PluginLayer{{Name: evil, State: evil, Detail: evil}}}}
	event := eventLine(&control.PluginEvent{File: evil, DNA: evil, Kind: evil, SHA256: evil, Text: evil})
	for _, text := range []string{statusText(&s, plugins, s.Since), lookupText(l), pluginsText(plugins, s.Since), outcomeText(plugins), event} {
		if strings.ContainsFunc(strings.ReplaceAll(text, "\n", ""), hostile) {
			t.Errorf("%q", text)
		}
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, "fake line") {
				t.Errorf("a text made a line of its own: %q", text)
			}
		}
	}
}
