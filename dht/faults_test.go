package dht

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func (m *memNet) nodeDial(t testing.TB, n int, boot []Contact) *memNode { // ErrDial, but no dial-back
	mn := m.prepare(t, n, boot, func(c *Config) { c.Network = errNet{c.Network.(*memNode)} })
	return mn
}

type errNet struct{ n *memNode }

func (e errNet) Call(ctx context.Context, to Contact, req *Request) (*Response, error) {
	return dialledNet{e.n}.Call(ctx, to, req)
}

// Bootstrap nodes that name one another form a network, though all of them are
// clients at first: who dials back need be no server.
func TestMutualBootstrap(t *testing.T) {
	t.Parallel()
	for name, bare := range map[string]bool{"addresses": false, "keys only, as package node has it": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMemNet()
				ct := func(n int) Contact {
					c := Contact{Key: pub(testKey(n))}
					if !bare {
						c.Addrs = []netip.AddrPort{testAddr(n + 1)}
					}
					return c
				}
				a, b := m.prepareBack(t, 1, []Contact{ct(2)}), m.prepareBack(t, 2, []Contact{ct(1)})
				c := m.prepareBack(t, 3, []Contact{ct(1), ct(2)})
				nodes := []*memNode{a, b, c}
				for _, n := range nodes {
					n.run()
				}
				defer stopAll(nodes)
				time.Sleep(2 * time.Hour)
				for i, n := range nodes {
					s := n.Stats()
					t.Logf("node %d: server %t, ready %t, contacts %d, error %v", i, s.Server, s.Ready, s.Contacts, s.PublishError)
					if !s.Server || !s.Ready {
						t.Errorf("node %d: no server, or not ready, after 2 hours", i)
					}
				}
			})
		})
	}
}

// Where more contacts than a lookup has seeds die at once, the bootstrap node is
// asked again.
func TestUplinkForever(t *testing.T) {
	t.Parallel()
	for _, n := range []int{6, 40} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMemNet()
				boot := m.nodeDial(t, 1, nil)
				boot.run()
				bootKey := Contact{Key: boot.key}
				var nodes []*memNode
				for i := range n {
					x := m.nodeDial(t, 10+i, []Contact{bootKey})
					x.run()
					nodes = append(nodes, x)
				}
				time.Sleep(30 * time.Minute)
				boot.stop()
				time.Sleep(2 * time.Hour) // everybody has dropped it
				a := nodes[0]
				t.Logf("before: %+v", a.Stats())
				for _, x := range nodes[1:] {
					x.stop()
				}
				boot = m.nodeDial(t, 1, nil)
				boot.run()
				time.Sleep(6 * time.Hour)
				t.Logf("after: %+v", a.Stats())
				a.mu.Lock()
				if a.core.table.get(boot.key) == nil {
					t.Errorf("6 hours after all but the bootstrap node are gone, it is no contact; uplink down since %s, %d contacts", a.core.up.down, a.core.table.n)
				}
				a.mu.Unlock()
				a.stop()
				boot.stop()
			})
		})
	}
}

// A liar who names another key at an honest node's address does not hide it from
// those who hear of it elsewhere.
func TestShutPoison(t *testing.T) {
	t.Parallel()
	honest := testRecord(t, 7, 5, epoch)
	bogus, err := Record{Key: pub(testKey(8)), Flags: FlagServer, Seq: 1, IssuedAt: epoch, TTL: time.Hour, Addrs: honest.Addrs}.Sign(testKey(8))
	if err != nil {
		t.Fatal(err)
	}
	c := testCore(t)
	liar, other := testRecord(t, 20, 1, epoch), testRecord(t, 21, 1, epoch)
	for _, r := range []*Record{liar, other} {
		c.table.succeeded(epoch, Contact{Key: r.Key, Record: r}, time.Millisecond, checkFirst)
	}
	c.sched.joined, c.sched.filled, c.sched.publish = true, true, epoch.Add(time.Hour)
	o := c.start(epoch, opGet, NodeID(honest.Key))
	o.lookup.quorum = 0
	var late *call
	asked := false
	now := epoch
	for round := range 30 {
		now = now.Add(time.Millisecond)
		if round == 20 && late != nil {
			c.answered(now, late.id, &Response{Contacts: []Contact{{Key: honest.Key, Record: honest}}}, nil)
		}
		for _, cl := range c.poll(now) {
			switch {
			case cl.to.Key == liar.Key:
				c.answered(now, cl.id, &Response{Contacts: []Contact{{Key: bogus.Key, Record: bogus}}}, nil)
			case cl.to.Key == other.Key:
				late = cl
			case cl.to.Key == honest.Key:
				asked = true
				c.answered(now, cl.id, &Response{Record: honest}, nil)
			default: // the handshake shows another key
				c.answered(now, cl.id, nil, ErrDial)
			}
		}
	}
	if !asked {
		t.Errorf("the honest node was not asked: %+v", o.lookup.trace)
	}
}

// A candidate that a lookup reaches before its check is answered is counted once.
func TestAskedLeak(t *testing.T) {
	t.Parallel()
	c := testCore(t)
	first := testRecord(t, 20, 1, epoch)
	c.table.succeeded(epoch, Contact{Key: first.Key, Record: first}, time.Millisecond, checkFirst)
	c.sched.joined, c.sched.filled, c.sched.publish = true, true, epoch.Add(time.Hour)
	cand := testRecord(t, 30, 1, epoch)
	c.start(epoch, opGet, NodeID(pub(testKey(99))))
	now := epoch
	for range 10 {
		now = now.Add(time.Millisecond)
		for _, cl := range c.poll(now) {
			switch {
			case cl.to.Key == first.Key:
				c.answered(now, cl.id, &Response{Contacts: []Contact{{Key: cand.Key, Record: cand}}}, nil)
			case cl.req.Op == OpGet:
				c.answered(now, cl.id, &Response{}, nil)
			default:
				defer func() {
					c.answered(now, cl.id, &Response{Record: cand}, nil)
					if a := c.table.bucket(NodeID(cand.Key)).asked; a != 0 {
						t.Errorf("asked is %d though nobody is asked any more", a)
					}
				}()
			}
		}
	}
}

// A dial-back request that is never sent does not hold the proof up.
func TestProofStuck(t *testing.T) {
	t.Parallel()
	c := testCore(t)
	c.cfg.dialBack, c.proof.server = true, false
	c.sched.joined, c.sched.filled = true, true
	r := testRecord(t, 20, 1, epoch)
	c.table.succeeded(epoch, Contact{Key: r.Key, Record: r}, time.Millisecond, checkFirst)
	now := epoch.Add(time.Second)
	for i := range delivering { // others wait before it
		x := testRecord(t, 40+i, 1, epoch)
		c.deliver(Contact{Key: x.Key, Record: x}, &Request{Op: OpFind, Target: ID{1}})
	}
	first := c.poll(now)
	if len(c.proof.asked) != 1 {
		t.Fatal("no prover", c.proof)
	}
	c.blame(now, &call{query: query{to: Contact{Key: r.Key, Record: r}}}, ErrDial) // it has gone meanwhile
	c.blame(now, &call{query: query{to: Contact{Key: r.Key, Record: r}}}, ErrDial)
	r2 := testRecord(t, 21, 1, epoch)
	for _, cl := range first {
		c.answered(now, cl.id, &Response{}, nil)
	}
	c.table.succeeded(now, Contact{Key: r2.Key, Record: r2}, time.Millisecond, checkFirst)
	for range 2000 {
		now = now.Add(10 * time.Second)
		for _, cl := range c.poll(now) {
			c.answered(now, cl.id, &Response{}, nil)
		}
	}
	if len(c.proof.asked) != 0 || !c.proof.known {
		t.Errorf("after %s: %d provers are still waited for, known %t, published %s", now.Sub(epoch), len(c.proof.asked), c.proof.known, c.stats.Published)
	}
}

// Clients are in no table and named to nobody, whatever way they come.
func TestClients(t *testing.T) {
	t.Parallel()
	client := func(seq uint64) *Record {
		r, err := Record{Key: pub(testKey(7)), Flags: FlagClient, Seq: seq, IssuedAt: epoch, TTL: 2 * time.Hour, Addrs: []netip.AddrPort{testAddr(8)}}.Sign(testKey(7))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	named := func(c *core, what string) {
		resp := c.serve(epoch, Key{1}, netip.Addr{}, &Request{Op: OpFind, Target: NodeID(pub(testKey(7)))})
		for _, ct := range resp.Contacts {
			if ct.Key == pub(testKey(7)) {
				t.Errorf("%s: the client is named, with flags %d", what, ct.Record.Flags)
			}
		}
	}
	server := testRecord(t, 7, 1, epoch)
	prep := func() *core {
		c := testCore(t)
		c.sched.joined, c.sched.filled, c.sched.publish = true, true, epoch.Add(100*time.Hour)
		return c
	}
	c := prep()
	c.table.succeeded(epoch, Contact{Key: server.Key, Record: server}, time.Millisecond, checkFirst)
	c.serve(epoch, server.Key, netip.Addr{}, &Request{Op: OpPut, Record: client(2)})
	named(c, "its new record was PUT")

	c = prep()
	c.table.succeeded(epoch, Contact{Key: server.Key, Record: server}, time.Millisecond, checkFirst)
	now, pings := epoch, 0
	for now.Before(epoch.Add(3 * time.Hour)) {
		now = now.Add(10 * time.Second)
		for _, cl := range c.poll(now) {
			if cl.req.Op == OpPing {
				pings++
				r, _ := Record{Key: pub(testKey(7)), Flags: FlagClient, Seq: 2, IssuedAt: now, TTL: 2 * time.Hour, Addrs: []netip.AddrPort{testAddr(8)}}.Sign(testKey(7))
				c.answered(now, cl.id, &Response{Record: r, Seq: 2}, nil)
			} else {
				c.answered(now, cl.id, &Response{Seq: 2}, nil)
			}
		}
	}
	named(c, "it answered PING as a client")
	if pings > 30 {
		t.Errorf("%d PINGs in 3 hours of a contact that turned client", pings)
	}

	c = prep()
	other := testRecord(t, 20, 1, epoch)
	c.table.succeeded(epoch, Contact{Key: other.Key, Record: other}, time.Millisecond, checkFirst)
	c.start(epoch, opGet, NodeID(pub(testKey(99))))
	for range 5 {
		for _, cl := range c.poll(epoch) {
			if cl.to.Key == other.Key {
				c.answered(epoch, cl.id, &Response{Contacts: []Contact{{Key: pub(testKey(7)), Record: client(2)}}}, nil)
			} else if cl.req.Op == OpGet {
				c.answered(epoch, cl.id, &Response{}, nil)
			}
		}
	}
	named(c, "it answered a lookup")
}

// Keys that call and don't answer say nothing of the own uplink, and make nobody publish.
func TestForcedPublish(t *testing.T) {
	t.Parallel()
	c := testCore(t)
	now := epoch
	for i := range 12 {
		r := testRecord(t, 20+i, 1, epoch)
		c.table.succeeded(now, Contact{Key: r.Key, Record: r}, time.Millisecond, 24*time.Hour)
	}
	c.sched.joined, c.sched.filled, c.sched.publish = true, true, epoch.Add(100*time.Hour)
	c.sched.self, c.sched.sample, c.sched.sync = epoch.Add(100*time.Hour), epoch.Add(100*time.Hour), epoch.Add(100*time.Hour)
	c.shut.set(addrHash(testAddr(4711)), testAddr(4711), shut{until: c.table.stamp(epoch.Add(time.Hour)), n: maxReferrers})
	calls, wave := 0, 0
	for ; wave < 20; wave++ {
		for i := range uplinkRun {
			c.serve(now, pub(testKey(1000+i)), netip.Addr{}, &Request{Op: OpFind, Target: ID{1}, Seq: 1})
		}
		waiting := c.poll(now)
		for len(waiting) > 0 {
			cl := waiting[0]
			waiting = waiting[1:]
			if cl.req.Op == OpPing && c.table.get(cl.to.Key) == nil {
				continue // not answered
			}
			calls++
			c.answered(now, cl.id, &Response{}, nil)
			waiting = append(waiting, c.poll(now)...)
		}
		now = now.Add(firstTimeout)
		for _, cl := range slices.Clone(c.calls) {
			if cl.op == nil {
				c.answered(now, cl.id, nil, context.DeadlineExceeded)
			}
		}
	}
	if calls > 50 || c.shut.len() == 0 {
		t.Errorf("%d waves of %d requests in %s cost %d calls; %d addresses are left alone", wave, uplinkRun, now.Sub(epoch), calls, c.shut.len())
	}
}

// A node whose bootstrap node comes late is a server as soon as that can tell.
func TestLateProof(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemNet()
		late := m.prepareBack(t, 1, nil)
		a := m.prepareBack(t, 2, []Contact{late.contact()})
		a.run()
		time.Sleep(7 * time.Minute) // long enough for its pauses between proofs to have grown
		if a.Stats().Server {
			t.Error("nobody has dialled it, and it is a server")
		}
		late.run()
		time.Sleep(2 * bootstrapMost)
		if !a.Stats().Server || late.Stats().Contacts != 1 {
			t.Errorf("two minutes after its bootstrap node came: %+v, that knows %d", a.core.proof, late.Stats().Contacts)
		}
		stopAll([]*memNode{a, late})
	})
}

// All nodes of a small network restart, and those that a node remembers come late.
func TestLateShut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemNet()
		late := m.nodeDial(t, 1, nil)
		a := m.nodeDial(t, 2, []Contact{late.contact()})
		a.run()
		time.Sleep(3 * time.Second)
		late.run()
		start := time.Now()
		time.Sleep(2 * time.Minute)
		if s := a.Stats(); s.Contacts == 0 {
			t.Errorf("two minutes after the bootstrap node came it is no contact")
		}
		for a.Stats().Contacts == 0 && time.Since(start) < time.Hour {
			time.Sleep(time.Second)
		}
		t.Logf("joined %s after it came", time.Since(start))
		stopAll([]*memNode{a, late})
	})
}

// An outage of the own uplink in a network of five is over when it is over.
func TestSmallOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemNet()
		boot := m.nodeDial(t, 1, nil)
		boot.run()
		nodes := []*memNode{boot}
		for i := range 4 {
			x := m.nodeDial(t, 2+i, []Contact{{Key: boot.key}})
			x.run()
			nodes = append(nodes, x)
		}
		time.Sleep(10 * time.Minute)
		a := nodes[2]
		t.Logf("before: %d contacts", a.Stats().Contacts)
		m.mu.Lock()
		m.cut[a.key] = true
		clear(m.sessions)
		m.mu.Unlock()
		for range 10 { // its user goes on
			time.Sleep(20 * time.Second)
			for _, n := range nodes {
				if n != a {
					a.Lookup(t.Context(), n.key)
				}
			}
		}
		t.Logf("cut: %+v", a.Stats())
		m.mu.Lock()
		delete(m.cut, a.key)
		m.mu.Unlock()
		start := time.Now()
		time.Sleep(2 * time.Minute)
		s := a.Stats()
		if s.Contacts != 4 {
			t.Errorf("2 minutes after the uplink is back: %d contacts of 4", s.Contacts)
		}
		for a.Stats().Contacts < 4 && time.Since(start) < 3*time.Hour {
			time.Sleep(time.Second)
		}
		t.Logf("%d contacts %s after", a.Stats().Contacts, time.Since(start))
		stopAll(nodes)
	})
}

// The answer to a dial-back of the old address does not prove the new one.
func TestOldProof(t *testing.T) {
	t.Parallel()
	c := testCore(t)
	c.cfg.dialBack, c.proof.server = true, false
	c.sched.joined, c.sched.filled = true, true
	r := testRecord(t, 20, 1, epoch)
	c.table.succeeded(epoch, Contact{Key: r.Key, Record: r}, time.Millisecond, checkFirst)
	now := epoch.Add(time.Second)
	var old *call
	for _, cl := range c.poll(now) {
		if cl.req.Op == OpDialBack {
			old = cl
		}
	}
	c.setAddrs(now, []netip.AddrPort{testAddr(4712)})
	c.poll(now)
	c.answered(now, old.id, &Response{Status: StatusOK}, nil)
	if c.proof.server {
		t.Errorf("a server by a dial to %s, its address is %s", old.req.Addr, c.own.addrs[0])
	}
}

func fullCore(t testing.TB, contacts, records int) *core {
	mn := newMemNet().prepare(t, 1, nil, func(c *Config) { c.Now = func() time.Time { return epoch }; c.Group = noGroups })
	k := mn.core
	for i := range contacts {
		r := testRecord(t, 100000+i, 1, epoch)
		k.table.succeeded(epoch, Contact{Key: r.Key, Record: r}, time.Millisecond, checkFirst)
	}
	for i := range records {
		key := Key{1, byte(i >> 8), byte(i)}
		r, err := Record{Key: key, Flags: FlagServer, Seq: 1, IssuedAt: epoch, TTL: 2 * time.Hour, Addrs: []netip.AddrPort{testAddr(1)}}.Tagged([64]byte{})
		if err != nil {
			t.Fatal(err)
		}
		k.store.verify = func(*Record) error { return nil }
		k.store.put(epoch, r, netip.Prefix{})
	}
	k.sched.joined = true
	return k
}

func BenchmarkHandOver(b *testing.B) {
	for _, n := range []int{12, 200} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c := fullCore(b, n, 4096)
			near := c.table.closest(c.id, 1, nil)[0]
			for b.Loop() {
				c.outbox = nil
				c.handOver(epoch, near)
			}
			b.ReportMetric(float64(c.store.records.len()), "records")
		})
	}
}

func BenchmarkServeSync(b *testing.B) {
	c := fullCore(b, 200, 4096)
	for _, n := range []int{1, 128} {
		var have []byte
		for _, id := range c.store.recordIDs()[:n] {
			have = c.store.records.at(id).rec.appendDigest(have)
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				c.serve(epoch, Key{9}, netip.Addr{}, &Request{Op: OpSync, Have: have})
			}
		})
	}
}

// 4,096 keys that ask once don't make all others share one budget.
func TestManyKeysOneBudget(t *testing.T) {
	t.Parallel()
	c := testCore(t)
	for i := range maxBudgets {
		c.serve(epoch, Key{1, byte(i >> 8), byte(i)}, netip.Addr{}, &Request{Op: OpFind, Target: ID{1}})
	}
	busy := 0
	for range 6000 { // one of them beyond
		c.serve(epoch, Key{2, 1}, netip.Addr{}, &Request{Op: OpFind, Target: ID{1}})
	}
	for i := range 100 {
		if r := c.serve(epoch, Key{3, byte(i)}, netip.Addr{}, &Request{Op: OpFind, Target: ID{1}}); r.Status == StatusBusy {
			busy++
		}
	}
	if busy > 0 {
		t.Errorf("%d of 100 honest newcomers get nothing", busy)
	}
}

var _ = slices.Contains[[]int]
