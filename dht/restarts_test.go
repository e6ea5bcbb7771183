package dht

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// Half of 60 nodes are away for three minutes and come back where they were.
func TestHalfRestarts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemNet()
		nodes := m.startBack(t, 60)
		time.Sleep(30 * time.Minute)
		report := func(what string) (failed int) {
			contacts, least := 0, 1000
			for i := range nodes {
				s := nodes[i].Stats()
				contacts += s.Contacts
				least = min(least, s.Contacts)
				for k := range 10 {
					o := nodes[(i*7+k*11+1)%len(nodes)]
					if o == nodes[i] {
						continue
					}
					if _, err := nodes[i].Lookup(t.Context(), o.key); err != nil {
						failed++
					}
				}
			}
			t.Logf("%s: %.1f contacts, least %d; %d of 600 lookups fail", what, float64(contacts)/float64(len(nodes)), least, failed)
			return failed
		}
		if f := report("before"); f > 0 {
			t.Errorf("%d lookups fail", f)
		}
		snaps := map[int][]byte{}
		for i := 30; i < 60; i++ {
			snaps[i] = nodes[i].Snapshot()
			nodes[i].stop()
		}
		for range 9 { // its users go on
			time.Sleep(20 * time.Second)
			for i := range 30 {
				nodes[i].Lookup(t.Context(), nodes[30+i].key)
			}
		}
		for i := 30; i < 60; i++ {
			nodes[i] = m.prepareBack(t, i+9, []Contact{{Key: nodes[0].key}})
			nodes[i].Restore(snaps[i])
			nodes[i].run()
		}
		time.Sleep(30 * time.Second)
		if f := report("30 s after"); f > 0 {
			t.Errorf("%d lookups fail", f)
		}
		time.Sleep(2 * time.Minute)
		if f := report("2.5 min after"); f > 0 {
			t.Errorf("%d lookups fail", f)
		}
		stopAll(nodes)
	})
}

// What a machine takes over as it is, is what a node takes over of its file. It lends nothing.
func TestRestIsASnapshot(t *testing.T) {
	t.Parallel()
	old := testCore(t)
	for i := range 60 {
		r := testRecord(t, 100+i, 1, epoch)
		old.table.succeeded(epoch, Contact{Key: r.Key, Record: r}, time.Millisecond, checkFirst)
		old.sizes.add(epoch, float64(100+i))
		if st := bring(&old.store, testRecord(t, 200+i, uint64(1+i), epoch), netip.Prefix{}); st != StatusOK {
			t.Fatal(st)
		}
	}
	old.table.succeeded(epoch, at(pub(testKey(99)), "127.0.0.1:1"), time.Millisecond, checkFirst)
	file, rest := old.snapshot(), old.rest()
	takenOver := func(take func(*core)) string {
		c := testCore(t)
		take(c)
		var keys []Key
		for _, w := range c.sched.restored {
			if w.record() == nil || w.id() != NodeID(w.key()) {
				t.Errorf("%s is restored without its record, or at %s", w.key(), w.id())
			}
			keys = append(keys, w.key())
		}
		if len(keys) != restoreSeeds || len(c.store.floors) != 60 || c.sizes.restored == 0 {
			t.Errorf("%d contacts, %d floors, %d sizes", len(keys), len(c.store.floors), c.sizes.restored)
		}
		return fmt.Sprint(c.own.seq, c.sizes, c.sched.resample, keys, c.store.floors)
	}
	a := takenOver(func(c *core) {
		if err := c.restore(epoch, file); err != nil {
			t.Fatal(err)
		}
	})
	b := takenOver(func(c *core) {
		c.resume(epoch, &rest)
		c.store.raise(NodeID(Key{1}), floor{1, toMillis(epoch.Add(time.Hour))})
		delete(c.store.floors, NodeID(Key{1}))
	})
	if a != b {
		t.Errorf("of a file:\n%s\nas it is:\n%s", a, b)
	}
	if len(rest.floors) != 60 {
		t.Errorf("%d floors are left", len(rest.floors))
	}
}
