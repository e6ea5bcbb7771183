package dht

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// A node that nobody can dial keeps half of the contacts. When it can be dialled it
// searches for the others. When it can't any more it puts nobody out at once: the latest go when the next contact comes.
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
	first := slices.Clone(c.table.buckets[1].entries[:clientBucket])
	c.table.succeeded(now, at(keyAt(rnd, c.id, 7), "127.0.0.1:1"), 1, checkFirst)
	want("a client whom one more has answered", clientBucket, clientSiblings-1)
	if !slices.Equal(c.table.buckets[1].entries, first) {
		t.Error("those that were there for the longest time have gone")
	}
	c.table.forget(c.table.buckets[7].entries[0].key())
	b := &c.table.buckets[0]
	for len(b.entries) > clientBucket-1 {
		c.table.forget(b.entries[0].key())
	}
	meet()
	want("a client that lost contacts", clientBucket, clientSiblings)
}

// A client that becomes a server begins at once: it searches for itself, and asks the candidates for whom there is room now.
func TestClientBecomesServer(t *testing.T) {
	t.Parallel()
	c := testCore(t)
	c.own = own{}
	c.sched.joined, c.sched.filled, c.sched.self = true, true, epoch.Add(selfMost)
	c.resize(epoch)
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range 120 {
		c.table.succeeded(epoch, at(keyAt(rnd, c.id, i%4), "127.0.0.1:1"), 1, checkMost)
	}
	if b := &c.table.buckets[0]; len(b.entries) != clientBucket || len(b.replacements) == 0 {
		t.Fatalf("%d contacts and %d candidates in a bucket", len(b.entries), len(b.replacements))
	}
	c.own.addrs = []netip.AddrPort{testAddr(2)}
	seeks, asks := 0, 0
	for _, cl := range c.poll(epoch) {
		seeks += btoi(cl.op != nil && cl.op.kind == opSelf)
		asks += btoi(cl.op == nil && cl.req.Op == OpPing)
	}
	if seeks == 0 || asks == 0 {
		t.Errorf("%d questions of a search for itself, %d candidates are asked", seeks, asks)
	}
}

// A client that knows its buckets hardly searches for itself.
func TestClientSeldomSeeksItself(t *testing.T) {
	t.Parallel()
	n := newMemNet().prepare(t, 1, nil, nil)
	c, now := n.core, n.cfg.Now()
	later := now.Add(24 * time.Hour)
	for _, client := range []bool{false, true} {
		if c.own.addrs = nil; !client {
			c.own.addrs = []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:1")}
		}
		for filled, want := range map[bool]time.Duration{false: selfMost, true: selfMost} {
			if client && filled {
				want = selfClient
			}
			c.sched.filled = filled
			c.knowsSelf(later)
			if after := c.sched.self.Sub(later); after < want*9/10 || after > want*11/10 {
				t.Errorf("client %t, buckets known %t: again after %s, want %s", client, filled, after, want)
			}
		}
	}
}

// A node that its last run told how large the network is begins with no search for that, unless its
// table says otherwise; it makes one within sampleEvery.
func TestRestoredSizeIsNotSampled(t *testing.T) {
	t.Parallel()
	for size, doubtful := range map[uint64]bool{60: false, 60_000: true} {
		n := newMemNet().prepare(t, 1, nil, nil)
		c, now := n.core, n.cfg.Now()
		if err := c.restore(now, (&snapshot{sizes: []uint64{size, size, size, size}}).append(nil)); err != nil {
			t.Fatal(err)
		}
		for i := range 40 {
			r := testRecord(t, 100+i, 1, now)
			c.table.succeeded(now, Contact{Key: r.Key, Record: r}, 1, checkFirst)
		}
		c.sched.filled = true
		first, due := time.Duration(-1), c.sched.resample.Sub(now)
		for at := time.Duration(0); at <= sampleEvery+2*sampleFirst && first < 0; at += time.Minute {
			if c.refreshOne(now.Add(at)); c.sched.running[opRefresh] > 0 {
				first = at
			}
		}
		if first < 0 || doubtful && first > 2*sampleFirst {
			t.Errorf("of %d nodes: first search after %s", size, first)
		}
		if !doubtful && first < due {
			t.Errorf("of %d nodes: first search after %s, not before %s", size, first, due)
		}
	}
}

// A node that has lost all contacts looks for them as one that starts: whom it finds does not tell it of all buckets.
func TestEmptyTableIsFilledAgain(t *testing.T) {
	t.Parallel()
	c := testCore(t, at(pub(testKey(2)), "127.0.0.1:1"))
	c.sched.joined, c.sched.filled, c.sched.self = true, true, epoch.Add(selfMost)
	first := c.meet(t, 100)
	c.table.forget(first.Key)
	calls := c.poll(epoch)
	if len(calls) != 1 || calls[0].op.kind != opSelf || calls[0].op.lookup.brief || len(calls[0].op.lookup.paths) != pathsGet {
		t.Fatalf("%d calls, of them %+v", len(calls), calls)
	}
	c.meet(t, 101)
	explored := 0
	for ; len(calls) > 0; calls = c.poll(epoch) {
		for _, cl := range calls {
			explored += btoi(cl.back && cl.req.Op == OpFind)
			c.answered(epoch, cl.id, &Response{}, nil)
		}
	}
	if explored == 0 || !c.sched.filled {
		t.Errorf("somebody has answered: %d questions about buckets", explored)
	}
}
