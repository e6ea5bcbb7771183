package transport

import (
	"fmt"
	"net/netip"
	"time"
)

// condition is what a tick knows of a session; all times are in ns of one clock.
// What this side slept through counts for nothing in heard, writing, busy, talking and pinged.
type condition struct {
	now, heard, sent, writing int64 // writing: when the write under way began, 0 = none
	opened, drained           int64 // drained: since when it drains, 0 = it does not
	moved                     int64 // when a part of a body last went either way
	unused                    bool  // it drains because it is not used, and nothing is in flight
	bytes                     uint64
	initiator                 bool
	tried                     int64 // when the last renewal was tried, 0 = never
	busy                      int64 // since when it is not quiet, 0 = it is
	talking                   int64 // when the first message since then passed, 0 = none has
	every                     int64 // how often this side sends when it is quiet
	quiet                     int64 // how often the peer does; 0 = it is never quiet
	pinged                    int64 // since when a ping of ours is followed by nothing, 0 = none is
	spoke                     int64 // when its first message passed, 0 = none has
	heir                      bool  // one passed on a session that it has taken the place of
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

// dead tells whether the peer was silent for too long. Where it is quiet, or has
// just woken, silence says nothing but after a ping.
func (c condition) dead(t *Times) bool {
	long := int64(t.DeadAfter)
	awake := c.busy != 0 && (c.now-c.busy > long || c.talking != 0 && c.now-c.talking > int64(wakeAfter))
	return awake && c.now-c.heard > long || c.pinged != 0 && c.now-c.pinged > long
}

// pings tells whether a ping is due: where nothing was sent for long, where a quiet
// peer is overdue, and where a session wakes whose peer was not heard for PingAfter.
func (c condition) pings(t *Times) bool {
	if c.busy == 0 {
		after := c.every
		if c.initiator { // before the other side, whose pong then does for its ping
			after -= min(after/10, int64(beatsFirst))
		}
		overdue := max(c.quiet/4*5, int64(t.PingAfter))
		return c.now-c.sent > after || c.pinged == 0 && c.now-c.heard > overdue
	}
	return c.now-c.sent > int64(t.PingAfter) || c.busy == c.now && c.now-c.heard > int64(t.PingAfter)
}

// old tells whether the session is to be renewed. The side that dialled does; the
// other side knows no address, and only ends it when that should long have happened.
// It goes by what this session itself has carried: it can't tell a renewal from the
// first dial of a peer that has restarted, and for which the session is not old then.
func (c condition) old(t *Times) bool {
	after, age := int64(t.RenewAfter), c.now-c.opened
	if c.spoke == 0 && !(c.initiator && c.heir) {
		after = int64(t.RenewBackgroundAfter)
	}
	if c.initiator {
		return age > after || c.bytes >= t.RenewBytes
	}
	return age > 2*after && (c.spoke == 0 || c.now-c.spoke > after) || c.bytes/2 >= t.RenewBytes
}

// duty decides. On a busy session both sides send at least every PingAfter, so that
// silence for DeadAfter means that two of the peer's in a row are missing.
func (c condition) duty(t *Times) duty {
	switch {
	case c.dead(t), c.writing != 0 && c.now-c.writing > int64(t.DeadAfter):
		return dutyDead
	case c.drained != 0 && c.now-max(c.drained, c.moved) > int64(t.DrainTimeout),
		c.unused && c.now-max(c.drained, c.moved) > int64(t.CloseTimeout):
		return dutyDrainOver
	case c.drained == 0 && c.old(t) && (c.tried == 0 || c.now-c.tried > int64(renewRetry)):
		return dutyRenew
	case c.pings(t):
		return dutyPing
	}
	return dutyNone
}

// tick does what is due. slept is for how long this side has not looked, in ns,
// where it should have.
func (s *Session) tick(now time.Time, slept int64) {
	s.mu.Lock()
	c := condition{now: int64(now.Sub(s.ep.start)) + 1, initiator: s.initiator,
		opened: int64(s.opened.Sub(s.ep.start)) + 1, tried: s.stats.renewed.Load(),
		sent: s.stats.sent.Load(), moved: s.stats.moved.Load()}
	l, in, heard := &s.live, s.stats.bytesIn.Load(), s.stats.heard.Load()
	c.bytes = in + s.stats.bytesOut.Load()
	if survived := l.hears(c.now, slept, heard, s.stats.writing.Load(), in); survived > 0 {
		s.ep.lasting.survived(&s.ep.cfg.Times, time.Duration(survived))
	}
	l.look(c.now, s.use.messages, s.calls.inFlight > 0 || s.calls.waiting.head != nil || s.serve.slots > 0 || s.drain.on || s.pings.awaited(), s.asked.Swap(false))
	s.trialLocked(c.now)
	c.heard, c.writing = l.heard.put(), l.writing.put()
	c.busy, c.talking, c.quiet, c.pinged, c.spoke, c.heir, c.every = l.busy, l.talking, l.quiet, l.pinged, l.spoke, l.heir, int64(s.beatLocked())
	if s.drain.on {
		c.drained = int64(s.drain.since.Sub(s.ep.start)) + 1
		c.unused = s.drain.reason == reasonUnused && s.calls.inFlight == 0 && s.serve.slots == 0 &&
			s.out.empty() && !s.tx.busy // the last reply may be on its way
	}
	reason, stalled := s.drain.reason, s.stalledLocked()
	s.mu.Unlock()
	switch d := c.duty(&s.ep.cfg.Times); {
	case d == dutyDead:
		s.fail(fmt.Errorf("%w for %s", ErrPeerDead, time.Duration(c.now-heard).Round(time.Second)))
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
		s.heartbeat(c.now)
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
