package plugin

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/handlerpb"
)

// logged is a host whose calls announce themselves.
func logged(c chan struct{}) *testHost {
	return &testHost{logs: func(slog.Level, string, ...any) { c <- struct{}{} }}
}

// A call's context ends at its deadline and when the caller gives up, at both ends.
func TestDeadlineAndCancel(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	n := startNode(t, Config{Dir: place(t, "alpha.ok")})
	h := n.handler(t, "alpha")

	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	_, err := h.Serve(short, &testHost{}, call("wait", ""))
	wantErrorCode(t, err, sdk.Timeout) // said by either end, or before it began

	started := make(chan struct{}, 1)
	cctx, giveUp := context.WithCancelCause(ctx)
	go func() { <-started; giveUp(errors.New("the client hung up")) }()
	_, err = h.Serve(cctx, logged(started), call("wait", ""))
	e := wantError(t, err, sdk.Canceled, sdk.SideCaller, sdk.DeliveredYes)
	if e.Text != "the client hung up" {
		t.Errorf("text %q", e.Text)
	}
	_, err = h.Serve(cctx, &testHost{}, call("echo", ""))
	wantError(t, err, sdk.Canceled, sdk.SideCaller, sdk.DeliveredNo)

	// The streams of both were dropped, and the next call has a good one.
	if got, err := h.Serve(ctx, &testHost{}, call("echo", "x")); err != nil || string(got) != "x" {
		t.Errorf("echo = %q, %v", got, err)
	}
}

// The time that is left reaches the handler, and a callback's own deadline the node.
func TestCallbackDeadline(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	n := startNode(t, Config{Dir: place(t, "alpha.ok")})
	h := n.handler(t, "alpha")
	ended := make(chan error, 1)
	host := &testHost{send: func(ctx context.Context, _ []byte) ([]byte, error) {
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	}}
	for len(ended) == 0 && ctx.Err() == nil { // its time may be over before it is sent
		_, err := h.Serve(ctx, host, call("shortsend", ""))
		wantErrorCode(t, err, sdk.Timeout)
	}
	if got, err := h.Serve(ctx, &testHost{}, call("send", "x")); err != nil || string(got) != "reply to x" {
		t.Errorf("send = %q, %v", got, err)
	}
}

func wantErrorCode(t *testing.T, err error, code sdk.Code) {
	t.Helper()
	var e *sdk.Error
	if !errors.As(err, &e) || e.Code != code {
		t.Errorf("error %v, want %s", err, code)
	}
}

// When a call returns, what it left open at the node ends before Serve does.
func TestForgottenCallbacks(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	n := startNode(t, Config{Dir: place(t, "alpha.ok")})
	h := n.handler(t, "alpha")
	for range 20 {
		open := make(chan struct{}, 32)
		closed := make(chan struct{}, 32)
		host := &testHost{send: func(ctx context.Context, p []byte) ([]byte, error) {
			if string(p) == "hold" {
				return nil, nil
			}
			open <- struct{}{}
			<-ctx.Done()
			closed <- struct{}{}
			return nil, ctx.Err()
		}}
		if _, err := h.Serve(ctx, host, call("forget", "")); err != nil {
			t.Fatal(err)
		}
		if len(open) != len(closed) {
			t.Fatalf("%d callbacks began, %d ended", len(open), len(closed))
		}
		if got, err := h.Serve(ctx, &testHost{}, call("send", "x")); err != nil || string(got) != "reply to x" {
			t.Fatalf("the next call: %q, %v", got, err)
		}
	}
}

func TestLateCallback(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	var log logBuffer
	n := startNode(t, Config{Dir: place(t, "alpha.ok"), Log: log.logger()})
	h := n.handler(t, "alpha")
	host := &testHost{send: func(context.Context, []byte) ([]byte, error) {
		t.Error("a callback after its call's end")
		return nil, nil
	}}
	if _, err := h.Serve(ctx, host, call("late", "")); err != nil {
		t.Fatal(err)
	}
	for !strings.Contains(log.String(), "late send") && ctx.Err() == nil {
		if _, err := h.Serve(ctx, &testHost{}, call("echo", "")); err != nil {
			t.Fatal(err)
		}
	}
	if !strings.Contains(log.String(), sdk.HandlerCodeContext) {
		t.Errorf("log:\n%s", log.String())
	}
}

func TestErrorsCross(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	n := startNode(t, Config{Dir: place(t, "alpha.ok")})
	want := &sdk.Error{Code: sdk.Unreachable, Side: sdk.SideRemoteNode, Delivered: sdk.DeliveredNo, Retry: true, Text: "tüt tüt",
		HandlerCode: "x.y", Limit: &sdk.Limit{Name: "n", Setting: "s", Value: 1, Max: 2, RetryAfter: 3},
		Attempts: []sdk.Attempt{{Address: "a:1", Cause: "b"}, {Address: "c:2", Cause: "d"}}}
	host := &testHost{send: func(context.Context, []byte) ([]byte, error) { return nil, want }}
	_, err := n.handler(t, "alpha").Serve(ctx, host, call("send", "")) // node -> handler -> node
	if err == nil || err.Error() != want.Error() {
		t.Errorf("got  %v\nwant %v", err, want)
	}
}

func TestPayloadLimits(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	n := startNode(t, Config{Dir: place(t, "alpha.ok"), MaxPayload: 1 << 20})
	h := n.handler(t, "alpha")
	full := bytes.Repeat([]byte{'x'}, 1<<20)
	got, err := h.Serve(ctx, &testHost{}, call("echo", string(full)))
	if err != nil || !bytes.Equal(got, full) {
		t.Errorf("a payload at the limit: %d bytes, %v", len(got), err)
	}
	_, err = h.Serve(ctx, &testHost{}, call("echo", string(full)+"x"))
	e := wantError(t, err, sdk.TooLarge, sdk.SideNode, sdk.DeliveredNo)
	if e.Limit == nil || e.Limit.Setting != "max-payload" || e.Limit.Value != 1<<20+1 || e.Limit.Max != 1<<20 {
		t.Errorf("limit %+v", e.Limit)
	}
	_, err = h.Serve(ctx, &testHost{}, call("big", ""))
	wantError(t, err, sdk.TooLarge, sdk.SideHandler, sdk.DeliveredYes)
	if s := h.status(); s.Restarts != 0 {
		t.Errorf("status %+v", s)
	}
}

func TestDefaultPayload(t *testing.T) {
	t.Parallel()
	n := startNode(t, Config{Dir: place(t, "alpha.ok")})
	full := strings.Repeat("x", 16<<20)
	got, err := n.handler(t, "alpha").Serve(testContext(t), &testHost{}, call("echo", full))
	if err != nil || string(got) != full {
		t.Errorf("16 MiB: %d bytes, %v", len(got), err)
	}
}

func TestUnknownFunction(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	n := startNode(t, Config{Dir: place(t, "alpha.ok")})
	_, err := n.handler(t, "alpha").Serve(ctx, &testHost{}, call("nonesuch", ""))
	e := wantError(t, err, sdk.NoHandler, sdk.SideNode, sdk.DeliveredNo)
	if !strings.Contains(e.Text, `"nonesuch"`) || !strings.Contains(e.Text, `"echo"`) {
		t.Errorf("text %q", e.Text)
	}
}

// Calls beyond the limit wait in the queue, and are refused beyond it.
func TestQueue(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	n := startNode(t, Config{Dir: place(t, "alpha.ok"), MaxCalls: 2, MaxQueue: 1})
	h := n.handler(t, "alpha")
	started, cctx, cancel := make(chan struct{}, 2), ctx, context.CancelFunc(nil)
	cctx, cancel = context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 3)
	for range 2 {
		go func() { _, err := h.Serve(cctx, logged(started), call("wait", "")); ended <- err }()
	}
	<-started
	<-started
	queued := make(chan error, 1)
	go func() { _, err := h.Serve(ctx, &testHost{}, call("echo", "")); queued <- err }()
	for h.status().Queued == 0 && ctx.Err() == nil {
		runtime.Gosched() // the queue is the gate's own; there is no event for its length
	}
	_, err := h.Serve(ctx, &testHost{}, call("echo", ""))
	e := wantError(t, err, sdk.Busy, sdk.SideNode, sdk.DeliveredNo)
	if e.Limit == nil || e.Limit.Name == "" || e.Limit.Setting != "handler-max-queue" || e.Limit.RetryAfter <= 0 || !e.Retry {
		t.Errorf("limit %+v", e.Limit)
	}
	cancel()
	for range 2 {
		wantErrorCode(t, <-ended, sdk.Canceled)
	}
	if err := <-queued; err != nil {
		t.Errorf("the call that waited: %v", err)
	}
}

// While a process is started again calls wait, but not for ever.
func TestWaitForRestart(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	slow := func() *restartPolicy { return &restartPolicy{jitter: func() float64 { return 0 }, delay: backoffMax} }
	n := startNode(t, Config{Dir: place(t, "alpha.ok"), RestartWait: time.Millisecond, policy: slow})
	h := n.handler(t, "alpha")
	if _, err := h.Serve(ctx, &testHost{}, call("kill", "")); !errors.Is(err, sdk.HandlerCrashed) {
		t.Fatal(err)
	}
	waitState(ctx, t, h, StateBackoff)
	_, err := h.Serve(ctx, &testHost{}, call("echo", ""))
	e := wantError(t, err, sdk.Busy, sdk.SideNode, sdk.DeliveredNo)
	if e.Limit.Setting != "handler-restart-wait" || e.Limit.RetryAfter <= 0 || e.Limit.RetryAfter > backoffMax || !e.Retry {
		t.Errorf("limit %+v", e.Limit)
	}
	cctx, cancel := context.WithCancel(ctx)
	cancel()
	_, err = h.Serve(cctx, &testHost{}, call("echo", ""))
	wantError(t, err, sdk.Canceled, sdk.SideCaller, sdk.DeliveredNo)
	n.stop() // does not wait for the restart
	if s := h.status(); s.State != StateStopped {
		t.Errorf("status %+v", s)
	}
}

// Calls that don't end when their caller gives up can't pile up for ever: the
// process is replaced.
func TestStuckCalls(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	n := startNode(t, Config{Dir: place(t, "alpha.ok"), probeEvery: 10 * time.Millisecond})
	h := n.handler(t, "alpha")
	started := make(chan struct{}, 1)
	for i := 0; h.status().Restarts == 0; i++ {
		if i > 2*handlerpb.MaxOpenCalls {
			t.Fatalf("%d calls are stuck in it, and the process lives", i)
		}
		cctx, cancel := context.WithCancel(ctx)
		done := make(chan error, 1)
		host := &testHost{send: func(context.Context, []byte) ([]byte, error) { started <- struct{}{}; return nil, nil }}
		go func() { _, err := h.Serve(cctx, host, call("stuck", "send")); done <- err }()
		select {
		case <-started:
			cancel()
			<-done
		case err := <-done:
			wantErrorCode(t, err, sdk.HandlerCrashed)
		}
		cancel()
		if ctx.Err() != nil {
			t.Fatal("the process hangs and is not replaced")
		}
	}
	if _, err := h.Serve(ctx, &testHost{}, call("echo", "")); err != nil {
		t.Error(err)
	}
}
