package sim

import (
	"context"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-p2p/parley/dht"
)

// The engine is conservative parallel simulation: no message arrives sooner than
// leastDelay, so the nodes of different partitions can go through a window of
// that length without hearing of one another. What they sent is taken over at the
// beginning of the next window, so that each costs one meeting of the workers. What happens does not depend on how nodes are dealt to partitions: each
// node has its own randomness, and events are ordered by what caused them.

// leastDelay is the least time that a message takes, and a window's length.
const leastDelay = int64(10 * time.Millisecond)

// epoch is the virtual time of the start.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func clock(at int64) time.Time { return epoch.Add(time.Duration(at)) }

// partition is the nodes that one worker runs.
type partition struct {
	sim   *sim
	queue eventHeap
	out   [2][][]event // for each partition: of this window, and of the last one, which they take over
	sent  int64        // the earliest event of out; math.MaxInt64: none
	board []notice
	free  []*message
	meter meter
	buf   []dht.Call // of the poll under way
}

// notice is what all nodes may know of a node from the next window on.
type notice struct {
	node int32
	public
}

// public is what the observer knows of a node: never read by the protocol.
type public struct {
	up  bool
	seq uint64 // of its record, published; 0: none
}

// global is something that concerns all nodes: it happens between two windows.
type global struct {
	at time.Duration
	do func(s *sim, at int64)
}

// sim is one run.
type sim struct {
	cfg     Config
	nodes   []node
	parts   []*partition
	public  []public
	globals []global // by time
	end     int64
	turn    int   // which of partition.out is this window's
	sent    int64 // the earliest event that waits to be taken over; math.MaxInt64: none
	measure int64 // samples count from here on
	world   world
	census  census
}

// send puts e into the queue of its node's partition. Only self-caused events
// may be nearer than leastDelay.
func (p *partition) send(e event) {
	to := int(e.dst) % len(p.sim.parts)
	if p.sim.parts[to] == p {
		p.queue.push(e)
		return
	}
	o := p.out[p.sim.turn]
	o[to] = append(o[to], e)
	p.sent = min(p.sent, e.at)
}

// window takes over what the other partitions sent in the last window, and handles
// the partition's events before end.
func (p *partition) window(self int, end int64) {
	p.takeOver(self, 1-p.sim.turn)
	for len(p.queue) > 0 && p.queue[0].at < end {
		e := p.queue.pop()
		p.handle(&p.sim.nodes[e.dst], e)
	}
}

// takeOver takes what the others sent to partition self in one window.
func (p *partition) takeOver(self, turn int) {
	for _, o := range p.sim.parts {
		for _, e := range o.out[turn][self] {
			p.queue.push(e)
		}
		o.out[turn][self] = o.out[turn][self][:0]
	}
}

// settle ends what happened outside of windows: nothing is on its way between
// partitions any more.
func (s *sim) settle() {
	s.turned()
	for i, p := range s.parts {
		p.takeOver(i, 0)
		p.takeOver(i, 1)
	}
	s.sent = math.MaxInt64
}

// turned ends a window: all may read the notices, and take over what was sent.
func (s *sim) turned() {
	for _, p := range s.parts {
		for _, n := range p.board {
			s.public[n.node] = n.public
		}
		p.board = p.board[:0]
		if p.sent < math.MaxInt64 {
			s.sent = min(s.sent, p.sent)
			p.sent = math.MaxInt64
		}
	}
	s.turn = 1 - s.turn
}

// next is the time of the earliest event.
func (s *sim) next() int64 {
	at := s.sent
	for _, p := range s.parts {
		if len(p.queue) > 0 {
			at = min(at, p.queue[0].at)
		}
	}
	return at
}

// run goes through all events until the end or until ctx ends.
func (s *sim) run(ctx context.Context) error {
	slices.SortStableFunc(s.globals, func(a, b global) int { return int(a.at - b.at) })
	s.settle()
	crew := newCrew(len(s.parts))
	defer crew.stop()
	for {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		at, limit := s.next(), s.end
		if len(s.globals) > 0 {
			limit = min(limit, int64(s.globals[0].at))
		}
		if at < limit {
			end := min(at+leastDelay, limit)
			s.sent = math.MaxInt64 // the window takes all over
			crew.each(func(i int) { s.parts[i].window(i, end) })
			s.turned()
			continue
		}
		if len(s.globals) == 0 || int64(s.globals[0].at) > s.end {
			return nil
		}
		g := s.globals[0]
		s.globals = s.globals[1:]
		g.do(s, int64(g.at))
		s.settle()
	}
}

// crew is workers that do the same step at the same time.
type crew struct {
	n     int
	step  atomic.Uint64
	left  atomic.Int64
	do    func(int)
	ended bool
	wg    sync.WaitGroup
}

func newCrew(n int) *crew {
	c := &crew{n: n}
	for i := 1; i < n; i++ {
		c.wg.Go(func() { c.work(i) })
	}
	return c
}

// each runs do(0) to do(n-1), one on each worker, and returns when all are done.
func (c *crew) each(do func(int)) {
	if c.n > 1 {
		c.do = do
		c.left.Store(int64(c.n - 1))
		c.step.Add(1)
	}
	do(0)
	for spin := 0; c.n > 1 && c.left.Load() > 0; spin++ {
		relax(spin)
	}
}

func (c *crew) work(i int) {
	for seen := uint64(0); ; {
		for spin := 0; c.step.Load() == seen; spin++ {
			relax(spin)
		}
		seen++
		if c.ended {
			return
		}
		c.do(i)
		c.left.Add(-1)
	}
}

func (c *crew) stop() {
	c.ended = true
	c.step.Add(1)
	c.wg.Wait()
}

// relax waits a little: steps last microseconds, less than it takes to wake a
// goroutine that blocks.
func relax(spin int) {
	switch {
	case spin > 2000: // the others are not even running
		time.Sleep(50 * time.Microsecond)
	case spin > 100:
		runtime.Gosched()
	}
}
