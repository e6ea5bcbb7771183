package plugin

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/handlerpb"
	"github.com/parley-p2p/parley/sdk/serve"
)

// way is one of the two ways in which a call runs.
type way struct {
	name string
	call func(p *process, ctx context.Context, host sdk.Host, c *sdk.Call, maxPayload int) ([]byte, error)
}

var ways = []way{{"waiting", (*process).callWait}, {"started", callStarted}}

func bothWays(t *testing.T, name string, test func(*testing.T, way)) {
	for _, w := range ways {
		t.Run(name+", "+w.name, func(t *testing.T) {
			t.Parallel()
			test(t, w)
		})
	}
}

// callStarted is callWait by callStart, where that takes the call.
func callStarted(p *process, ctx context.Context, host sdk.Host, c *sdk.Call, maxPayload int) ([]byte, error) {
	end := new(handlerpb.Context)
	deadline, _ := ctx.Deadline()
	end.Start(deadline, true)
	defer context.AfterFunc(ctx, func() { end.End(ctx.Err(), context.Cause(ctx)) })()
	w := &waiter{done: make(chan struct{})}
	r := &running{p: p, s: p.stream, ctx: end, host: startingHost{host}, call: c, maxPayload: maxPayload, out: w}
	if len(c.Payload) > handlerpb.SmallFrame/2 || !p.callStart(r, end) {
		return p.callWait(ctx, host, c, maxPayload)
	}
	<-w.done
	return w.reply, w.err
}

// startingHost begins every send.
type startingHost struct{ sdk.Host }

var _ sender = startingHost{}

func (h startingHost) StartSend(ctx context.Context, m *sdk.Message, out interface{ Done([]byte, error) }) bool {
	go func() { out.Done(h.Send(ctx, *m)) }()
	return true
}

// These tests need no process: a process value over a socket of this process,
// whose other end breaks the contract in every way.

// inMemory gives a process whose handler's end of the call socket is served so.
func inMemory(t testing.TB, serve func(net.Conn)) *process {
	t.Helper()
	ours, file, err := callSocket()
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := net.FileConn(file)
	if err != nil {
		t.Fatal(err)
	}
	_ = file.Close()
	done := make(chan struct{})
	go func() { defer close(done); defer theirs.Close(); serve(theirs) }()
	out := newOutputs(slog.New(slog.DiscardHandler))
	p := &process{out: out, run: newProcRunner(nil, out)}
	p.ctx, p.cancel = context.WithCancelCause(context.Background())
	p.serveCalls(ours, 1<<20)
	t.Cleanup(func() {
		p.cancel(nil)
		p.wg.Wait()
		<-done
	})
	return p
}

// cutting breaks after n reads and writes together.
type cutting struct {
	net.Conn
	left *atomic.Int64
}

var errCut = errors.New("cut")

func (c cutting) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.left.Add(-1) < 0 {
		return 0, errCut
	}
	return n, err
}

func (c cutting) Write(b []byte) (int, error) {
	if c.left.Add(-1) < 0 {
		_ = c.Close()
		return 0, errCut
	}
	return c.Conn.Write(b)
}

// A socket that breaks at any frame gives "handler crashed", never a wrong
// answer and never a hang, and is not used again.
func TestStreamCut(t *testing.T) {
	t.Parallel()
	for i := range 7 * len(ways) { // start, callback, answer, callback, answer, result: the seventh cuts the next call
		n, way := i%7, ways[i/7]
		t.Run(fmt.Sprint(way.name, n), func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t)
			left := new(atomic.Int64)
			left.Store(int64(n))
			p := inMemory(t, func(c net.Conn) { _ = serve.Calls(cutting{c, left}, &twice{}, 1<<20) })
			reply, err := way.call(p, ctx, &testHost{}, call("twice", "x"), 1<<20)
			if n == 6 {
				if err != nil || string(reply) != "reply to reply to x" {
					t.Errorf("%q, %v", reply, err)
				}
				_, err = way.call(p, ctx, &testHost{}, call("twice", "x"), 1<<20)
			}
			e := wantError(t, err, sdk.HandlerCrashed, sdk.SideHandler, sdk.DeliveredYes)
			if sent := n >= 2 && n < 6; e.Retry == sent {
				t.Errorf("%v", e)
			}
			if _, err = way.call(p, ctx, &testHost{}, call("twice", "y"), 1<<20); !errors.Is(err, errNotSent) {
				t.Errorf("after it: %v", err)
			}
		})
	}
}

// twice sends its payload, and what it got back.
type twice struct{ testHandler }

func (h *twice) Serve(ctx context.Context, host sdk.Host, c *sdk.Call) ([]byte, error) {
	r, err := host.Send(ctx, sdk.Message{To: c.From, Payload: c.Payload})
	if err != nil {
		return nil, err
	}
	return host.Send(ctx, sdk.Message{To: c.From, Payload: r})
}

// rogue is a handler that speaks the contract's frames by itself. It serves
// the call id of one.
type rogue struct {
	*handlerpb.HandlerStream
	conn   net.Conn
	id     uint64
	frames []handlerpb.FromNode
}

// withRogue gives a process that serves one call so.
func withRogue(t testing.TB, call func(*rogue) error) *process {
	return inMemory(t, func(conn net.Conn) {
		r := &rogue{HandlerStream: handlerpb.NewHandlerStream(conn, 1<<20), conn: conn}
		sent := make(chan struct{})
		go func() { defer close(sent); r.Send() }()
		f, err := r.next()
		if err == nil {
			r.id = f.ID
			err = call(r)
		}
		for err == nil {
			_, err = r.next() // until the node ends it
		}
		r.Fail(err)
		_ = conn.Close()
		<-sent
	})
}

func (r *rogue) next() (f handlerpb.FromNode, err error) {
	for len(r.frames) == 0 {
		if err := r.Recv(func(f handlerpb.FromNode) error { r.frames = append(r.frames, f); return nil }); err != nil {
			return f, err
		}
	}
	f = r.frames[0]
	r.frames = r.frames[1:]
	return f, nil
}

func (r *rogue) result() error { return r.reply([]byte("ok")) }

func (r *rogue) reply(b []byte) error {
	return r.Result(r.id, &handlerpb.Result{Reply: b}, true)
}

func (r *rogue) callback(c *handlerpb.Callback) error {
	_, err := r.Callback(context.Background(), r.id, c, true)
	return err
}

func TestRogueHandler(t *testing.T) {
	t.Parallel()
	send := func(id uint64) *handlerpb.Callback { return &handlerpb.Callback{ID: id, Op: handlerpb.OpSend} }
	for name, c := range map[string]struct {
		call func(r *rogue) error
		code sdk.Code // 0: the call is answered
	}{
		"ends the stream":     {func(r *rogue) error { return r.conn.Close() }, sdk.HandlerCrashed},
		"ends within a batch": {func(r *rogue) error { _, _ = r.conn.Write([]byte{0, 0, 1}); return r.conn.Close() }, sdk.HandlerCrashed},
		"no protobuf":         {func(r *rogue) error { _, err := r.conn.Write([]byte{0, 0, 0, 1, 0xff}); return err }, sdk.HandlerCrashed},
		"an endless batch": {func(r *rogue) error {
			_, err := r.conn.Write(binary.BigEndian.AppendUint32(nil, 1<<31))
			return err
		}, sdk.HandlerCrashed},
		"an endless frame": {func(r *rogue) error { return r.reply(make([]byte, 4<<20)) }, sdk.HandlerCrashed},
		"a call that is not": {func(r *rogue) error {
			return errors.Join(r.Result(77, &handlerpb.Result{}, true), r.result())
		}, sdk.HandlerCrashed},
		"a callback twice": {func(r *rogue) error { return errors.Join(r.callback(send(1)), r.callback(send(1))) }, sdk.HandlerCrashed},
		"reads nothing":    {(*rogue).flood, sdk.HandlerCrashed},
		"cancels what is not": {func(r *rogue) error {
			_, err := r.Cancel(r.id, 77, handlerpb.Ticket{})
			return errors.Join(err, r.result())
		}, 0},
		"results that are late": {func(r *rogue) error {
			return errors.Join(r.result(), r.Result(r.id, &handlerpb.Result{Reply: []byte("again")}, true), r.callback(send(1)))
		}, 0},
		"reply over the limit": {func(r *rogue) error { return r.reply(make([]byte, 1<<20+1)) }, sdk.TooLarge},
		"send over the limit": {func(r *rogue) error {
			return r.refused(&handlerpb.Callback{ID: 1, Op: handlerpb.OpSend, Message: sdk.Message{Payload: make([]byte, 1<<20+1)}}, sdk.TooLarge)
		}, 0},
		"entry over the limit": {func(r *rogue) error {
			return r.refused(&handlerpb.Callback{ID: 1, Op: handlerpb.OpCommit, Entry: sdk.Entry{Type: "t", Content: make([]byte, 1<<20+1)}}, sdk.TooLarge)
		}, 0},
		"result with open calls": {func(r *rogue) error {
			return errors.Join(r.callback(send(1)), r.callback(send(2)), r.result())
		}, 0},
		"too many callbacks": {func(r *rogue) error {
			for id := range uint64(handlerpb.MaxCallbacks) {
				if err := r.callback(send(id + 1)); err != nil {
					return err
				}
			}
			return r.refused(send(handlerpb.MaxCallbacks+1), sdk.Busy)
		}, 0},
	} {
		bothWays(t, name, func(t *testing.T, way way) {
			ctx := testContext(t)
			p := withRogue(t, c.call)
			stage := sdk.Stage{Limits: sdk.CommitLimits{Bytes: 1 << 20}}
			host := &testHost{stage: stage.Add, send: func(ctx context.Context, _ []byte) ([]byte, error) {
				<-ctx.Done() // only the end of the call ends it
				return nil, ctx.Err()
			}}
			reply, err := way.call(p, ctx, host, call("f", ""), 1<<20)
			if c.code == 0 && (err != nil || string(reply) != "ok") || c.code != 0 && !errors.Is(err, c.code) {
				t.Errorf("%q, %v; want %v", reply, err, c.code)
			}
		})
	}
}

// flood asks for more and more and reads none of the answers.
func (r *rogue) flood() error {
	for id := uint64(1); ; id++ {
		if err := r.callback(&handlerpb.Callback{ID: id, Op: handlerpb.OpSend}); err != nil {
			return err
		}
	}
}

// refused wants its callback refused, and tells so in its reply.
func (r *rogue) refused(cb *handlerpb.Callback, code sdk.Code) error {
	if err := r.callback(cb); err != nil {
		return err
	}
	f, err := r.next()
	if err != nil {
		return err
	}
	if f.Answer == nil || f.Answer.ID != cb.ID || !errors.Is(f.Answer.Err, code) {
		return r.reply(fmt.Appendf(nil, "answer %+v", f.Answer))
	}
	return r.result()
}

// A handler that does not read holds up no caller beyond its deadline, whatever
// its call carries, and is found out.
func TestDeafHandler(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	p := inMemory(t, func(conn net.Conn) {
		raw, _ := conn.(*net.UnixConn).SyscallConn()
		_ = raw.Read(func(fd uintptr) bool { // until the node hangs up
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}, -1)
			return n == 1 || err != unix.EINTR
		})
	})
	for _, size := range []int{100, 10_000, 1 << 20} {
		for i := range 200 {
			way := ways[i%2]
			cctx, cancel := context.WithCancel(ctx)
			ended := make(chan error, 1)
			go func() {
				_, err := way.call(p, cctx, &testHost{}, call("f", string(make([]byte, size))), 1<<20)
				ended <- err
			}()
			cancel()
			wantErrorCode(t, <-ended, sdk.Canceled)
		}
	}
	for p.stream.s.Blocked() == 0 && ctx.Err() == nil { // the loop is about to write
		cctx, cancel := context.WithCancel(ctx)
		cancel()
		_, _ = p.callWait(cctx, &testHost{}, call("f", string(make([]byte, 1<<20))), 1<<20)
	}
	if ctx.Err() != nil {
		t.Error("it is not found out")
	}
}

// serving is the health service of a process that says that all is well.
type serving struct{ grpc_health_v1.HealthClient }

func (serving) Check(context.Context, *grpc_health_v1.HealthCheckRequest, ...grpc.CallOption) (*grpc_health_v1.HealthCheckResponse, error) {
	return &grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_SERVING}, nil
}

// A process that takes nothing from its call socket does not pass for healthy.
func TestCheck(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		out := newOutputs(slog.New(slog.DiscardHandler))
		p := &process{out: out, run: newProcRunner(nil, out), health: serving{}}
		p.ctx, p.cancel = context.WithCancelCause(t.Context())
		ours, theirs := net.Pipe()
		p.serveCalls(ours, 1<<20)
		ctx, cancel := context.WithTimeout(t.Context(), 2*probeTimeout)
		defer cancel()
		if err := p.check(ctx); err != nil {
			t.Error(err)
		}
		_, err := p.callWait(ctx, &testHost{}, call("f", ""), 1<<20)
		wantError(t, err, sdk.Timeout, sdk.SideHandler, sdk.DeliveredYes)
		if n := p.stream.abandoned(); n != 1 {
			t.Errorf("%d calls are open", n)
		}
		if err := p.check(t.Context()); !errors.Is(err, handlerpb.ErrUnread) {
			t.Errorf("check: %v", err)
		}
		p.cancel(nil)
		p.wg.Wait()
		_ = theirs.Close()
	})
}
