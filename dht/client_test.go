package dht

import (
	"math/rand/v2"
	"net/netip"
	"testing"
)

// A node that nobody can dial keeps half of the contacts. When it can be dialled it
// searches for the others, and when it can't any more it puts nobody out for it.
func TestClientTable(t *testing.T) {
	t.Parallel()
	n := newMemNet().prepare(t, 1, nil, nil)
	c, now, rnd := n.core, n.cfg.Now(), rand.New(rand.NewPCG(1, 2))
	meet := func() {
		for b := range 2 {
			for range 2 * bucketSize {
				c.table.succeeded(now, at(keyAt(rnd, c.id, b), "127.0.0.1:1"), 1, checkFirst)
			}
		}
		for range 2 * siblingSize {
			c.table.succeeded(now, at(keyAt(rnd, c.id, 5), "127.0.0.1:1"), 1, checkFirst)
		}
	}
	want := func(when string, far, near int) {
		t.Helper()
		for b, want := range map[int]int{0: far, 1: far, 5: near} {
			if got := len(c.table.buckets[b].entries); got != want {
				t.Errorf("%s: %d contacts in bucket %d, want %d", when, got, b, want)
			}
		}
	}
	c.own.addrs = nil
	c.resize(now)
	meet()
	want("a client", clientBucket, clientSiblings)

	c.sched.filled, c.sched.self = true, now.Add(selfMost)
	c.own.addrs = []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:1")}
	c.resize(now)
	if c.sched.filled || c.sched.self.After(now) {
		t.Error("a server that was a client does not look for those that it lacks")
	}
	meet()
	want("a server", bucketSize, siblingSize)

	c.proof.known, c.proof.server = true, false
	c.resize(now)
	want("a client again", bucketSize, siblingSize)
	b := c.table.buckets[0]
	for len(b.entries) > clientBucket-1 {
		c.table.forget(b.entries[0].key())
	}
	meet()
	want("a client that lost contacts", clientBucket, clientSiblings)
}
