package dht

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

var errTestEntry = errors.New("no test entry")

// testEntry is a body of an author, told apart by n; checkTestEntry is its check.
func testEntry(author Key, n int) []byte {
	return append([]byte{'E', byte(n), byte(n >> 8)}, author[:]...)
}

func checkTestEntry(b []byte) (ID, Key, error) {
	if len(b) < 35 || b[0] != 'E' {
		return ID{}, Key{}, errTestEntry
	}
	var k Key
	copy(k[:], b[1:]) // its position is that of a key with the same bytes
	return NodeID(k), Key(b[3:35]), nil
}

func testEntryID(b []byte) ID {
	id, _, _ := checkTestEntry(b)
	return id
}

// Entries are bounded by author, number and bytes; the farthest goes; what is
// forged or too far is not taken.
func TestEntryBounds(t *testing.T) {
	t.Parallel()
	cfg := &Config{CheckEntry: checkTestEntry, MaxEntries: 8, MaxEntryBytes: 1 << 20, EntriesByAuthor: 3}
	near := func(ID) bool { return true }
	s := newEntries(NodeID(Key{1}), cfg)
	if st := s.put(epoch, []byte("forged"), 0, netip.Prefix{}, near); st != StatusInvalid {
		t.Error(st)
	}
	if st := s.put(epoch, testEntry(Key{9}, 1), 0, netip.Prefix{}, func(ID) bool { return false }); st != StatusNotClose || len(s.kept) != 0 {
		t.Errorf("too far: %s, %d kept", st, len(s.kept))
	}
	refused := 0
	put := func(s *entries, body []byte, source netip.Prefix) {
		before := maps.Clone(s.kept)
		if s.put(epoch, body, 0, source, near) == StatusNotClose {
			if refused++; !maps.Equal(before, s.kept) {
				t.Error("what is refused has put something out")
			}
		}
	}
	for i := range 20 {
		put(s, testEntry(Key{9}, i), netip.Prefix{})
		if len(s.kept) > 3 {
			t.Fatalf("%d of one author", len(s.kept))
		}
	}
	if refused == 0 || s.authors[Key{9}] != 3 {
		t.Errorf("%d refused, %d kept", refused, s.authors[Key{9}])
	}
	for a := range 20 {
		put(s, testEntry(Key{10, byte(a)}, a), netip.Prefix{})
		if len(s.kept) > 8 {
			t.Fatalf("%d kept", len(s.kept))
		}
	}
	mixed := newEntries(NodeID(Key{1}), &Config{CheckEntry: checkTestEntry, MaxEntries: 32, MaxEntryBytes: 1 << 20, EntriesByAuthor: 3})
	for i := range 400 { // every bound in turn, and several at once
		put(mixed, testEntry(Key{byte(i % 20)}, i), netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(20 + i%9)}), 16))
	}
	for p, n := range mixed.sources {
		if n > 32/8 {
			t.Errorf("%d of %s", n, p)
		}
	}
	bytes := 0
	for id, e := range s.kept {
		if testEntryID(e.body) != id {
			t.Error("kept at another position")
		}
		bytes += len(e.body)
	}
	if bytes != s.bytes {
		t.Errorf("%d bytes, counted %d", bytes, s.bytes)
	}
	s.sweep(epoch.Add(entryKept))
	if len(s.kept)+len(s.authors)+s.bytes != 0 {
		t.Errorf("after a day: %d entries of %d authors, %d bytes", len(s.kept), len(s.authors), s.bytes)
	}
	small := newEntries(NodeID(Key{1}), &Config{CheckEntry: checkTestEntry, MaxEntries: 8, MaxEntryBytes: 80, EntriesByAuthor: 3})
	for i := range 8 {
		if small.put(epoch, testEntry(Key{byte(i)}, i), 0, netip.Prefix{}, near); small.bytes > 80 {
			t.Fatalf("%d bytes", small.bytes)
		}
	}
	if st := newEntries(ID{}, &Config{}).put(epoch, testEntry(Key{9}, 1), 0, netip.Prefix{}, near); st != StatusInvalid {
		t.Errorf("a node without entries: %s", st)
	}
}

// An entry is found by everybody, also when its author and half of the holders are gone;
// nobody is served another one in its place.
func TestEntries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemNet()
		edit := func(c *Config) { c.CheckEntry = checkTestEntry }
		nodes := []*memNode{m.node(t, 0, nil, edit)}
		for i := range 29 {
			nodes = append(nodes, m.node(t, i+1, []Contact{nodes[0].contact()}, edit))
		}
		ready(t, nodes...)
		author := nodes[7]
		body := testEntry(author.key, 3)
		id := testEntryID(body)
		if _, _, err := nodes[3].GetEntry(t.Context(), id); !errors.Is(err, ErrNotFound) {
			t.Errorf("before: %v", err)
		}
		for name, err := range map[string]error{
			"at another position": second(author.PutEntry(t.Context(), ID{1}, body)),
			"malformed":           second(author.PutEntry(t.Context(), id, []byte("x"))),
			"too large":           second(author.PutEntry(t.Context(), id, append(bytes.Clone(body), make([]byte, MaxEntry)...))),
		} {
			if !errors.Is(err, ErrEntry) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if n, err := author.PutEntry(t.Context(), id, body); err != nil || n < ackShare {
			t.Fatalf("%d holders, %v", n, err)
		}
		author.stop()
		gone := []*memNode{author}
		for i, n := range nodes {
			if n != author && i > 0 && i%2 == 0 {
				n.stop()
				gone = append(gone, n)
			}
		}
		defer func() {
			for _, n := range nodes {
				if !contains(gone, n) {
					n.stop()
				}
			}
		}()
		if err := wait(t.Context(), 10*time.Second); err != nil {
			t.Fatal(err)
		}
		for _, n := range nodes {
			if contains(gone, n) {
				continue
			}
			got, r, err := n.GetEntry(t.Context(), id)
			if err != nil || !bytes.Equal(got, body) {
				t.Errorf("%s: %q, %v, %+v", n.key, got, err, r)
			}
		}
		// All who are left lie.
		for _, n := range nodes {
			m.mu.Lock()
			m.answer[n.key] = func(Key, *Request) (*Response, error) { return &Response{Entry: testEntry(author.key, 4)}, nil }
			m.mu.Unlock()
		}
		fresh := m.node(t, 100, []Contact{nodes[0].contact()}, edit)
		defer fresh.stop()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if got, _, err := fresh.GetEntry(ctx, id); err == nil {
			t.Errorf("another entry counts: %q", got)
		}
		plain := m.node(t, 101, []Contact{nodes[0].contact()}, nil)
		defer plain.stop()
		if _, _, err := plain.GetEntry(ctx, id); !errors.Is(err, ErrEntry) {
			t.Errorf("a node without entries: %v", err)
		}
	})
}

func second[T any](_ T, err error) error { return err }

func contains[T comparable](s []T, v T) bool {
	for _, o := range s {
		if o == v {
			return true
		}
	}
	return false
}
