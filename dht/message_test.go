package dht

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestValidateRequest(t *testing.T) {
	t.Parallel()
	rec := testRecord(t, 1, 1, epoch)
	for _, c := range []struct {
		name string
		req  *Request
		ok   bool
	}{
		{"ping", &Request{Op: OpPing, Seq: 7}, true},
		{"find", &Request{Op: OpFind, Target: ID{1}}, true},
		{"get", &Request{Op: OpGet, Target: ID{1}, KnownSeq: 4}, true},
		{"put", &Request{Op: OpPut, Record: rec}, true},
		{"nil", nil, false},
		{"op 0", &Request{}, false},
		{"op 7", &Request{Op: opEnd}, false},
		{"get near", &Request{Op: OpGet, Target: ID{1}, Near: ID{2}}, true},
		{"find with known contacts", &Request{Op: OpFind, Target: ID{1}, Known: make([]byte, MaxKnown*KnownSize)}, true},
		{"find with too many", &Request{Op: OpFind, Target: ID{1}, Known: make([]byte, (MaxKnown+1)*KnownSize)}, false},
		{"find with half a contact", &Request{Op: OpFind, Target: ID{1}, Known: make([]byte, KnownSize-1)}, false},
		{"get with known contacts", &Request{Op: OpGet, Target: ID{1}, Known: make([]byte, KnownSize)}, true},
		{"ping with known contacts", &Request{Op: OpPing, Known: make([]byte, KnownSize)}, false},
		{"find near", &Request{Op: OpFind, Target: ID{1}, Near: ID{2}}, false},
		{"put of an entry", &Request{Op: OpPut, Entry: []byte("e")}, true},
		{"put of both", &Request{Op: OpPut, Entry: []byte("e"), Record: rec}, false},
		{"put of a large entry", &Request{Op: OpPut, Entry: make([]byte, MaxEntry+1)}, false},
		{"get with an entry", &Request{Op: OpGet, Target: ID{1}, Entry: []byte("e")}, false},
		{"sync", &Request{Op: OpSync, Have: make([]byte, MaxDigests*DigestSize)}, true},
		{"sync of too much", &Request{Op: OpSync, Have: make([]byte, (MaxDigests+1)*DigestSize)}, false},
		{"sync of half a digest", &Request{Op: OpSync, Have: make([]byte, DigestSize+1)}, false},
		{"sync of nothing", &Request{Op: OpSync}, false},
		{"ping with digests", &Request{Op: OpPing, Have: make([]byte, DigestSize)}, false},
		{"dial-back", &Request{Op: OpDialBack, Addr: testAddr(1)}, true},
		{"dial-back to nowhere", &Request{Op: OpDialBack}, false},
		{"dial-back to port 0", &Request{Op: OpDialBack, Addr: netip.AddrPortFrom(testAddr(1).Addr(), 0)}, false},
		{"dial-back to many", &Request{Op: OpDialBack, Addr: netip.MustParseAddrPort("224.0.0.1:5")}, false},
		{"ping with an address", &Request{Op: OpPing, Addr: testAddr(1)}, false},
		{"ping with target", &Request{Op: OpPing, Target: ID{1}}, false},
		{"find with seq", &Request{Op: OpFind, KnownSeq: 1}, false},
		{"find with record", &Request{Op: OpFind, Record: rec}, false},
		{"put without", &Request{Op: OpPut}, false},
		{"put with target", &Request{Op: OpPut, Target: ID{1}, Record: rec}, false},
		{"put of nothing", &Request{Op: OpPut, Record: &Record{}}, false},
	} {
		if err := c.req.Validate(); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrMessage) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestValidateResponse(t *testing.T) {
	t.Parallel()
	rec, gone := testRecord(t, 1, 1, epoch), goldenRecords(t)["tombstone"]
	addrs := []netip.AddrPort{testAddr(1)}
	many := func(n int) (cs []Contact) {
		for i := range n {
			cs = append(cs, Contact{Key: Key{byte(i)}, Addrs: addrs})
		}
		return cs
	}
	one := func(c Contact) *Response { return &Response{Contacts: []Contact{c}} }
	for _, c := range []struct {
		name string
		resp *Response
		ok   bool
	}{
		{"empty", &Response{}, true},
		{"an entry", &Response{Entry: make([]byte, MaxEntry)}, true},
		{"a large entry", &Response{Entry: make([]byte, MaxEntry+1)}, false},
		{"entry and record", &Response{Entry: []byte("e"), Record: rec}, false},
		{"verdicts", &Response{Want: make([]byte, MaxDigests)}, true},
		{"too many verdicts", &Response{Want: make([]byte, MaxDigests+1)}, false},
		{"16 contacts", &Response{Contacts: many(16), Record: rec, Seq: 1, Time: 5}, true},
		{"a record", one(Contact{Key: rec.Key, Record: rec}), true},
		{"nil", nil, false},
		{"status", &Response{Status: statusEnd}, false},
		{"17 contacts", &Response{Contacts: many(17)}, false},
		{"long reason", &Response{Reason: strings.Repeat("x", MaxReason+1)}, false},
		{"no text", &Response{Reason: "\xff"}, false},
		{"time", &Response{Time: 1 << 48}, false},
		{"twice", &Response{Contacts: append(many(2), many(1)...)}, false},
		{"no address", one(Contact{Key: rec.Key}), false},
		{"nine addresses", one(Contact{Addrs: make([]netip.AddrPort, 9)}), false},
		{"bad address", one(Contact{Addrs: make([]netip.AddrPort, 1)}), false},
		{"another's record", one(Contact{Key: Key{1}, Record: rec}), false},
		{"record and addresses", one(Contact{Key: rec.Key, Record: rec, Addrs: addrs}), false},
		{"withdrawn", one(Contact{Key: gone.Key, Record: gone}), false},
		{"empty record", &Response{Record: &Record{}}, false},
	} {
		if err := c.resp.Validate(); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrMessage) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// FuzzServe hands a node requests built from arbitrary bytes.
func FuzzServe(f *testing.F) {
	for op := range byte(opEnd) + 1 {
		f.Add(op, []byte("target"), uint64(1), uint64(0), []byte(nil), []byte(nil), []byte(nil))
		f.Add(op, []byte(nil), uint64(0), uint64(9), goldenRecords(f)["ipv4"].Bytes(), []byte(nil), []byte("near"))
		f.Add(op, []byte(nil), uint64(0), uint64(0), []byte(nil), testEntry(Key{5}, 1), []byte(nil))
		f.Add(op, []byte(nil), uint64(0), uint64(0), []byte(nil), make([]byte, 2*DigestSize), []byte(nil))
		f.Add(op, []byte("target"), uint64(0), uint64(0), []byte(nil), make([]byte, MaxKnown*KnownSize), []byte(nil))
		f.Add(op, []byte(nil), uint64(0), uint64(0), []byte(nil), []byte(nil), []byte{127, 0, 0, 9, 15, 160})
	}
	m := newMemNet()
	n := m.prepare(f, 1, nil, func(c *Config) { c.CheckEntry = checkTestEntry })
	for i := range 40 {
		r := testRecord(f, 100+i, 1, n.cfg.Now())
		n.core.table.succeeded(n.cfg.Now(), Contact{Key: r.Key, Record: r}, 1, checkFirst)
	}
	f.Fuzz(func(t *testing.T, op byte, target []byte, seq, known uint64, record, kept, where []byte) {
		req := &Request{Op: Op(op), Seq: seq, KnownSeq: known}
		copy(req.Target[:], target)
		switch {
		case len(kept) > 0 && req.Op == OpSync:
			req.Have = kept
		case len(kept) > 0 && (req.Op == OpFind || req.Op == OpGet):
			req.Known = kept
		case len(kept) > 0:
			req.Entry = kept
		}
		if len(where) == 6 {
			req.Addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte(where)), uint16(where[4])<<8|uint16(where[5]))
		} else {
			copy(req.Near[:], where)
		}
		if len(record) > 0 {
			r, err := ParseRecord(record)
			if err != nil {
				r = &Record{raw: record}
			}
			req.Record = r
		}
		from := Key{1}
		copy(from[:], target)
		resp, err := n.Serve(context.Background(), from, testAddr(9), req)
		if err != nil {
			if !errors.Is(err, ErrMessage) {
				t.Errorf("error %v", err)
			}
			return
		}
		if err := resp.Validate(); err != nil {
			t.Errorf("our own answer: %v", err)
		}
		if len(resp.Want) > MaxDigests || req.Op == OpSync && resp.Status == StatusOK && len(resp.Want) != len(req.Have)/DigestSize {
			t.Errorf("%d verdicts on %d bytes of digests", len(resp.Want), len(req.Have))
		}
		if s := n.Stats(); s.Records > n.cfg.MaxRecords || s.Entries > n.cfg.MaxEntries || len(n.core.probes) > maxProbes {
			t.Errorf("bounds: %+v", s)
		}
	})
}

// snapshotV1 is s as the first version of the format has it, without the samples.
func snapshotV1(s *snapshot) []byte {
	b, head := s.append(nil), len(snapMagic)+1+8
	b = append(bytes.Clone(b[:head]), b[head+1+8*len(s.sizes):len(b)-sha256.Size]...)
	b[len(snapMagic)] = 1
	return sealed(b)
}

// A snapshot of the version before is read.
func TestSnapshotV1(t *testing.T) {
	t.Parallel()
	want := snapshot{seq: 5, sizes: []uint64{900}, contacts: []*Record{goldenRecords(t)["ipv4"]}, floors: map[ID]floor{{1}: {7, toMillis(epoch)}}}
	s, err := parseSnapshot(snapshotV1(&want))
	if err != nil || s.seq != 5 || len(s.sizes) != 0 || len(s.contacts) != 1 || len(s.floors) != 1 {
		t.Errorf("%+v, %v", s, err)
	}
}

// sealed appends the checksum.
func sealed(b []byte) []byte {
	sum := sha256.Sum256(b)
	return append(bytes.Clone(b), sum[:]...)
}

func FuzzParseSnapshot(f *testing.F) {
	s := snapshot{seq: 5, sizes: []uint64{900, 1100}, contacts: []*Record{goldenRecords(f)["ipv4"]}, floors: map[ID]floor{{1}: {7, toMillis(epoch)}}}
	f.Add(s.append(nil))
	f.Add(snapshotV1(&s))
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		// The checksum would hide the parser: make it right where there is room for it.
		if len(b) > 32 {
			b = sealed(b[:len(b)-32])
		}
		s, err := parseSnapshot(b)
		if err != nil {
			if !errors.Is(err, ErrSnapshot) {
				t.Errorf("error %v", err)
			}
			return
		}
		if again, err := parseSnapshot(s.append(nil)); err != nil || again.seq != s.seq || !slices.Equal(again.sizes, s.sizes) ||
			len(again.contacts) != len(s.contacts) || len(again.floors) != len(s.floors) {
			t.Errorf("written again: %v", err)
		}
	})
}

func TestSnapshot(t *testing.T) {
	t.Parallel()
	m := newMemNet()
	a, b := m.prepare(t, 1, nil, nil), m.prepare(t, 1, nil, nil)
	for i := range 40 {
		r := testRecord(t, 100+i, uint64(i+1), a.cfg.Now())
		a.core.table.succeeded(a.cfg.Now(), Contact{Key: r.Key, Record: r}, 1, checkFirst)
		a.core.store.put(a.cfg.Now(), r, netip.Prefix{})
	}
	a.core.own.seq = 99
	for _, n := range []float64{10, 800, 900, 1000, 1100} {
		a.core.sizes.add(a.cfg.Now(), n)
	}
	good := a.Snapshot()
	if err := b.Restore(good); err != nil {
		t.Fatal(err)
	}
	if b.core.own.seq != 99 || len(b.core.store.floors) != 40 || len(b.core.sched.restored) != restoreSeeds {
		t.Errorf("restored: seq %d, %d floors, %d contacts", b.core.own.seq, len(b.core.store.floors), len(b.core.sched.restored))
	}
	if n, ok := b.core.sizes.nodes(); !ok || n != 1000 || len(b.core.sizes.samples) != sizeEnough {
		t.Errorf("restored: %g nodes, known: %t, of %d samples", n, ok, len(b.core.sizes.samples))
	}
	if b.core.table.n != 0 {
		t.Errorf("%d contacts count as live before they answered", b.core.table.n)
	}
	stale := testRecord(t, 139, 1, b.cfg.Now()) // its floor is 40
	if st, _ := b.core.store.put(b.cfg.Now(), stale, netip.Prefix{}); st != StatusNewer {
		t.Errorf("a record below a restored floor: %s", st)
	}
	c := m.prepare(t, 1, nil, nil)
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if err := c.Restore(bad); !errors.Is(err, ErrSnapshot) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
		if i > 0 {
			if err := c.Restore(good[:i]); !errors.Is(err, ErrSnapshot) {
				t.Fatalf("cut to %d: %v", i, err)
			}
		}
	}
	if c.core.own.seq != 0 || len(c.core.store.floors) != 0 {
		t.Error("a damaged snapshot left traces")
	}
	if err := c.Restore(nil); err != nil {
		t.Errorf("no snapshot: %v", err)
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	_, err := New(Config{TTL: 1, MaxCalls: -1, Bootstrap: []Contact{{}}})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"Key", "Network", "TTL", "MaxCalls", "Bootstrap 0"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not named in %v", want, err)
		}
	}
	if _, err := New(Config{Key: testKey(1), Network: &memNode{}, Rand: rand.NewPCG(1, 1)}); err != nil {
		t.Error(err)
	}
}
