package dht

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// A network that dials back, over hours, with churn: what is counted is given back.
func TestSoak(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemNet()
		nodes := m.startBack(t, 40)
		check := func(what string) {
			servers, ready, asked, contacts := 0, 0, 0, 0
			for i, n := range nodes {
				s := n.Stats()
				n.mu.Lock()
				c := n.core
				for i := range c.table.buckets {
					if len(c.probes) == 0 {
						asked += c.table.buckets[i].asked
					}
				}
				if c.queued.len() != 0 || c.strange != 0 && c.queued.len() == 0 || len(c.strangers) > 0 || c.delivering > 0 || len(c.proof.asked) > 0 || len(c.calls) > 0 {
					t.Logf("%s: node %d: queued %d, strange %d, strangers %d, delivering %d, proof %d, calls %d, backs %d", what, i, c.queued.len(), c.strange, len(c.strangers), c.delivering, len(c.proof.asked), len(c.calls), n.backs)
				}
				n.mu.Unlock()
				if s.Server {
					servers++
				}
				if s.Ready {
					ready++
				}
				contacts += s.Contacts
			}
			t.Logf("%s: %d nodes, %d servers, %d ready, %d asked left, %.1f contacts", what, len(nodes), servers, ready, asked, float64(contacts)/float64(len(nodes)))
			if asked > 0 {
				t.Errorf("%s: %d candidates are counted as asked for ever", what, asked)
			}
		}
		time.Sleep(10 * time.Minute)
		check("10 minutes")
		for r := range 6 {
			for i := range 8 {
				n := 1 + (r*8+i)%39
				nodes[n].stop()
				nodes[n] = m.prepareBack(t, 100+r*10+i, []Contact{{Key: nodes[0].key}})
				nodes[n].run()
			}
			time.Sleep(20*time.Minute + 7*time.Second)
		}
		time.Sleep(9 * time.Minute)
		check("after churn")
		// one restarts at the same address
		x := nodes[20]
		snap := x.Snapshot()
		x.stop()
		time.Sleep(20 * time.Second)
		n := int(x.addr.Addr().As4()[3]) + 256*int(x.addr.Addr().As4()[2]) - 1
		y := m.prepareBack(t, n, []Contact{{Key: nodes[0].key}})
		if err := y.Restore(snap); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		y.run()
		ready(t, y)
		nodes[20] = y
		t.Logf("restarted: ready after %s", time.Since(start))
		failed := 0
		for i, o := range nodes {
			if i != 20 {
				if r, err := o.Lookup(t.Context(), y.key); err != nil || r.Record.Flags != FlagServer {
					failed++
				}
			}
		}
		if failed > 0 {
			t.Errorf("%d do not find it as a server", failed)
		}
		time.Sleep(5 * time.Minute)
		check("restart")
		stopAll(nodes)
	})
}

// What one network brings, of however many authors, does not take all the room.
func TestEntrySources(t *testing.T) {
	t.Parallel()
	n := newMemNet().prepare(t, 1, nil, func(c *Config) {
		c.Now = func() time.Time { return epoch }
		c.MaxEntries, c.EntriesByAuthor = 512, 8
		c.CheckEntry = func(b []byte) (ID, Key, error) { return ID(b[:32]), Key(b[32:64]), nil }
	})
	c := n.core
	entry := func(id ID, author Key) []byte { return append(append([]byte{}, id[:]...), author[:]...) }
	put := func(now time.Time, from Key, addr string, b []byte) Status {
		return c.serve(now, from, netip.MustParseAddr(addr), &Request{Op: OpPut, Entry: b}).Status
	}
	var honest []ID
	for i := range 100 {
		id := NodeID(Key{5, byte(i)})
		if st := put(epoch, Key{5, byte(i)}, fmt.Sprintf("20.%d.0.1", i), entry(id, Key{5, byte(i)})); st != StatusOK {
			t.Fatal(st)
		}
		honest = append(honest, id)
	}
	now := epoch
	for i := range 4000 { // one host, no grinding
		now = now.Add(100 * time.Millisecond)
		k := Key{6, byte(i >> 8), byte(i)}
		put(now, Key{6, byte(i % 8)}, "9.9.9.9", entry(NodeID(k), k))
	}
	gone := 0
	for _, id := range honest {
		if c.entries.get(now, id) == nil {
			gone++
		}
	}
	if gone > 0 {
		t.Errorf("%d of 100 honest entries are gone", gone)
	}
}

// An entry that its author does not put again ends, however often it is handed over.
func TestEntryForever(t *testing.T) {
	t.Parallel()
	check := func(b []byte) (ID, Key, error) { return ID(b[:32]), Key(b[32:64]), nil }
	mk := func(n int) *core {
		return newMemNet().prepare(t, n, nil, func(c *Config) { c.CheckEntry = check; c.Now = func() time.Time { return epoch } }).core
	}
	a := mk(1)
	id := NodeID(Key{9})
	body := append(append([]byte{}, id[:]...), make([]byte, 32)...)
	a.serve(epoch, Key{1}, netip.Addr{}, &Request{Op: OpPut, Entry: body})
	now, holder := epoch, a
	for i := range 10 {
		now = now.Add(23 * time.Hour)
		holder.sched.joined = true
		next := mk(2 + i)
		r := testRecord(t, 2+i, 1, now)
		holder.table.succeeded(now, Contact{Key: r.Key, Record: r}, time.Millisecond, checkFirst)
		holder.outbox = nil
		holder.handOver(now, holder.table.get(r.Key))
		for _, q := range holder.outbox {
			next.serve(now, holder.self, netip.Addr{}, q.req)
		}
		holder = next
	}
	if holder.entries.get(now, id) != nil {
		t.Errorf("an entry is served %s after it was put last by its publisher", now.Sub(epoch))
	}
}

// Forgers don't use up the signatures of the honest.
func TestForgersAndHonest(t *testing.T) {
	t.Parallel()
	c := testCore(t)
	now, busy, n := epoch, 0, 0
	junk := make([]*Record, 64)
	for i := range junk {
		r, err := ParseRecord(testRecord(t, 3000+i, 1, epoch).Bytes())
		if err != nil {
			t.Fatal(err)
		}
		r.raw[len(r.raw)-1] ^= 1
		junk[i] = r
	}
	c.store.verify = func(r *Record) error { return errRefused }
	honest := testRecord(t, 77, 1, epoch)
	for s := range 60 {
		now = now.Add(time.Second)
		for p := range 40 {
			for range 16 + verifyBurst/60 {
				c.serve(now, Key{8, byte(p)}, netip.Addr{}, &Request{Op: OpPut, Record: junk[p]})
			}
		}
		n++
		if c.serve(now, Key{7, byte(s)}, netip.Addr{}, &Request{Op: OpPut, Record: honest}).Status == StatusBusy {
			busy++
		}
	}
	if busy > n/10 {
		t.Errorf("%d of %d PUTs of honest peers are refused", busy, n)
	}
}

// Who only names the agent holds nothing.
func TestNamedIsNoHolder(t *testing.T) {
	t.Parallel()
	stale := testRecord(t, 7, 1, epoch)
	l, _ := testLookup(true, 3, 16, NodeID(stale.Key))
	asked := drive(t, l, func(to Contact) *Response {
		return &Response{Status: StatusNone, Contacts: []Contact{{Key: stale.Key, Record: stale}}}
	})
	if l.holders > 0 {
		t.Errorf("%d holders after %d answers, none of which had the record", l.holders, len(asked))
	}
}
