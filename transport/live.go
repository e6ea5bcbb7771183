package transport

import (
	"fmt"
	"net/netip"
	"time"
)

// condition is what a tick knows of a session; all times are in ns of one clock.
type condition struct {
	now, heard, sent, writing int64 // writing: when the write under way began, 0 = none
	opened, drained           int64 // drained: since when it drains, 0 = it does not
	moved                     int64 // when a part of a body last went either way
	unused                    bool  // it drains because it is not used, and nothing is in flight
	bytes                     uint64
	initiator                 bool
	tried                     int64 // when the last renewal was tried, 0 = never
	busy                      int64 // since when it is not quiet, 0 = it is
	quiet                     int64 // how often the peer sends when it is; 0 = it is never quiet
	late                      bool  // this side has not looked when it should have
}

const (
	// keepsBusy is how long a message keeps a session busy. Each side says for
	// itself whether one is: who does has his pings answered by who does not.
	keepsBusy = 2 * time.Minute
	// wakeAfter is how long a peer may be silent on a session that was quiet, when
	// something is sent over it again. Both ping then, and have ticks of a second.
	wakeAfter = 5 * time.Second
	// maxQuiet bounds QuietPingAfter, and what is believed of the peer's.
	maxQuiet = 5 * time.Minute
)

// liveness is what a tick remembers of a session. Session.mu guards it.
type liveness struct {
	messages uint64 // usage.messages at the last tick
	message  int64  // when they last grew; 0 = never
	busy     int64  // since when the session is not quiet, 0 = it is
	quiet    int64  // see condition; static
}

// look notes whether the session is quiet at now: nothing in flight in either
// direction, and no message for keepsBusy. asked tells that somebody wanted to know
// whether the peer is there, which counts as a message.
func (l *liveness) look(now int64, messages uint64, inFlight, asked bool) {
	if asked {
		l.message = now
	}
	if messages != l.messages {
		l.messages, l.message = messages, now
	}
	switch {
	case !inFlight && l.quiet != 0 && (l.message == 0 || now-l.message > int64(keepsBusy)):
		l.busy = 0
	case l.busy == 0:
		l.busy = now
	}
}

// duty is what a session needs at a tick.
type duty uint8

const (
	dutyNone duty = iota
	dutyPing
	dutyRenew
	dutyDead      // nothing was heard, or a write has stalled
	dutyDrainOver // the goodbye takes too long
)

// renewRetry is the time between tries to renew.
const renewRetry = 10 * time.Second

// dead tells whether the peer was silent for too long. Whoever was late himself first
// reads what has come meanwhile.
func (c condition) dead(t *Times) bool {
	silent := c.now - c.heard
	limit := int64(t.DeadAfter)
	if c.busy == 0 {
		limit = c.quiet * 5 / 2
	} else if c.now-c.busy <= int64(wakeAfter) {
		limit = max(limit, c.quiet*5/2)
	}
	return silent > limit && (!c.late || silent > 2*limit)
}

// pings tells whether a ping is due: where nothing was sent for long, and where a
// session wakes whose peer was not heard for as long.
func (c condition) pings(t *Times) bool {
	if c.busy == 0 {
		after := int64(t.QuietPingAfter)
		if c.initiator { // before the other side, whose pong then does for its ping
			after -= after / 10
		}
		return c.now-c.sent > after
	}
	return c.now-c.sent > int64(t.PingAfter) || c.busy == c.now && c.now-c.heard > int64(t.PingAfter)
}

// duty decides. Both sides send at least every PingAfter, so that silence for
// DeadAfter means that two of the peer's in a row are missing; on a quiet session
// the peer has said how often it sends. The side that
// dialled renews; the other side knows no address, and only does it (by a
// go-away) when twice the limit has passed.
func (c condition) duty(t *Times) duty {
	age := c.now - c.opened
	over := uint64(1)
	if !c.initiator {
		over = 2
	}
	switch {
	case c.dead(t), c.writing != 0 && c.now-c.writing > int64(t.DeadAfter):
		return dutyDead
	case c.drained != 0 && c.now-max(c.drained, c.moved) > int64(t.DrainTimeout),
		c.unused && c.now-max(c.drained, c.moved) > int64(t.CloseTimeout):
		return dutyDrainOver
	case c.drained == 0 && (age > int64(over)*int64(t.RenewAfter) || c.bytes/over >= t.RenewBytes) &&
		(c.tried == 0 || c.now-c.tried > int64(renewRetry)):
		return dutyRenew
	case c.pings(t):
		return dutyPing
	}
	return dutyNone
}

// tick does what is due. late tells that the last tick was long ago.
func (s *Session) tick(now time.Time, late bool) {
	s.mu.Lock()
	c := condition{now: int64(now.Sub(s.ep.start)) + 1, initiator: s.initiator, late: late,
		opened: int64(s.opened.Sub(s.ep.start)) + 1, tried: s.stats.renewed.Load(),
		heard: s.stats.heard.Load(), sent: s.stats.sent.Load(), writing: s.stats.writing.Load(), moved: s.stats.moved.Load(),
		bytes: s.stats.bytesIn.Load() + s.stats.bytesOut.Load()}
	s.live.look(c.now, s.use.messages, s.calls.inFlight > 0 || s.calls.waiting.head != nil || s.serve.slots > 0 || s.drain.on || s.pings.awaited(), s.asked.Swap(false))
	c.busy, c.quiet = s.live.busy, s.live.quiet
	if s.drain.on {
		c.drained = int64(s.drain.since.Sub(s.ep.start)) + 1
		c.unused = s.drain.reason == reasonUnused && s.calls.inFlight == 0 && s.serve.slots == 0 &&
			s.out.empty() && !s.tx.busy // the last reply may be on its way
	}
	reason, stalled := s.drain.reason, s.stalledLocked()
	s.mu.Unlock()
	switch d := c.duty(&s.ep.cfg.Times); {
	case d == dutyDead:
		s.fail(fmt.Errorf("%w for %s", ErrPeerDead, time.Duration(c.now-c.heard).Round(time.Second)))
	case d == dutyDrainOver:
		s.fail(fmt.Errorf("%w, and has not finished within %s (setting DrainTimeout)", s.farewell(reason), s.ep.cfg.DrainTimeout))
	case stalled:
		s.fail(fmt.Errorf("%w: a message has stopped in its middle", ErrProtocol))
	case d == dutyRenew && !s.initiator:
		s.startDrain(reasonLimit)
	case d == dutyRenew:
		s.stats.renewed.Store(c.now)
		s.ep.renew(s)
	case d == dutyPing:
		s.heartbeat()
	}
}

// stallTimeout is how long an incoming message may not grow, on a session that
// is alive. Senders serve their large messages in turn, so that even a
// thousand of them on a slow line each grow more often.
const stallTimeout = 5 * time.Minute

func (s *Session) stalledLocked() bool {
	for _, in := range s.serve.byID {
		if !in.complete && s.ep.clock()-in.grew > int64(stallTimeout) {
			return true
		}
	}
	return false
}

// renew replaces s by a session with fresh keys over a new connection to the
// same address.
func (e *Endpoint) renew(s *Session) {
	e.mu.Lock()
	if e.stopping {
		e.mu.Unlock()
		return
	}
	e.wg.Add(1)
	e.mu.Unlock()
	go func() {
		defer e.wg.Done()
		next, err := e.connect(e.life, s.peer, &dialing{addrs: []netip.AddrPort{s.addr}}, s)
		if err != nil {
			e.cfg.Log.Warn("a session could not be renewed", "peer", s.peer, "addr", s.addr, "error", err)
			return
		}
		next.run(nil)
	}()
}

// goodbye ends what we have asked for and begins the drain, as Run ends.
func (s *Session) goodbye() {
	s.mu.Lock()
	if s.err == nil {
		for id, c := range s.calls.byID {
			if c.gone {
				continue
			}
			s.out.drop(&c.msg)
			s.out.push(&outMsg{typ: typeCancel, id: id, code: uint8(Canceled)})
			c.gone = true
			s.calls.finish(c, nil, &RequestError{Code: Lost, Sent: true, Err: ErrClosed})
		}
		s.dropUnstartedLocked()
	}
	s.drainLocked(reasonShutdown)
	s.settleLocked()
	s.unlockAndTell()
	s.wake()
}

// dropUnstartedLocked ends the calls in the queue that have not begun.
func (s *Session) dropUnstartedLocked() {
	var calls []*call
	for _, l := range []*list{&s.out.fast, &s.out.bulk} {
		for m := l.head; m != nil; m = m.next {
			if m.opens() && !m.started {
				calls = append(calls, m.call)
			}
		}
	}
	for _, c := range calls {
		s.out.drop(&c.msg)
		s.calls.inFlight--
		s.calls.finish(c, nil, &RequestError{Code: Lost, Err: ErrClosed})
	}
}
