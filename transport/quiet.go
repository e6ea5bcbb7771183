package transport

import "time"

const (
	// keepsBusy is how long a message keeps a session busy. Each side says for
	// itself whether one is: who does has his pings answered by who does not.
	keepsBusy = 2 * time.Minute
	// wakeAfter is how long a peer may be silent on a session that was quiet, when
	// a message is sent over it. Other requests have DeadAfter, as they may be of
	// no use to anybody any more. Both sides ping then, and have ticks of a second.
	wakeAfter = 5 * time.Second
	// beatsFirst is how much earlier than the other side the initiator pings at most.
	beatsFirst = 10 * time.Second
	// maxQuiet bounds QuietPingAfter and BackgroundPingAfter, and what is believed of the peer's.
	maxQuiet = 15 * time.Minute
)

// liveness is what the ticks remember of a session. Session.mu guards it.
type liveness struct {
	messages uint64 // usage.messages at the last tick
	message  int64  // when they last grew; 0 = never
	spoke    int64  // when they first did; 0 = never
	heir     bool   // an older session of the peer that this one takes the place of had spoken
	busy     int64  // since when the session is not quiet, 0 = it is
	talking  int64  // see condition, as the next
	pinged   int64
	before   uint64 // how many bytes had come when that ping was queued
	idle     int64  // for how long nothing had come by then; 0 = it is not known: this side slept, or has not looked yet
	trial    int64  // since when it is on trial (lasting.go), 0 = it is not
	tried    bool   // it is or was
	quiet    int64  // see condition; static
	heard    seen
	writing  seen
}

// seen is a time that others write down, put off by what this side slept through since.
type seen struct{ at, slept int64 }

func (s *seen) look(now, at, slept int64) {
	if at != s.at {
		*s = seen{at: at}
	}
	if at != 0 && slept > 0 {
		s.slept = min(s.slept+slept, max(now-at, 0))
	}
}

func (s *seen) put() int64 { return s.at + s.slept }

// pings notes that a ping is queued at now, when in bytes have come.
func (l *liveness) pings(now int64, in uint64) {
	if l.pinged == 0 {
		l.pinged, l.before, l.idle = now, in, 0
		if l.heard.at != 0 && l.heard.slept == 0 {
			l.idle = now - l.heard.at
		}
	}
}

// hears takes note of when the peer was heard and the write under way began, and of
// how many bytes have come. slept is for how long this side has not looked before now: it
// puts off every judgement of the peer, so that first is read what has come meanwhile.
// survived is for how long nothing had come before a ping that is answered now, 0 if none is.
func (l *liveness) hears(now, slept, heard, writing int64, in uint64) (survived int64) {
	if in != l.before {
		if l.pinged != 0 {
			survived = l.idle
		}
		l.pinged = 0
	}
	l.heard.look(now, heard, slept)
	l.writing.look(now, writing, slept)
	for _, t := range []*int64{&l.busy, &l.talking, &l.pinged} {
		if *t != 0 {
			*t = min(*t+slept, now)
		}
	}
	return survived
}

// look notes whether the session is quiet at now: nothing in flight in either
// direction, and no message for keepsBusy. asked tells that somebody wanted to know
// whether the peer is there, which counts as a message, but does not make the
// session one that has carried any.
func (l *liveness) look(now int64, messages uint64, inFlight, asked bool) {
	if asked {
		l.message = now
	}
	if messages != l.messages {
		l.messages, l.message = messages, now
		if l.spoke == 0 {
			l.spoke = now
		}
		if l.talking == 0 {
			l.talking = now
		}
	}
	switch {
	case !inFlight && l.quiet != 0 && (l.message == 0 || now-l.message > int64(keepsBusy)):
		l.busy, l.talking = 0, 0
	case l.busy == 0:
		l.busy = now
	}
}

// inherit takes over what an older session of the peer was that had carried so
// many messages. The peer may know nothing of that session: it may have restarted.
func (l *liveness) inherit(old *liveness, messages uint64) {
	l.message = max(l.message, old.message)
	l.heir = l.heir || old.heir || old.spoke != 0 || messages > 0
}

// Dialable says whether this node is known to be reachable from outside; at first
// it is not. Who is not sits behind something that may forget idle connections,
// and has all quiet sessions beat every QuietPingAfter until it has learned what they survive.
func (e *Endpoint) Dialable(yes bool) {
	if e.dialable.Swap(yes) != yes {
		e.lasting.dialable(yes)
	}
}

// announced is the longest that this side sends nothing on a quiet session.
func (c *Config) announced() time.Duration {
	if c.Background == 0 {
		return c.QuietPingAfter
	}
	return c.BackgroundPingAfter
}

// beatLocked is how often this side sends on the session when it is quiet.
func (s *Session) beatLocked() time.Duration {
	t := &s.ep.cfg.Times
	if s.live.spoke != 0 || s.live.heir {
		return t.QuietPingAfter
	}
	return t.beat(s.ep.lasting.of(s.live.trial != 0))
}
