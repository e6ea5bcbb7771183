package plugin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// generation is one process of one binary, from its start to its end. tend owns
// that end.
type generation struct {
	p       *process
	sum     string // of the binary, SHA-256
	desc    sdk.Description
	retire  chan time.Duration // for so long its calls may go on; then it ends
	hurry   <-chan struct{}    // closed when the node has to stop
	until   time.Time          // the retired one's calls are cut off then; its supervisor's
	failure error              // how it ended, unless it was to
	log     *slog.Logger
}

// attempt is one try to start a generation, in a goroutine of its own. What it
// needs of its supervisor it has a copy of.
type attempt struct {
	replaces *generation // takes over from this one only
	sum      string      // of a staged binary; empty: what lies in the directory
	from     string      // path of the file in the directory, where sum is empty
	roll     rollout
	runs     string // SHA-256 of the binary that runs or is about to; empty if none does
	force    bool   // even what is active, or in quarantine
	attached bool   // the node has taken the handler before
	setup    sdk.Setup
	had      sdk.Description
	workDir  string
	name     string
	log      *slog.Logger

	begun  time.Time
	cancel context.CancelFunc
	again  bool         // canceled because there is something newer, or it runs
	waits  []chan error // told when it has come to its end

	gen *generation // what it has come to
	err error
}

// errSame means that what lies in the directory is what runs.
var errSame = errors.New("it runs already")

// run starts the generation and lets the node have it first. On an error nothing
// is left of it.
func (a *attempt) run(ctx context.Context, s *supervisor) {
	defer a.cancel()
	fresh := !a.attached
	a.err = a.launch(ctx, s)
	if a.err == nil {
		if err := s.cfg.Ready(ctx, &Starting{Handler: s.h, Description: a.gen.desc, p: a.gen.p}); err != nil {
			a.err = &readyError{err}
		}
	}
	if a.err == nil {
		return
	}
	if ctx.Err() != nil {
		a.err = context.Cause(ctx)
	}
	if a.gen != nil {
		a.gen.p.kill(a.err)
		a.gen = nil
	}
	if fresh && a.attached {
		s.h.set(StateRejected, nil, a.err) // first: calls that wait fail at once
		s.cfg.Detach(s.h)
		a.attached = false
	}
}

// readyError is the node's: what it had the process do first did not succeed, and
// may the next time.
type readyError struct{ err error }

func (e *readyError) Error() string { return e.err.Error() }
func (e *readyError) Unwrap() error { return e.err }

// launch goes from the file to a warm process.
func (a *attempt) launch(ctx context.Context, s *supervisor) error {
	for {
		err := a.launchOnce(ctx, s)
		if !errors.Is(err, errUnsettled) || time.Since(a.begun) > s.cfg.StartTimeout {
			return err
		}
		select { // without a slot: others may start meanwhile
		case <-time.After(s.cfg.settle):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (a *attempt) launchOnce(ctx context.Context, s *supervisor) error {
	starts := s.starts
	if a.from == "" {
		starts = s.revivals // new files that hang keep no handler down
	}
	select {
	case starts <- struct{}{}:
		defer func() { <-starts }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	path, err := a.stage(s)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.cfg.StartTimeout, s.tooSlow())
	defer cancel()
	a.gen, err = a.start(ctx, s, path)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return err
}

// stage gives the path of the binary's copy. Copies are not collected before the
// handler's status names them.
func (a *attempt) stage(s *supervisor) (path string, err error) {
	s.m.staging.RLock()
	defer s.m.staging.RUnlock()
	dir := filepath.Join(s.cfg.StateDir, "plugins")
	if a.sum != "" {
		path = filepath.Join(dir, a.sum, "plugin")
		if !staged(path, a.sum) {
			return "", fmt.Errorf("its copy %s is gone or damaged; put the binary into the plugin directory again", path)
		}
	} else if path, a.sum, err = stageWhole(dir, a.from); err != nil {
		return "", err
	}
	if err := s.cfg.checkPinned(a.sum); err != nil {
		return "", err
	}
	if !a.force {
		if a.from != "" && a.sum == a.runs {
			return "", errSame
		}
		if err := a.roll.refused(a.sum); err != nil {
			return "", err
		}
	}
	if a.from != "" {
		s.h.tries(a.sum)
	}
	return path, nil
}

func (a *attempt) start(ctx context.Context, s *supervisor, path string) (*generation, error) {
	if err := os.MkdirAll(a.workDir, 0o700); err != nil {
		return nil, fmt.Errorf("working directory: %w", err)
	}
	p, err := start(ctx, launch{path: path, sum: a.sum, name: a.name, workDir: a.workDir, socketDir: s.sockets, env: s.cfg.Env,
		maxPayload: s.cfg.MaxPayload, timeout: s.cfg.StartTimeout, probeEvery: s.cfg.probeEvery, stuckAfter: s.cfg.StuckAfter,
		spawn: s.spawn, confine: s.cfg.confine, out: newOutputs(a.log)})
	if err != nil {
		return nil, err
	}
	g := &generation{p: p, sum: a.sum, retire: make(chan time.Duration, 1), hurry: s.hurry, log: a.log}
	if g.desc, err = p.pb.Describe(ctx); err != nil {
		return g, err
	}
	if err := s.cfg.confine.covers(a.name, g.desc.Needs); err != nil {
		return g, err
	}
	if a.attached {
		err = compatible(&a.had, &g.desc)
	} else {
		s.h.describe(g.desc)
		if a.setup, err = s.cfg.Attach(ctx, s.h, g.desc); err != nil {
			err = fmt.Errorf("the node does not take it: %w", err)
		}
		a.attached = err == nil
	}
	if err != nil {
		return g, err
	}
	if err := p.pb.Setup(ctx, a.setup); err != nil {
		return g, err
	}
	return g, p.warm(ctx)
}

// compatible tells whether a new binary may take the place of one that runs: it
// implements the same DNA, and all of it that callers may rely on.
func compatible(had, now *sdk.Description) error {
	if had.Name != now.Name || had.Integrity != now.Integrity {
		return fmt.Errorf("it is another DNA, %s (integrity %q), not %s (integrity %q); put it beside that one, under another file name",
			now.Name, now.Integrity, had.Name, had.Integrity)
	}
	has := make(map[string]bool, len(now.Functions))
	for _, f := range now.Functions {
		has[f] = true
	}
	var gone []string
	for _, f := range had.Functions {
		if !has[f] {
			gone = append(gone, f)
		}
	}
	if len(gone) > 0 {
		return fmt.Errorf("it drops functions that callers may use: %s; remove the old binary first if that is meant", some(gone))
	}
	if had.Receives && !now.Receives {
		return errors.New("it receives no messages any more; remove the old binary first if that is meant")
	}
	return nil
}

// warmFunction is called once before a process takes calls. No handler has it:
// it answers as it answers any function that it has not.
const warmFunction = "parley.warm"

// warm sends one call all the way: the code is loaded, the first goroutines are
// there, and a handler that does not serve its call socket is found out now.
func (p *process) warm(ctx context.Context) error {
	_, err := p.callWait(ctx, noHost{}, &sdk.Call{Kind: sdk.CallFunction, Function: warmFunction}, 1<<10)
	var e *sdk.Error
	if errors.As(err, &e) && e.Code != sdk.HandlerCrashed && e.Code != sdk.Timeout && e.Code != sdk.Canceled {
		return nil
	}
	if err != nil {
		return fmt.Errorf("it does not serve its call socket: %w", err)
	}
	return nil
}

// noHost is the node as the first call sees it.
type noHost struct{}

func (noHost) Send(context.Context, sdk.Message) ([]byte, error)   { return nil, errNoHost }
func (noHost) Notify(context.Context, sdk.Notice) ([]error, error) { return nil, errNoHost }
func (noHost) Emit(context.Context, []byte) error                  { return errNoHost }
func (noHost) Online(context.Context, sdk.AgentID) (sdk.Presence, error) {
	return sdk.Presence{}, errNoHost
}
func (noHost) Grant(context.Context, sdk.Grant) (sdk.Claim, error)         { return sdk.Claim{}, errNoHost }
func (noHost) Revoke(context.Context, sdk.Hash) error                      { return errNoHost }
func (noHost) Claim(context.Context, sdk.Claim) error                      { return errNoHost }
func (noHost) Delegate(context.Context, sdk.Delegation) (sdk.Proof, error) { return nil, errNoHost }
func (noHost) List(context.Context, sdk.List) (sdk.Page, error)            { return sdk.Page{}, errNoHost }
func (noHost) Commit(context.Context, sdk.Entry) (sdk.Hash, error)         { return sdk.Hash{}, errNoHost }
func (noHost) Query(context.Context, sdk.Query) ([]sdk.Record, error)      { return nil, errNoHost }
func (noHost) Get(context.Context, sdk.Hash) (sdk.Record, error)           { return sdk.Record{}, errNoHost }
func (noHost) Log(context.Context, slog.Level, string, ...any)             {}

var errNoHost = errors.New("function " + warmFunction + " is no function of a handler")

// tend sees a generation to its end: when it dies, or is to be used no more.
func (g *generation) tend(s *supervisor) {
	p, stuck := g.p, g.p.stuck
	for alive := true; alive; {
		select {
		case <-p.run.exited:
			alive = false
		case <-p.ctx.Done():
			alive = false
		case <-stuck:
			stuck = nil
			s.inbox.tell(func(m *mail) { m.stuck = g })
		case d := <-g.retire:
			g.drain(s, d)
			p.kill(errors.New("another one has taken its place"))
			<-p.calls.drained() // calls that were cut off see it at once
			return
		}
	}
	s.h.retire(p)
	p.kill(errors.New("the process has ended"))
	g.failure = p.run.why()
}

// drain lets the running calls finish, for d at most. When the node stops, that
// is DrainTimeout at most.
func (g *generation) drain(s *supervisor, d time.Duration) {
	p := g.p
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.DrainTimeout)
	defer cancel()
	if err := p.pb.Drain(ctx); err != nil {
		g.log.Debug("the handler did not take the drain", "pid", p.run.pid(), "error", err)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	hurry, setting := g.hurry, "handler-swap-timeout"
	for {
		select {
		case <-p.calls.drained():
			return
		case <-p.run.exited:
			return
		case <-hurry:
			if hurry = nil; s.cfg.DrainTimeout < d {
				d, setting = s.cfg.DrainTimeout, "handler-drain-timeout"
				t.Reset(d)
			}
			continue
		case <-t.C:
		}
		running, _ := p.calls.load()
		g.log.Warn("calls still run at the end of the drain and are cut off", "pid", p.run.pid(), "calls", running, "after", d)
		p.run.killFor(fmt.Errorf("it was to be used no more, and its calls had not ended after %s (setting %s)", d, setting))
		return
	}
}
