package transport

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// way is one of the two ways in which a request is asked and served.
type way struct {
	name    string
	serve   func(t testing.TB, h Handler) Handler
	request func(s *Session, ctx context.Context, o Outgoing) ([]byte, error)
}

var ways = []way{
	{"waiting", func(_ testing.TB, h Handler) Handler { return h }, (*Session).Request},
	{"started", starts, started},
}

func bothWays(t *testing.T, test func(*testing.T, way)) {
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) { test(t, w) })
	}
}

// bothWaysSynced gives each way a synctest bubble.
func bothWaysSynced(t *testing.T, test func(*testing.T, way)) {
	bothWays(t, func(t *testing.T, w way) {
		synctest.Test(t, func(t *testing.T) { test(t, w) })
	})
}

// starting is a Handler that is a Starter: each request has its own goroutine.
type starting struct {
	Handler
	running *sync.WaitGroup
	take    func(*Request) bool // nil = all
}

func (h starting) StartRequest(ctx context.Context, r *Request) bool {
	if h.take != nil && !h.take(r) {
		return false
	}
	h.running.Go(func() { r.Reply(h.ServeRequest(ctx, r)) })
	return true
}

func starts(t testing.TB, h Handler) Handler { return startsSome(t, h, nil) }

// startsSome starts the requests that take is true for.
func startsSome(t testing.TB, h Handler, take func(*Request) bool) Handler {
	s := starting{h, new(sync.WaitGroup), take}
	t.Cleanup(s.running.Wait) // after the node's
	return s
}

// testReceiver counts what it is told, and keeps the first of it.
type testReceiver struct {
	pending Pending
	told    atomic.Int32
	done    chan struct{} // closed when it is told
	reply   []byte
	err     error
}

func newTestReceiver() *testReceiver { return &testReceiver{done: make(chan struct{})} }

func (r *testReceiver) Answered(reply []byte, err error) {
	if r.told.Add(1) > 1 {
		return
	}
	r.reply, r.err = reply, err
	close(r.done)
}

func (r *testReceiver) start(s *Session, deadline time.Time, o Outgoing) bool {
	return s.Start(&r.pending, deadline, &o, r)
}

// started is Session.Request by Start, where that takes the request.
func started(s *Session, ctx context.Context, o Outgoing) ([]byte, error) {
	r := newTestReceiver()
	deadline, _ := ctx.Deadline()
	if ctx.Err() != nil || !r.start(s, deadline, o) {
		return s.Request(ctx, o)
	}
	select {
	case <-r.done:
	case <-ctx.Done():
		if inTime, sent := r.pending.Cancel(); inTime {
			return nil, contextError(ctx, sent)
		}
		<-r.done
	}
	var re *RequestError
	if errors.As(r.err, &re) && re.Code == Lost && !re.Sent && errors.Is(re, ErrReplaced) {
		return s.Request(ctx, o) // which finds the next session
	}
	return r.reply, r.err
}
