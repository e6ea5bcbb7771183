package dht

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// The estimate is right within its error, and a crowd at one place does not move
// it, for the targets are this node's own choice (A15).
func TestSizes(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(9, 1))
	for _, n := range []int{100, 1000, 20000} {
		ids := make([]ID, n)
		for i := range ids {
			for j := range ids[i] {
				ids[i][j] = byte(rnd.Uint32())
			}
		}
		var s sizes
		for i := range sizeSamples {
			if _, known := s.nodes(); known != (i >= sizeEnough) {
				t.Fatalf("after %d samples known: %t", i, known)
			}
			var target ID
			for j := range target {
				target[j] = byte(rnd.Uint32())
			}
			slices.SortFunc(ids, func(a, b ID) int { return compare(target, a, b) })
			s.add(epoch, (bucketSize-1)/fraction(target, ids[bucketSize-1]))
		}
		got, _ := s.nodes()
		if off := math.Abs(got/float64(n) - 1); off > .25 {
			t.Errorf("%d nodes are estimated at %.0f", n, got)
		}
	}
	var s sizes
	for i := range 3 * sizeSamples {
		s.add(epoch.Add(time.Duration(i)*time.Hour), 1000)
	}
	before, _ := s.nodes()
	for range sizeSamples { // all at once: nodes don't multiply in a minute
		s.add(epoch.Add(3*sizeSamples*time.Hour), 1e6)
	}
	if after, _ := s.nodes(); after > sizeGrowth*before {
		t.Errorf("%.0f nodes became %.0f within an hour", before, after)
	}
}

// crowd is a lookup to whose target so many nodes have answered: honest ones
// spread over a network of n, Sybils at the target itself.
func crowd(rnd *rand.Rand, c *core, n, honest, sybils int) *lookup {
	l := newLookup(epoch, lookupConfig{self: c.self, target: c.randomAfter(ID{}, 0), group: noGroups, paths: 1,
		verify: func(*Record) error { return nil }, host: &testHost{}}, nil)
	add := func(id ID) {
		c := at(Key{byte(len(l.nodes)), byte(len(l.nodes) >> 8), 9}, fmt.Sprintf("198.51.100.%d:1", 1+len(l.nodes)%250))
		l.append(node{who: newWho(&c, id), state: nodeAnswered})
	}
	for i := range honest { // evenly within the radius, as chance has it on average
		id := l.target
		x := uint64((float64(i) + rnd.Float64()) / float64(n) * (1 << 63) * 2)
		for j := range 8 {
			id[j] ^= byte(x >> (56 - 8*j))
		}
		add(id)
	}
	for range sybils {
		add(c.randomAfter(l.target, 40))
	}
	return l
}

// Sybils at a target are odd, honest nodes are not; the holders that are chosen
// have the honest ones of the region among them however many Sybils there are (A6).
func TestRegion(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(5, 5))
	c := testCore(t)
	const n = 1000
	for range sizeEnough {
		c.sizes.add(epoch, n)
	}
	if r := c.radius(); math.Abs(r-bucketSize/float64(n)) > 1e-9 {
		t.Fatalf("radius %g", r)
	}
	odd := 0
	for range 200 {
		if c.odd(crowd(rnd, c, n, 24, 0)) {
			odd++
		}
	}
	if odd > 4 {
		t.Errorf("%d of 200 honest targets are odd", odd)
	}
	for _, sybils := range []int{16, 32, 64, 500} {
		l := crowd(rnd, c, n, 16, sybils)
		if !c.odd(l) {
			t.Errorf("%d Sybils are not odd", sybils)
		}
		honest := 0
		got := c.holders(l)
		for _, h := range got {
			if prefixLen(h.id(), l.target) < 40 {
				honest++
			}
		}
		if honest < 15 || len(got) > maxHolders {
			t.Errorf("%d Sybils: %d of %d holders are honest", sybils, honest, len(got))
		}
		c.off.Region = true
		if got := c.holders(l); slices.ContainsFunc(got, func(h *node) bool { return prefixLen(h.id(), l.target) < 40 }) {
			t.Errorf("%d Sybils: without the region the nearest are not theirs: the attack is none", sybils)
		}
		c.off.Region = false
	}
	few := crowd(rnd, c, n, 3, 0)
	if !c.odd(few) {
		t.Error("3 nodes where 16 are expected")
	}
	one := crowd(rnd, c, n, 24, 0)
	one.group = DefaultGroup
	if !c.odd(one) {
		t.Error("all of one network")
	}
}

// The places around a target are in its region, one in each part of it.
func TestAroundTarget(t *testing.T) {
	t.Parallel()
	c := testCore(t)
	for _, n := range []float64{10, 100, 5000, 1e6} {
		c.sizes = sizes{}
		for range sizeEnough {
			c.sizes.add(epoch, n)
		}
		target := c.randomAfter(ID{}, 0)
		for _, parts := range []int{subTargets, subMore} {
			cells := map[int]bool{}
			for _, a := range c.aroundTarget(target, parts) {
				f := fraction(a, target)
				if f > 2*c.radius() {
					t.Errorf("%g nodes: %g away, the radius is %g", n, f, c.radius())
				}
				keep := max(0, int(math.Floor(-math.Log2(c.radius()))))
				cells[int(f*math.Ldexp(1, keep)*float64(parts))] = true
			}
			if len(cells) != parts {
				t.Errorf("%g nodes: %d places in %d parts", n, parts, len(cells))
			}
		}
	}
}

// A path apart is not ended by nodes that others have asked.
func TestPathApart(t *testing.T) {
	t.Parallel()
	l, seeds := testLookup(true, 1, 20, NodeID(Key{1}))
	drive(t, l, func(Contact) *Response { return &Response{Status: StatusNone} })
	var fresh []Contact
	for i := range 12 {
		fresh = append(fresh, Contact{Key: pub(testKey(300 + i)), Addrs: []netip.AddrPort{testAddr(300 + i)}})
	}
	near := NodeID(Key{77})
	l.widen(near, subWidth, strangers(append(fresh, seeds...)...))
	asked := 0
	for range 20 {
		for _, q := range l.next(epoch, 10, nil) {
			if q.req.Op != OpGet || q.req.Target != l.target || q.req.Near != near {
				t.Fatalf("%+v", q.req)
			}
			if slices.ContainsFunc(seeds, func(s Contact) bool {
				return s.Key == q.to.Key && l.of(s.Key).path == 0 && l.of(s.Key).state == nodeAnswered
			}) {
				t.Fatal("somebody is asked twice")
			}
			asked++
			l.answered(epoch, q.to.Key, &Response{Status: StatusNone})
		}
	}
	if asked < subWidth || !l.done() {
		t.Errorf("%d asked, done: %t", asked, l.done())
	}
}

// The estimate of a fresh node is not moved by Sybils around its own id, and is
// rather too low than too high while its table is thin.
func TestShallow(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(6, 1))
	tb := newTable(ID{}, noGroups)
	if got := tb.shallow(); got != 1 {
		t.Errorf("an empty table: %d", got)
	}
	for i := range 2000 {
		var k Key
		for j := range 8 {
			k[j] = byte(rnd.Uint32())
		}
		tb.succeeded(epoch, at(k, "192.0.2.1:1"), time.Millisecond, time.Minute)
		if i == 50 {
			if got := tb.shallow(); got > 200 {
				t.Errorf("51 nodes are estimated at %d", got)
			}
		}
	}
	honest := tb.shallow()
	for i := range 64 { // as near as 24 bits: ids, not keys, decide here
		var id ID
		id[3], id[4] = byte(1+i), 7
		c := at(Key{byte(i), 1, 2}, "192.0.2.1:1")
		tb.insert(tb.bucket(id), entry{who: newWho(&c, id)})
	}
	if got := tb.shallow(); got != honest || honest < 900 || honest > 4000 {
		t.Errorf("2000 nodes are estimated at %d, with 64 Sybils at %d", honest, got)
	}
}
