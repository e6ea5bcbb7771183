package main

import (
	"strings"
	"testing"

	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
)

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
