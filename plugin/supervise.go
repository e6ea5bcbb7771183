package plugin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"sync"
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

func (s *supervisor) tooSlow() error {
	return fmt.Errorf("it was not ready within %s (setting handler-start-timeout)", s.cfg.StartTimeout)
}
