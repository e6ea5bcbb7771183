package plugin

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// This file is what a supervisor makes of the ends of attempts and processes.

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

func short(sum string) string { return sum[:min(len(sum), 12)] }
