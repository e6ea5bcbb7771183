package chain

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// publicRecord is a signed public entry.
func publicRecord(typ string, content []byte) *sdk.Record {
	r := &sdk.Record{Content: content, Header: sdk.Header{Version: sdk.HeaderVersion, DNA: testDNA.Hash(), Author: agentOf(alice), Seq: 7,
		Prev: sdk.Hash{9}, Time: time.UnixMicro(1_700_000_000_000_000).UTC(), Kind: sdk.KindEntry, EntryType: typ, Visibility: sdk.Public,
		Entry: sdk.EntryHash(content), Cause: receive(7)}}
	signRecord(r)
	return r
}

func signRecord(r *sdk.Record) {
	p := plan{}
	p.add(&r.Header, r.Content, &r.Header.Entry)
	p.sign(alice)
	_, sig, _, err := splitRecord(p.records[0].key, p.records[0].value)
	if err != nil {
		panic(err)
	}
	copy(r.Signature[:], sig)
}

func mustPublic(t testing.TB, r *sdk.Record) []byte {
	t.Helper()
	b, err := AppendPublic(nil, r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestGoldenPublic(t *testing.T) {
	t.Parallel()
	r := publicRecord("bid", []byte("$50 on the clown"))
	b := mustPublic(t, r)
	if len(b) != sdk.PublicSize("bid", r.Content) || publicHeader+1 != len(sdk.AppendHeader(nil, &r.Header))-len("bid") {
		t.Fatalf("%d bytes", len(b))
	}
	golden(t, "public.hex", "a public entry as it is published", []part{
		{"header: version, DNA, author, sequence, previous, time, kind, visibility, cause, entry hash, type", b[:publicHeader+4]},
		{"signature", b[publicHeader+4 : publicHeader+4+signatureLen]},
		{"content", b[publicHeader+4+signatureLen:]},
	})
	got, err := ParsePublic(b)
	if err != nil || got.Hash() != r.Hash() || !bytes.Equal(got.Content, r.Content) || got.Signature != r.Signature {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestParsePublic(t *testing.T) {
	t.Parallel()
	room := sdk.MaxPublic - sdk.PublicSize("bid", nil)
	for name, c := range map[string]struct {
		record func() *sdk.Record
		change func(b []byte) []byte // of the encoding
		err    string
	}{
		"empty content": {record: func() *sdk.Record { return publicRecord("bid", []byte{}) }},
		"long type":     {record: func() *sdk.Record { return publicRecord(strings.Repeat("t", sdk.MaxEntryType), []byte{}) }},
		"the largest":   {record: func() *sdk.Record { return publicRecord("bid", make([]byte, room)) }},
		"a byte more":   {change: func(b []byte) []byte { return append(b, 0) }, err: "entry's hash"},
		"a byte less":   {change: func(b []byte) []byte { return b[:len(b)-1] }, err: "entry's hash"},
		"content":       {change: func(b []byte) []byte { b[len(b)-1] ^= 1; return b }, err: "entry's hash"},
		"nothing":       {change: func([]byte) []byte { return nil }, err: "no header"},
		"half a header": {change: func(b []byte) []byte { return b[:publicHeader] }, err: "no header"},
		"no type":       {change: func(b []byte) []byte { b[publicHeader] = 0; return b }, err: "entry type of 0 bytes"},
		"type over the end": {change: func(b []byte) []byte { b[publicHeader] = 255; return b },
			err: "header and signature have"},
		"no signature": {change: func(b []byte) []byte { return b[:publicHeader+4+signatureLen-1] }, err: "header and signature have"},
		"signature":    {change: func(b []byte) []byte { b[publicHeader+4] ^= 1; return b }, err: "bad signature"},
		"version":      {change: func(b []byte) []byte { b[0] = 2; return b }, err: "version 2"},
		"DNA":          {change: func(b []byte) []byte { b[1] ^= 1; return b }, err: "bad signature"},
		"author":       {change: func(b []byte) []byte { copy(b[33:], bobKey()); return b }, err: "bad signature"},
		"sequence":     {change: func(b []byte) []byte { b[72] ^= 1; return b }, err: "bad signature"},
		"made public after signing": {record: func() *sdk.Record {
			r := publicRecord("bid", []byte("x"))
			r.Header.Visibility = sdk.Private
			signRecord(r)
			r.Header.Visibility = sdk.Public
			return r
		}, err: "bad signature"},
		"oversize": {change: func(b []byte) []byte { return append(b, make([]byte, sdk.MaxPublic)...) }, err: "at most 4096"},
	} {
		r := publicRecord("bid", []byte("$50"))
		if c.record != nil {
			r = c.record()
		}
		b := mustPublic(t, r)
		if c.change != nil {
			b = c.change(b)
		}
		got, err := ParsePublic(b)
		if c.err == "" && (err != nil || got.Hash() != r.Hash() || got.Content == nil) || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s: %v, want %q", name, err, c.err)
		}
	}
}

func bobKey() []byte { a := agentOf(bob); return a[:] }

// What is no public entry can be neither written nor read, however well signed.
func TestNotPublic(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*sdk.Record){
		"private":           func(r *sdk.Record) { r.Header.Visibility = sdk.Private },
		"genesis":           func(r *sdk.Record) { r.Header.Kind, r.Header.Seq, r.Header.Cause = sdk.KindGenesis, 0, sdk.Cause{} },
		"sequence 0":        func(r *sdk.Record) { r.Header.Seq = 0 },
		"no cause":          func(r *sdk.Record) { r.Header.Cause = sdk.Cause{} },
		"the node's own":    func(r *sdk.Record) { r.Header.EntryType = "parley.init" },
		"type is no UTF-8":  func(r *sdk.Record) { r.Header.EntryType = "\xff" },
		"withheld":          func(r *sdk.Record) { r.Content = nil },
		"another's content": func(r *sdk.Record) { r.Content = []byte("$5000") },
		"too large": func(r *sdk.Record) {
			r.Content = make([]byte, sdk.MaxPublic)
			r.Header.Entry = sdk.EntryHash(r.Content)
		},
	} {
		r := publicRecord("bid", []byte("$50"))
		change(r)
		signRecord(r)
		if b, err := AppendPublic(nil, r); err == nil || b != nil {
			t.Errorf("%s: written", name)
		}
		b := sdk.AppendHeader(nil, &r.Header)
		b = append(append(b, r.Signature[:]...), r.Content...)
		if _, err := ParsePublic(b); err == nil {
			t.Errorf("%s: read", name)
		}
	}
}

func FuzzParsePublic(f *testing.F) {
	f.Add(mustPublic(f, publicRecord("bid", []byte("$50"))))
	f.Add(mustPublic(f, publicRecord("t", []byte{})))
	f.Add(make([]byte, publicHeader+1+signatureLen))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParsePublic(b)
		if err != nil {
			return
		}
		if again, err := AppendPublic(nil, r); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x became %x, %v", b, again, err)
		}
		if err := r.Verify(); err != nil || r.Header.Visibility != sdk.Public {
			t.Fatalf("%+v: %v", r.Header, err)
		}
	})
}

// The index knows the durable public entries and no others, after a restart and
// after a crash too.
func TestPublicIndex(t *testing.T) {
	t.Parallel()
	o := testOptions(t)
	c, seam := openSeams(t, o)
	if list, total := c.NewestPublic(10); len(list) != 0 || total != 0 { // the genesis record is public
		t.Fatalf("a new chain: %+v, %d", list, total)
	}
	mustAppend(t, c, Batch{Cause: function(1), Entries: entries("n", 2, 10)}) // 2, 4 and 6 are public
	if err := c.checkpoint(); err != nil {
		t.Fatal(err)
	}
	seam.set(noCheckpoint)
	mustAppend(t, c, Batch{Cause: function(1), Entries: entries("n", 4, 10)})
	large := sdk.Entry{Type: "n", Visibility: sdk.Public, Content: make([]byte, sdk.MaxPublic)}
	mustAppend(t, c, Batch{Cause: function(2), Entries: []sdk.Entry{large}})
	check := func(when string, c *Chain) {
		t.Helper()
		list, total := c.NewestPublic(2)
		if len(list) != 2 || total != 3 || list[0].Seq != 6 || list[1].Seq != 4 {
			t.Fatalf("%s: %+v of %d", when, list, total)
		}
		all, err := c.Query(sdk.Query{})
		if err != nil || len(all) != 8 {
			t.Fatal(len(all), err)
		}
		for i := range all {
			got, err := c.PublicByHash(all[i].Hash())
			public := slices.Contains([]uint64{2, 4, 6}, all[i].Header.Seq)
			if public && (err != nil || got.Header != all[i].Header) || !public && !errors.Is(err, ErrNotFound) {
				t.Errorf("%s: record %d, %+v: %v", when, i, got.Header, err)
			}
			if public && i == 6 && list[0].Size != len(mustPublic(t, &got)) {
				t.Errorf("%s: size %d", when, list[0].Size)
			}
		}
	}
	check("in the log", c)
	crashed := o
	crashed.Path = filepath.Join(t.TempDir(), "crashed.chain")
	for _, suffix := range []string{"", walSuffix} {
		if err := os.WriteFile(crashed.Path+suffix, mustRead(t, o.Path+suffix), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	seam.set(func(s *hooks) { *s = hooks{} })
	mustClose(t, c)
	check("after a crash", mustOpen(t, crashed))
	check("after a restart", mustOpen(t, o))
}

func TestPublicIndexBound(t *testing.T) {
	t.Parallel()
	var x publicIndex
	for i := range uint64(MaxIndexedPublic + 3) {
		x.add([]Public{{Seq: i, Hash: sdk.Hash{byte(i), byte(i >> 8), byte(i >> 16)}}})
	}
	if len(x.list) != MaxIndexedPublic || len(x.at) != MaxIndexedPublic || x.total != MaxIndexedPublic+3 || x.list[0].Seq != 3 {
		t.Errorf("%d, %d, %d", len(x.list), len(x.at), x.total)
	}
}

// What is not durable, or whose durability nobody knows, is not published.
func TestPublicIndexKnowsTheDurableOnly(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"write", "sync"} {
		c, seam := openSeams(t, testOptions(t))
		mustAppend(t, c, Batch{Cause: function(1), Entries: entries("n", 2, 10)})
		during := uint64(0)
		seam.set(func(s *hooks) {
			s.sync = func() { _, during = c.NewestPublic(10) }
			s.fail = func(at string) error {
				if at == step {
					return errors.New("as told")
				}
				return nil
			}
		})
		if _, err := c.Append(t.Context(), Batch{Cause: function(2), Entries: entries("n", 2, 10)}); err == nil {
			t.Fatalf("%s: no error", step)
		}
		if list, total := c.NewestPublic(10); len(list) != 1 || total != 1 || during > 1 {
			t.Errorf("%s: %+v of %d, %d while it was synced", step, list, total, during)
		}
		seam.set(func(s *hooks) { *s = hooks{} })
	}
}
