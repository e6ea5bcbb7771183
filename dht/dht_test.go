package dht

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func ready(t testing.TB, nodes ...*memNode) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	for i, n := range nodes {
		if err := n.WaitReady(ctx); err != nil {
			t.Fatalf("node %d: %v; %+v", i, err, n.Stats())
		}
	}
}

func TestAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newMemNet().node(t, 1, nil, nil)
		defer a.stop()
		ready(t, a)
		start := time.Now()
		if _, err := a.Lookup(t.Context(), pub(testKey(2))); !errors.Is(err, ErrNotFound) {
			t.Errorf("alone: %v, want ErrNotFound", err)
		}
		mustFind(t, a, a)
		if d := time.Since(start); d > 10*time.Millisecond {
			t.Errorf("a lookup alone took %s", d)
		}
	})
}

func TestTwoNodes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemNet()
		a := m.node(t, 1, nil, nil)
		b := m.node(t, 2, []Contact{a.contact()}, nil)
		defer stopAll([]*memNode{a, b})
		ready(t, a, b)
		if r := mustFind(t, b, a); len(r.Trace) == 0 || r.Trace[0].Key != a.key || r.Trace[0].Hop != 1 {
			t.Errorf("trace %+v", r.Trace)
		}
		mustFind(t, a, b)
		start := time.Now()
		if _, err := b.Lookup(t.Context(), pub(testKey(3))); !errors.Is(err, ErrNotFound) {
			t.Errorf("unknown agent: %v", err)
		}
		if d := time.Since(start); d > 500*time.Millisecond {
			t.Errorf("an unknown agent took %s", d)
		}
	})
}

// Bootstrap nodes by key only, whose addresses the Network knows; all name all.
func TestBootstrapByKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemNet()
		var boot []Contact
		for i := range 5 {
			boot = append(boot, Contact{Key: pub(testKey(i))})
		}
		var nodes []*memNode
		start := time.Now()
		for i := range 5 {
			nodes = append(nodes, m.node(t, i, slices.Delete(slices.Clone(boot), i, i+1), nil))
		}
		defer stopAll(nodes)
		ready(t, nodes...)
		if d := time.Since(start); d > 10*time.Second {
			t.Errorf("5 nodes took %s to be ready", d)
		}
		allFindAll(t, nodes)
	})
}

// Five nodes that start before the one that they bootstrap from.
func TestAnyOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemNet()
		boot := m.prepare(t, 0, nil, nil)
		nodes := []*memNode{}
		for i := range 4 {
			nodes = append(nodes, m.node(t, i+1, []Contact{boot.contact()}, nil))
		}
		if err := wait(t.Context(), 30*time.Second); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if _, err := nodes[0].Lookup(t.Context(), nodes[1].key); !errors.Is(err, ErrNoAnswer) {
			t.Errorf("no node reachable: %v, want ErrNoAnswer", err)
		}
		if d := time.Since(start); d > 2*time.Second {
			t.Errorf("it took %s to learn that nobody answers", d)
		}
		if nodes[0].Ready() {
			t.Error("ready without a network")
		}
		boot.run()
		nodes = append(nodes, boot)
		defer stopAll(nodes)
		ready(t, nodes...)
		allFindAll(t, nodes)
	})
}

func allFindAll(t *testing.T, nodes []*memNode) {
	t.Helper()
	for _, a := range nodes {
		for _, b := range nodes {
			if a != b {
				mustFind(t, a, b)
			}
		}
	}
}

// network starts n nodes that know 3 of the first 5.
func network(t testing.TB, m *memNet, n int) []*memNode {
	nodes := []*memNode{m.node(t, 0, nil, nil)}
	for i := 1; i < n; i++ {
		var boot []Contact
		for j := range min(3, i) {
			boot = append(boot, nodes[(i+j)%min(5, i)].contact())
		}
		nodes = append(nodes, m.node(t, i, boot, nil))
	}
	ready(t, nodes...)
	return nodes
}

func TestFortyAllPairs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		nodes := network(t, newMemNet(), 40)
		defer stopAll(nodes)
		allFindAll(t, nodes)
	})
}

// 200 nodes: everyone is found; then a third dies without a word, and everyone
// else is still found, at once and after the table has healed.
func Test200Nodes(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("200 nodes")
	}
	synctest.Test(t, func(t *testing.T) {
		m := newMemNet()
		nodes := network(t, m, 200)
		rnd := rand.New(rand.NewPCG(1, 2))
		pairs := func(what string, n int) {
			t.Helper()
			calls, hops, most := m.made(), 0, time.Duration(0)
			for range n {
				a, b := nodes[rnd.IntN(len(nodes))], nodes[rnd.IntN(len(nodes))]
				if a == b {
					continue
				}
				r := mustFind(t, a, b)
				most = max(most, r.Took)
				for _, s := range r.Trace {
					if s.Answer == AnswerRecord {
						hops += s.Hop
						break
					}
				}
			}
			t.Logf("%s: %.1f calls, %.2f hops each; slowest %s", what, float64(m.made()-calls)/float64(n), float64(hops)/float64(n), most)
		}
		pairs("all alive", 300)
		start := time.Now()
		if _, err := nodes[7].Lookup(t.Context(), pub(testKey(9999))); !errors.Is(err, ErrNotFound) {
			t.Errorf("unknown agent: %v", err)
		}
		if d := time.Since(start); d > 2*time.Second {
			t.Errorf("an unknown agent took %s", d)
		}
		rnd.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
		dead := nodes[:66]
		nodes = nodes[66:]
		stopAll(dead)
		pairs("right after a third died", 200)
		if err := wait(t.Context(), 10*time.Minute); err != nil {
			t.Fatal(err)
		}
		pairs("ten minutes later", 200)
		stopAll(nodes)
	})
}

// The record of a node that died ends, and its contact is dropped.
func TestExpiry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		nodes := network(t, newMemNet(), 12)
		gone := nodes[5]
		gone.stop()
		nodes = append(nodes[:5:5], nodes[6:]...)
		defer stopAll(nodes)
		if r, err := nodes[0].Lookup(t.Context(), gone.key); err != nil || r.Holders < 3 {
			t.Errorf("just after it died: %v, %d holders", err, r.Holders)
		}
		if err := wait(t.Context(), DefaultTTL+2*time.Minute); err != nil {
			t.Fatal(err)
		}
		for i, n := range nodes {
			if r, err := n.Lookup(t.Context(), gone.key); !errors.Is(err, ErrNotFound) {
				t.Errorf("node %d, a node that died so long ago: %v, %v", i, r.Addrs(), err)
			}
			if s := n.Stats(); s.Contacts != 10 || s.Records != 10 {
				t.Errorf("node %d: %d contacts, %d records; want 10", i, s.Contacts, s.Records)
			}
		}
	})
}

// A node that comes back elsewhere is found there by everyone.
func TestRestartElsewhere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemNet()
		nodes := network(t, m, 12)
		defer func() { stopAll(nodes) }()
		old := nodes[11]
		snap := old.Snapshot()
		old.stop()
		again := m.prepare(t, 11, nil, nil) // no bootstrap: the snapshot must do
		again.addr = testAddr(5000)
		if err := again.Restore(snap); err != nil {
			t.Fatal(err)
		}
		again.run()
		nodes[11] = again
		ready(t, again)
		if err := wait(t.Context(), time.Minute); err != nil {
			t.Fatal(err)
		}
		for _, n := range nodes[:11] {
			mustFind(t, n, again)
		}
		if a, b := old.Stats().Seq, again.Stats().Seq; b <= a {
			t.Errorf("seq %d after %d", b, a)
		}
	})
}

// A node whose uplink was gone for an hour comes back by the contacts that it
// had, though its bootstrap node is dead by then.
func TestOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemNet()
		nodes := network(t, m, 3)
		x := m.node(t, 30, []Contact{nodes[0].contact()}, nil)
		ready(t, x)
		cut := func(is bool, d time.Duration) {
			m.mu.Lock()
			m.cut[x.key] = is
			m.mu.Unlock()
			if err := wait(t.Context(), d); err != nil {
				t.Fatal(err)
			}
		}
		cut(true, time.Hour)
		for _, n := range append(nodes[:3:3], x) {
			if s := n.Stats(); n == x && (s.Contacts != 3 || s.UplinkDown.IsZero()) || n != x && s.Contacts != 2 {
				t.Errorf("cut off: %s has %d contacts, its uplink is down since %s", n.key, s.Contacts, s.UplinkDown)
			}
		}
		nodes[0].stop()
		nodes = append(nodes[1:], x)
		defer stopAll(nodes)
		cut(false, 2*time.Minute)
		allFindAll(t, nodes)
	})
}

func TestAddressChange(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemNet()
		nodes := network(t, m, 8)
		defer stopAll(nodes)
		n := nodes[3]
		m.mu.Lock()
		delete(m.nodes, n.addr)
		n.addr = testAddr(7000)
		m.nodes[n.addr] = n
		m.mu.Unlock()
		n.AddrsChanged()
		if err := wait(t.Context(), 5*time.Second); err != nil {
			t.Fatal(err)
		}
		for _, o := range nodes {
			if o != n {
				mustFind(t, o, n)
			}
		}
	})
}

// The record is renewed before it ends, and everyone keeps being found.
func TestRepublish(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		nodes := network(t, newMemNet(), 6)
		defer stopAll(nodes)
		before := nodes[2].Stats()
		if err := wait(t.Context(), 25*time.Hour); err != nil {
			t.Fatal(err)
		}
		after := nodes[2].Stats()
		if after.Seq <= before.Seq || time.Since(after.Published) > DefaultTTL/2+10*time.Minute {
			t.Errorf("before %+v, after %+v", before, after)
		}
		allFindAll(t, nodes)
	})
}

// A clock that is off is told by name.
func TestClockOff(t *testing.T) {
	t.Parallel()
	for _, off := range []time.Duration{time.Hour, -DefaultTTL - time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			m := newMemNet()
			nodes := network(t, m, 5)
			defer stopAll(nodes)
			wrong := m.node(t, 77, []Contact{nodes[0].contact()}, func(c *Config) {
				c.Now = func() time.Time { return time.Now().Add(off) }
			})
			defer wrong.stop()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			err := wrong.WaitReady(ctx)
			var clock *ClockError
			if !errors.As(err, &clock) || (clock.Off-off).Abs() > time.Second {
				t.Fatalf("got %v, want a ClockError of %s; %+v", err, off, wrong.Stats())
			}
			if got := wrong.Stats().ClockOff; (got - off).Abs() > time.Second {
				t.Errorf("Stats.ClockOff %s, want %s", got, off)
			}
			if _, err := nodes[1].Lookup(t.Context(), wrong.key); !errors.Is(err, ErrNotFound) {
				t.Errorf("a record from a wrong clock: %v", err)
			}
		})
	}
}

// A node without addresses finds others, and nobody finds it.
func TestClientOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemNet()
		nodes := network(t, m, 4)
		defer stopAll(nodes)
		c := m.node(t, 50, []Contact{nodes[0].contact()}, func(c *Config) { c.Addrs = func() []netip.AddrPort { return nil } })
		defer c.stop()
		ready(t, c)
		mustFind(t, c, nodes[3])
		if _, err := nodes[3].Lookup(t.Context(), c.key); !errors.Is(err, ErrNotFound) {
			t.Errorf("a client's record: %v", err)
		}
		for i, n := range nodes {
			if n.Stats().Contacts != 3 {
				t.Errorf("node %d has %d contacts", i, n.Stats().Contacts)
			}
		}
	})
}

func TestLookupEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemNet()
		nodes := network(t, m, 3)
		a, b, c := nodes[0], nodes[1], nodes[2]
		m.mu.Lock()
		m.silent[b.key], m.silent[c.key] = true, true
		m.mu.Unlock()
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("gave up")
		time.AfterFunc(100*time.Millisecond, func() { cancel(why) })
		if _, err := a.Lookup(ctx, pub(testKey(40))); !errors.Is(err, why) {
			t.Errorf("canceled: %v", err)
		}
		if _, err := a.Lookup(ctx, pub(testKey(40))); !errors.Is(err, why) {
			t.Errorf("canceled before: %v", err)
		}
		start := time.Now()
		if _, err := a.Lookup(t.Context(), pub(testKey(41))); !errors.Is(err, ErrNoAnswer) {
			t.Errorf("silent network: %v", err)
		}
		if d := time.Since(start); d > 2*time.Second {
			t.Errorf("a silent network took %s", d)
		}
		// They failed a moment ago; that is no proof that nobody knows the agent.
		if _, err := a.Lookup(t.Context(), pub(testKey(43))); !errors.Is(err, ErrNoAnswer) {
			t.Errorf("silent network, again: %v", err)
		}
		m.mu.Lock()
		clear(m.silent)
		m.mu.Unlock()
		if _, err := a.Lookup(t.Context(), pub(testKey(44))); !errors.Is(err, ErrNotFound) {
			t.Errorf("a network that answers again: %v", err)
		}
		ended := make(chan error, 1)
		go func() {
			_, err := a.Lookup(context.Background(), pub(testKey(42)))
			ended <- err
		}()
		stopAll(nodes)
		if err := <-ended; !errors.Is(err, ErrClosed) && !errors.Is(err, ErrNoAnswer) && !errors.Is(err, ErrNotFound) {
			t.Errorf("closed: %v", err)
		}
		if _, err := a.Lookup(t.Context(), b.key); !errors.Is(err, ErrClosed) {
			t.Errorf("after the end: %v", err)
		}
		if err := a.Run(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("second Run: %v", err)
		}
	})
}
