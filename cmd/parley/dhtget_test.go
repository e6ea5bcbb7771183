package main

import (
	"strings"
	"testing"

	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
)

// TestDHTGet has one node publish an entry, and others find it by the command line:
// every node and every command is a process of its own.
func TestDHTGet(t *testing.T) {
	t.Parallel()
	plugins := board.build(t)
	bob := startNode(t, newData(t, ""), "--plugins", plugins)
	alice := startNode(t, newData(t, ""), "--plugins", plugins, "--bootstrap", bob.peer)
	author := alice.agent()
	runParley(t, "call", "board", "post", `"mind the gap"`, "--data", alice.data).ok(t)
	record := func(typ string) sdk.Hash {
		records := okJSON[[]recordJSON](t, runParley(t, "chain", "show", "board", "--type", typ, "--json", "--data", alice.data))
		if len(records) != 1 {
			t.Fatalf("%s: %+v", typ, records)
		}
		return records[0].Hash
	}
	note, draft := record("note"), record("draft")
	alice.await("its entry is published", func(s *control.Status) bool { return s.DHT.EntriesPublished == 1 && s.DHT.EntriesWaiting == 0 })

	get := func(n *runningNode, hash sdk.Hash, flags ...string) result {
		return runParley(t, append([]string{"dht", "get", hash.String(), "--dna", "board", "--data", n.data}, flags...)...)
	}
	check := func(n *runningNode) {
		t.Helper()
		r := okJSON[recordJSON](t, get(n, note, "--json"))
		if r.Hash != note || r.Author != author || r.Type != "note" || r.Visibility != "public" || string(r.Value) != `"mind the gap"` {
			t.Errorf("%+v", r)
		}
		out := get(n, note).ok(t)
		for _, want := range []string{note.String(), author.String(), `"mind the gap"`} {
			if !strings.Contains(out, want) {
				t.Errorf("%q is not told:\n%s", want, out)
			}
		}
		if r := get(n, draft); r.code == 0 || strings.Contains(r.out+r.err, "mind the gap") {
			t.Errorf("a private entry was found: %+v", r)
		}
	}
	check(bob)
	if out := get(alice, note).ok(t); !strings.Contains(out, "mind the gap") { // from its own chain
		t.Errorf("the author prints %q", out)
	}

	alice.stop() // who comes later has it of those who keep it
	carol := startNode(t, newData(t, ""), "--plugins", plugins, "--bootstrap", bob.peer)
	check(carol)
	none := startNode(t, newData(t, ""), "--bootstrap", bob.peer)
	checkFailure(t, "without the DNA", get(none, note, "--json"), sdk.NoHandler)
}

func TestEntryText(t *testing.T) {
	t.Parallel()
	r := sdk.Record{Header: sdk.Header{Version: sdk.HeaderVersion, Seq: 7, Kind: sdk.KindEntry, EntryType: "no\x1bte", Visibility: sdk.Public}, Content: []byte("\xa2hi")}
	out := entryText(&r)
	for _, want := range []string{r.Hash().String(), r.Header.Author.String(), "7", `"hi"`} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not told:\n%s", want, out)
		}
	}
	if strings.Contains(out, "\x1b") {
		t.Errorf("what another agent wrote reaches the terminal: %q", out)
	}
}

func TestEntriesText(t *testing.T) {
	t.Parallel()
	for want, d := range map[string]control.DHTStatus{
		"":                    {Contacts: 1},
		"2 published, 1 wait": {EntriesPublished: 2, EntriesWaiting: 1},
		"2 published, 0 wait; last error: no one":                                       {EntriesPublished: 2, LastEntryError: "no one"},
		"1 published, 0 wait, 9 older ones are over the limit (setting public-entries)": {EntriesPublished: 1, EntriesLeftOut: 9},
	} {
		if got := entriesText(&d); got != want {
			t.Errorf("%+v: %q, want %q", d, got, want)
		}
	}
}
