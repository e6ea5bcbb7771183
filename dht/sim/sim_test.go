package sim

import (
	"bytes"
	"encoding/json"
	"math"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/parley-p2p/parley/dht"
)

// small is a network that a test can afford.
func small(nodes int) Config {
	return Config{Nodes: nodes, Warmup: 30 * time.Second, Duration: 3 * time.Minute, Session: 2 * time.Hour, Lookups: 60, Seed: 7}
}

// fixed is what a run must repeat byte for byte.
func fixed(t *testing.T, r *Result) string {
	t.Helper()
	c := *r
	c.Wall, c.PerSecond, c.PeakMB = 0, 0, 0
	b, err := json.Marshal(&c)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func mustRun(t *testing.T, cfg Config) (*Result, *sim) {
	t.Helper()
	r, s, err := run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r, s
}

// The number of workers changes nothing, the seed much.
func TestDeterminism(t *testing.T) {
	t.Parallel()
	cfg := small(50)
	cfg.Malicious, cfg.Moves, cfg.Duration = .1, 4, time.Minute
	one, s1 := mustRun(t, cfg)
	for _, workers := range []int{2, 3} {
		cfg.Workers = workers
		many, s := mustRun(t, cfg)
		if a, b := fixed(t, one), fixed(t, many); a != b || s1.digest() != s.digest() {
			t.Errorf("%d workers:\n%s\n1 worker:\n%s", workers, b, a)
		}
	}
	cfg.Seed++
	if other, _ := mustRun(t, cfg); fixed(t, other) == fixed(t, one) {
		t.Error("another seed gives the same run")
	}
}

// Nor does it where nodes send between two windows: when half of them leave, and when
// an attacker's begin.
func TestDeterministicAttack(t *testing.T) {
	t.Parallel()
	under := func(workers int) Config {
		cfg := small(60)
		cfg.Workers, cfg.Duration = workers, time.Minute
		cfg.attack = &flood{ids: 40, blocks: 8, perHour: 600, restart: true}
		cfg.events = massLeave(&cfg)
		return cfg
	}
	one, s1 := mustRun(t, under(1))
	for _, workers := range []int{2, 5} {
		many, s := mustRun(t, under(workers))
		if a, b := fixed(t, one), fixed(t, many); a != b || s1.digest() != s.digest() {
			t.Errorf("%d workers:\n%s\n1 worker:\n%s", workers, b, a)
		}
	}
}

// A quiet network finds everyone, with the newest record.
func TestQuiet(t *testing.T) {
	t.Parallel()
	cfg := small(80)
	cfg.Session, cfg.Moves = 0, -1
	r, _ := mustRun(t, cfg)
	if r.Found.N < 100 || r.Found.K != r.Found.N || r.Fresh.Part < .99 {
		t.Errorf("found %+v, fresh %+v", r.Found, r.Fresh)
	}
	if r.StaleFull.K != 0 || r.FullBuckets.Part < .95 || r.Know.Part < .99 {
		t.Errorf("stale %+v, full %+v, know their nearest %+v", r.StaleFull, r.FullBuckets, r.Know)
	}
}

// Real signatures and tags lead to the same success.
func TestCrypto(t *testing.T) {
	t.Parallel()
	cfg := small(30)
	cfg.Crypto, cfg.Moves, cfg.Duration = true, 6, time.Minute
	r, _ := mustRun(t, cfg)
	if r.Found.N < 10 || r.Found.Part < .98 || r.Publish.N == 0 {
		t.Errorf("found %+v, %d publications", r.Found, r.Publish.N)
	}
}

// The latency model has the mean and the tail that it is to have.
func TestLatencyModel(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 1))
	var rtts []int64
	for range 100000 {
		rtts = append(rtts, int64(newPlace(rnd).rtt(newPlace(rnd))))
	}
	s := summarize(rtts, float64(time.Millisecond))
	if math.Abs(s.Mean-108) > 3 || math.Abs(s.P99-206) > 10 {
		t.Errorf("mean %.1f ms, 99th percentile %.1f ms; want 108 and 206", s.Mean, s.P99)
	}
}

// Sessions have their median and their share above a day.
func TestSessions(t *testing.T) {
	t.Parallel()
	for _, median := range []time.Duration{24 * time.Minute, 2 * time.Hour, 8 * time.Hour} {
		d, n := newSessions(median), &node{rnd: *rand.New(rand.NewPCG(1, 2))}
		below, long := 0, 0
		const all = 100000
		for range all {
			l := time.Duration(d.length(n))
			if l < median {
				below++
			}
			if l > longTime {
				long++
			}
		}
		if math.Abs(float64(below)/all-.5) > .01 || math.Abs(float64(long)/all-longShare) > .002 {
			t.Errorf("%s: %d below, %d of %d above a day", median, below, long, all)
		}
	}
}

// The heap gives events back in order.
func TestHeap(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(3, 3))
	var h eventHeap
	for i := range 5000 {
		h.push(event{at: rnd.Int64N(50), dst: rnd.Int32N(5), src: rnd.Int32N(5), seq: uint32(i)})
		if i%3 == 0 {
			h.pop()
		}
	}
	last := h.pop()
	for len(h) > 0 {
		e := h.pop()
		if e.before(&last) {
			t.Fatalf("%+v after %+v", e, last)
		}
		last = e
	}
}

// A pool keeps the sessions used last, of those it dialled and of those that peers did.
func TestPool(t *testing.T) {
	t.Parallel()
	var p pool
	at := func(i int) int64 { return int64(i) * int64(time.Millisecond) }
	for i := range int32(poolInbound) {
		if closed := p.add(newSession(i, 0, false, at(int(i)))); closed >= 0 {
			t.Fatalf("%d closed", closed)
		}
	}
	for i := range int32(poolDialled) {
		if closed := p.add(newSession(5000+i, 3, true, at(int(i)))); closed >= 0 {
			t.Fatalf("%d closed", closed)
		}
	}
	p.slots[p.find(0)].used, p.slots[p.find(5000)].used = ms(at(2000)), ms(at(2000))
	if p.add(newSession(9999, 0, false, at(2001))) != 1 || p.linked(1) || !p.linked(0) {
		t.Error("the session used least recently did not close")
	}
	if p.add(newSession(9998, 0, true, at(2001))) != 5001 {
		t.Error("the one dialled and used least recently did not close")
	}
	p.remove(7)
	for i := range int32(poolInbound) {
		if open := i != 1 && i != 7; p.linked(i) != open {
			t.Errorf("session %d: open %t", i, !open)
		}
	}
	if p.lost(5000, 2) || !p.lost(5000, 3) || p.linked(5000) {
		t.Error("a session of another life ended, or one of this life did not")
	}
	closed := 0
	p.unused(at(2000)+int64(poolIdle), func(peer int32) bool { return peer == 5003 }, func(int32) { closed++ })
	if closed != poolDialled-3 || p.dialled != 2 || !p.linked(9998) || !p.linked(5003) || p.n != poolInbound+1 {
		t.Errorf("%d closed; %d are left, %d of them dialled", closed, p.n, p.dialled)
	}
}

// What a full pool closes one after the other is what was used least recently of all, whatever was used
// or has ended since they were put in order; those that are kept go last.
func TestPoolClosesInOrder(t *testing.T) {
	t.Parallel()
	var p pool
	rnd := rand.New(rand.NewPCG(1, 5))
	now := int64(0)
	tick := func() int64 { now += int64(time.Millisecond); return now }
	for i := range int32(poolInbound) {
		p.add(newSession(i, 0, false, tick()))
	}
	kept := func(peer int32) bool { return peer%10 == 0 }
	for peer := int32(poolInbound); peer < 6*poolInbound; peer++ {
		for range 3 {
			if i := p.find(rnd.Int32N(peer)); i >= 0 {
				p.slots[i].used = ms(tick())
			}
		}
		if rnd.IntN(8) == 0 {
			p.remove(rnd.Int32N(peer))
		}
		want := int32(-1)
		if p.full(false) {
			oldest := uint32(math.MaxUint32)
			for _, s := range p.slots {
				if s.peer != 0 && !kept(s.node()) && s.used < oldest {
					want, oldest = s.node(), s.used
				}
			}
			if !p.inOrder(false) {
				p.rank(false, kept)
			}
		}
		if closed := p.add(newSession(peer, 0, false, tick())); closed != want {
			t.Fatalf("%d closed for %d, want %d", closed, peer, want)
		}
	}
}

// Of two calls to a peer without a session one pays for it: the other joins its dial.
func TestJoinedDial(t *testing.T) {
	t.Parallel()
	cfg := small(150).withDefaults()
	cfg.Warmup = 0
	s := newSim(cfg)
	p := s.parts[0]
	from, to := &s.nodes[0], &s.nodes[1]
	from.pool.clear()
	to.pool.clear()
	for i := range 2 {
		p.begin(from, 0, &dht.Call{ID: uint64(i), To: dht.Contact{Key: to.key, Addrs: []netip.AddrPort{to.addr}}, Req: &dht.Request{Op: dht.OpPing}, Timeout: time.Second, Purpose: dht.PurposeCheck})
	}
	if n, dials := p.meter.calls[dht.PurposeCheck], p.meter.dials[dht.PurposeCheck]; n != 2 || dials != 1 {
		t.Errorf("%d calls, %d dials", n, dials)
	}
	for _, joined := range []bool{false, true} {
		before := p.meter.bytes[dht.PurposeCheck]
		p.meter.shaken(0, s, &message{req: &dht.Request{Op: dht.OpPing}, purpose: dht.PurposeCheck, joined: joined})
		if cost := p.meter.bytes[dht.PurposeCheck] - before; joined != (cost == 0) {
			t.Errorf("joined %t: %d bytes for the handshake", joined, cost)
		}
	}
}

// The directory's nearest are the nearest.
func TestDirectory(t *testing.T) {
	t.Parallel()
	cfg := small(150).withDefaults()
	s := newSim(cfg)
	d := newDirectory(s.nodes, func(n *node) bool { return n.up })
	for i := range 50 {
		target := dht.NodeID(dht.Key{byte(i)})
		near := d.closest(target, 16)
		if len(near) != 16 {
			t.Fatalf("%d nearest", len(near))
		}
		far := s.nodes[near[15]].nid
		closer := 0
		for _, w := range d.who {
			if compareFrom(target, s.nodes[w].nid, far) <= 0 {
				closer++
			}
		}
		if closer != 16 {
			t.Errorf("%d are as near as the 16th", closer)
		}
	}
}

// Addresses are public, and crowd as real ones do.
func TestAddresses(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 1))
	a := newAddresses(rnd, 2000)
	blocks, groups := map[[2]byte]int{}, map[string]int{}
	most := 0
	for range 10000 {
		ip := a.random(rnd).Addr()
		if !ip.IsGlobalUnicast() || ip.IsPrivate() || ip.IsLoopback() {
			t.Fatalf("%s is not public", ip)
		}
		b := ip.As4()
		blocks[[2]byte(b[:2])]++
		most = max(most, blocks[[2]byte(b[:2])])
		groups[string(b[:3])]++
	}
	if len(blocks) < 1000 || most < 150 || len(groups) < 3000 {
		t.Errorf("%d /16, the greatest with %d nodes, %d /24", len(blocks), most, len(groups))
	}
}

// Plots are well formed and name their axes.
func TestSVG(t *testing.T) {
	t.Parallel()
	p := plot{title: "a < b", x: "time, ms", y: "share", lines: []line{{name: "x", at: [][2]float64{{0, 1}, {3, 2}}}, {name: "one", dashed: true, at: [][2]float64{{1, 1}}}}}
	svg := p.svg()
	for _, want := range []string{"<svg ", "a &lt; b", "time, ms", "share", "</svg>", "stroke-dasharray"} {
		if !bytes.Contains(svg, []byte(want)) || bytes.Contains(svg, []byte("%!")) {
			t.Errorf("no %q in the plot", want)
		}
	}
	empty := plot{}
	if !bytes.Contains(empty.svg(), []byte("</svg>")) {
		t.Error("an empty plot is none")
	}
}
