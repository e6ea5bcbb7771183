package chain

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"unsafe"

	bolt "go.etcd.io/bbolt"

	"github.com/parley-p2p/parley/sdk"
)

// sample is a closed chain's file with records, replies and free pages of all
// kinds, and the place in the file of each record's value.
type sample struct {
	o      Options
	data   []byte
	values []place
	head   sdk.Hash
}

type place struct{ from, to int }

func newSample(t testing.TB) *sample {
	t.Helper()
	s := &sample{o: testOptions(t)}
	c := mustOpen(t, s.o)
	if err := c.BeginPosted(); err != nil {
		t.Fatal(err)
	}
	for i := range uint64(30) {
		mustAppend(t, c, Batch{Entries: entries([]string{"bid", "note"}[i%2], 2, 40), Cause: receive(i), KeepReply: true, Reply: []byte("ok")})
	}
	mustAppend(t, c, Batch{Entries: entries("picture", 1, 9000), Cause: function(99)}) // overflow pages
	mustAppend(t, c, Batch{Entries: entries("bid", 1, 0), Cause: function(100)})
	if err := c.checkpoint(); err != nil {
		t.Fatal(err)
	}
	err := c.view(func(tx *bolt.Tx) error {
		base := c.db.Info().Data
		return tx.Bucket(bucketRecords).ForEach(func(_, v []byte) error {
			from := int(uintptr(unsafe.Pointer(&v[0])) - base)
			s.values = append(s.values, place{from, from + len(v)})
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	_, s.head = c.Head()
	mustClose(t, c)
	s.data = mustRead(t, s.o.Path)
	return s
}

func (s *sample) check(data []byte) (contents, error) {
	return check(bytes.NewReader(data), int64(len(data)), s.o.Path, s.o.DNA, agentOf(alice))
}

// Any changed byte of any record is found, under the record's number.
func TestFlippedRecordByte(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	if len(s.values) != 63 {
		t.Fatalf("%d records", len(s.values))
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for seq, at := range s.values {
		step := 1 + seq%3
		if at.to-at.from > 1000 {
			step = 97
		}
		for i := at.from; i < at.to; i += step {
			old := s.data[i]
			s.data[i] ^= byte(1 + rng.IntN(255))
			_, err := s.check(s.data)
			s.data[i] = old
			var d *DamagedError
			if !errors.As(err, &d) || d.Seq != uint64(seq) {
				t.Fatalf("record %d, byte %d of its value: %v", seq, i-at.from, err)
			}
		}
	}
}

// Any changed byte of the file is either found or of no account: in a page
// that nothing refers to, or in the gap of one.
func TestFlippedByte(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	found, harmless := 0, 0
	rng := rand.New(rand.NewPCG(3, 4))
	for i := 0; i < len(s.data); i += 1 + rng.IntN(40) {
		old := s.data[i]
		s.data[i] ^= byte(1 + rng.IntN(255))
		got, err := s.check(s.data)
		var d *DamagedError
		switch {
		case err == nil && (got.link.prev != s.head || len(got.replies.at) != 30):
			t.Fatalf("byte %d is not found", i)
		case err == nil:
			harmless++
			if harmless%400 == 0 {
				s.works(t)
			}
		case errors.As(err, &d):
			found++
		case !errors.Is(err, errOther):
			t.Fatalf("byte %d: %v", i, err)
		}
		s.data[i] = old
	}
	if found < 200 || harmless < 200 {
		t.Fatalf("%d found, %d harmless: the sample says little", found, harmless)
	}
}

// works opens the sample as it is with bbolt, and uses it.
func (s *sample) works(t *testing.T) {
	t.Helper()
	o := testOptions(t)
	if err := os.WriteFile(o.Path, s.data, 0o600); err != nil {
		t.Fatal(err)
	}
	c := mustOpen(t, o)
	n := c.Len()
	mustAppend(t, c, Batch{Entries: entries("bid", 5, 3000), Cause: function(1)})
	mustVerify(t, c, n+5)
	mustClose(t, c)
	mustClose(t, mustOpen(t, o))
}

// A file cut short anywhere is refused, and never mapped.
func TestCutShort(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	refused := 0
	for n := 0; n < len(s.data); n += 1021 {
		got, err := s.check(s.data[:n])
		var d *DamagedError
		switch {
		case err == nil && got.link.prev != s.head:
			t.Fatalf("cut at %d: not found", n)
		case err != nil && !errors.As(err, &d):
			t.Fatalf("cut at %d: %v", n, err)
		case err != nil:
			refused++
		}
	}
	if refused < 20 {
		t.Fatalf("%d refused", refused)
	}
	// The same through Open, at the last byte of record 17.
	cut := s.data[:s.values[17].to-1]
	if err := os.WriteFile(s.o.Path, cut, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(s.o)
	var d *DamagedError
	if !errors.As(err, &d) || !strings.Contains(err.Error(), "cut short") || !strings.Contains(err.Error(), "nothing was changed") {
		t.Fatal(err)
	}
	if !bytes.Equal(mustRead(t, s.o.Path), cut) {
		t.Fatal("a damaged file was changed")
	}
}

func TestDamagedOpen(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	for name, data := range map[string][]byte{
		"empty": {}, "text": []byte(strings.Repeat("this is no chain\n", 5000)), "zeros": make([]byte, 1<<16),
		"one byte of record 41": func() []byte {
			b := bytes.Clone(s.data)
			b[s.values[41].from+200] ^= 0x10
			return b
		}(),
	} {
		if err := os.WriteFile(s.o.Path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Open(s.o)
		var d *DamagedError
		if !errors.As(err, &d) {
			t.Errorf("%s: %v", name, err)
		}
		if strings.HasPrefix(name, "one") && (d.Seq != 41 || !strings.Contains(err.Error(), "record 41 is the first wrong one")) {
			t.Errorf("%s: %v", name, err)
		}
		if !bytes.Equal(mustRead(t, s.o.Path), data) {
			t.Errorf("%s: the file was changed", name)
		}
	}
}

// A file that is damaged while it is open gives errors, not a crash.
func TestDamagedWhileOpen(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	c := mustOpen(t, s.o)
	f, err := os.OpenFile(s.o.Path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := []byte{s.data[s.values[23].from+200] ^ 1}
	if _, err := f.WriteAt(b, int64(s.values[23].from+200)); err != nil {
		t.Fatal(err)
	}
	var d *DamagedError
	if n, err := c.Verify(context.Background()); n != 23 || !errors.As(err, &d) || d.Seq != 23 {
		t.Errorf("verify: %d, %v", n, err)
	}
	if _, err := c.Record(23); !errors.As(err, &d) || d.Seq != 23 {
		t.Errorf("record: %v", err)
	}
	if _, err := c.Query(sdk.Query{}); !errors.As(err, &d) || d.Seq != 23 {
		t.Errorf("query: %v", err)
	}
	// A page that calls itself another makes bbolt panic: the walk names the
	// first record on it, or an earlier one of the page before.
	page := int64(s.values[40].from) / int64(os.Getpagesize()) * int64(os.Getpagesize())
	if _, err := f.WriteAt([]byte{0xff, 0xff}, page); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(s.data[s.values[23].from+200:][:1], int64(s.values[23].from+200)); err != nil {
		t.Fatal(err)
	}
	n, err := c.Verify(context.Background())
	if !errors.As(err, &d) || n != d.Seq || n == 0 || n > 40 || d.Part != "" {
		t.Errorf("verify over a bad page: %d, %v", n, err)
	}
	if err := f.Truncate(8192); err != nil { // every page is gone: SIGBUS
		t.Fatal(err)
	}
	if _, err := c.Record(23); !errors.As(err, &d) {
		t.Errorf("record of a cut file: %v", err)
	}
	if _, err := c.Query(sdk.Query{Type: "bid", Reverse: true}); !errors.As(err, &d) {
		t.Errorf("query of a cut file: %v", err)
	}
	for range 2 { // the first finds it, the second is refused at once
		if _, err := c.Append(context.Background(), Batch{Entries: entries("a", 1, 1), Cause: function(1)}); err == nil {
			t.Error("appended to a cut file")
		}
	}
	if s, _ := c.Head(); s != 62 {
		t.Errorf("head %d", s)
	}
}

// Without its meta pages bbolt panics with its locks held. Nobody waits for them.
func TestEmptiedWhileOpen(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]func(*Chain) error{
		"read":   func(c *Chain) error { _, err := c.Record(0); return err },
		"append": func(c *Chain) error { _, err := c.Append(context.Background(), kept(1, "")); return err },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := testOptions(t)
			c, err := Open(o)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(o.Path, 0); err != nil {
				t.Fatal(err)
			}
			if err := first(c); err == nil {
				t.Error("done on an empty file")
			}
			for range 2 {
				if _, err := c.Query(sdk.Query{}); err == nil {
					t.Error("a query of an empty file")
				}
				if _, err := c.Append(context.Background(), kept(2, "")); err == nil {
					t.Error("appended to an empty file")
				}
			}
			var d *DamagedError
			if err := c.Close(); !errors.As(err, &d) {
				t.Errorf("close: %v", err)
			}
			if _, err := Open(o); !errors.As(err, &d) {
				t.Errorf("open again, the lock is free: %v", err)
			}
		})
	}
}

// A page that is in use and in the list of free ones would be written over.
func TestFreePageInUse(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	p, err := openPages(bytes.NewReader(s.data), int64(len(s.data)))
	if err != nil {
		t.Fatal(err)
	}
	list := s.data[int64(p.meta.freelist)*p.pageSize:]
	if native.Uint16(list[10:]) < 1 {
		t.Fatal("the sample has no free page")
	}
	native.PutUint16(list[10:], 1)
	native.PutUint64(list[pageHeader:], p.meta.root)
	var d *DamagedError
	if _, err := s.check(s.data); !errors.As(err, &d) || d.Part != "the list of free pages" {
		t.Errorf("%v", err)
	}
}

func FuzzCheck(f *testing.F) {
	s := newSample(f)
	f.Add(0, byte(0), len(s.data))
	f.Add(s.values[9].from, byte(4), len(s.data))
	f.Add(4096*3+10, byte(0xff), len(s.data)-5000)
	f.Fuzz(func(t *testing.T, at int, flip byte, size int) {
		if at < 0 || size < 0 || size > len(s.data) || at >= size {
			return
		}
		data := bytes.Clone(s.data[:size])
		data[at] ^= flip
		if got, err := s.check(data); err == nil && got.link.prev != s.head {
			t.Fatal("another chain was accepted")
		}
	})
}

// FuzzPages gives the page reader whole files of its own making.
func FuzzPages(f *testing.F) {
	c := smallChain(f)
	mustClose(f, c)
	f.Add(mustRead(f, c.opts.Path)[:32<<10])
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := openPages(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		_ = p.tree(p.meta.root, nil, nil, 0, func(_ uint32, _, value []byte) error {
			_ = p.bucket(value, func(uint32, []byte, []byte) error { return nil })
			return nil
		})
		_ = p.freeList()
	})
}
