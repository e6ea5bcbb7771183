package node

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
)

// What is kept for one client that watches and has not read it. Over either bound
// the oldest go.
const (
	watchSignals    = 1024
	maxWatchSignals = 16384 // for a client that asks for more
	watchBytes      = 1 << 20
)

// signals carries what handlers emit to the agent's own clients.
type signals struct {
	mu    sync.Mutex // guards what follows
	byDNA map[sdk.DNAHash]*emitted

	count, lost uint64
}

// emitted is of one DNA. It outlives the handler's process.
type emitted struct {
	last     uint64 // number of the newest signal
	watchers map[*watcher]bool
}

// watcher is one client, and what it has not been told yet. The signals' lock
// guards it.
type watcher struct {
	max   int
	queue []control.Signal // the oldest first
	bytes int
	lost  uint64        // dropped before the first of queue, and not told
	over  bool          // the DNA is gone
	wake  chan struct{} // capacity 1
}

func newSignals() *signals { return &signals{byDNA: map[sdk.DNAHash]*emitted{}} }

// ofLocked is a DNA's. Their number is bounded by that of the handlers.
func (s *signals) ofLocked(dna sdk.DNAHash) *emitted {
	e := s.byDNA[dna]
	if e == nil {
		e = &emitted{watchers: map[*watcher]bool{}}
		s.byDNA[dna] = e
	}
	return e
}

// emit gives a signal to all who watch.
func (s *signals) emit(now time.Time, a *app, payload []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.ofLocked(a.hash)
	e.last++
	s.count++
	sig := control.Signal{Seq: e.last, Time: now, DNA: a.name, Payload: payload}
	for w := range e.watchers {
		s.lost += w.push(sig)
	}
}

// push adds a signal, and drops the oldest where there is no room. The newest stays,
// however large it is.
func (w *watcher) push(sig control.Signal) (lost uint64) {
	w.queue = append(w.queue, sig)
	w.bytes += len(sig.Payload)
	for len(w.queue) > 1 && (len(w.queue) > w.max || w.bytes > watchBytes) {
		w.bytes -= len(w.queue[0].Payload)
		w.queue[0] = control.Signal{}
		w.queue = w.queue[1:]
		lost++
	}
	w.lost += lost
	select {
	case w.wake <- struct{}{}:
	default:
	}
	return lost
}

// pop takes the oldest signal.
func (w *watcher) pop() (sig control.Signal, ok bool) {
	if len(w.queue) == 0 {
		w.queue = nil
		return sig, false
	}
	sig = w.queue[0]
	w.queue[0] = control.Signal{}
	w.queue = w.queue[1:]
	w.bytes -= len(sig.Payload)
	sig.Lost, w.lost = w.lost, 0
	return sig, true
}

// pop takes a watcher's oldest signal. over tells, where there is none, that none
// will come.
func (s *signals) pop(w *watcher) (sig control.Signal, ok, over bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sig, ok = w.pop()
	return sig, ok, !ok && w.over
}

// removed ends what watches a DNA.
func (s *signals) removed(dna sdk.DNAHash) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.byDNA[dna]; e != nil {
		for w := range e.watchers {
			w.over = true
			select {
			case w.wake <- struct{}{}:
			default:
			}
		}
	}
}

// join makes a watcher, and tells the number of the last signal before it.
func (s *signals) join(dna sdk.DNAHash, max int) (w *watcher, last uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.ofLocked(dna)
	w = &watcher{max: max, wake: make(chan struct{}, 1)}
	e.watchers[w] = true
	return w, e.last
}

func (s *signals) leave(dna sdk.DNAHash, w *watcher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byDNA[dna].watchers, w)
}

// Emit implements sdk.Host. The signal is on its way whatever becomes of the call.
func (c *liveCall) Emit(_ context.Context, payload []byte) error {
	if err := c.open(); err != nil {
		return err
	}
	n := c.node
	if len(payload) > n.cfg.MaxPayload {
		return tooLarge("signal", len(payload), n.cfg.MaxPayload, sdk.SideCaller, sdk.DeliveredNo)
	}
	n.signals.emit(n.now(), c.app, payload)
	return nil
}

// Watch tells of a DNA's signals from now on, until ctx or the node ends, tell fails,
// or the DNA's last handler is removed, which is NoHandler.
func (n *Node) Watch(ctx context.Context, q control.WatchQuery, tell func(control.Signal) error) error {
	a, e := n.apps.named(q.DNA)
	if e != nil && n.awaitHandlers(ctx) {
		a, e = n.apps.named(q.DNA)
	}
	if e != nil {
		return e
	}
	max := q.Buffer
	switch {
	case max == 0:
		max = watchSignals
	case max < 0 || max > maxWatchSignals:
		return &control.InputError{Text: fmt.Sprintf("buffer: %d signals, between 1 and %d", max, maxWatchSignals)}
	}
	w, last := n.signals.join(a.hash, max)
	defer n.signals.leave(a.hash, w)
	if err := tell(control.Signal{Began: true, Seq: last, Time: n.now(), DNA: a.name}); err != nil {
		return err
	}
	for {
		sig, ok, over := n.signals.pop(w)
		if ok {
			if err := tell(sig); err != nil {
				return err
			}
			continue
		}
		if over {
			return errMissing("the handler of DNA %s was removed, and emits no more", a.name)
		}
		select {
		case <-w.wake:
		case <-ctx.Done():
			return ctx.Err()
		case <-n.life.Done():
			return nil
		}
	}
}

func (s *signals) status(st *control.Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Traffic.Signals, st.Traffic.SignalsLost = s.count, s.lost
}
