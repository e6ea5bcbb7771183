package plugin

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/parley-p2p/parley/sdk/handlerpb"
)

// callStream is the node's end of a process's call socket: one goroutine
// receives and hands on, another one sends what the calls don't send by
// themselves. Neither waits for a call or a callback.
type callStream struct {
	s       *handlerpb.NodeStream
	conn    io.Closer
	dead    chan struct{} // closed when the stream has failed
	workers handlerpb.Workers
	spawned sync.WaitGroup // those that wait for room

	mu     sync.Mutex
	calls  map[uint64]*running  // that the handler has not ended; nil where nobody waits
	left   map[uint64]time.Time // since when nobody waits for them
	lastID uint64
	err    error
}

// quietCalls is up to how many calls send their frames by themselves. That
// saves a change of goroutines, where above it packing saves more.
const quietCalls = 2

// faultError is a breach of the contract that ends the process.
type faultError struct{ err error }

func (e *faultError) Error() string { return e.err.Error() }
func (e *faultError) Unwrap() error { return e.err }

func newCallStream(conn io.ReadWriteCloser, maxPayload int) *callStream {
	return &callStream{s: handlerpb.NewNodeStream(conn, maxPayload), conn: conn, dead: make(chan struct{}), calls: map[uint64]*running{}}
}

// serve receives until the stream ends. When it returns nothing of the
// stream's goes on; its error says why.
func (s *callStream) serve() error {
	var sender sync.WaitGroup
	sender.Go(s.s.Send)
	var err error
	for err == nil {
		err = s.s.Recv(s.frame)
	}
	if errors.Is(err, handlerpb.ErrUnread) {
		err = &faultError{err}
	}
	s.fail(err)
	sender.Wait()
	s.workers.Close()
	s.spawned.Wait()
	return fmt.Errorf("call stream: %w", s.cause())
}

// frame hands a frame to its call. One of a call that has ended is passed
// over: it was under way when its call was given up.
func (s *callStream) frame(f handlerpb.FromHandler) error {
	s.mu.Lock()
	r, open := s.calls[f.ID]
	known := f.ID <= s.lastID
	if f.Result != nil && open {
		delete(s.calls, f.ID)
		delete(s.left, f.ID)
	}
	s.mu.Unlock()
	switch {
	case !known:
		return fmt.Errorf("%w: a frame of call %d, which was not started", handlerpb.ErrMalformed, f.ID)
	case r == nil:
		return nil
	}
	return r.frame(f)
}

// add gives a call its id, and tells whether few run.
func (s *callStream) add(r *running) (quiet bool, err error) {
	s.mu.Lock()
	if s.err == nil && len(s.calls) >= handlerpb.MaxOpenCalls {
		s.failLocked(&faultError{fmt.Errorf("%d calls that were given up have not ended in it", len(s.left))})
	}
	defer s.mu.Unlock()
	if s.err != nil {
		return false, s.err
	}
	s.lastID++
	r.id = s.lastID
	s.calls[r.id] = r
	return len(s.calls) <= quietCalls, nil
}

// leave keeps a call in mind that nobody waits for any more.
func (s *callStream) leave(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.calls[id]; r != nil {
		s.calls[id] = nil
		if s.left == nil {
			s.left = map[uint64]time.Time{}
		}
		s.left[id] = time.Now()
	}
}

// remove forgets a call that was not sent.
func (s *callStream) remove(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.left, id)
	delete(s.calls, id)
}

func (s *callStream) quiet() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.calls) <= quietCalls
}

// abandoned counts the calls that nobody waits for.
func (s *callStream) abandoned() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.left)
}

// overdue counts the calls that nobody has waited for since before.
func (s *callStream) overdue(before time.Time) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, at := range s.left {
		if at.Before(before) {
			n++
		}
	}
	return n
}

// spawn runs f in a goroutine that serve waits for, unless the stream has failed.
func (s *callStream) spawn(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return false
	}
	s.spawned.Go(f)
	return true
}

// endCalls ends the calls that run when the stream has failed. The process's end
// says how it came about, so it is waited for a moment.
func (s *callStream) endCalls(exited <-chan struct{}, why func() error) {
	<-s.dead
	cause := s.cause()
	s.mu.Lock()
	calls := make([]*running, 0, len(s.calls))
	for _, r := range s.calls {
		if r != nil {
			calls = append(calls, r)
		}
	}
	s.mu.Unlock()
	var reason error
	if grace := crashGrace; len(calls) > 0 && !errors.Is(cause, handlerpb.ErrMalformed) {
		t := time.NewTimer(grace)
		defer t.Stop()
		select {
		case <-exited:
			reason = why()
		case <-t.C:
		}
	}
	for _, r := range calls {
		r.lost(cause, reason)
	}
}

// fail ends the stream for its calls.
func (s *callStream) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failLocked(err)
}

func (s *callStream) failLocked(err error) {
	if s.err == nil {
		s.err = err
		close(s.dead)
		s.s.Fail(err)
		_ = s.conn.Close() // ends Recv, and a write that waits
	}
}

func (s *callStream) cause() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}
