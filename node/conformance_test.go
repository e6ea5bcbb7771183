package node

import (
	"context"
	"log/slog"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/sdktest"
)

// TestHostInProcess and TestHostPlugin hold real nodes, over real sockets and
// real chain files, against the suite that the SDK's test network passes.

var conformanceLimits = Limits{ChainMaxEntries: 100, ChainMaxEntry: 400 << 10}

func TestHostInProcess(t *testing.T) {
	t.Parallel()
	sdktest.TestHost(t, func(t *testing.T) sdktest.Network {
		w := newTestNetwork(t, sdktest.ConformanceDNA)
		w.base.Limits = conformanceLimits
		return w
	})
}

func TestHostPlugin(t *testing.T) {
	t.Parallel()
	plugins := pluginDir(t, "conformance")
	sdktest.TestHost(t, func(t *testing.T) sdktest.Network {
		w := newTestNetwork(t, nil)
		w.base.PluginDir, w.base.Limits = plugins, conformanceLimits
		w.base.handlerEnv = []string{"GORACE=atexit_sleep_ms=0"}
		return w
	})
}

// testNetwork is real nodes in this process, each knowing the first.
type testNetwork struct {
	t       *testing.T
	base    Config
	handler func() *sdk.Definition // in-process; nil: none
	dir     string
	first   []Peer
}

func newTestNetwork(t *testing.T, handler func() *sdk.Definition) *testNetwork {
	base := testConfig()
	base.MaxPayload = 1 << 20
	base.Limits.HandlerRestartWait = time.Minute // a handler's start takes seconds on a busy machine
	return &testNetwork{t: t, base: base, handler: handler, dir: shortTempDir(t)}
}

func (w *testNetwork) MaxPayload() int { return w.base.MaxPayload }

func (w *testNetwork) CommitLimits() sdk.CommitLimits { return w.base.commitLimits() }

func (w *testNetwork) Start(name string) sdktest.Peer { return w.start(name) }

func (w *testNetwork) start(name string) *testNode {
	w.t.Helper()
	cfg := w.base
	cfg.DataDir, cfg.Bootstrap = filepath.Join(w.dir, name), w.first
	if w.handler != nil {
		cfg.Handlers = []sdk.Handler{w.handler()}
	}
	n := startNode(w.t, cfg)
	if w.first == nil {
		w.first = []Peer{{Agent: n.Agent(), Host: n.Addr().String()}}
	}
	return n
}

// testNode is a running node that ends with its test.
type testNode struct {
	*Node
	t    *testing.T
	stop func()
}

func startNode(t *testing.T, cfg Config) *testNode {
	t.Helper()
	cfg.Log = slog.New(slog.NewTextHandler(testLog{t}, &slog.HandlerOptions{Level: slog.LevelInfo}))
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := n.Run(ctx); err != nil {
			t.Errorf("node %s: %v", filepath.Base(cfg.DataDir), err)
			cancel()
		}
	}()
	stop := func() { cancel(); <-ended }
	t.Cleanup(stop)
	if err := n.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	return &testNode{Node: n, t: t, stop: stop}
}

// testLog shows a node's log with the test that failed.
type testLog struct{ t *testing.T }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Logf("%s", b)
	return len(b), nil
}

func (n *testNode) ID() sdk.AgentID { return n.Agent() }

func (n *testNode) Call(ctx context.Context, function string, payload []byte) ([]byte, error) {
	return n.Node.Call(ctx, n.dna(), function, payload)
}

func (n *testNode) WatchSignals(ctx context.Context, began func(), tell func(payload []byte) error) error {
	return n.Watch(ctx, control.WatchQuery{DNA: n.dna()}, func(s control.Signal) error {
		if s.Began {
			began()
			return nil
		}
		return tell(s.Payload)
	})
}

// dna is the one DNA that the node runs.
func (n *testNode) dna() string { return n.apps.all()[0].name }

func (n *testNode) Records(ctx context.Context) ([]sdk.Record, error) {
	return n.Chain(ctx, n.dna(), sdk.Query{Limit: 1000})
}

// Crash kills the handler's process, as kill -9 does.
func (n *testNode) Crash() {
	s, err := n.Status(n.t.Context())
	if err != nil {
		n.t.Fatal(err)
	}
	for _, h := range s.Handlers {
		if h.PID == 0 {
			n.t.Skip("the handler is in this process: nothing to kill")
		}
		syscall.Kill(h.PID, syscall.SIGKILL)
	}
}

// rule changes the lists and limits as the operator does.
func (n *testNode) rule(c control.PolicyChange) {
	n.t.Helper()
	if _, err := n.ChangePolicy(n.t.Context(), c); err != nil {
		n.t.Fatal(err)
	}
}

func (n *testNode) Block(a sdk.AgentID)    { n.rule(control.PolicyChange{Block: []sdk.AgentID{a}}) }
func (n *testNode) Unblock(a sdk.AgentID)  { n.rule(control.PolicyChange{Unblock: []sdk.AgentID{a}}) }
func (n *testNode) Allow(a sdk.AgentID)    { n.rule(control.PolicyChange{Allow: []sdk.AgentID{a}}) }
func (n *testNode) Disallow(a sdk.AgentID) { n.rule(control.PolicyChange{Disallow: []sdk.AgentID{a}}) }

func (n *testNode) Limit(a sdk.AgentID, l sdktest.AgentLimits) {
	n.rule(control.PolicyChange{Limits: []control.AgentLimit{{Agent: a, Name: "agent-requests", Max: l.Requests},
		{Agent: a, Name: "agent-bytes", Max: l.Bytes}, {Agent: a, Name: "agent-signals", Max: l.Signals}}})
}

var _ sdktest.Policed = (*testNode)(nil)
