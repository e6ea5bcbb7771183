package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-p2p/parley/dht"
	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/plugin"
	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/transport"
)

// Node is one agent's node. New makes it, Run runs it, once.
type Node struct {
	// static
	cfg      Config
	id       identity
	endpoint *transport.Endpoint
	dht      *dht.DHT
	plugins  *plugin.Manager // nil without a plugin directory

	// each with a lock of its own
	apps      *apps
	addresses *addressCache
	backoff   *backoff
	pusher    *pusher
	traffic   *traffic
	tasks     tasks
	events    *pluginEvents
	entries   entryDHT
	publisher *publisher
	notices   *notifier
	received  *received
	signals   *signals
	found     *entryCache
	searches  chan struct{} // one for each search of entries that runs
	revoker   *revoker
	delegated *delegated
	agencyDB  *agencyDB // set by Run before anything uses it
	claims    *claims
	policy    *policy
	teller    *teller
	finisher  *finisher

	outcomesMu sync.Mutex // guards outcomes
	outcomes   *outcomes

	flightsMu sync.Mutex // guards flights
	flights   map[sdk.AgentID]*flight

	revocations atomic.Int32 // tasks that revoke a message

	serving chan struct{} // closed when every part runs, but for the handlers
	// attached is closed when each handler found at the start is up or rejected.
	attached chan struct{}
	started  chan struct{} // closed when the node serves
	begun    time.Time     // set before started is closed
	runOnce  sync.Once
	life     context.Context // ends when Run begins to stop
	end      context.CancelCauseFunc
}

// New checks the settings, makes the data directory and the agent's key if they
// are not there, and builds a node. It starts nothing and listens nowhere.
func New(cfg Config) (*Node, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	id, err := openIdentity(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	n := &Node{
		cfg: cfg, id: id,
		apps: newApps(), addresses: newAddressCache(), backoff: newBackoff(), pusher: newPusher(), traffic: newTraffic(), events: newPluginEvents(),
		outcomes: newOutcomes(time.Now()), flights: map[sdk.AgentID]*flight{},
		serving: make(chan struct{}), attached: make(chan struct{}), started: make(chan struct{}),
	}
	n.life, n.end = context.WithCancelCause(context.Background())
	n.endpoint, err = transport.New(cfg.Limits.ofTransport(transport.Config{
		Key: id.key, Network: cfg.Network, Handler: n, Listen: cfg.Listen, Background: kindDHT,
		Log:    cfg.Log.With("part", "transport"),
		Limits: transport.Limits{MaxMessage: cfg.MaxPayload},
	}, cfg.MaxSessions))
	if err != nil {
		return nil, err
	}
	n.dht, err = dht.New(n.dhtConfig())
	if err != nil {
		return nil, err
	}
	n.entries, n.found = cfg.entries, newEntryCache()
	if n.entries == nil {
		n.entries = n.dht
	}
	n.revoker, n.delegated = newRevoker(n), newDelegated()
	n.claims, n.policy = newClaims(&cfg.Limits), newPolicy()
	n.teller, n.finisher = newTeller(n), newFinisher(n)
	n.notices, n.received, n.signals = newNotifier(), newReceived(), newSignals()
	n.publisher, n.searches = newPublisher(n), make(chan struct{}, cfg.Limits.PublicSearches)
	if cfg.PluginDir != "" {
		pins := ""
		if cfg.PinnedOnly {
			pins = cfg.path(pinsFile)
		}
		n.plugins, err = plugin.New(cfg.Sandbox.ofPlugin(cfg.Limits.ofPlugin(plugin.Config{Pins: pins,
			Dir: cfg.PluginDir, StateDir: cfg.path("plugins"), Log: cfg.Log.With("part", "plugin"),
			MaxPayload: cfg.MaxPayload, Env: cfg.handlerEnv, Attach: n.attach, Ready: n.ready, Detach: n.detach, Event: n.pluginEvent,
			Debug: cfg.DebugHandlers,
		})))
		if err != nil {
			return nil, err
		}
	}
	return n, nil
}

// Agent is the node's one agent.
func (n *Node) Agent() sdk.AgentID { return n.id.agent }

// Addr is the address listened on, once Started is closed.
func (n *Node) Addr() netip.AddrPort { return n.endpoint.Addr() }

// Started is closed when the node listens and its handlers are up or rejected.
func (n *Node) Started() <-chan struct{} { return n.started }

// WaitReady waits until other agents can find this one: its address record was
// read back from the DHT, or it is the first of its network. It fails when Run
// ends before that.
func (n *Node) WaitReady(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(n.life, func() { cancel(context.Cause(n.life)) })()
	select {
	case <-n.started:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := n.dht.WaitReady(ctx); err != nil {
		return errors.Join(err, context.Cause(ctx))
	}
	return nil
}

// Run runs the node until ctx ends or a part of it breaks, and returns when
// every goroutine and process of it has ended. It starts the parts in the order
// chains and handlers, endpoint, DHT, control, and stops them in reverse; the
// chains close last.
func (n *Node) Run(ctx context.Context) error {
	err := errors.New("a node runs once: make a new one")
	n.runOnce.Do(func() { err = n.run1(ctx) })
	return err
}

func (n *Node) run1(ctx context.Context) (err error) {
	defer n.end(errNodeStopping())
	unlock, err := lockDataDir(n.cfg.DataDir)
	if err != nil {
		return err
	}
	defer unlock()
	if err := os.MkdirAll(n.cfg.path("chains"), 0o700); err != nil {
		return fmt.Errorf("chain directory: %w", err)
	}
	if n.agencyDB, err = openAgencyDB(n.cfg.path(agencyFile), n.cfg.agencyStep); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.agencyDB.close()) }()
	if err := errors.Join(n.loadPolicy(), n.loadClaims(), n.loadDelegated(), n.dropTells(), n.loadExchanges()); err != nil {
		return err
	}
	if err := n.endpoint.Bind(); err != nil {
		return err
	}
	defer n.endpoint.Close() // of use only where its Run is not reached
	n.loadCache()

	ctx, broke := context.WithCancelCause(ctx)
	defer broke(nil)
	tell := func(name string, err error) {
		broke(&partError{name, err})
	}
	var parts []*part
	defer func() {
		n.end(errNodeStopping())
		n.withdraw()
		for _, p := range slices.Backward(parts) {
			err = errors.Join(err, stopError(p.name, p.stop()))
		}
		n.tasks.wait()
		err = errors.Join(err, n.closeApps())
		n.saveCache()
	}()
	taskCtx, stopTasks := context.WithCancel(context.WithoutCancel(ctx))
	defer stopTasks() // before the parts are stopped: no new session is needed then
	n.tasks.open(taskCtx)

	if n.plugins != nil {
		parts = append(parts, startPart("plugins", n.plugins.Run, tell))
	}
	server, err := control.Listen(n.cfg.DataDir, n, n.cfg.Log.With("part", "control"),
		control.WithMaxPayload(n.cfg.MaxPayload), control.WithMaxCalls(n.cfg.Limits.ControlMaxCalls))
	if err != nil {
		return err
	}
	parts = append(parts,
		startPart("endpoint", n.endpoint.Run, tell),
		startPart("dht", n.dht.Run, tell),
		startPart("neighbours", n.keepNeighbours, tell),
		startPart("publisher", n.publisher.run, tell),
		startPart("publisher of revocations", n.publisher.revocations.run, tell),
		startPart("pusher", n.keepPushing, tell),
		startPart("control", server.Run, tell),
		startPart("cache", n.keepCache, tell),
		startPart("claims", n.keepClaims, tell),
		startPart("teller", n.teller.run, tell),
		startPart("finisher", n.finisher.run, tell))
	close(n.serving)
	parts = append(parts, startPart("handlers", n.attachAll, tell))
	select {
	case <-n.attached:
		n.begun = n.now()
		close(n.started)
		n.cfg.Log.Info("node started", "agent", n.id.agent.String(), "listen", addrOrNone(n.endpoint.Addr()), "network", n.cfg.Network)
		<-ctx.Done()
	case <-ctx.Done():
	}
	var part *partError
	if errors.As(context.Cause(ctx), &part) {
		return part
	}
	return nil
}

// partError says which part ended a node that nobody had stopped.
type partError struct {
	part string
	err  error
}

func (e *partError) Error() string {
	if e.err == nil {
		return e.part + " ended unexpectedly"
	}
	return e.part + ": " + e.err.Error()
}

func (e *partError) Unwrap() error { return e.err }

func stopError(name string, err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return nil
	}
	return fmt.Errorf("stop %s: %w", name, err)
}

// attachAll starts the handlers of this process and waits for those of the plugin
// directory. It runs beside the other parts, since an init may use them.
func (n *Node) attachAll(ctx context.Context) error {
	n.attachInProcess(ctx)
	if n.plugins != nil {
		select {
		case <-n.plugins.Ready():
		case <-ctx.Done():
		}
	}
	close(n.attached)
	<-ctx.Done()
	return nil
}

// attachInProcess starts the handlers of Config.Handlers. One that can't run
// is logged and left out, like a binary in the plugin directory.
func (n *Node) attachInProcess(ctx context.Context) {
	for _, h := range n.cfg.Handlers {
		desc, err := h.Describe(ctx)
		if err == nil {
			err = n.attachOne(ctx, h, desc)
		}
		if err != nil {
			n.cfg.Log.Error("in-process handler rejected", "dna", desc.Name, "error", err.Error())
		}
	}
}

func (n *Node) attachOne(ctx context.Context, h sdk.Handler, desc sdk.Description) error {
	a, err := n.newApp(desc)
	if err != nil {
		return err
	}
	a.handler = h
	err = h.Setup(ctx, n.setup(a))
	if err == nil {
		err = n.admit(ctx, a, h, &desc)
	}
	if err != nil {
		err = errors.Join(err, a.stop())
		n.apps.release(a.name)
		return err
	}
	return nil
}

func (n *Node) setup(a *app) sdk.Setup {
	return sdk.Setup{Agent: n.id.agent, DNA: a.hash, Properties: a.dna.Properties, Commits: n.cfg.commitLimits()}
}

// attach is called by the plugin manager with a handler that described itself.
func (n *Node) attach(_ context.Context, h *plugin.Handler, desc sdk.Description) (sdk.Setup, error) {
	a, err := n.newApp(desc)
	if err != nil {
		return sdk.Setup{}, err
	}
	a.handler = h
	n.apps.starting(a)
	return n.setup(a), nil
}

// detach is called by the plugin manager when a handler is gone for good.
func (n *Node) detach(h *plugin.Handler) {
	a := n.apps.startingBy(h)
	if a != nil {
		defer n.apps.release(a.name)
	}
	for _, running := range n.apps.all() {
		if running.handler == server(h) {
			a = running
			n.apps.remove(a)
		}
	}
	if a == nil {
		return
	}
	if err := a.stop(); err != nil {
		a.log.Error("source chain did not close", "error", err.Error())
	}
	n.signals.removed(a.hash) // its last calls may have emitted until now
}

func (n *Node) closeApps() error {
	var errs []error
	for _, a := range n.apps.all() {
		n.apps.remove(a)
		errs = append(errs, a.stop())
	}
	return errors.Join(errs...)
}

// awaitHandlers waits while handlers are still being started; false if there was
// nothing to wait for, or ctx ended. Until then nobody can say that a DNA does
// not run here.
func (n *Node) awaitHandlers(ctx context.Context) bool {
	select {
	case <-n.attached:
		return false
	default:
	}
	select {
	case <-n.attached:
		return true
	case <-n.life.Done():
	case <-ctx.Done():
	}
	return false
}

// addrOrNone is how a log tells an address: a node that only dials has none.
func addrOrNone(a netip.AddrPort) string {
	if !a.IsValid() {
		return "none"
	}
	return a.String()
}
