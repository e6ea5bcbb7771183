package chain

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/parley-p2p/parley/sdk"
)

func byInit(n uint64) sdk.Cause {
	return sdk.Cause{Kind: sdk.CallInit, Message: messageID(n), From: agentOf(alice)}
}

func TestInitMark(t *testing.T) {
	t.Parallel()
	for name, n := range map[string]int{"of nothing": 0, "of two entries": 2} {
		o := testOptions(t)
		o.MaxEntries = 2 // the mark is the node's, and no entry of the call
		c := mustOpen(t, o)
		if done, err := c.Initialized(); err != nil || done {
			t.Fatalf("%s: %t, %v before it ran", name, done, err)
		}
		mine := entries("a", n, 3)
		mustAppend(t, c, Batch{Entries: mine, Cause: byInit(1), Init: true})
		rs, err := c.Query(sdk.Query{From: 1})
		if err != nil || len(rs) != n+1 || rs[n].Header.EntryType != initType || rs[n].Header.Visibility != sdk.Private ||
			rs[0].Header.Cause != byInit(1) || rs[n].Header.Cause != byInit(1) {
			t.Fatalf("%s: %+v, %v", name, rs, err)
		}
		mustClose(t, c)
		c = mustOpen(t, o)
		mustVerify(t, c, uint64(n+2))
		if done, err := c.Initialized(); err != nil || !done {
			t.Errorf("%s: %t, %v after it ran", name, done, err)
		}
	}
	c := mustOpen(t, testOptions(t))
	for _, b := range []Batch{
		{Entries: []sdk.Entry{initEntry()}, Cause: byInit(1), Init: true},
		{Cause: function(1), Init: true},
		{Entries: entries("a", 1, 1), Cause: sdk.Cause{Kind: sdk.CallValidate}},
	} {
		if _, err := c.Append(context.Background(), b); err == nil || c.Len() != 1 {
			t.Errorf("%+v was appended", b)
		}
	}
}

func wantPosted(t *testing.T, c *Chain, want uint64) {
	t.Helper()
	if seq, begun := c.Posted(); !begun || seq != want {
		t.Fatalf("confirmed up to %d (%t), want %d", seq, begun, want)
	}
}

func TestPosted(t *testing.T) {
	t.Parallel()
	o := testOptions(t)
	c := mustOpen(t, o)
	mustAppend(t, c, Batch{Entries: entries("a", 3, 3), Cause: function(1)})
	if _, begun := c.Posted(); begun {
		t.Fatal("begun by nobody")
	}
	c.SetPosted(2)
	if _, begun := c.Posted(); begun {
		t.Fatal("begun by SetPosted")
	}
	if err := c.BeginPosted(); err != nil {
		t.Fatal(err)
	}
	wantPosted(t, c, 3)
	mustAppend(t, c, Batch{Entries: entries("a", 3, 3), Cause: function(2)})
	for _, seq := range []uint64{5, 4, 99} { // neither back nor beyond the head
		c.SetPosted(seq)
		wantPosted(t, c, 5)
	}
	mustClose(t, c)
	c = mustOpen(t, o)
	wantPosted(t, c, 5)
	if err := c.BeginPosted(); err != nil {
		t.Fatal(err)
	}
	wantPosted(t, c, 5)
	c.SetPosted(6) // of a chain to which nothing was appended: there is no log
	mustClose(t, c)
	wantPosted(t, mustOpen(t, o), 6)
}

// What was begun is in the file at once; what was confirmed gets there when the
// chain is quiet, and where the process is killed before, it is confirmed again.
func TestPostedIsLazy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := testOptions(t)
		c, seam := openSeams(t, o)
		if err := c.BeginPosted(); err != nil {
			t.Fatal(err)
		}
		var written atomic.Int32
		seam.set(func(s *hooks) {
			s.commit = func(tx *bolt.Tx) error { written.Add(1); return tx.Commit() }
		})
		mustAppend(t, c, Batch{Entries: entries("a", 2, 3), Cause: function(1)})
		time.Sleep(2 * quiet)
		before := written.Load()
		c.SetPosted(1)
		c.SetPosted(2)
		if written.Load() != before {
			t.Error("confirming writes at once")
		}
		file := func() posted {
			found, err := check(c.file, mustSize(t, c), o.Path, o.DNA, c.author)
			if err != nil {
				t.Fatal(err)
			}
			return found.posted
		}
		if p := file(); p.seq != 0 || !p.known {
			t.Errorf("the file has %+v", p)
		}
		time.Sleep(2 * quiet)
		if p := file(); p.seq != 2 || written.Load() != before+1 {
			t.Errorf("the file has %+v after %d transactions", p, written.Load()-before)
		}
		time.Sleep(10 * quiet)
		if n := written.Load() - before; n != 1 {
			t.Errorf("%d transactions of a chain that rests", n)
		}
		mustClose(t, c)
	})
}

func mustSize(t *testing.T, c *Chain) int64 {
	t.Helper()
	info, err := c.file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func TestPostedBeyondTheHead(t *testing.T) {
	t.Parallel()
	o := testOptions(t)
	c := mustOpen(t, o)
	if err := c.transact(func(tx *bolt.Tx) error { return putPosted(tx, posted{seq: 1}) }); err != nil {
		t.Fatal(err)
	}
	mustClose(t, c)
	_, err := Open(o)
	if d := (*DamagedError)(nil); !errors.As(err, &d) || d.Seq != 1 {
		t.Errorf("got %v", err)
	}
}

func TestReadFrom(t *testing.T) {
	t.Parallel()
	c := mustOpen(t, testOptions(t))
	mustAppend(t, c, Batch{Entries: entries("a", 5, 1000), Cause: function(1)})
	for _, w := range []struct {
		from     uint64
		n, bytes int
		want     []uint64
	}{{1, 3, 1 << 20, []uint64{1, 2, 3}}, {4, 9, 1 << 20, []uint64{4, 5}}, {2, 9, 3000, []uint64{2, 3}}, {2, 9, 1, []uint64{2}}, {6, 9, 9, nil}} {
		rs, err := c.ReadFrom(w.from, w.n, w.bytes)
		var got []uint64
		for _, r := range rs {
			got = append(got, r.Header.Seq)
		}
		if err != nil || !slices.Equal(got, w.want) {
			t.Errorf("%+v: %d, %v", w, got, err)
		}
	}
}

func FuzzParsePosted(f *testing.F) {
	f.Add((&posted{seq: 7}).value())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parsePosted(b)
		if err == nil && !slices.Equal(p.value(), b) {
			t.Fatalf("%x has two encodings", b)
		}
	})
}
