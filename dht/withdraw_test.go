package dht

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// A node that goes in order says so: nobody is sent to where it was, and its next
// record counts.
func TestWithdraw(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemNet()
		nodes := network(t, m, 12)
		defer func() { stopAll(nodes) }()
		gone := nodes[11]
		before := gone.Stats().Seq
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		holders, err := gone.Withdraw(ctx)
		cancel()
		if err != nil || holders < 8 {
			t.Fatalf("%d holders, %v", holders, err)
		}
		if n, err := gone.Withdraw(t.Context()); n != 0 || err != nil {
			t.Errorf("again: %d, %v", n, err)
		}
		snap := gone.Snapshot()
		gone.AddrsChanged() // it stops: it has none any more, whatever is said
		gone.stop()
		if _, err := gone.Withdraw(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("after the end: %v", err)
		}
		for i, n := range nodes[:11] {
			heard := 0
			r, err := n.Search(t.Context(), gone.key, Search{Provisional: func(*Record) { heard++ }})
			var w *WithdrawnError
			if !errors.As(err, &w) || !errors.Is(err, ErrNotFound) || w.Seq <= before || r.Record != nil {
				t.Errorf("node %d: %v, %v", i, err, r.Addrs())
			}
			n.mu.Lock()
			if e := n.core.table.get(gone.key); e != nil {
				t.Errorf("node %d has it as a contact", i)
			}
			n.mu.Unlock()
		}
		again := m.prepare(t, 11, nil, nil)
		if err := again.Restore(snap); err != nil {
			t.Fatal(err)
		}
		again.run()
		nodes[11] = again
		ready(t, again)
		if after := again.Stats().Seq; after <= before+1 {
			t.Errorf("seq %d after the tombstone of %d", after, before+1)
		}
		for _, n := range nodes[:11] {
			mustFind(t, n, again)
		}
	})
}

// Nothing was published, or nobody is there: nothing is to be taken back.
func TestWithdrawNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newMemNet().node(t, 1, nil, nil)
		defer a.stop()
		ready(t, a)
		start := time.Now()
		if n, err := a.Withdraw(t.Context()); n != 0 || err != nil || time.Since(start) > 0 {
			t.Errorf("%d, %v, in %s", n, err, time.Since(start))
		}
	})
}

// Holders that do not answer hold up a withdrawal as long as its caller waits, and no longer.
func TestWithdrawIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemNet()
		nodes := network(t, m, 6)
		defer stopAll(nodes)
		m.mu.Lock()
		for _, n := range nodes[:3] {
			m.silent[n.key] = true
		}
		m.mu.Unlock()
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		start := time.Now()
		n, err := nodes[5].Withdraw(ctx)
		if d := time.Since(start); n != 2 || err == nil || d > 500*time.Millisecond {
			t.Errorf("%d holders in %s, %v", n, d, err)
		}
		if _, err := nodes[4].Lookup(t.Context(), nodes[5].key); !errors.As(err, new(*WithdrawnError)) {
			t.Errorf("a holder that was told: %v", err)
		}
	})
}

// Without an address left the record is taken back while the node goes on; with
// one again it is found again.
func TestLastAddressGoes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemNet()
		nodes := network(t, m, 6)
		var addrs []netip.AddrPort
		n := m.node(t, 20, []Contact{nodes[0].contact()}, func(c *Config) {
			c.Addrs = func() []netip.AddrPort { m.mu.Lock(); defer m.mu.Unlock(); return addrs }
		})
		nodes = append(nodes, n)
		defer stopAll(nodes)
		set := func(a ...netip.AddrPort) {
			m.mu.Lock()
			addrs = a
			m.mu.Unlock()
			wait(t.Context(), addrsEvery+5*time.Second) // nobody calls AddrsChanged
		}
		ready(t, n)
		if n.OwnRecord() != nil {
			t.Errorf("a record without addresses: %+v", n.OwnRecord())
		}
		set(n.addr)
		mustFind(t, nodes[3], n)
		set()
		if _, err := nodes[3].Lookup(t.Context(), n.key); !errors.As(err, new(*WithdrawnError)) {
			t.Errorf("without an address: %v", err)
		}
		if !n.Ready() {
			t.Error("a node that only asks is ready without an address")
		}
		wait(t.Context(), 5*time.Hour) // the tombstone is renewed like a record
		if _, err := nodes[3].Lookup(t.Context(), n.key); !errors.As(err, new(*WithdrawnError)) {
			t.Errorf("5 h later: %v", err)
		}
		set(n.addr)
		mustFind(t, nodes[3], n)
	})
}
