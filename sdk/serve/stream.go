package serve

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/handlerpb"
)

// stream is the call socket at the handler's end. Its own goroutine receives,
// and never waits for anything else; calls run in workers; hs.Send sends what
// they don't send by themselves.
type stream struct {
	v       *service
	hs      *handlerpb.HandlerStream
	dead    chan struct{} // closed when the stream has failed
	why     error         // set before dead is closed
	workers handlerpb.Workers

	mu    sync.Mutex
	calls map[uint64]*call // that have not ended
}

// quietCalls is up to how many calls send their frames by themselves. That
// saves a change of goroutines, where above it packing saves more.
const quietCalls = 2

// Calls serves the calls that come over conn, until it ends: what Main does on
// the call socket, for tests and other ways to start.
func Calls(conn io.ReadWriteCloser, h sdk.Handler, maxPayload int) error {
	return newService(h, maxPayload).Calls(conn)
}

// Calls serves the calls of a node that come over conn. It returns when conn
// and the calls have ended.
func (v *service) Calls(conn io.ReadWriteCloser) error {
	hs := handlerpb.NewHandlerStream(conn, v.maxPayload)
	s := &stream{v: v, hs: hs, dead: make(chan struct{}), calls: map[uint64]*call{}}
	var sender sync.WaitGroup
	sender.Go(hs.Send)
	var err error
	for err == nil {
		err = hs.Recv(s.frame)
	}
	s.end(err)
	hs.Fail(err)
	_ = conn.Close() // ends a write that waits
	sender.Wait()
	s.workers.Close()
	if err == io.EOF {
		return nil
	}
	return err
}

func (s *stream) frame(f handlerpb.FromNode) error {
	if f.Start != nil {
		return s.start(f.ID, f.Start)
	}
	s.mu.Lock()
	c := s.calls[f.ID]
	s.mu.Unlock()
	switch {
	case c == nil: // it has ended meanwhile
	case f.Answer != nil:
		c.answered(f.Answer)
	default:
		c.giveUp()
	}
	return nil
}

func (s *stream) start(id uint64, st *handlerpb.Start) error {
	s.mu.Lock()
	if s.calls[id] != nil {
		s.mu.Unlock()
		return fmt.Errorf("%w: call %d runs already", handlerpb.ErrMalformed, id)
	}
	if len(s.calls) >= handlerpb.MaxOpenCalls {
		s.mu.Unlock()
		return s.hs.Refuse(id, &sdk.Error{Code: sdk.Busy, Side: sdk.SideHandler, Delivered: sdk.DeliveredNo, Retry: true,
			Text:  "too many calls have not ended in the handler",
			Limit: &sdk.Limit{Name: "open calls of a handler", Value: handlerpb.MaxOpenCalls + 1, Max: handlerpb.MaxOpenCalls}})
	}
	c := &call{s: s, id: id, call: &st.Call, stage: s.v.stage()}
	if st.Remaining > 0 {
		c.ctx.Start(time.Now().Add(st.Remaining), true)
	}
	s.calls[id] = c
	s.mu.Unlock()
	s.workers.Do(c)
	return nil
}

// end ends what the calls wait for: their node is gone. No call begins after it.
func (s *stream) end(err error) {
	s.why = err
	close(s.dead)
	s.mu.Lock()
	calls := slices.Collect(maps.Values(s.calls))
	s.mu.Unlock()
	for _, c := range calls {
		c.ctx.End(context.Canceled, err)
	}
}

func (s *stream) quiet() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.calls) <= quietCalls
}

// ended forgets a call, and tells whether few others run.
func (s *stream) ended(id uint64) (quiet bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.calls, id)
	return len(s.calls) < quietCalls
}
