package sim

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// popularity is which agents are looked up: Zipf over a random order.
type popularity struct {
	cum   []float64
	order []int32
}

func newPopularity(r *rand.Rand, ids []int32, exponent float64) popularity {
	p := popularity{order: slices.Clone(ids)}
	r.Shuffle(len(p.order), func(i, j int) { p.order[i], p.order[j] = p.order[j], p.order[i] })
	sum := 0.0
	for i := range p.order {
		sum += math.Pow(float64(i+1), -exponent)
		p.cum = append(p.cum, sum)
	}
	return p
}

func (p popularity) draw(r *rand.Rand) int32 {
	i, _ := slices.BinarySearch(p.cum, r.Float64()*p.cum[len(p.cum)-1])
	return p.order[min(i, len(p.order)-1)]
}

// lookUp lets n's agent look up another that is online and has published.
func (p *partition) lookUp(n *node, at int64) {
	s := p.sim
	n.self(p, event{at: at + int64(n.rnd.ExpFloat64()*float64(time.Hour)/s.cfg.Lookups), kind: evLookup})
	if !n.up || n.m == nil || !n.m.Ready() {
		return
	}
	for range 20 {
		t := s.world.targets.draw(&n.rnd)
		if t != n.id && s.public[t].up && s.public[t].seq > 0 {
			p.startLookup(n, at, t)
			return
		}
	}
}

func (p *partition) startLookup(n *node, at int64, target int32) {
	s := p.sim
	l, err := n.m.Lookup(clock(at), s.nodes[target].key, s.cfg.Search)
	if err != nil {
		return
	}
	n.pending = append(n.pending, &running{l: l, target: target, start: at, seq: s.public[target].seq})
	p.poll(n, at)
}
