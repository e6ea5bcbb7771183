package plugin

import (
	"errors"
	"os"
	"sync"
	"time"
)

// inbox holds what a supervisor is told until it has time to read it. What is
// told twice counts once, but for those who wait for an answer.
type inbox struct {
	news chan struct{} // holds one while there is something to read

	mu   sync.Mutex
	mail mail
}

// mail is what a supervisor is told.
type mail struct {
	changed  bool        // the file in the directory
	gone     bool        // the file, for good
	stuck    *generation // has calls that don't end
	again    bool        // another handler has made room: a rejected file may be taken now
	renamed  []string    // the file, which had these names, in order
	restarts []chan error
}

func newInbox() *inbox { return &inbox{news: make(chan struct{}, 1)} }

func (b *inbox) tell(f func(*mail)) {
	b.mu.Lock()
	f(&b.mail)
	b.mu.Unlock()
	select {
	case b.news <- struct{}{}:
	default:
	}
}

func (b *inbox) read() mail {
	b.mu.Lock()
	defer b.mu.Unlock()
	m := b.mail
	b.mail = mail{}
	return m
}

// readMail does what the supervisor was told to do.
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
