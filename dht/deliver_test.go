package dht

import (
	"maps"
	"net/netip"
	"testing"
	"time"
)

// joinedCore is a core that has joined and knows nobody.
func joinedCore(t *testing.T) *core {
	c := testCore(t)
	c.sched.joined, c.sched.filled, c.own.ready = true, true, true
	c.sched.publish, c.sched.self = epoch.Add(time.Hour), epoch.Add(time.Hour)
	return c
}

func (c *core) meet(t *testing.T, n int) *Record {
	t.Helper()
	r := testRecord(t, n, 1, epoch)
	c.table.succeeded(epoch, Contact{Key: r.Key, Record: r}, time.Millisecond, checkMost)
	return r
}

// Two neighbours that hold different records of one agent hold the same ones
// after one round: also two of the same seq (A3).
func TestSyncHeals(t *testing.T) {
	t.Parallel()
	const agent = 50
	older, newer := testRecord(t, agent, 5, epoch), testRecord(t, agent, 6, epoch)
	other, err := Record{Key: newer.Key, Flags: FlagServer, Seq: 6, IssuedAt: epoch, TTL: time.Hour, Addrs: []netip.AddrPort{testAddr(999)}}.Sign(testKey(agent))
	if err != nil {
		t.Fatal(err)
	}
	winner := newer
	if other.newer(newer) {
		winner = other
	}
	for name, test := range map[string]struct{ a, b, want *Record }{
		"the asker's is newer":      {newer, older, newer},
		"the asker's is older":      {older, newer, newer},
		"the asker alone has one":   {older, nil, older},
		"the same":                  {newer, newer, newer},
		"of one seq":                {newer, other, winner},
		"of one seq, the other way": {other, newer, winner},
	} {
		a, b := joinedCore(t), joinedCore(t)
		b.self, b.id = pub(testKey(2)), NodeID(pub(testKey(2)))
		a.meet(t, 2)
		id := NodeID(older.Key)
		for _, s := range []struct {
			c *core
			r *Record
		}{{a, test.a}, {b, test.b}} {
			if s.r != nil {
				if st := bring(&s.c.store, s.r, netip.Prefix{}); st != StatusOK {
					t.Fatal(st)
				}
			}
		}
		a.sync(epoch)
		rounds := 0
		for calls := a.poll(epoch); len(calls) > 0; calls = a.poll(epoch) {
			for _, cl := range calls {
				if cl.req.Op == OpSync {
					rounds++
				}
				if err := cl.req.Validate(); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				resp := b.serve(epoch, a.self, netip.Addr{}, cl.req)
				if err := resp.Validate(); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				a.answered(epoch, cl.id, resp, nil)
			}
		}
		for who, c := range map[string]*core{"asker": a, "answerer": b} {
			if got := c.store.get(epoch, id); got == nil || string(got.raw) != string(test.want.raw) {
				t.Errorf("%s: the %s has %+v", name, who, got)
			}
		}
		if rounds != 1 || a.delivering != 0 || len(a.outbox) != 0 {
			t.Errorf("%s: %d rounds, %d under way, %d waiting", name, rounds, a.delivering, len(a.outbox))
		}
	}
}

// A newcomer among the nearest is handed what it should keep.
func TestHandOver(t *testing.T) {
	t.Parallel()
	c := joinedCore(t)
	for i := range 20 {
		if st := bring(&c.store, testRecord(t, 100+i, 1, epoch), netip.Prefix{}); st != StatusOK {
			t.Fatal(st)
		}
		c.store.put(epoch, testRecord(t, 200+i, 1, epoch), netip.Prefix{}) // what was handed on goes no further
	}
	newcomer := testRecord(t, 2, 1, epoch)
	c.probe(Contact{Key: newcomer.Key, Record: newcomer}, probeCheck)
	handed := map[Key]bool{}
	for calls := c.poll(epoch); len(calls) > 0; calls = c.poll(epoch) {
		for _, cl := range calls {
			if cl.req.Op == OpPut {
				handed[cl.req.Record.Key] = true
			}
			c.answered(epoch, cl.id, &Response{Record: map[bool]*Record{true: newcomer}[cl.req.Op == OpPing]}, nil)
		}
	}
	if len(handed) != 20 || handed[pub(testKey(200))] || c.store.records.len() != 40 {
		t.Errorf("%d records of %d were handed over, not 20", len(handed), c.store.records.len())
	}
}

// Where there is no room for all, the newcomer is handed what is nearest to this node: records before entries.
func TestHandOverNearestFirst(t *testing.T) {
	t.Parallel()
	c := joinedCore(t)
	c.store.verify = func(*Record) error { return nil }
	c.entries.check = func(b []byte) (ID, Key, error) { return ID(b[:32]), Key(b[:32]), nil }
	var records, all []ID
	for i := range maxOutbox - 10 {
		r, err := Record{Key: Key{1, byte(i)}, Flags: FlagServer, Seq: 1, IssuedAt: epoch, TTL: time.Hour, Addrs: []netip.AddrPort{testAddr(1)}}.Tagged([64]byte{})
		if err != nil {
			t.Fatal(err)
		}
		if st := bring(&c.store, r, netip.Prefix{}); st != StatusOK {
			t.Fatal(st)
		}
		records = append(records, r.id)
	}
	for i := range 20 {
		id := NodeID(Key{2, byte(i)})
		if st := c.entries.put(epoch, id[:], 0, netip.Prefix{}, c.inReach); st != StatusOK {
			t.Fatal(st)
		}
		all = append(all, id)
	}
	nearestFirst(c.id, records)
	nearestFirst(c.id, all)
	all = append(records, all...)
	r := c.meet(t, 2)
	c.handOver(epoch, c.table.get(r.Key))
	if len(c.outbox) != maxOutbox {
		t.Fatalf("%d wait", len(c.outbox))
	}
	for i, q := range c.outbox {
		id := ID(append(q.req.Entry, make([]byte, 32)...)[:32])
		if q.req.Record != nil {
			id = q.req.Record.id
		}
		if id != all[i] {
			t.Fatalf("the %dth is %s, want %s", i, id, all[i])
		}
	}
}

// rank is what counting all contacts gives, up to where it may stop.
func TestRank(t *testing.T) {
	t.Parallel()
	c := fullCore(t, 120, 0)
	known := []ID{c.id}
	c.table.each(func(e *entry) { known = append(known, e.id()) })
	for i := range 4000 {
		target, id := c.randomIn(i%14), known[c.rnd.IntN(len(known))]
		switch i % 5 {
		case 0:
			target = c.id
		case 1:
			target = known[c.rnd.IntN(len(known))]
		case 2:
			id = c.randomIn(c.rnd.IntN(14))
		}
		want := 0
		for _, k := range known[1:] {
			want += btoi(compare(target, k, id) < 0)
		}
		most := 1 + c.rnd.IntN(2*bucketSize)
		if got := c.rank(target, id, most); got != want && (got < most || want < most) {
			t.Fatalf("%x is the %dth of %x, not the %dth, counted to %d", id, want, target, got, most)
		}
	}
}

// A GET gives those that had nothing what it found, two of them at most.
func TestReadRepair(t *testing.T) {
	t.Parallel()
	c := joinedCore(t)
	for i := range 12 {
		c.meet(t, 10+i)
	}
	rec := testRecord(t, 1000, 7, epoch)
	o := c.start(epoch, opGet, NodeID(rec.Key))
	gets, puts := 0, 0
	for calls := c.poll(epoch); len(calls) > 0; calls = c.poll(epoch) {
		for _, cl := range calls {
			resp := &Response{Status: StatusNone}
			switch cl.req.Op {
			case OpGet:
				if gets++; gets > 4 {
					resp = &Response{Record: rec}
				}
			case OpPut:
				puts++
				resp.Status = StatusOK
				if cl.req.Record != rec {
					t.Error("another record")
				}
			}
			c.answered(epoch, cl.id, resp, nil)
		}
	}
	if !o.finished || o.err != nil || puts != maxRepairs {
		t.Errorf("finished %t, %v, %d repaired", o.finished, o.err, puts)
	}
}

// Who gave what turned out to be an old record holds nothing, and is given the newer one.
func TestReadRepairOfOldHolders(t *testing.T) {
	t.Parallel()
	c := joinedCore(t)
	for i := range 12 {
		c.meet(t, 10+i)
	}
	old, rec := testRecord(t, 1000, 6, epoch), testRecord(t, 1000, 7, epoch)
	o := c.start(epoch, opGet, NodeID(rec.Key))
	behind, given := map[Key]bool{}, map[Key]bool{}
	for calls := c.poll(epoch); len(calls) > 0; calls = c.poll(epoch) {
		for _, cl := range calls {
			resp := &Response{Record: rec}
			switch {
			case cl.req.Op == OpPut:
				given[cl.to.Key] = true
				resp = &Response{}
			case len(behind) < maxRepairs:
				behind[cl.to.Key] = true
				resp.Record = old
			}
			c.answered(epoch, cl.id, resp, nil)
		}
	}
	if !o.finished || o.result.Record != rec || o.result.Holders < quorum || !maps.Equal(behind, given) {
		t.Errorf("finished %t, %d holders; %v gave an old record, %v were given the new one", o.finished, o.lookup.holders, behind, given)
	}
}

// What nobody waits for is bounded.
func TestOutboxBound(t *testing.T) {
	t.Parallel()
	c := joinedCore(t)
	r := c.meet(t, 2)
	for range 2 * maxOutbox {
		c.deliver(Contact{Key: r.Key, Record: r}, &Request{Op: OpPing})
	}
	if c.deliver(Contact{Key: c.self}, &Request{Op: OpPing}) || len(c.outbox) != maxOutbox {
		t.Errorf("%d wait", len(c.outbox))
	}
	if n := len(c.poll(epoch)); n != delivering {
		t.Errorf("%d at once", n)
	}
}
