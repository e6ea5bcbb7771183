package plugin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// supervisor keeps one handler's process running. Its fields belong to the
// goroutine of run.
type supervisor struct {
	h       *Handler
	cfg     *Config
	log     *slog.Logger
	spawn   *spawner
	sockets string        // directory
	starts  chan struct{} // bounds the starts of all handlers at once

	staged   string // path of the copy
	setup    sdk.Setup
	attached bool
	policy   *restartPolicy
}

// run starts the handler and keeps it until ctx ends; then it drains and stops
// it. first is called when the first start has come to an end. When run
// returns nothing of the handler is left.
func (s *supervisor) run(ctx context.Context, first func()) {
	p, err := s.begin(ctx)
	if err != nil {
		s.reject(ctx, err)
		first()
		return
	}
	s.log.Info("handler is up", "dna", s.h.Description().Name, "pid", p.run.pid())
	first()
	for p != nil {
		p = s.watch(ctx, p)
	}
	s.cfg.Detach(s.h)
	if ctx.Err() != nil {
		s.h.set(StateStopped, nil, nil)
	}
}

// begin is the first start: stage, start, describe, attach, set up.
func (s *supervisor) begin(ctx context.Context) (*process, error) {
	if err := s.slot(ctx); err != nil {
		return nil, err
	}
	defer func() { <-s.starts }()
	staged, sum, err := stage(filepath.Join(s.cfg.StateDir, "plugins"), filepath.Join(s.cfg.Dir, s.h.file))
	if err != nil {
		return nil, err
	}
	s.staged = staged
	s.h.mu.Lock()
	s.h.sum = sum
	s.h.mu.Unlock()
	return s.start(ctx)
}

// slot waits for the permission to start a process.
func (s *supervisor) slot(ctx context.Context) error {
	select {
	case s.starts <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// start starts a process and makes it the one that takes calls.
func (s *supervisor) start(ctx context.Context) (*process, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.cfg.StartTimeout, s.tooSlow())
	defer cancel()
	work := filepath.Join(s.cfg.StateDir, "work", s.h.file)
	if err := os.MkdirAll(work, 0o700); err != nil {
		return nil, fmt.Errorf("working directory: %w", err)
	}
	p, err := start(ctx, launch{path: s.staged, name: s.h.file, workDir: work, socketDir: s.sockets, env: s.cfg.Env,
		maxPayload: s.cfg.MaxPayload, timeout: s.cfg.StartTimeout, probeEvery: s.cfg.probeEvery, spawn: s.spawn, confine: s.cfg.confine, out: newOutputs(s.log)})
	if err != nil {
		return nil, err
	}
	if err := s.introduce(ctx, p); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		p.kill(err)
		return nil, err
	}
	s.h.set(StateRunning, p, nil)
	return p, nil
}

func (s *supervisor) tooSlow() error {
	return fmt.Errorf("it was not ready within %s (setting handler-start-timeout)", s.cfg.StartTimeout)
}

// introduce asks the process what it is, the node what to do with it, and
// tells the process.
func (s *supervisor) introduce(ctx context.Context, p *process) error {
	d, err := p.pb.Describe(ctx)
	if err != nil {
		return err
	}
	if err := s.cfg.confine.covers(s.h.file, d.Needs); err != nil {
		return err
	}
	if s.attached {
		if had := s.h.Description(); !reflect.DeepEqual(had, d) {
			return fmt.Errorf("it describes itself otherwise than before: %+v, not %+v", d, had)
		}
		return p.pb.Setup(ctx, s.setup)
	}
	s.h.describe(d)
	setup, err := s.cfg.Attach(ctx, s.h, d)
	if err != nil {
		return fmt.Errorf("the node does not take it: %w", err)
	}
	s.setup, s.attached = setup, true
	return p.pb.Setup(ctx, setup)
}

// reject notes why the handler does not run. An attached one is detached.
func (s *supervisor) reject(ctx context.Context, err error) {
	// The state first: calls that come meanwhile fail at once.
	if ctx.Err() != nil {
		s.h.set(StateStopped, nil, nil)
	} else {
		s.h.set(StateRejected, nil, err)
		s.log.Error("handler rejected", "reason", err)
	}
	if s.attached {
		s.cfg.Detach(s.h)
	}
}

// watch waits for the end of p or of ctx and gives the process that follows:
// nil where none does.
func (s *supervisor) watch(ctx context.Context, p *process) *process {
	select {
	case <-ctx.Done():
		s.drain(p)
		return nil
	case <-p.run.exited:
	case <-p.ctx.Done():
	}
	s.h.retire(p)
	p.kill(errors.New("the process has ended"))
	cause := p.run.why()
	for {
		delay, failed := s.policy.died(time.Now(), p.started)
		if failed {
			s.h.set(StateFailed, nil, cause)
			s.log.Error("handler died too often and stays down", "times", crashLoopCount, "within", crashLoopSpan, "cause", cause)
			<-ctx.Done()
			return nil
		}
		s.backoff(delay, cause)
		next, err := s.again(ctx, delay)
		if err == nil {
			s.log.Info("handler is up again", "pid", next.run.pid())
			return next
		}
		if ctx.Err() != nil {
			return nil
		}
		cause, p = err, &process{started: time.Now()}
	}
}

func (s *supervisor) backoff(delay time.Duration, cause error) {
	s.h.mu.Lock()
	s.h.restarts++
	s.h.nextStart = time.Now().Add(delay)
	s.h.mu.Unlock()
	s.h.set(StateBackoff, nil, cause)
	s.log.Warn("handler died; it is started again", "in", delay, "cause", cause)
}

// again waits for delay and starts the handler once more.
func (s *supervisor) again(ctx context.Context, delay time.Duration) (*process, error) {
	t := time.NewTimer(delay)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if err := s.slot(ctx); err != nil {
		return nil, err
	}
	defer func() { <-s.starts }()
	return s.start(ctx)
}

// drain lets the running calls finish, for DrainTimeout at most, and ends the
// process.
func (s *supervisor) drain(p *process) {
	s.h.set(StateDraining, nil, nil) // from now on nobody takes hold of p
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.DrainTimeout)
	defer cancel()
	if err := p.pb.Drain(ctx); err != nil {
		s.log.Debug("the handler did not take the drain", "error", err)
	}
	select {
	case <-p.calls.drained():
	case <-p.run.exited:
	case <-ctx.Done():
		running, _ := p.calls.load()
		s.log.Warn("calls still run at the end of the drain and are cut off", "calls", running, "after", s.cfg.DrainTimeout)
	}
	p.kill(errors.New("the node is stopping"))
	<-p.calls.drained() // calls that were cut off see it at once
}
