package dht

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// staticNet is n cores in one goroutine with virtual time, whose tables are
// filled as joining fills them: what a lookup costs, without loop and latency.
type staticNet struct {
	cores []*core
	byKey map[Key]*core
	now   time.Time
	calls int
}

func newStaticNet(tb testing.TB, n int) *staticNet {
	s := &staticNet{byKey: map[Key]*core{}, now: epoch}
	rnd := rand.New(rand.NewPCG(uint64(n), 3))
	for i := range n {
		cfg := Config{Key: testKey(i), Network: &memNode{}, Rand: rand.NewPCG(uint64(i), 1)}.withDefaults()
		c := newCore(&cfg, epoch)
		c.own.addrs = append(c.own.addrs, testAddr(i+1))
		c.sign(epoch)
		s.cores = append(s.cores, c)
		s.byKey[c.self] = c
	}
	order := rnd.Perm(n)
	for _, c := range s.cores {
		add := func(o *core) {
			if o != c {
				c.table.succeeded(epoch, Contact{Key: o.self, Record: o.own.rec}, 50*time.Millisecond, checkFirst)
			}
		}
		near := slices.Clone(s.cores) // the siblings, as the search for oneself finds them
		slices.SortFunc(near, func(a, b *core) int { return compare(c.id, a.id, b.id) })
		for _, o := range near[:min(n, siblingSize+1)] {
			add(o)
		}
		for _, i := range order {
			add(s.cores[i])
		}
	}
	return s
}

// find drives one lookup of core from to its end.
func (s *staticNet) find(from *core, target Key) *op {
	o := from.start(s.now, opGet, NodeID(target))
	for !o.ready() {
		from.widen(s.now, o)
		qs := o.lookup.next(s.now, from.cfg.MaxCalls, nil)
		s.now = s.now.Add(50 * time.Millisecond)
		for _, q := range qs {
			s.calls++
			o.lookup.answered(s.now, q.to.Key, s.byKey[q.to.Key].serve(s.now, from.self, netip.Addr{}, q.req))
		}
	}
	from.finish(s.now, o)
	from.ops = nil
	return o
}

func (s *staticNet) run(tb testing.TB, rnd *rand.Rand) (hop int) {
	from, to := s.cores[rnd.IntN(len(s.cores))], s.cores[rnd.IntN(len(s.cores))]
	o := s.find(from, to.self)
	if o.err != nil || o.result.Record.Seq != to.own.rec.Seq {
		tb.Fatalf("%v, %+v", o.err, o.result)
	}
	for _, st := range o.lookup.route() {
		if st.Answer == AnswerRecord {
			return st.Hop
		}
	}
	return 0
}

func BenchmarkLookup1000(b *testing.B) {
	s := newStaticNet(b, 1000)
	rnd := rand.New(rand.NewPCG(1, 1))
	hops := 0
	for b.Loop() {
		hops += s.run(b, rnd)
	}
	b.ReportMetric(float64(hops)/float64(b.N), "hops/op")
	b.ReportMetric(float64(s.calls)/float64(b.N), "calls/op")
}

// Every agent of 300 is found from 10 nodes, and an unknown one is certain not to be there.
func TestStaticNetwork(t *testing.T) {
	t.Parallel()
	s := newStaticNet(t, 300)
	rnd := rand.New(rand.NewPCG(2, 1))
	for range 10 {
		from := s.cores[rnd.IntN(len(s.cores))]
		for _, to := range s.cores {
			if o := s.find(from, to.self); o.err != nil || o.result.Record.Seq != to.own.rec.Seq {
				t.Fatalf("%s not found: %v", to.self, o.err)
			}
		}
	}
	if o := s.find(s.cores[0], pub(testKey(5000))); o.err == nil {
		t.Error("an unknown agent is found")
	}
}
