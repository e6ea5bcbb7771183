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
	"strings"
	"sync"
	"testing"
	"time"

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

// connect gives the node's side of h, over real gRPC in memory.
func connect(t testing.TB, h sdk.Handler, maxPayload int) *handlerpb.Client {
	t.Helper()
	l := bufconn.Listen(1 << 20)
	s := grpc.NewServer(ServerOptions(maxPayload)...)
	Register(s, h, maxPayload)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	cc, err := grpc.NewClient("passthrough:bufnet", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20), grpc.MaxCallSendMsgSize(64<<20)))
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

// node is the node's end of one call stream, driven by the test.
type node struct {
	*handlerpb.NodeStream
	t      testing.TB
	cancel context.CancelFunc
}

func open(t testing.TB, c *handlerpb.Client) *node {
	t.Helper()
	ctx, cancel := context.WithCancel(testContext(t))
	t.Cleanup(cancel)
	s, err := c.Call(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return &node{s, t, cancel}
}

func (n *node) start(payload string) {
	n.t.Helper()
	if err := n.Start(&sdk.Call{Kind: sdk.CallFunction, Function: "f", Payload: []byte(payload)}, 0); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) recv() handlerpb.FromHandler {
	n.t.Helper()
	f, err := n.Recv()
	if err != nil {
		n.t.Fatal(err)
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
	if err := n.Answer(&handlerpb.Answer{ID: id, Op: handlerpb.OpSend, Reply: []byte(reply)}); err != nil {
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
				got, err := host.Send(ctx, sdk.AgentID{}, fmt.Append(nil, i))
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
			n.reply(cbs[i].ID, string(cbs[i].Payload)+"!")
		}
		n.wantResult("ok")
	}
}

// One after the other, on one stream: the usual call.
func TestSequentialCallbacks(t *testing.T) {
	t.Parallel()
	c := connect(t, handlerFunc(func(ctx context.Context, host sdk.Host, c *sdk.Call) (out []byte, err error) {
		for range 3 {
			r, err := host.Send(ctx, sdk.AgentID{}, c.Payload)
			if err != nil {
				return nil, err
			}
			out = append(out, r...)
		}
		return out, nil
	}), 1<<20)
	n := open(t, c)
	var last uint64
	for i := range 10 {
		n.start(fmt.Sprint(i))
		for range 3 {
			cb := n.callback()
			if cb.ID <= last {
				t.Fatalf("callback %d after %d", cb.ID, last)
			}
			last = cb.ID
			n.reply(cb.ID, string(cb.Payload))
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
			return host.Send(ctx, sdk.AgentID{}, []byte("x"))
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
				_, err := host.Send(cbCtx, sdk.AgentID{}, []byte("left"))
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
		_, err := host.Send(short, sdk.AgentID{}, nil)
		if !errors.Is(err, sdk.Canceled) {
			return nil, fmt.Errorf("error %w, want a cancel", err)
		}
		return host.Send(ctx, sdk.AgentID{}, nil)
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
			return host.Send(ctx, sdk.AgentID{}, make([]byte, 1001))
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
		"bad entry":  {Code: sdk.HandlerFailed, Side: sdk.SideCaller, HandlerCode: sdk.HandlerCodeInput},
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

// A node that breaks the contract loses the stream, nothing else.
func TestBadNode(t *testing.T) {
	t.Parallel()
	entered := make(chan struct{}, 1)
	c := connect(t, handlerFunc(func(ctx context.Context, host sdk.Host, c *sdk.Call) ([]byte, error) {
		if string(c.Payload) == "fine" {
			return []byte("fine"), nil
		}
		entered <- struct{}{}
		_, err := host.Send(ctx, sdk.AgentID{}, nil)
		return nil, err
	}), 1<<20)
	n := open(t, c)
	n.start("x")
	<-entered
	n.callback()
	n.start("a second call on the same stream")
	for {
		if f, err := n.Recv(); err != nil {
			break
		} else if f.Result == nil || f.Result.Err == nil {
			t.Fatalf("frame %+v", f)
		}
	}
	n = open(t, c)
	n.start("fine")
	n.wantResult("fine")
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
					if _, err := host.Send(ctx, sdk.AgentID{}, nil); err != nil {
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

func TestSetupOnce(t *testing.T) {
	t.Parallel()
	c, ctx := connect(t, handlerFunc(nil), 1<<20), testContext(t)
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
	for _, want := range []string{"auction is a parley handler", `DNA "test"`, "parley run --plugins", "--describe"} {
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

type badHandler struct{ handlerFunc }

func (badHandler) Describe(context.Context) (sdk.Description, error) {
	return sdk.Description{Name: "Bad Name"}, nil
}
