package transport

import (
	"sync"
	"time"
)

// How long an idle connection lasts is learned: something on the way may forget it, and
// nobody says after what time. A few sessions for the DHT alone are quiet for longer than
// all others. Where they live through it, the others may be too; where those that are
// quiet as long as is allowed die of it, one after the other, they no longer are.

const (
	// underFour is less than the 4 minutes after which common load balancers and the
	// strictest home routers forget an idle connection (docs/decisions/0114).
	underFour = 220 * time.Second
	// lastingProof is how many sessions show what idle connections survive. Few peers vanish
	// just then: some 3 in 100 within a beat where sessions last 2 h.
	lastingProof = 3
	// lastingTrials is how many sessions are on trial at once.
	lastingTrials = 4
	// lastingRetry is how long after failed trials there are none.
	lastingRetry = time.Hour
	// lastingMost is the highest level, that of BackgroundPingAfter.
	lastingMost = 2
)

// lasting is what an endpoint has learned of idle connections.
type lasting struct {
	mu     sync.Mutex // guards what follows
	level  int        // what idle connections survive: see Times.beat
	lived  int        // sessions on trial that have survived the next level, less those that have not
	failed int        // those that have not, in a row
	died   int        // sessions that have not survived the level itself, less those that have
	until  int64      // no trial before it
	trials int        // sessions on trial
	least  int        // the highest level that sessions on trial have survived
	over   int        // the lowest that sessions have died of, whether or not the node can be dialled; 0: none
}

// beat is how often this side sends on a quiet session for the DHT alone.
func (t *Times) beat(level int) time.Duration {
	switch level {
	case 0:
		return t.QuietPingAfter
	case 1:
		return min(max(underFour, t.QuietPingAfter), t.BackgroundPingAfter)
	}
	return t.BackgroundPingAfter
}

// dialable sets what to assume where nothing was learned: who can be dialled sits
// behind nothing that forgets, and who cannot does. What sessions have survived, or died
// of, stands: who can be dialled for a while only, as with a new address, has the router that he had.
func (l *lasting) dialable(yes bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case !yes:
		l.becomeLocked(l.least)
	case l.over > 0:
		l.becomeLocked(l.over - 1)
	default:
		l.becomeLocked(lastingMost)
	}
}

func (l *lasting) becomeLocked(level int) { l.level, l.lived, l.failed, l.died = level, 0, 0, 0 }

// roseLocked notes that sessions on trial have survived the next level.
func (l *lasting) roseLocked() {
	l.least = l.level + 1
	if l.over <= l.least {
		l.over = 0
	}
}

// fellLocked notes that sessions have died of a level. There is no trial for a while.
func (l *lasting) fellLocked(level int, now int64) {
	l.over, l.least = level, min(l.least, level-1)
	l.until = now + int64(lastingRetry)
}

// of is the level of a session.
func (l *lasting) of(trial bool) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if trial {
		return min(l.level+1, lastingMost)
	}
	return l.level
}

// take has one more session be on trial; false if there are enough.
func (l *lasting) take(now int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.level == lastingMost || l.trials == lastingTrials || now < l.until {
		return false
	}
	l.trials++
	return true
}

func (l *lasting) give() {
	l.mu.Lock()
	l.trials--
	l.mu.Unlock()
}

// survived notes that a session was idle for a time, and answered then.
func (l *lasting) survived(t *Times, idle time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.level < lastingMost && idle >= t.beat(l.level+1)/10*9 {
		l.failed = 0
		if l.lived++; l.lived == lastingProof {
			l.roseLocked()
			l.becomeLocked(l.level + 1)
		}
	} else if idle >= t.beat(l.level)/10*9 {
		l.died = max(0, l.died-1)
	}
}

// ended notes that a session was idle for a time, and dead then. Only one on trial says anything of the
// next level: another one that was idle for so long was so by the rule of a dialable node, and could have died
// of less, or of more, or with the address that the node had.
func (l *lasting) ended(t *Times, now int64, idle time.Duration, trial bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch beat := t.beat(l.level); {
	case idle < beat/10*9:
	case idle > beat/2*3 && !trial:
	case idle > beat/2*3:
		l.lived = max(0, l.lived-1)
		if l.failed++; l.failed >= lastingProof {
			l.lived, l.failed = 0, 0
			l.fellLocked(l.level+1, now)
		}
	default:
		if l.died++; l.died >= lastingProof && l.level > 0 {
			l.fellLocked(l.level, now)
			l.becomeLocked(l.level - 1)
		}
	}
}

// trialLocked puts the session on trial, or ends that. Each has one, so that those which
// are never idle for long hold no place.
func (s *Session) trialLocked(now int64) {
	l := &s.live
	fit := l.spoke == 0 && !l.heir && l.quiet != 0 && s.err == nil && !s.drain.on
	switch {
	case l.trial == 0 && fit && !l.tried && s.ep.lasting.take(now):
		l.trial, l.tried = now, true
	case l.trial != 0 && (!fit || now-l.trial > 2*int64(s.ep.cfg.BackgroundPingAfter)):
		l.trial = 0
		s.ep.lasting.give()
	}
}

// failLocked notes what the session's end says of idle connections. A goodbye says nothing.
func (s *Session) failLocked() {
	l := &s.live
	if l.pinged != 0 && l.idle != 0 && !s.drain.on && s.stats.bytesIn.Load() == l.before {
		s.ep.lasting.ended(&s.ep.cfg.Times, s.ep.clock(), time.Duration(l.idle), l.trial != 0)
	}
	if l.trial != 0 {
		l.trial = 0
		s.ep.lasting.give()
	}
}
