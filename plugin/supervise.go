package plugin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// maxDraining bounds the processes of one handler that finish calls at once. A
// further swap waits until one of them has ended.
const maxDraining = 4

// patience is how long a binary may take to start while a newer one waits.
const patience = 2 * time.Second

// supervisor keeps the handler of one file running: it starts what lies in the
// directory beside what runs, lets it take over, and goes back to the last good
// binary where that turns out worse. Its fields belong to the goroutine of run.
type supervisor struct {
	m       *Manager
	h       *Handler
	cfg     *Config
	log     *slog.Logger
	spawn   *spawner
	sockets string // directory
	// They bound the starts of all handlers at once: of files, and of processes
	// that died.
	starts, revivals chan struct{}
	inbox            *inbox

	roll    rollout
	policy  *restartPolicy
	facts   facts // of the handler once the node has taken it
	wanted  *want // what lies in the directory and was not tried yet
	room    bool  // what refuses the present try may be gone already
	retryAt time.Time
	retry   bool // the active binary is to be started at retryAt
	stuck   bool // the current process is to be replaced

	current  *generation
	draining map[*generation]bool
	swap     *attempt // of what lies in the directory
	revive   *attempt // of the active binary
	results  chan *attempt
	ended    chan *generation
	hurry    chan struct{} // closed when the node stops
	litter   bool          // a copy may be of no use any more
	leaving  bool          // nothing is started any more
	wg       sync.WaitGroup
	first    func() // told when the first start has come to an end
	decided  func() // told when a try has
}

// facts are what the node said when it took the handler.
type facts struct {
	attached bool
	setup    sdk.Setup
}

// want is a wish to start what lies in the directory.
type want struct {
	force bool
	waits []chan error
}

func newSupervisor(m *Manager, h *Handler) *supervisor {
	return &supervisor{m: m, h: h, cfg: &m.cfg, log: m.cfg.Log.With("handler", h.File()), spawn: m.spawn, sockets: m.sockets,
		starts: m.starts, revivals: m.revivals, inbox: newInbox(), policy: m.cfg.policy(), draining: map[*generation]bool{},
		results: make(chan *attempt), ended: make(chan *generation), hurry: make(chan struct{})}
}

// run keeps the handler until ctx ends or its file is gone. When it returns
// nothing of the handler is left.
func (s *supervisor) run(ctx context.Context) {
	s.load()
	s.wanted = &want{}
	stopping := ctx.Done()
	for !s.leaving || s.busy() {
		s.begin(ctx)
		timer := s.timer()
		select {
		case <-stopping:
			stopping = nil
			close(s.hurry)
			s.leave(StateDraining)
		case <-s.inbox.news:
			s.readMail()
		case a := <-s.results:
			s.tried(ctx, a)
		case g := <-s.ended:
			s.over(g)
		case <-timer.C:
		}
		timer.Stop()
		s.show()
	}
	s.wg.Wait()
	if s.facts.attached {
		s.cfg.Detach(s.h)
	}
	s.firstOver()
	if ctx.Err() != nil || s.h.stateNow() == StateDraining {
		s.h.set(StateStopped, nil, nil)
	}
	s.answer(s.inbox.read().restarts, errors.New("the handler is being stopped"))
}

// show brings the handler's status up to date, and then has the copies removed
// that it does not name any more.
func (s *supervisor) show() {
	s.h.show(s)
	if s.litter {
		s.litter = false
		s.m.collect()
	}
}

func (s *supervisor) busy() bool {
	return s.current != nil || len(s.draining) > 0 || s.swap != nil || s.revive != nil
}

// load reads what earlier runs of the node have learned of the file's binaries.
func (s *supervisor) load() {
	var err error
	if s.roll, err = loadRollout(s.rollPath()); err != nil {
		s.log.Warn("what was known of earlier binaries is lost, the way back to one too", "error", err)
	}
	s.h.setQuarantined(s.roll.bad)
	s.h.show(s)
}

func (s *supervisor) save() {
	s.h.setQuarantined(s.roll.bad)
	if err := s.roll.save(s.rollPath()); err != nil {
		s.log.Warn("the last good binary and the quarantine could not be noted down", "error", err)
	}
}

func (s *supervisor) rollPath() string { return s.rollPathOf(s.h.File()) }

func (s *supervisor) rollPathOf(file string) string {
	return filepath.Join(s.cfg.StateDir, "rollout", file+".json")
}

// begin starts what is due.
func (s *supervisor) begin(ctx context.Context) {
	if s.leaving {
		return
	}
	s.giveUp()
	// Attach takes a handler once: until it has, one attempt goes after the other.
	alone := s.facts.attached || s.swap == nil && s.revive == nil
	if s.wanted != nil && s.swap == nil && alone && len(s.draining) < maxDraining {
		w := s.wanted
		s.wanted = nil
		s.swap = s.attempt(ctx, &attempt{from: filepath.Join(s.cfg.Dir, s.h.File()), force: w.force, waits: w.waits})
	}
	if s.retry && s.revivable() && !time.Now().Before(s.retryAt) {
		s.retry = false
		s.revive = s.attempt(ctx, &attempt{sum: s.roll.active, force: true})
	}
	if s.stuck && s.current != nil && s.revive == nil && s.swap == nil && len(s.draining) < maxDraining {
		s.stuck = false
		s.log.Warn("calls go on long after their callers gave up; another process takes the place of theirs",
			"calls", s.current.p.stream.abandoned(), "after", s.cfg.StuckAfter)
		s.revive = s.attempt(ctx, &attempt{sum: s.current.sum, force: true, replaces: s.current})
	}
	if s.current != nil && s.roll.passed(time.Now(), s.h.calls.Load()) {
		s.save()
		s.event(EventConfirmed, s.roll.good, "it has stood its probation")
		s.litter = true
		s.show()
	}
}

// revivable tells whether the active binary could be started now.
func (s *supervisor) revivable() bool {
	return s.current == nil && s.revive == nil && (s.facts.attached || s.swap == nil)
}

// timer is when begin may have something to do.
func (s *supervisor) timer() *time.Timer {
	d := time.Hour
	if s.retry && s.revivable() {
		d = time.Until(s.retryAt)
	}
	if s.swap != nil && !s.swap.again && s.wanted != nil {
		d = min(d, time.Until(s.swap.begun.Add(patience)))
	}
	if until, on := s.roll.onProbation(time.Now(), s.h.calls.Load()); on {
		d = min(d, max(time.Until(until), time.Second)) // then for its calls
	}
	return time.NewTimer(max(d, 0))
}

func (s *supervisor) attempt(ctx context.Context, a *attempt) *attempt {
	ctx, a.cancel = context.WithCancel(ctx)
	a.begun, a.roll = time.Now(), s.roll
	a.roll.bad = maps.Clone(s.roll.bad)
	if s.current != nil || s.revive != nil || s.retry {
		a.runs = s.roll.active
	}
	a.attached, a.setup, a.had = s.facts.attached, s.facts.setup, s.h.Description()
	a.name, a.log = s.h.File(), s.log
	a.workDir = filepath.Join(s.cfg.StateDir, "work", a.name)
	s.wg.Go(func() {
		a.run(ctx, s)
		s.results <- a // run reads until no attempt is left
	})
	return a
}

// tried takes what an attempt has come to.
func (s *supervisor) tried(ctx context.Context, a *attempt) {
	swap := a == s.swap
	if swap {
		s.swap = nil
	} else {
		s.revive = nil
	}
	if a.attached {
		s.facts = facts{attached: true, setup: a.setup}
	}
	switch {
	case a.err == nil && (s.leaving || !swap && (a.again || s.current != nil && s.current != a.replaces)):
		s.tend(a.gen)
		s.retireOne(a.gen, 0)
	case a.err == nil:
		s.takeOver(a, swap)
	case s.leaving || ctx.Err() != nil || a.again:
	case errors.Is(a.err, errSame):
		s.h.tried(nil)
		a.err = nil
	case !swap && a.replaces != nil && s.current == a.replaces:
		s.log.Error("the process whose calls don't end could not be replaced", "reason", a.err)
	case !swap && s.current != nil: // another one has taken its place
	case swap:
		s.refuse(a)
	case errors.Is(a.err, errNotPinned):
		s.h.tried(a.err)
		s.h.set(StateRejected, nil, a.err)
		s.log.Error("handler is not started again", "reason", a.err)
		s.event(EventRejected, a.sum, a.err.Error())
	default:
		s.log.Warn("handler could not be started again", "reason", a.err)
		s.died(a.err, time.Now())
	}
	if swap {
		s.answer(a.waits, a.err)
		if s.room && !s.leaving && s.h.mayTryAgain() {
			s.want(&want{})
		}
		s.room = false
	}
	s.decided()
	s.litter = s.litter || a.err != nil
	if s.current != nil || s.revive == nil && !s.retry && s.wanted == nil {
		s.firstOver()
	}
}

func (s *supervisor) firstOver() {
	if s.first != nil {
		s.first()
		s.first = nil
	}
}

func (s *supervisor) answer(waits []chan error, err error) {
	for _, w := range waits {
		w <- err // has room
	}
}

// takeOver lets a generation take the calls from now on. Those that run stay
// with the one before it.
func (s *supervisor) takeOver(a *attempt, swap bool) {
	old := s.current
	s.current, s.retry, s.stuck = a.gen, false, false
	if swap {
		s.policy = s.cfg.policy()
		s.roll.forgive(a.gen.sum)
	}
	before := s.roll.active
	s.roll.activate(time.Now(), a.gen.sum, s.h.calls.Load())
	s.h.activate(a.gen)
	if swap {
		s.h.tried(nil) // now: at each moment the status names the copy that is needed
	}
	s.tend(a.gen)
	s.save()
	if s.revive != nil { // it starts what was active before
		s.revive.again = true
		s.revive.cancel()
	}
	switch {
	case old != nil:
		s.retireOne(old, s.cfg.SwapTimeout)
		s.log.Info("handler was swapped", "dna", a.gen.desc.Name, "pid", a.gen.p.run.pid(), "sha256", a.gen.sum, "before", old.sum)
		text := "it has taken the place of " + short(old.sum)
		if a.replaces != nil {
			text = "another process of it has taken the place of one whose calls did not end"
		}
		s.event(EventSwapped, a.gen.sum, text)
	case before != "" || !swap:
		s.log.Info("handler is up again", "dna", a.gen.desc.Name, "pid", a.gen.p.run.pid(), "sha256", a.gen.sum)
		s.event(EventUp, a.gen.sum, "it is up again")
	default:
		s.log.Info("handler is up", "dna", a.gen.desc.Name, "pid", a.gen.p.run.pid(), "sha256", a.gen.sum)
		s.event(EventUp, a.gen.sum, "it is up")
	}
}

func (s *supervisor) tend(g *generation) {
	s.wg.Go(func() {
		g.tend(s)
		s.ended <- g // run reads until no generation is left
	})
}

// retireOne lets a generation finish its calls, for at most d.
func (s *supervisor) retireOne(g *generation, d time.Duration) {
	s.draining[g] = true
	g.until = time.Now().Add(d)
	g.retire <- d
}

// refuse deals with what lies in the directory and did not start. What ran goes
// on; where nothing does, the last good binary is started.
func (s *supervisor) refuse(a *attempt) {
	reason := a.err
	coming := s.revive != nil || s.retry // the active one
	taken := errors.Is(reason, ErrTaken) // what is good would be no better off
	back := s.current == nil && !coming && !taken && s.roll.good != "" && s.roll.good != a.sum
	// What is active, or is gone back to, is started again by Restart only.
	other := a.sum != "" && a.sum != s.roll.active && a.sum != s.roll.good
	if other && !blameless(reason) && (s.current != nil || coming || back) && s.roll.refused(a.sum) == nil {
		s.roll.reject(time.Now(), a.sum, reason)
		s.save()
	}
	s.h.tried(reason)
	switch {
	case s.current != nil:
		s.log.Error("new binary rejected; the one before it goes on", "sha256", a.sum, "reason", reason)
	case coming:
		s.log.Error("new binary rejected; the one before it is being started again", "sha256", a.sum, "reason", reason)
	case back:
		s.log.Error("binary rejected; the last good one is started", "sha256", a.sum, "reason", reason, "good", s.roll.good)
		s.roll.active = s.roll.good
		s.retry, s.retryAt = true, time.Now()
	default:
		s.h.set(StateRejected, nil, reason)
		s.log.Error("handler rejected", "reason", reason)
	}
	s.event(EventRejected, a.sum, reason.Error())
}

// blameless tells whether a reason is not the binary's fault, so that it may be
// gone the next time: it lies in the operator's settings, in another handler, or
// the machine had nothing left to start a process with.
func blameless(reason error) bool {
	if ready := (*readyError)(nil); errors.As(reason, &ready) && !errors.Is(reason, sdk.HandlerCrashed) {
		return true
	}
	for _, e := range []error{errNotPinned, errNotGranted, errGrantMissing, ErrTaken,
		syscall.EAGAIN, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE, syscall.ENOSPC, syscall.EDQUOT} {
		if errors.Is(reason, e) {
			return true
		}
	}
	return false
}

// over takes note of the end of a generation.
func (s *supervisor) over(g *generation) {
	if s.draining[g] {
		delete(s.draining, g)
		s.litter = true
		return
	}
	s.current = nil
	if s.leaving {
		return
	}
	now := time.Now()
	if back := s.roll.crashed(now, s.h.calls.Load(), g.failure); back != "" {
		s.log.Error("new binary died in its probation; the last good one is started", "sha256", g.sum, "cause", g.failure, "good", back)
		s.event(EventRolledBack, g.sum, s.roll.refused(g.sum).Error())
		s.roll.active, s.policy = back, s.cfg.policy()
		s.h.tried(s.roll.refused(g.sum))
		s.save()
		s.h.set(StateBackoff, nil, g.failure)
		s.retry, s.retryAt = true, now
		return
	}
	s.died(g.failure, g.p.started)
}

// died decides when the active binary is started again, if it is.
func (s *supervisor) died(cause error, started time.Time) {
	now := time.Now()
	delay, failed := s.policy.died(now, started)
	if failed {
		s.h.set(StateFailed, nil, cause)
		s.log.Error("handler died too often and stays down", "times", crashLoopCount, "within", crashLoopSpan, "cause", cause,
			"do", "replace the binary, or parley plugin restart "+s.h.File())
		s.event(EventFailed, s.roll.active, fmt.Sprintf("it died %d times within %s: %v", crashLoopCount, crashLoopSpan, cause))
		return
	}
	s.retry, s.retryAt = true, now.Add(delay)
	s.h.backoff(s.retryAt)
	s.h.set(StateBackoff, nil, cause)
	s.log.Warn("handler died; it is started again", "in", delay, "cause", cause)
	s.event(EventDied, s.roll.active, cause.Error())
}

func (s *supervisor) readMail() {
	m := s.inbox.read()
	for _, from := range m.renamed {
		s.renamed(from)
	}
	if m.stuck != nil && m.stuck == s.current {
		s.stuck = true
	}
	if s.leaving {
		s.answer(m.restarts, errors.New("the handler is being stopped"))
		return
	}
	switch {
	case m.gone:
		s.answer(m.restarts, errors.New("its file is gone from the plugin directory"))
		s.log.Info("handler's file is gone; its calls may finish", "for", s.cfg.SwapTimeout)
		s.event(EventRemoved, s.roll.active, "its file is gone from the plugin directory")
		s.leave(StateDraining)
		if err := os.Remove(s.rollPath()); err != nil && !errors.Is(err, os.ErrNotExist) {
			s.log.Warn("what was known of its binaries stays", "error", err)
		}
	case len(m.restarts) > 0:
		s.restart(m.restarts)
	case m.changed, m.again && s.h.mayTryAgain():
		s.want(&want{})
	case m.again:
		s.room = s.swap != nil
	}
}

// renamed takes what is known of the file's binaries along.
func (s *supervisor) renamed(from string) {
	s.log = s.cfg.Log.With("handler", s.h.File())
	s.save()
	_ = os.Remove(s.rollPathOf(from))
}

// restart starts what lies in the directory anew, whatever is held against it.
func (s *supervisor) restart(waits []chan error) {
	s.roll.bad = nil
	s.policy = s.cfg.policy()
	s.save()
	s.want(&want{force: true, waits: waits})
}

// want has the file in the directory tried, after a try that is under way.
func (s *supervisor) want(w *want) {
	if s.wanted != nil {
		w.force, w.waits = w.force || s.wanted.force, append(w.waits, s.wanted.waits...)
	}
	s.wanted = w
}

// giveUp ends a try that takes long where there is something newer: it may hang.
// One that does not is let finish, or files that come fast would never run.
func (s *supervisor) giveUp() {
	if a := s.swap; a != nil && !a.again && s.wanted != nil && time.Since(a.begun) >= patience {
		s.wanted.force, s.wanted.waits = s.wanted.force || a.force, append(s.wanted.waits, a.waits...)
		a.again, a.waits = true, nil
		a.cancel()
	}
}

// leave ends everything, in order: no new calls, no new processes, and those
// that run have their time.
func (s *supervisor) leave(state State) {
	if s.leaving {
		return
	}
	s.leaving, s.retry = true, false
	if s.wanted != nil {
		s.answer(s.wanted.waits, errors.New("the handler is being stopped"))
		s.wanted = nil
	}
	if s.current != nil || s.facts.attached {
		s.h.set(state, nil, nil) // from now on nobody takes hold of the process
	}
	if s.current != nil {
		s.retireOne(s.current, s.cfg.SwapTimeout)
		s.current = nil
	}
	for _, a := range []*attempt{s.swap, s.revive} {
		if a != nil {
			a.cancel()
		}
	}
}

func (s *supervisor) tooSlow() error {
	return fmt.Errorf("it was not ready within %s (setting handler-start-timeout)", s.cfg.StartTimeout)
}

func short(sum string) string { return sum[:min(len(sum), 12)] }
