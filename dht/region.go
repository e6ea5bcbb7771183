package dht

import (
	"math"
	"slices"
	"time"
)

// A record belongs to the nodes within a radius around its position in which k
// honest nodes are expected, not to the k nearest: keys nearer to a position than
// every honest node's are found in seconds, so that the k nearest can all be one
// attacker's (region store: SR-DHT-Store, arXiv 2505.01139; docs/dht.md, A6).

const (
	maxHolders = 48 // nodes that one publication asks at most
	ackShare   = 12 // holders, of the k expected, after which a record counts as published
	oddDensity = 2.2
	subTargets = 4
	subMore    = 8 // for hardened lookups
	subWidth   = 8 // of a path to one of them
	cells      = 16
)

// fraction is the distance of two positions as a share of the whole space.
func fraction(a, b ID) float64 {
	return share(a.top(), b.top())
}

// share is fraction of the tops of two ids.
func share(a, b uint64) float64 { return float64(a^b) / (1 << 64) }

const (
	sizeSamples  = 32
	sizeEnough   = 4 // samples
	sizeGrowth   = 2 // the estimate grows by at most so much in an hour
	sizeSettling = time.Hour
	sizeDoubt    = 3 // so many times off the table's rough estimate
)

// sizes estimates the number of nodes from the density around positions that
// this node chose at random, so that nodes gathered at one position do not move it.
type sizes struct {
	samples  []float64 // the latest last
	restored int       // of them, the first ones: of an earlier run
	value    float64
	start    time.Time // since when value may grow by no more than sizeGrowth: sizeSettling after it
	at       time.Time // of value
}

func (s *sizes) add(now time.Time, n float64) {
	if s.start.IsZero() {
		s.start = now
	}
	s.samples = append(s.samples, n)
	if s.restored > 0 && len(s.samples) == s.restored+sizeEnough { // what was then is over
		s.samples, s.restored, s.start = s.samples[s.restored:], 0, now
	}
	if len(s.samples) > sizeSamples {
		s.samples = s.samples[1:]
	}
	m := s.median()
	if s.value > 0 && now.Sub(s.start) > sizeSettling {
		m = min(m, s.value*math.Pow(sizeGrowth, max(now.Sub(s.at).Hours(), 0)))
	}
	s.value, s.at = m, now
}

func (s *sizes) median() float64 {
	var space [sizeSamples]float64
	sorted := append(space[:0], s.samples...)
	slices.Sort(sorted)
	return sorted[len(sorted)/2]
}

// known are the latest samples, for a snapshot.
func (s *sizes) known() []uint64 {
	out := make([]uint64, len(s.samples))
	for i, n := range s.samples {
		out[i] = uint64(min(max(n, 1), 1<<63))
	}
	return out
}

// restore takes over the samples of an earlier run: no more than make an estimate, and
// until there are as many new ones.
func (s *sizes) restore(samples []uint64) {
	for _, n := range samples[max(0, len(samples)-sizeEnough):] {
		s.samples = append(s.samples, float64(n))
	}
	if s.restored = len(s.samples); s.restored > 0 {
		s.value = s.median()
	}
}

// nodes is the estimate; false while there are too few samples.
func (s *sizes) nodes() (float64, bool) { return s.value, len(s.samples) >= sizeEnough }

// size is what the samples say, unless they are too few, or those of an earlier run and
// the table disagrees: the network may have changed while this node was away.
func (c *core) size() (float64, bool) {
	n, ok := c.sizes.nodes()
	return n, ok && (c.sizes.restored == 0 || !c.doubts(n))
}

// doubts tells whether the table's rough estimate is far from n.
func (c *core) doubts(n float64) bool {
	rough := float64(c.table.shallow())
	return c.sched.filled && (n > sizeDoubt*rough || rough > sizeDoubt*n)
}

// unsure tells whether there are too few samples, or the table disagrees with them.
func (c *core) unsure() bool {
	n, ok := c.sizes.nodes()
	return !ok || c.doubts(n)
}

// sample takes the density around a random target's nearest nodes.
func (c *core) sample(now time.Time, l *lookup) {
	near := l.nearest(bucketSize)
	switch {
	case len(near) == bucketSize:
		if d := fraction(l.target, near[bucketSize-1].id()); d > 0 {
			c.sizes.add(now, (bucketSize-1)/d)
		}
	case l.replies > 0:
		c.sizes.add(now, float64(len(near)+1))
	}
}

// nodes is the best estimate of the number of nodes.
func (c *core) nodes() float64 {
	if n, ok := c.size(); ok {
		return n
	}
	return float64(c.table.shallow())
}

// radius is the share of the space around a position in which k nodes are expected.
func (c *core) radius() float64 {
	return min(1, bucketSize/max(c.nodes(), 1))
}

// odd tells whether the nodes found around a target are too many, too few, or
// too much of one network to be there by chance.
func (c *core) odd(l *lookup) bool {
	n := c.nodes()
	near := l.nearest(bucketSize)
	if len(near) < bucketSize {
		return n > 2*bucketSize
	}
	density := n * 4 // at the very target
	if d := fraction(l.target, near[bucketSize-1].id()); d > 0 {
		density = (bucketSize - 1) / d
	}
	if n > bucketSize && (density > oddDensity*n || density < n/oddDensity) {
		return true
	}
	shares := map[group]int{}
	var space [maxGroups]group
	for _, nd := range near {
		for _, g := range groupsOf(space[:0], l.group, nd.ref()) {
			if shares[g]++; shares[g] > bucketSize/4 {
				return true
			}
		}
	}
	return false
}

// aroundTarget are n positions within the radius of a target, one in each n-th of it.
func (c *core) aroundTarget(target ID, n int) []ID {
	keep := max(0, int(math.Floor(-math.Log2(c.radius()))))
	bits := max(0, int(math.Log2(float64(n))))
	out := make([]ID, n)
	for i := range out {
		t := c.randomAfter(target, keep+bits)
		for b := range bits { // the cell's number
			if i>>b&1 == 1 {
				t[(keep+b)/8] ^= 0x80 >> ((keep + b) % 8)
			}
		}
		out[i] = t
	}
	return out
}

// randomAfter is id's first n bits, and random ones behind them.
func (c *core) randomAfter(id ID, n int) ID {
	var t ID
	for i := range t {
		t[i] = byte(c.rnd.Uint32())
	}
	n = min(n, 255)
	copy(t[:n/8], id[:n/8])
	mask := byte(0xff) >> (n % 8)
	t[n/8] = id[n/8]&^mask | t[n/8]&mask
	return t
}

// holders are the nodes to keep what belongs at l's target: those within the
// radius that answered, or the k nearest where these are more. Where they are
// too many they are taken evenly from all of it, for a crowd at one place is no chance.
func (c *core) holders(l *lookup) []*node {
	near := l.nearest(len(l.nodes))
	if c.off.Replicas {
		return near[:min(1, len(near))]
	}
	if c.off.Region {
		return near[:min(bucketSize, len(near))]
	}
	r := c.radius()
	in := slices.IndexFunc(near, func(n *node) bool { return share(l.target.top(), n.top()) > r })
	if in < 0 {
		in = len(near)
	}
	return spread(l.target, near[:min(max(in, bucketSize), len(near))], r)
}

func spread(target ID, near []*node, radius float64) []*node {
	if len(near) <= maxHolders {
		return near
	}
	var cell [cells][]*node
	for _, n := range near {
		i := min(cells-1, int(share(target.top(), n.top())/radius*cells))
		cell[i] = append(cell[i], n)
	}
	out := make([]*node, 0, maxHolders)
	for round := 0; ; round++ {
		for _, c := range cell {
			if round < len(c) {
				if out = append(out, c[round]); len(out) == maxHolders {
					return out
				}
			}
		}
	}
}

// around sends a lookup to n positions around its target, beside the target itself.
func (c *core) around(now time.Time, o *op, n int) {
	for _, t := range c.aroundTarget(o.lookup.target, n) {
		o.lookup.widen(t, subWidth, c.seeds(now, t, nil))
	}
}

// widen ends a lookup whose paths have ended, or sends it around its target too:
// where what it found there is odd.
func (c *core) widen(now time.Time, o *op) {
	l := o.lookup
	if o.wide || !l.done() {
		return
	}
	o.wide = true
	if c.off.Region || l.satisfied() || o.kind == opSelf || o.kind == opRefresh || l.replies == 0 {
		return
	}
	switch odd := c.odd(l); {
	case odd && o.hardened:
		c.around(now, o, subMore)
	case odd && !o.around:
		c.around(now, o, subTargets)
	}
}
