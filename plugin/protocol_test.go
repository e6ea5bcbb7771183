package plugin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/handlerpb"
	"github.com/parley-p2p/parley/sdk/serve"
)

// These tests need no process: a process value over gRPC in memory, whose
// other end breaks the contract in every way.

// inMemory gives a process whose handler is a gRPC server with the given stream
// handling, and counts the call streams that are open at the server.
func inMemory(t testing.TB, register func(*grpc.Server), cut grpc.StreamServerInterceptor) (*process, *atomic.Int64) {
	t.Helper()
	l := bufconn.Listen(1 << 20)
	open := new(atomic.Int64)
	count := func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
		open.Add(1)
		defer open.Add(-1)
		if cut != nil {
			return cut(srv, ss, info, next)
		}
		return next(srv, ss)
	}
	s := grpc.NewServer(append(serve.ServerOptions(1<<20), grpc.StreamInterceptor(count))...)
	register(s)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	cc, err := grpc.NewClient("passthrough:bufnet", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	out := newOutputs(slog.New(slog.DiscardHandler))
	p := &process{pb: handlerpb.NewClient(cc), out: out, run: newProcRunner(nil, out)}
	p.ctx, p.cancel = context.WithCancelCause(context.Background())
	p.pool = &pool{open: p.openStream}
	t.Cleanup(func() {
		p.cancel(nil)
		_ = cc.Close()
		s.Stop() // waits for the handlers
		<-done
	})
	return p, open
}

// cutting breaks a stream after n messages in both directions together.
type cutting struct {
	grpc.ServerStream
	left *atomic.Int64
}

var errCut = status.Error(codes.Unavailable, "cut")

func (c cutting) RecvMsg(m any) error {
	if c.left.Add(-1) < 0 {
		return errCut
	}
	return c.ServerStream.RecvMsg(m)
}

func (c cutting) SendMsg(m any) error {
	if c.left.Add(-1) < 0 {
		return errCut
	}
	return c.ServerStream.SendMsg(m)
}

// A stream that breaks at any message gives "handler crashed", never a wrong
// answer and never a hang, and is not used again.
func TestStreamCut(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	for n := range 7 { // start, callback, answer, callback, answer, result: the seventh cuts the next call
		left := new(atomic.Int64)
		left.Store(int64(n))
		var used atomic.Bool
		h := &twice{}
		p, _ := inMemory(t, func(s *grpc.Server) { serve.Register(s, h, 1<<20) },
			func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
				if used.Swap(true) {
					return next(srv, ss)
				}
				return next(srv, cutting{ss, left})
			})
		reply, err := p.call(ctx, &testHost{}, call("twice", "x"), 1<<20)
		if n == 6 {
			if err != nil || string(reply) != "reply to reply to x" {
				t.Errorf("cut %d: %q, %v", n, reply, err)
			}
		} else {
			e := wantError(t, err, sdk.HandlerCrashed, sdk.SideHandler, sdk.DeliveredYes)
			if sent := n >= 2; e.Retry == sent {
				t.Errorf("cut %d: %v", n, e)
			}
		}
		for i := range 3 { // the broken one may be met once more, never with a wrong answer
			reply, err = p.call(ctx, &testHost{}, call("twice", "y"), 1<<20)
			if err == nil && string(reply) != "reply to reply to y" || err != nil && i > 0 {
				t.Errorf("cut %d, call %d after it: %q, %v", n, i, reply, err)
			}
		}
	}
}

// twice sends its payload, and what it got back.
type twice struct{ testHandler }

func (h *twice) Serve(ctx context.Context, host sdk.Host, c *sdk.Call) ([]byte, error) {
	r, err := host.Send(ctx, c.From, c.Payload)
	if err != nil {
		return nil, err
	}
	return host.Send(ctx, c.From, r)
}

// rogue is a handler that speaks the contract's frames by itself.
type rogue struct {
	handlerpb.Service
	call func(ctx context.Context, s *handlerpb.HandlerStream) error
}

func (r *rogue) Call(ctx context.Context, s *handlerpb.HandlerStream) error { return r.call(ctx, s) }

func TestRogueHandler(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	send := func(id uint64) *handlerpb.Callback { return &handlerpb.Callback{ID: id, Op: handlerpb.OpSend} }
	result := func(s *handlerpb.HandlerStream) error { return s.Result(&handlerpb.Result{Reply: []byte("ok")}) }
	for name, c := range map[string]struct {
		call func(ctx context.Context, s *handlerpb.HandlerStream) error
		code sdk.Code // 0: the call is answered
	}{
		"ends the stream":     {func(context.Context, *handlerpb.HandlerStream) error { return nil }, sdk.HandlerCrashed},
		"fails the stream":    {func(context.Context, *handlerpb.HandlerStream) error { return errors.New("no") }, sdk.HandlerCrashed},
		"cancels what is not": {func(_ context.Context, s *handlerpb.HandlerStream) error { return errors.Join(s.Cancel(77), result(s)) }, 0},
		"reply over the limit": {func(_ context.Context, s *handlerpb.HandlerStream) error {
			return s.Result(&handlerpb.Result{Reply: make([]byte, 2<<20)})
		}, sdk.TooLarge},
		"send over the limit": {func(_ context.Context, s *handlerpb.HandlerStream) error {
			return overLimit(s, &handlerpb.Callback{ID: 1, Op: handlerpb.OpSend, Payload: make([]byte, 1<<20+1)})
		}, 0},
		"entry over the limit": {func(_ context.Context, s *handlerpb.HandlerStream) error {
			return overLimit(s, &handlerpb.Callback{ID: 1, Op: handlerpb.OpCommit, Entry: sdk.Entry{Type: "t", Content: make([]byte, 1<<20+1)}})
		}, 0},
		"result with open calls": {func(_ context.Context, s *handlerpb.HandlerStream) error {
			return errors.Join(s.Callback(send(1)), s.Callback(send(2)), result(s))
		}, 0},
		"too many callbacks": {tooMany, 0},
	} {
		p, _ := inMemory(t, func(s *grpc.Server) {
			handlerpb.Register(s, &rogue{call: func(ctx context.Context, s *handlerpb.HandlerStream) error {
				if _, err := s.Recv(); err != nil {
					return err
				}
				if err := c.call(ctx, s); err != nil || c.code == sdk.HandlerCrashed {
					return err
				}
				<-ctx.Done()
				return nil
			}})
		}, nil)
		host := &testHost{send: func(ctx context.Context, _ []byte) ([]byte, error) {
			<-ctx.Done() // only the end of the call ends it
			return nil, ctx.Err()
		}}
		reply, err := p.call(ctx, host, call("f", ""), 1<<20)
		if c.code == 0 && (err != nil || string(reply) != "ok") || c.code != 0 && !errors.Is(err, c.code) {
			t.Errorf("%s: %q, %v; want %v", name, reply, err, c.code)
		}
	}
}

// overLimit wants its callback refused.
func overLimit(s *handlerpb.HandlerStream, cb *handlerpb.Callback) error {
	if err := s.Callback(cb); err != nil {
		return err
	}
	f, err := s.Recv()
	if err != nil {
		return err
	}
	if f.Answer == nil || f.Answer.Err == nil || f.Answer.Err.Code != sdk.TooLarge {
		return s.Result(&handlerpb.Result{Reply: fmt.Appendf(nil, "answer %+v", f.Answer)})
	}
	return s.Result(&handlerpb.Result{Reply: []byte("ok")})
}

// tooMany opens more callbacks than a call may have.
func tooMany(_ context.Context, s *handlerpb.HandlerStream) error {
	for id := range uint64(handlerpb.MaxCallbacks + 1) {
		if err := s.Callback(&handlerpb.Callback{ID: id + 1, Op: handlerpb.OpSend}); err != nil {
			return err
		}
	}
	f, err := s.Recv()
	if err != nil {
		return err
	}
	if f.Answer == nil || f.Answer.ID != handlerpb.MaxCallbacks+1 || f.Answer.Err == nil || f.Answer.Err.Code != sdk.Busy {
		return s.Result(&handlerpb.Result{Reply: fmt.Appendf(nil, "answer %+v", f.Answer)})
	}
	return s.Result(&handlerpb.Result{Reply: []byte("ok")})
}

// Idle streams are used again, the last one first, and are bounded.
func TestPool(t *testing.T) {
	t.Parallel()
	opened := 0
	p := &pool{open: func() (*callStream, error) {
		opened++
		return &callStream{cancel: func() { opened-- }}, nil
	}}
	a, _ := p.get()
	b, _ := p.get()
	p.put(a, true)
	p.put(b, true)
	if got, _ := p.get(); got != b || opened != 2 || p.size() != 2 {
		t.Errorf("not the last one; %d open, size %d", opened, p.size())
	}
	p.put(b, false)
	if opened != 1 || p.size() != 1 {
		t.Errorf("a broken stream was kept: %d open, size %d", opened, p.size())
	}
	var all []*callStream
	for range 2 * maxIdleStreams {
		s, _ := p.get()
		all = append(all, s)
	}
	for _, s := range all {
		p.put(s, true)
	}
	if opened != maxIdleStreams || p.size() != maxIdleStreams {
		t.Errorf("%d open, size %d, at most %d may be idle", opened, p.size(), maxIdleStreams)
	}
	p.open = func() (*callStream, error) { return nil, errors.New("no") }
	p.idle, p.live = nil, 0
	if _, err := p.get(); err == nil || p.size() != 0 {
		t.Errorf("a stream that did not open counts: %d, %v", p.size(), err)
	}
}
