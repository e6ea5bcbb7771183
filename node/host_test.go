package node

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parley-p2p/parley/node/chain"
	"github.com/parley-p2p/parley/sdk"
)

// rawHandler is a handler in this process that does as the test says, also what
// the SDK would not let an author do.
type rawHandler struct {
	serve func(ctx context.Context, host sdk.Host, call *sdk.Call) ([]byte, error)
}

func (rawHandler) Describe(context.Context) (sdk.Description, error) {
	return sdk.Description{Name: "raw", Integrity: "1", Functions: []string{"f"}, Receives: true}, nil
}

func (rawHandler) Setup(context.Context, sdk.Setup) error { return nil }

func (h rawHandler) Serve(ctx context.Context, host sdk.Host, call *sdk.Call) ([]byte, error) {
	return h.serve(ctx, host, call)
}

func startRaw(t *testing.T, serve func(ctx context.Context, host sdk.Host, call *sdk.Call) ([]byte, error)) *testNode {
	t.Helper()
	cfg := testConfig()
	cfg.MaxPayload = 1 << 20
	cfg.DataDir, cfg.Handlers = filepath.Join(shortTempDir(t), "n"), []sdk.Handler{rawHandler{serve}}
	return startNode(t, cfg)
}

// What a failed call may have done elsewhere decides whether it may be repeated.
func TestRetryOfAFailedCall(t *testing.T) {
	t.Parallel()
	failed := errors.New("no")
	type serve = func(ctx context.Context, host sdk.Host, call *sdk.Call) ([]byte, error)
	cases := map[string]struct {
		function, receive serve
		retry             bool
	}{
		"nothing sent": {func(context.Context, sdk.Host, *sdk.Call) ([]byte, error) { return nil, failed }, nil, true},
		"a send that was too large": {func(ctx context.Context, host sdk.Host, call *sdk.Call) ([]byte, error) {
			_, err := host.Send(ctx, sdk.Message{To: call.From, Payload: make([]byte, 2<<20)})
			return nil, err
		}, nil, true},
		"a send to what is no agent": {func(ctx context.Context, host sdk.Host, _ *sdk.Call) ([]byte, error) {
			_, err := host.Send(ctx, sdk.Message{To: sdk.AgentID{1}})
			return nil, err
		}, nil, true},
		"a send whose receive failed": {func(ctx context.Context, host sdk.Host, call *sdk.Call) ([]byte, error) {
			_, err := host.Send(ctx, sdk.Message{To: call.From})
			return nil, err
		}, func(context.Context, sdk.Host, *sdk.Call) ([]byte, error) { return nil, failed }, true},
		"a send that was answered": {func(ctx context.Context, host sdk.Host, call *sdk.Call) ([]byte, error) {
			_, err := host.Send(ctx, sdk.Message{To: call.From})
			return nil, errors.Join(err, failed)
		}, func(context.Context, sdk.Host, *sdk.Call) ([]byte, error) { return nil, nil }, false},
		"a commit that nobody can tell of": {func(context.Context, sdk.Host, *sdk.Call) ([]byte, error) {
			return nil, &sdk.Error{Code: sdk.OutcomeUnknown, Side: sdk.SideNode, Delivered: sdk.DeliveredYes}
		}, nil, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := startRaw(t, func(ctx context.Context, host sdk.Host, call *sdk.Call) ([]byte, error) {
				if call.Kind == sdk.CallReceive {
					return c.receive(ctx, host, call)
				}
				return c.function(ctx, host, call)
			})
			_, err := n.Call(t.Context(), "f", nil)
			var e *sdk.Error
			if !errors.As(err, &e) || e.Retry != c.retry {
				t.Fatalf("got %v, want retry %t", err, c.retry)
			}
		})
	}
}

// A handler that returns while a send of it is under way: the message may take
// effect, and nothing of the host works any more.
func TestCallReturnsWhileItSends(t *testing.T) {
	t.Parallel()
	received, release, sent := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	var host sdk.Host
	n := startRaw(t, func(ctx context.Context, h sdk.Host, call *sdk.Call) ([]byte, error) {
		if call.Kind == sdk.CallReceive {
			close(received)
			<-release
			return nil, nil
		}
		host = h
		go func() {
			_, err := h.Send(context.WithoutCancel(ctx), sdk.Message{To: call.From})
			sent <- err
		}()
		<-received
		return nil, errors.New("done with it")
	})
	_, err := n.Call(t.Context(), "f", nil)
	wantError(t, err, sdk.HandlerFailed, sdk.DeliveredYes, false)
	close(release)
	if err := <-sent; err != nil {
		t.Errorf("the send: %v", err)
	}
	_, err = host.Send(t.Context(), sdk.Message{To: n.Agent()})
	wantHandlerCode(t, err, sdk.HandlerCodeContext)
	_, err = host.Commit(t.Context(), sdk.Entry{Type: "x"})
	wantHandlerCode(t, err, sdk.HandlerCodeContext)
	_, err = host.Query(t.Context(), sdk.Query{})
	wantHandlerCode(t, err, sdk.HandlerCodeContext)
	_, err = host.Get(t.Context(), sdk.Hash{})
	wantHandlerCode(t, err, sdk.HandlerCodeContext)
	if a := n.apps.all()[0]; a.chain.Len() != 1 {
		t.Errorf("%d records", a.chain.Len())
	}
}

func wantHandlerCode(t *testing.T, err error, code string) {
	t.Helper()
	var e *sdk.Error
	if !errors.As(err, &e) || e.HandlerCode != code {
		t.Errorf("got %v, want %s", err, code)
	}
}

// Another agent learns neither the path of the chain file nor what the disk said.
func TestCommitErrorForAnotherAgent(t *testing.T) {
	t.Parallel()
	path := "/home/bob/chains/x.db"
	because := func(k sdk.CallKind) *liveCall { return &liveCall{node: &Node{}, call: &sdk.Call{Kind: k}} }
	for _, e := range []*sdk.Error{
		{Code: sdk.HandlerFailed, HandlerCode: sdk.HandlerCodeCommit, Retry: true, Text: "could not write " + path},
		{Code: sdk.OutcomeUnknown, Text: path + " was written but the disk did not confirm it"},
	} {
		var got *sdk.Error
		if !errors.As(because(sdk.CallReceive).commitError(e), &got) || got.Code != e.Code || got.Retry != e.Retry || strings.Contains(got.Text, path) {
			t.Errorf("another agent is told: %v", got)
		}
		if !errors.As(because(sdk.CallFunction).commitError(e), &got) || got != e {
			t.Errorf("the own client is told: %v", got)
		}
	}
	s := newApps()
	s.damage(&DamagedChain{DNA: "x", Path: path, Err: &chain.DamagedError{Path: path}})
	if e := s.missingLocked("x"); strings.Contains(e.Text, path) || !strings.Contains(e.Text, "damaged") {
		t.Errorf("another agent is told: %v", e)
	}
	if _, e := s.named("x"); !strings.Contains(e.Text, path) {
		t.Errorf("the own client is told: %v", e)
	}
	if because(sdk.CallReceive).commitError(nil) != nil {
		t.Error("an error of nothing")
	}
}

// A search for an agent that cannot be found is shared and bounded.
func TestSearchesAreBounded(t *testing.T) {
	t.Parallel()
	w := newTestNetwork(t, testDNA)
	n := w.start("alice")
	n.flightsMu.Lock()
	for i := range maxFlights {
		n.flights[sdk.AgentID{1, byte(i), byte(i >> 8)}] = &flight{done: make(chan struct{})}
	}
	n.flightsMu.Unlock()
	_, e := n.connect(t.Context(), newIdentity(testPrivateKey(77)).agent)
	if e == nil || e.Code != sdk.Busy || e.Delivered != sdk.DeliveredNo || e.Limit == nil || e.Limit.Max != maxFlights {
		t.Fatalf("got %v", e)
	}
}

// A node that stops does not wait for the deadlines of the calls that run.
func TestStopEndsCalls(t *testing.T) {
	t.Parallel()
	for _, inProcess := range []bool{true, false} {
		t.Run(fmt.Sprintf("in process %t", inProcess), func(t *testing.T) {
			t.Parallel()
			w := newTestNetwork(t, testDNA)
			w.base.Deadline = maxDeadline
			if !inProcess {
				w.handler, w.base.PluginDir = nil, pluginDir(t, "test")
				w.base.handlerEnv = []string{"GORACE=atexit_sleep_ms=0"}
			}
			n := w.start("n")
			file := filepath.Join(t.TempDir(), "runs")
			payload, err := sdk.Marshal(testMessage{Do: "commit and wait", Text: file})
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() {
				_, err := n.Node.Call(context.Background(), "test", "do", payload)
				done <- err
			}()
			awaitFile(t, file)
			n.stop()
			var e *sdk.Error
			if err := <-done; !errors.As(err, &e) || e.Code != sdk.Canceled || !e.Retry {
				t.Errorf("got %v", err)
			}
			_, err = n.Node.Call(context.Background(), "test", "do", payload)
			if !errors.As(err, &e) {
				t.Errorf("after the end: %v", err)
			}
		})
	}
}

// A handler in this process that panics fails its call and nothing else.
func TestPanicInProcess(t *testing.T) {
	t.Parallel()
	n := startRaw(t, func(ctx context.Context, host sdk.Host, call *sdk.Call) ([]byte, error) {
		if call.Kind == sdk.CallReceive {
			if _, err := host.Commit(ctx, sdk.Entry{Type: "x"}); err != nil {
				return nil, err
			}
			panic("as asked")
		}
		return host.Send(ctx, sdk.Message{To: call.From})
	})
	_, err := n.Call(t.Context(), "f", nil)
	e := wantError(t, err, sdk.HandlerFailed, sdk.DeliveredYes, true)
	if e.HandlerCode != sdk.HandlerCodePanic || strings.Contains(e.Text, "as asked") {
		t.Errorf("got %v", e)
	}
	if got := n.apps.all()[0].chain.Len(); got != 1 {
		t.Errorf("%d records", got)
	}
	n.outcomesMu.Lock()
	defer n.outcomesMu.Unlock()
	checkOutcomes(t, n.outcomes)
	for from, s := range n.outcomes.senders {
		if s.running != 0 {
			t.Errorf("%d receives of %s count as running", s.running, from)
		}
	}
}
