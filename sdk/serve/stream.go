package serve

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/handlerpb"
)

// stream is a call stream at the handler's end. It has one receiver at a time:
//   - the stream's own goroutine, while it waits for the next call;
//   - a call's goroutine, while it waits for its only callback, which saves a
//     switch of goroutines on the usual path;
//   - a pump, where several callbacks are open or one may be given up early.
//
// Whoever receives hands on what is not its own.
type stream struct {
	ctx   context.Context
	hs    *handlerpb.HandlerStream
	slots chan struct{}  // one per open callback
	calls chan nextCall  // a call that a receiver other than next() came across
	pumps sync.WaitGroup // waited for by the stream's own goroutine
	dead  chan struct{}  // closed once, by fail

	sendMu sync.Mutex // one sender at a time; guards host.ended

	mu        sync.Mutex
	receiving bool                              // somebody receives
	idle      bool                              // next() waits for a receiver's hand-over
	inCall    bool                              // a call runs: no other may arrive
	pending   map[uint64]chan *handlerpb.Answer // by callback id; each of capacity 1
	lastID    uint64
	err       error // why the stream is dead
}

type nextCall struct {
	call      *sdk.Call
	remaining time.Duration
}

func newStream(ctx context.Context, hs *handlerpb.HandlerStream) *stream {
	return &stream{ctx: ctx, hs: hs, slots: make(chan struct{}, handlerpb.MaxCallbacks),
		calls: make(chan nextCall, 1), dead: make(chan struct{}), pending: map[uint64]chan *handlerpb.Answer{}}
}

// fail marks the stream dead. Callbacks that wait see it.
func (s *stream) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failLocked(err)
}

func (s *stream) failLocked(err error) {
	if s.err == nil {
		s.err = err
		close(s.dead)
	}
}

func (s *stream) deadErr() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// next waits for the next call.
func (s *stream) next() (*sdk.Call, time.Duration, error) {
	s.mu.Lock()
	select {
	case n := <-s.calls: // handed over already
		s.mu.Unlock()
		return n.call, n.remaining, nil
	default:
	}
	if s.receiving { // a leftover of the last call receives: it hands the call over
		s.idle = true
		s.mu.Unlock()
		select {
		case n := <-s.calls:
			return n.call, n.remaining, nil
		case <-s.dead:
			return nil, 0, s.deadErr()
		}
	}
	s.receiving = true
	s.mu.Unlock()
	for {
		f, err := s.hs.Recv()
		if err != nil {
			s.fail(err)
			return nil, 0, err
		}
		if f.Call != nil {
			s.mu.Lock()
			s.receiving, s.inCall = false, true
			s.mu.Unlock()
			return f.Call, f.Remaining, nil
		}
		// The answer to a callback of a call that has ended: nobody waits.
	}
}

// receive is a receiver's loop. It returns when the answer to own has come
// (that one is in its channel), or, where own is 0, when nothing is pending.
func (s *stream) receive(own uint64) {
	for {
		f, err := s.hs.Recv()
		if err != nil {
			s.fail(err)
			return
		}
		s.mu.Lock()
		if f.Call != nil {
			s.handOverLocked(nextCall{f.Call, f.Remaining})
			s.mu.Unlock()
			return
		}
		if w := s.pending[f.Answer.ID]; w != nil {
			delete(s.pending, f.Answer.ID)
			w <- f.Answer
		}
		busy := s.idle || len(s.pending) > 0
		switch {
		case own == 0 && busy, own != 0 && own != f.Answer.ID:
			s.mu.Unlock()
			continue
		case busy:
			s.pumpLocked()
		default:
			s.receiving = false
		}
		s.mu.Unlock()
		return
	}
}

// handOverLocked gives a call that arrived to next(). There is room for it:
// only one can arrive between two calls of next().
func (s *stream) handOverLocked(n nextCall) {
	if s.inCall {
		s.failLocked(fmt.Errorf("%w: a call while another one runs", handlerpb.ErrMalformed))
		return
	}
	s.receiving, s.idle, s.inCall = false, false, true
	s.calls <- n
}

func (s *stream) pumpLocked() {
	s.pumps.Go(func() { s.receive(0) })
}

// callback sends a callback and waits for its answer.
func (s *stream) callback(ctx context.Context, h *host, cb *handlerpb.Callback) (*handlerpb.Answer, error) {
	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-h.ctx.Done():
		return nil, h.ctx.Err()
	}
	defer func() { <-s.slots }()
	answer := make(chan *handlerpb.Answer, 1)
	if err := s.send(h, cb, answer); err != nil {
		return nil, err
	}
	s.await(ctx, h, cb.ID)
	select { // an answer that is there goes first
	case a := <-answer:
		return given(a)
	default:
	}
	select {
	case a := <-answer:
		return given(a)
	case <-s.dead:
		return nil, fmt.Errorf("the node is gone: %w", s.deadErr())
	case <-ctx.Done():
		s.giveUp(h, cb.ID)
		return nil, ctx.Err()
	}
}

// given tells an answer from the end of the call.
func given(a *handlerpb.Answer) (*handlerpb.Answer, error) {
	if a == nil {
		return nil, errEnded
	}
	return a, nil
}

func (s *stream) send(h *host, cb *handlerpb.Callback, answer chan *handlerpb.Answer) error {
	s.sendMu.Lock()
	defer s.sendMu.Unlock()
	if h.ended {
		return errEnded
	}
	s.mu.Lock()
	s.lastID++
	cb.ID = s.lastID
	s.pending[cb.ID] = answer
	s.mu.Unlock()
	if err := s.hs.Callback(cb); err != nil {
		s.mu.Lock()
		delete(s.pending, cb.ID)
		s.mu.Unlock()
		return err
	}
	return nil
}

// await sees to it that somebody receives: this goroutine where it may block
// as long as the call lives, else a pump.
func (s *stream) await(ctx context.Context, h *host, id uint64) {
	s.mu.Lock()
	if s.receiving || s.pending[id] == nil {
		s.mu.Unlock()
		return
	}
	s.receiving = true
	if ctx.Done() == h.ctx.Done() {
		s.mu.Unlock()
		s.receive(id)
		return
	}
	s.pumpLocked()
	s.mu.Unlock()
}

func (s *stream) giveUp(h *host, id uint64) {
	s.mu.Lock()
	delete(s.pending, id)
	s.mu.Unlock()
	s.sendMu.Lock()
	defer s.sendMu.Unlock()
	if !h.ended {
		_ = s.hs.Cancel(id) // a broken stream is seen by its receiver
	}
}

// finish ends the call: no callback is sent after its result, and those that
// still wait fail.
func (s *stream) finish(h *host, r *handlerpb.Result) error {
	s.sendMu.Lock()
	h.ended = true
	s.mu.Lock()
	s.inCall = false // the node may answer the result with the next call
	s.mu.Unlock()
	err := s.hs.Result(r)
	s.sendMu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, w := range s.pending {
		delete(s.pending, id)
		w <- nil
	}
	if err != nil && err != io.EOF {
		return fmt.Errorf("send the result: %w", err)
	}
	return nil
}
