package dht

import (
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
