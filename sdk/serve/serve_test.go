package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/handlerpb"
)

// handlerFunc is a handler of one function.
type handlerFunc func(ctx context.Context, host sdk.Host, c *sdk.Call) ([]byte, error)

func (f handlerFunc) Describe(context.Context) (sdk.Description, error) {
	return sdk.Description{Name: "test", Integrity: "1", Functions: []string{"f"}}, nil
}
func (f handlerFunc) Setup(context.Context, sdk.Setup) error { return nil }
func (f handlerFunc) Serve(ctx context.Context, host sdk.Host, c *sdk.Call) ([]byte, error) {
	return f(ctx, host, c)
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // a failure bound
	t.Cleanup(cancel)
	return ctx
}

// peer is a handler that the test's nodes call.
type peer struct {
	h          sdk.Handler
	maxPayload int
	commits    sdk.CommitLimits // that its Setup is told
}

func connect(_ testing.TB, h sdk.Handler, maxPayload int) peer {
	return peer{h: h, maxPayload: maxPayload}
}

// node is the node's end of a call socket, driven by the test. It has one call
// at a time.
type node struct {
	*handlerpb.NodeStream
	t       testing.TB
	call    uint64
	ticket  handlerpb.Ticket
	frames  []handlerpb.FromHandler // received and not looked at
	cancel  func()                  // breaks the socket
	stopped chan struct{}           // closed when the handler's end has left nothing behind
}

func open(t testing.TB, p peer) *node {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	var conns [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "call socket")
		if conns[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
	}
	n := &node{NodeStream: handlerpb.NewNodeStream(conns[0], p.maxPayload), t: t, stopped: make(chan struct{})}
	v := newService(p.h, p.maxPayload)
	if err := v.Setup(testContext(t), sdk.Setup{Commits: p.commits}); err != nil {
		t.Fatal(err)
	}
	go func() { defer close(n.stopped); _ = v.Calls(conns[1]) }()
	var sender sync.WaitGroup
	sender.Go(n.Send)
	n.cancel = sync.OnceFunc(func() { n.Fail(io.EOF); _ = conns[0].Close(); sender.Wait() })
	t.Cleanup(func() {
		n.cancel()
		select {
		case <-n.stopped:
		case <-testContext(t).Done():
			t.Error("the handler's end goes on")
		}
	})
	return n
}

// start starts the next call.
func (n *node) start(payload string) {
	n.t.Helper()
	n.call++
	err := n.Start(testContext(n.t), n.call, &sdk.Call{Kind: sdk.CallFunction, Function: "f", Payload: []byte(payload)}, 0, true, &n.ticket)
	if err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) next() (handlerpb.FromHandler, error) {
	for len(n.frames) == 0 {
		err := n.Recv(func(f handlerpb.FromHandler) error { n.frames = append(n.frames, f); return nil })
		if err != nil {
			return handlerpb.FromHandler{}, err
		}
	}
	f := n.frames[0]
	n.frames = n.frames[1:]
	return f, nil
}

func (n *node) recv() handlerpb.FromHandler {
	n.t.Helper()
	f, err := n.next()
	if err != nil {
		n.t.Fatal(err)
	}
	if f.ID != n.call {
		n.t.Fatalf("frame %+v, want one of call %d", f, n.call)
	}
	return f
}

func (n *node) callback() *handlerpb.Callback {
	n.t.Helper()
	f := n.recv()
	if f.Callback == nil {
		n.t.Fatalf("frame %+v, want a callback", f)
	}
	return f.Callback
}

func (n *node) reply(id uint64, reply string) {
	n.t.Helper()
	if err := n.Answer(testContext(n.t), n.call, &handlerpb.Answer{ID: id, Op: handlerpb.OpSend, Reply: []byte(reply)}, true); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) wantResult(want string) {
	n.t.Helper()
	f := n.recv()
	if f.Result == nil || f.Result.Err != nil || string(f.Result.Reply) != want {
		n.t.Fatalf("frame %+v, want the result %q", f, want)
	}
}

// Answers come in any order, to callbacks with contexts of any kind.
func TestParallelCallbacks(t *testing.T) {
	t.Parallel()
	const count = 20
	c := connect(t, handlerFunc(func(ctx context.Context, host sdk.Host, c *sdk.Call) ([]byte, error) {
		var wg sync.WaitGroup
		var errs [count]error
		for i := range count {
			wg.Go(func() {
				ctx := ctx
				if i%2 == 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithCancel(ctx)
					defer cancel()
				}
				got, err := host.Send(ctx, sdk.Message{Payload: fmt.Append(nil, i)})
				if want := fmt.Sprintf("%d!", i); err != nil || string(got) != want {
					errs[i] = fmt.Errorf("%q, %w; want %q", got, err, want)
				}
			})
		}
		wg.Wait()
		return []byte("ok"), errors.Join(errs[:]...)
	}), 1<<20)
	n := open(t, c)
	for round := range 30 {
		n.start("")
		var cbs []*handlerpb.Callback
		for len(cbs) < count {
			cbs = append(cbs, n.callback())
		}
		for i := range cbs {
			if round%2 == 0 {
				i = len(cbs) - 1 - i
			}
			n.reply(cbs[i].ID, string(cbs[i].Message.Payload)+"!")
		}
		n.wantResult("ok")
	}
}

// One after the other, on one stream: the usual call.
func TestSequentialCallbacks(t *testing.T) {
	t.Parallel()
	c := connect(t, handlerFunc(func(ctx context.Context, host sdk.Host, c *sdk.Call) (out []byte, err error) {
		for range 3 {
			r, err := host.Send(ctx, sdk.Message{Payload: c.Payload})
			if err != nil {
				return nil, err
			}
			out = append(out, r...)
		}
		return out, nil
	}), 1<<20)
	n := open(t, c)
	for i := range 10 {
		n.start(fmt.Sprint(i))
		var last uint64
		for range 3 {
			cb := n.callback()
			if cb.ID <= last {
				t.Fatalf("callback %d after %d", cb.ID, last)
			}
			last = cb.ID
			n.reply(cb.ID, string(cb.Message.Payload))
		}
		n.wantResult(fmt.Sprint(i, i, i)[:1] + fmt.Sprint(i) + fmt.Sprint(i))
	}
}

// A call may end while callbacks of it are open; the next call on the stream
// is not disturbed, whoever receives at that moment.
func TestLeftovers(t *testing.T) {
	t.Parallel()
	left := make(chan error, 100)
	c := connect(t, handlerFunc(func(ctx context.Context, host sdk.Host, c *sdk.Call) ([]byte, error) {
		if string(c.Payload) == "clean" {
			return host.Send(ctx, sdk.Message{Payload: []byte("x")})
		}
		sent := make(chan struct{}, 2)
		for i := range 2 {
			go func() {
				cbCtx, cancel := context.WithTimeout(context.Background(), time.Duration(i+1)*time.Hour) // any context but the call's
				defer cancel()
				if string(c.Payload) == "own" {
					cbCtx = ctx
				}
				sent <- struct{}{}
				_, err := host.Send(cbCtx, sdk.Message{Payload: []byte("left")})
				left <- err
			}()
		}
		<-sent
		<-sent
		return []byte("bye"), nil
	}), 1<<20)
	n := open(t, c)
	for round := range 60 {
		n.start([]string{"own", "other"}[round%2])
		var open []uint64
		for {
			f := n.recv()
			if f.Callback != nil {
				open = append(open, f.Callback.ID)
				continue
			}
			if f.Result != nil {
				break
			}
		}
		if round%3 == 0 {
			for _, id := range open { // an answer that nobody waits for
				n.reply(id, "late")
			}
		}
		n.start("clean")
		cb := n.callback()
		n.reply(cb.ID, "fine")
		n.wantResult("fine")
	}
	n.cancel()
	for range 120 {
		var e *sdk.Error
		if err := <-left; err == nil || !errors.As(err, &e) {
			t.Fatalf("a callback that was left: %v", err)
		}
	}
}

func TestGiveUpCallback(t *testing.T) {
	t.Parallel()
	seen := make(chan struct{})
	c := connect(t, handlerFunc(func(ctx context.Context, host sdk.Host, c *sdk.Call) ([]byte, error) {
		short, cancel := context.WithTimeout(ctx, 30*time.Second) // less than the stream has
		go func() { <-seen; cancel() }()
		_, err := host.Send(short, sdk.Message{})
		if !errors.Is(err, sdk.Canceled) {
			return nil, fmt.Errorf("error %w, want a cancel", err)
		}
		return host.Send(ctx, sdk.Message{})
	}), 1<<20)
	n := open(t, c)
	n.start("")
	first := n.callback()
	if first.Remaining <= 0 {
		t.Errorf("no deadline: %+v", first)
	}
	close(seen)
	if f := n.recv(); f.Cancel != first.ID {
		t.Fatalf("frame %+v, want a cancel of %d", f, first.ID)
	}
	n.reply(first.ID, "too late")
	second := n.callback()
	n.reply(second.ID, "in time")
	n.wantResult("in time")
}

func TestErrors(t *testing.T) {
	t.Parallel()
	typed := sdk.Fail("app.no", "no %s", "way")
	c := connect(t, handlerFunc(func(ctx context.Context, host sdk.Host, c *sdk.Call) ([]byte, error) {
		switch string(c.Payload) {
		case "typed":
			return nil, typed
		case "wrapped":
			return nil, fmt.Errorf("in f: %w", typed)
		case "plain":
			return nil, errors.New("plain")
		case "nil panic":
			panic(nil)
		case "large":
			return make([]byte, 1001), nil
		case "large send":
			return host.Send(ctx, sdk.Message{Payload: make([]byte, 1001)})
		case "bad entry":
			_, err := host.Commit(ctx, sdk.Entry{})
			return nil, err
		}
		panic("at the disco")
	}), 1000)
	for payload, want := range map[string]sdk.Error{
		"typed":      *typed,
		"wrapped":    *typed,
		"plain":      {Code: sdk.HandlerFailed, Side: sdk.SideHandler, Text: "plain"},
		"panic":      {Code: sdk.HandlerFailed, Side: sdk.SideHandler, HandlerCode: sdk.HandlerCodePanic, Text: "panic: at the disco"},
		"large":      {Code: sdk.TooLarge, Side: sdk.SideHandler},
		"large send": {Code: sdk.TooLarge, Side: sdk.SideCaller},
		"bad entry":  {Code: sdk.HandlerFailed, Side: sdk.SideHandler, HandlerCode: sdk.HandlerCodeCommit},
		"nil panic":  {Code: sdk.HandlerFailed, Side: sdk.SideHandler, HandlerCode: sdk.HandlerCodePanic},
	} {
		n := open(t, c)
		n.start(payload)
		f := n.recv()
		if f.Result == nil || f.Result.Err == nil {
			t.Errorf("%s: %+v", payload, f)
			continue
		}
		got := f.Result.Err
		if got.Code != want.Code || got.Side != want.Side || got.HandlerCode != want.HandlerCode || want.Text != "" && got.Text != want.Text {
			t.Errorf("%s: %v, want %v", payload, got, &want)
		}
	}
}

// A node that breaks the contract loses the socket and its calls, nothing else.
func TestBadNode(t *testing.T) {
	t.Parallel()
	entered := make(chan struct{}, 1)
	c := connect(t, handlerFunc(func(ctx context.Context, host sdk.Host, c *sdk.Call) ([]byte, error) {
		if string(c.Payload) == "fine" {
			return []byte("fine"), nil
		}
		entered <- struct{}{}
		_, err := host.Send(ctx, sdk.Message{})
		return nil, err
	}), 1<<20)
	n := open(t, c)
	n.start("x")
	<-entered
	n.callback()
	n.call-- // the id of the call that runs
	n.start("a second call of the same id")
	for {
		if f, err := n.next(); err != nil {
			break
		} else if f.Result == nil || f.Result.Err == nil {
			t.Fatalf("frame %+v", f)
		}
	}
	n = open(t, c)
	n.start("fine")
	n.wantResult("fine")
}

// The node's cancel ends a call's context and whatever it waits for; it still
// has a result, and the next call is not disturbed.
func TestCancel(t *testing.T) {
	t.Parallel()
	c := connect(t, handlerFunc(func(ctx context.Context, host sdk.Host, c *sdk.Call) ([]byte, error) {
		switch string(c.Payload) {
		case "fine":
			return []byte("fine"), nil
		case "send":
			_, err := host.Send(context.Background(), sdk.Message{}) // not with the call's context
			return nil, err
		}
		host.Log(ctx, slog.LevelInfo, "waiting")
		<-ctx.Done()
		_, err := host.Send(context.Background(), sdk.Message{})
		return nil, err
	}), 1<<20)
	n := open(t, c)
	for _, how := range []string{"send", "wait"} {
		n.start(how)
		n.recv() // the callback, the log line
		if onItsWay, err := n.Cancel(n.call, n.ticket); !onItsWay || err != nil {
			t.Fatalf("cancel: %t, %v", onItsWay, err)
		}
		if f := n.recv(); f.Result == nil || !errors.Is(f.Result.Err, sdk.Canceled) {
			t.Fatalf("%s: frame %+v, want a result", how, f)
		}
		_, _ = n.Cancel(n.call, n.ticket) // of a call that has ended
		n.start("fine")
		n.wantResult("fine")
	}
}

// A call that ends its goroutine ends with an error.
func TestGoexit(t *testing.T) {
	t.Parallel()
	c := connect(t, handlerFunc(func(ctx context.Context, host sdk.Host, c *sdk.Call) ([]byte, error) {
		runtime.Goexit()
		return nil, nil
	}), 1<<20)
	n := open(t, c)
	for range 3 {
		n.start("")
		if f := n.recv(); f.Result == nil || !errors.Is(f.Result.Err, sdk.HandlerFailed) || f.Result.Err.HandlerCode != sdk.HandlerCodePanic {
			t.Fatalf("frame %+v", f)
		}
	}
}

// More calls than a handler may have open are refused.
func TestOpenCalls(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	c := connect(t, handlerFunc(func(ctx context.Context, host sdk.Host, c *sdk.Call) ([]byte, error) {
		<-release
		return nil, nil
	}), 1<<20)
	n := open(t, c)
	for range handlerpb.MaxOpenCalls + 1 {
		n.start("")
	}
	f := n.recv() // of the last one
	close(release)
	if f.Result == nil || !errors.Is(f.Result.Err, sdk.Busy) || f.Result.Err.Limit == nil {
		t.Fatalf("frame %+v", f)
	}
	for range handlerpb.MaxOpenCalls {
		if f, err := n.next(); err != nil || f.Result == nil || f.Result.Err != nil {
			t.Fatalf("frame %+v, %v", f, err)
		}
	}
}

// A stream that breaks after any number of frames leaves nothing behind: the
// server's Stop waits for all of it.
func TestBrokenStream(t *testing.T) {
	t.Parallel()
	for cut := range 8 {
		t.Run(fmt.Sprint(cut), func(t *testing.T) {
			t.Parallel()
			ended, entered := make(chan error, 1), make(chan struct{})
			c := connect(t, handlerFunc(func(ctx context.Context, host sdk.Host, c *sdk.Call) ([]byte, error) {
				close(entered)
				defer func() { ended <- ctx.Err() }()
				for range 3 {
					if _, err := host.Send(ctx, sdk.Message{}); err != nil {
						return nil, err
					}
				}
				return []byte("done"), nil
			}), 1<<20)
			n := open(t, c)
			frames := 0
			step := func(f func()) bool {
				if frames == cut {
					n.cancel()
					return false
				}
				frames++
				f()
				return true
			}
			began := step(func() { n.start(""); <-entered }) // a cancel may overtake a start
			ok := began
			for i := 0; ok && i < 3; i++ {
				var cb *handlerpb.Callback
				ok = step(func() { cb = n.callback() }) && step(func() { n.reply(cb.ID, "r") })
			}
			if ok {
				n.wantResult("done")
			}
			if began {
				select {
				case err := <-ended:
					if (err == nil) != ok {
						t.Errorf("the call's context: %v", err)
					}
				case <-testContext(t).Done():
					t.Error("the call goes on")
				}
			}
		})
	}
}

func TestLog(t *testing.T) {
	t.Parallel()
	c := connect(t, handlerFunc(func(ctx context.Context, host sdk.Host, c *sdk.Call) ([]byte, error) {
		host.Log(ctx, slog.LevelWarn, "careful", "n", 7, "d", time.Second, "odd")
		return nil, nil
	}), 1<<20)
	n := open(t, c)
	n.start("")
	l := n.recv().Log
	if l == nil || l.Level != slog.LevelWarn || l.Text != "careful" || fmt.Sprint(l.Attrs) != "[{n 7} {d 1s} {!BADKEY odd}]" {
		t.Errorf("log %+v", l)
	}
	n.wantResult("")
}

// control gives the node's side of what goes over gRPC, in memory.
func control(t testing.TB, h sdk.Handler) *handlerpb.Client {
	t.Helper()
	l := bufconn.Listen(1 << 20)
	s := grpc.NewServer()
	handlerpb.Register(s, newService(h, 1<<20))
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	cc, err := grpc.NewClient("passthrough:bufnet", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cc.Close()
		s.Stop() // waits for the handlers
		<-done
	})
	return handlerpb.NewClient(cc)
}

func TestSetupOnce(t *testing.T) {
	t.Parallel()
	c, ctx := control(t, handlerFunc(nil)), testContext(t)
	if err := c.Setup(ctx, sdk.Setup{}); err != nil {
		t.Fatal(err)
	}
	if err := c.Setup(ctx, sdk.Setup{}); !errors.Is(err, sdk.HandlerFailed) {
		t.Errorf("setup twice: %v", err)
	}
	d, err := c.Describe(ctx)
	if err != nil || d.Name != "test" || d.Protocol != handlerpb.Protocol || d.SDK == "" {
		t.Errorf("%+v, %v", d, err)
	}
	if err := c.Drain(ctx); err != nil {
		t.Error(err)
	}
}

// Without its node a handler exits.
func TestControl(t *testing.T) {
	t.Parallel()
	v := newService(handlerFunc(nil), 1)
	exited := make(chan int, 1)
	v.exit = func(code int) { exited <- code }
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- v.Control(ctx) }()
	cancel()
	if err := <-done; err != nil || <-exited != 0 {
		t.Errorf("control: %v", err)
	}
}

func TestByHand(t *testing.T) {
	t.Parallel()
	notServed := func(sdk.Handler, int) int { t.Error("served"); return 0 }
	var out, errOut bytes.Buffer
	env := func(string) string { return "" }
	if code := run(handlerFunc(nil), []string{"/x/auction"}, env, &out, &errOut, notServed); code != 1 || out.Len() != 0 {
		t.Errorf("exit %d, stdout %q", code, out.String())
	}
	for _, want := range []string{"auction is a parley handler", `DNA "test"`, `integrity version "`, "functions:   f\n", "receives: ", "parley run --plugins", "--describe"} {
		if !strings.Contains(errOut.String(), want) {
			t.Errorf("no %q in\n%s", want, errOut.String())
		}
	}
	var d map[string]any
	if code := run(handlerFunc(nil), []string{"auction", "--describe"}, env, &out, io.Discard, notServed); code != 0 {
		t.Errorf("--describe: exit %d", code)
	}
	if err := json.Unmarshal(out.Bytes(), &d); err != nil || d["name"] != "test" || d["protocol"] != 1.0 || fmt.Sprint(d["functions"]) != "[f]" {
		t.Errorf("--describe: %s, %v", out.String(), err)
	}
	for name := range d {
		if !slices.Contains(described, name) {
			t.Errorf("--describe: %q is in no list of what it prints: add it here and in docs/handlers.md", name)
		}
	}
	if len(d) < len(described) {
		t.Errorf("--describe printed %v, and not all of %v", d, described)
	}
	errOut.Reset()
	if code := run(badHandler{}, []string{"auction"}, env, io.Discard, &errOut, notServed); code != 1 || !strings.Contains(errOut.String(), "No node will take it") {
		t.Errorf("a bad handler by hand: exit %d, %s", code, errOut.String())
	}
	errOut.Reset()
	if code := run(badHandler{}, []string{"auction", "--describe"}, env, io.Discard, &errOut, notServed); code != 1 || !strings.Contains(errOut.String(), "Bad Name") {
		t.Errorf("a bad description: exit %d, %s", code, errOut.String())
	}
	if code := run(nil, nil, env, io.Discard, io.Discard, notServed); code != 1 {
		t.Errorf("nil handler: exit %d", code)
	}
	var limit int
	cookie := map[string]string{handlerpb.CookieKey: handlerpb.CookieValue, handlerpb.EnvMaxPayload: "77"}
	code := run(handlerFunc(nil), []string{"auction"}, func(k string) string { return cookie[k] }, io.Discard, io.Discard,
		func(_ sdk.Handler, n int) int { limit = n; return 5 })
	if code != 5 || limit != 77 {
		t.Errorf("by a node: exit %d, limit %d", code, limit)
	}
}

// described are the names of --describe's JSON. They only become more.
var described = []string{"name", "integrity", "functions", "receives", "sdk", "protocol", "init", "validate", "post_commit", "notified"}

type badHandler struct{ handlerFunc }

func (badHandler) Describe(context.Context) (sdk.Description, error) {
	return sdk.Description{Name: "Bad Name"}, nil
}

// A small notification for whose results nobody waits needs nothing from the node;
// any other one is answered, so that they keep their order.
func TestNotify(t *testing.T) {
	t.Parallel()
	to := []sdk.AgentID{{1}}
	p := connect(t, handlerFunc(func(ctx context.Context, host sdk.Host, _ *sdk.Call) ([]byte, error) {
		for _, n := range []sdk.Notice{{To: to}, {To: to, Payload: make([]byte, large)}, {To: to, Wait: true}, {To: to, Payload: []byte("x")}} {
			if results, err := host.Notify(ctx, n); err != nil || len(results) != 0 && !n.Wait {
				return nil, fmt.Errorf("results %v, %w", results, err)
			}
		}
		if _, err := host.Notify(ctx, sdk.Notice{To: to, Payload: make([]byte, 1<<20+1)}); !errors.Is(err, sdk.TooLarge) {
			return nil, fmt.Errorf("one that is too large: %w", err)
		}
		over, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := host.Notify(over, sdk.Notice{To: to}); !errors.Is(err, sdk.Canceled) {
			return nil, fmt.Errorf("after the end of its context: %w", err)
		}
		return []byte("ok"), nil
	}), 1<<20)
	n := open(t, p)
	n.start("")
	for i, answered := range []bool{false, true, true, false} {
		c := n.callback()
		if c.Op != handlerpb.OpNotify || (c.ID != 0) != answered {
			t.Fatalf("%d: callback %+v", i, c)
		}
		if !answered {
			continue
		}
		a := &handlerpb.Answer{ID: c.ID, Op: handlerpb.OpNotify}
		if c.Notice.Wait {
			a.Results = []error{nil}
		}
		if err := n.Answer(testContext(t), n.call, a, true); err != nil {
			t.Fatal(err)
		}
	}
	n.wantResult("ok")
}
