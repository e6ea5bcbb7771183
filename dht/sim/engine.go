package sim

import (
	"context"
	"math"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-p2p/parley/dht"
)

// The engine is conservative parallel simulation: no message arrives sooner than
// leastDelay, so that within a window of that length no node hears of another. Each worker takes the
// nodes of its partition to which something happens in the window, one after the other, and then those that
// the other workers have not begun. What they send is taken over at the beginning of the next window, so
// that each costs one meeting of the workers. What happens does not depend on who does it: each node has
// its own randomness, events of one node are ordered by what caused them, and what nodes read of one another
// changes between windows only.

// leastDelay is the least time that a message takes, and a window's length.
const leastDelay = int64(10 * time.Millisecond)

// pagesEvery is the number of windows, and at the start of nodes, after which memory that has
// come to the process since is looked for.
const pagesEvery = 1 << 11

// epoch is the virtual time of the start.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func clock(at int64) time.Time { return epoch.Add(time.Duration(at)) }

// partition is a worker, and the nodes whose events wait in its queue.
type partition struct {
	sim   *sim
	self  int
	queue eventHeap
	tasks
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

// notice tells all what is to be known of n.
func (p *partition) notice(n *node, up bool, seq uint64) {
	p.board = append(p.board, notice{n.id, public{up, seq, n.addr}})
}

// public is what the observer and attackers know of a node: never read by the protocol.
type public struct {
	up   bool
	seq  uint64 // of its record, published; 0: none
	addr netip.AddrPort
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
	windows uint64
	turn    int   // which of partition.out is this window's
	sent    int64 // the earliest event that waits to be taken over; math.MaxInt64: none
	measure int64 // samples count from here on
	world   world
	census  census
	pages   pages
}

// tasks are what happens in one window, by node.
type tasks struct {
	list  []task
	next  atomic.Int64  // of list, to be begun by whoever is free
	ready atomic.Uint64 // the number of the window that list is of

	of   int32     // the node of the task that this worker does
	end  int64     // of the window; 0 between windows
	here eventHeap // what else happens to the node within it
}

// task is the events of one node in one window, in their order.
type task struct {
	node   int32
	events []event
}

// weight is about how long t takes.
func (t *task) weight() (w int) {
	for i := range t.events {
		w += weights[t.events[i].kind]
	}
	return w
}

// send puts e into the queue of its node's partition. Only self-caused events
// may be nearer than leastDelay.
func (p *partition) send(e event) {
	if e.at < p.end && e.dst == p.of {
		p.here.push(e)
		return
	}
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
// the events before end: the partition's, and those that other workers leave.
func (p *partition) window(end int64) {
	s := p.sim
	p.takeOver(1 - s.turn)
	p.end = end
	p.gather(end)
	for i := range s.parts {
		o := s.parts[(p.self+i)%len(s.parts)]
		for spin := 0; o.ready.Load() != s.windows; spin++ {
			relax(spin)
		}
		for {
			n := o.next.Add(1) - 1
			if n >= int64(len(o.list)) {
				break
			}
			p.do(&o.list[n])
		}
	}
	p.end = 0
}

// gather makes the tasks of a window, the long ones first: one that is begun last keeps all workers waiting.
func (p *partition) gather(end int64) {
	p.list = p.list[:0]
	for len(p.queue) > 0 && p.queue[0].at < end {
		e := p.queue.pop()
		n := &p.sim.nodes[e.dst]
		if n.task == 0 {
			if len(p.list) < cap(p.list) {
				p.list = p.list[:len(p.list)+1]
			} else {
				p.list = append(p.list, task{})
			}
			n.task = int32(len(p.list))
			t := &p.list[n.task-1]
			t.node, t.events = e.dst, t.events[:0]
		}
		t := &p.list[n.task-1]
		t.events = append(t.events, e)
	}
	for i := range p.list {
		p.sim.nodes[p.list[i].node].task = 0
	}
	if len(p.sim.parts) > 1 {
		slices.SortFunc(p.list, func(a, b task) int { return b.weight() - a.weight() })
	}
	p.next.Store(0)
	p.ready.Store(p.sim.windows)
}

// do handles the events of one node in one window.
func (p *partition) do(t *task) {
	n := &p.sim.nodes[t.node]
	p.of = t.node
	for i := 0; i < len(t.events) || len(p.here) > 0; {
		if i == len(t.events) || len(p.here) > 0 && p.here[0].before(&t.events[i]) {
			p.handle(n, p.here.pop())
			continue
		}
		p.handle(n, t.events[i])
		i++
	}
	clear(t.events) // their messages serve again
	p.of = -1
}

// takeOver takes what the others sent to the partition in one window.
func (p *partition) takeOver(turn int) {
	for _, o := range p.sim.parts {
		for _, e := range o.out[turn][p.self] {
			p.queue.push(e)
		}
		o.out[turn][p.self] = o.out[turn][p.self][:0]
	}
}

// settle ends what happened outside of windows: nothing is on its way between
// partitions any more.
func (s *sim) settle() {
	s.turned()
	for _, p := range s.parts {
		p.takeOver(0)
		p.takeOver(1)
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
			if s.windows%pagesEvery == 0 {
				s.pages.look()
			}
			s.windows++
			crew.each(func(i int) { s.parts[i].window(end) })
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

// relax waits a little: steps last microseconds, less than it takes to wake a goroutine that
// blocks. Where other processes want the processor, the one that this worker waits for may be without.
func relax(spin int) {
	switch {
	case spin > 1<<20: // some milliseconds
		time.Sleep(50 * time.Microsecond)
	case spin%500 == 499:
		yield()
	case spin%100 == 99: // not each time: it takes a lock that all share
		runtime.Gosched()
	}
}
