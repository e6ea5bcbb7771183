package node

import (
	"bytes"
	"context"
	"crypto/sha256"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-p2p/parley/dht"
	"github.com/parley-p2p/parley/node/chain"
	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
)

// A private entry can't be published by any path: the publisher passes it over;
// and one that got past that is refused where it leaves, by each holder, and by
// each reader.
func TestPrivateIsNeverPublished(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const secret = "the secret"
		fake := newFakeEntries()
		var seen [][]byte
		fake.refuse = func(_ dht.ID, body []byte) error { seen = append(seen, bytes.Clone(body)); return nil }
		n := newEntryNode(t, t.TempDir(), fake, nil)
		a := n.add("raw", nil)
		time.Sleep(publishStart)
		private := func(text string) sdk.Entry { return sdk.Entry{Type: "note", Content: []byte(text)} }
		rs := n.commit(a, private(secret), publicNote("said"), private(secret+" too"), publicNote("said again"), private(secret))
		time.Sleep(30 * time.Hour)
		synctest.Wait()
		if len(seen) != 6 {
			t.Fatalf("%d puts", len(seen))
		}
		for _, body := range seen {
			r, err := chain.ParsePublic(body)
			if err != nil || r.Header.Visibility != sdk.Public || bytes.Contains(body, []byte(secret)) {
				t.Errorf("published: %+v, %v", r, err)
			}
		}
		before := len(seen)
		all, err := a.chain.Query(sdk.Query{})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range all {
			public := r.Header.Kind == sdk.KindEntry && r.Header.Visibility == sdk.Public
			// One that was planned by mistake.
			e := &publishing{publicEntry: publicEntry{chain.Public{Seq: r.Header.Seq, Hash: r.Hash()}, a}}
			if _, err := n.publisher.put(t.Context(), e); (err == nil) != public {
				t.Errorf("record %d, public %t: %v", r.Header.Seq, public, err)
			}
			// One that another program published.
			if id, _, err := checkEntry(encodeAnyway(&r)); (err == nil) != public || public && id != ids(r)[0] {
				t.Errorf("record %d, public %t: a holder says %v", r.Header.Seq, public, err)
			}
			// A get of the own handler, and of a client.
			if got, err := n.get(t.Context(), a, a.handler, r.Hash()); (err == nil) != public || !public && (!sdk.IsNotFound(err) || got.Content != nil) {
				t.Errorf("record %d, public %t: get says %v", r.Header.Seq, public, err)
			}
			if got, err := n.GetEntry(t.Context(), "raw", r.Hash()); (err == nil) != public || got.Content != nil != public {
				t.Errorf("record %d, public %t: a client hears %v", r.Header.Seq, public, err)
			}
		}
		// An export that is for others.
		var export bytes.Buffer
		if err := n.ExportChain(t.Context(), "raw", control.ExportOptions{}, &export); err != nil ||
			bytes.Contains(export.Bytes(), []byte(secret)) || !bytes.Contains(export.Bytes(), []byte("said again")) {
			t.Errorf("the export holds a private entry, or lacks a public one: %v", err)
		}
		// One that a dishonest holder hands out to a node that is no better.
		reader := newEntryNode(t, t.TempDir(), fake, nil)
		b := reader.add("raw", nil)
		reader.entries = lyingDHT(func(dht.ID) []byte { return encodeAnyway(&rs[0]) })
		if got, err := reader.get(t.Context(), b, b.handler, rs[0].Hash()); err == nil || got.Content != nil {
			t.Errorf("a reader took it: %+v", got)
		}
		if got := len(seen) - before; got != 2 { // by put, of the two public ones
			t.Errorf("%d more puts", got)
		}
	})
}

// encodeAnyway is a record in the form of a public entry, whatever it is.
func encodeAnyway(r *sdk.Record) []byte {
	b := sdk.AppendHeader(nil, &r.Header)
	b = append(b, r.Signature[:]...)
	return append(b, r.Content...)
}

// lyingDHT hands out what no DHT does: unchecked bodies.
type lyingDHT func(id dht.ID) []byte

func (lyingDHT) PutEntry(context.Context, dht.ID, []byte) (int, error) { return 0, dht.ErrNoAnswer }

func (l lyingDHT) GetEntry(_ context.Context, id dht.ID) ([]byte, *dht.Result, error) {
	return l(id), &dht.Result{}, nil
}

func TestEntryID(t *testing.T) {
	t.Parallel()
	dna, record := sdk.DNAHash{1, 2, 3}, sdk.Hash{4, 5, 6}
	var b []byte
	b = append(b, "dht-entry-v1"...)
	b = append(append(b, dna[:]...), record[:]...)
	if id := entryID(dna, record); id != sha256.Sum256(b) {
		t.Errorf("got %s", id)
	}
	r := foreignRecord(t, dna, "hello")
	body, err := chain.AppendPublic(nil, &r)
	if err != nil {
		t.Fatal(err)
	}
	id, author, err := checkEntry(body)
	if err != nil || id != entryID(dna, r.Hash()) || author != dht.Key(r.Header.Author) {
		t.Errorf("%s, %s, %v", id, author, err)
	}
	checkVectors(t, "testdata/entries.hex", []struct {
		name  string
		bytes []byte
	}{{"entry-body", body}, {"entry-id", id[:]}})
}
