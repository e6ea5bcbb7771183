package dht

import (
	"testing"
	"time"
)

func TestDialTimes(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for _, c := range []struct {
		name  string
		times []time.Duration // again and again
		n     int
		least time.Duration
		most  time.Duration
	}{
		{"nothing is known", nil, 0, firstTimeout, firstTimeout},
		{"one answer is no sample", []time.Duration{100 * ms}, 1, firstTimeout, firstTimeout},
		{"usual", []time.Duration{150 * ms, 250 * ms}, 40, leastWait, leastWait},
		{"who answers at once shortens nothing below the least", []time.Duration{0}, 1000, leastWait, leastWait},
		{"who answers late lengthens nothing beyond a call's time", []time.Duration{time.Hour}, 1000, firstTimeout, firstTimeout},
		{"a far network", []time.Duration{800 * ms, 900 * ms}, 200, 1000 * ms, 1200 * ms},
		{"no clock goes back", []time.Duration{-time.Hour, 100 * ms}, 100, leastWait, leastWait},
		{"late ones are forgotten", append(make([]time.Duration, 99), time.Hour), 199, leastWait, leastWait},
	} {
		var d dialTimes
		for i := range c.n {
			d.took(c.times[i%len(c.times)])
		}
		if w := d.wait(); w < c.least || w > c.most {
			t.Errorf("%s: waits %s, want %s to %s", c.name, w, c.least, c.most)
		}
	}
}

// A strict lookup lets go of a node that it had to dial and that is silent, when three
// others agree, and of nobody else.
func TestLookupLetsGo(t *testing.T) {
	t.Parallel()
	rec, newer := testRecord(t, 1, 5, epoch), testRecord(t, 1, 6, epoch)
	const wait = 600 * time.Millisecond // of calls that take 1 s
	for _, c := range []struct {
		name    string
		holders int  // of those that answer
		known   bool // the silent one is a contact
		late    *Record
		done    bool // after wait
	}{
		{name: "three agree", holders: 3, done: true},
		{name: "two agree", holders: 2},
		{name: "nobody has it", holders: 0},
		{name: "a contact is waited for", holders: 3, known: true},
		{name: "what comes late and is newer begins it anew", holders: 3, late: newer},
		{name: "what comes late and says the same ends it", holders: 2, late: rec, done: true},
	} {
		l, seeds := testLookup(true, 1, 8, NodeID(rec.Key))
		l.quorum, l.alpha, l.letGo, l.host = 0, 20, true, &testHost{waits: wait}
		silent := seeds[0].Key
		l.of(silent).known = c.known
		qs, have := l.next(epoch, 100, nil), 0
		if len(qs) != len(seeds) {
			t.Fatalf("%d asked", len(qs))
		}
		now := epoch.Add(wait / 2)
		for _, q := range qs {
			if q.to.Key == silent || c.late != nil && q.to.Key == seeds[1].Key {
				continue
			}
			resp := &Response{Status: StatusNone}
			if have++; have <= c.holders {
				resp = &Response{Record: rec}
			}
			l.answered(now, q.to.Key, resp)
		}
		if l.tire(now); l.done() {
			t.Errorf("%s: it ends before its time", c.name)
		}
		if at := l.wake(now); !c.known && !at.Equal(epoch.Add(wait)) {
			t.Errorf("%s: wakes at %s", c.name, at.Sub(epoch))
		}
		now = epoch.Add(wait)
		l.tire(now)
		if c.late != nil {
			l.answered(now.Add(time.Millisecond), seeds[1].Key, &Response{Record: c.late})
			if l.best != c.late {
				t.Errorf("%s: it does not count", c.name)
			}
		}
		if l.done() != c.done {
			t.Errorf("%s: done after %s: %t", c.name, wait, l.done())
		}
		if l.failed(now, silent, errRefused); c.holders == 3 && c.late == nil && !l.done() {
			t.Errorf("%s: it does not end with the call", c.name)
		}
	}
}

// A contact whose session has ended must be dialled: it has the time for that, however fast it answered over the session.
func TestPatienceForDials(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name             string
		sessions, linked bool          // as Config has them
		rtt              time.Duration // 0: it is no contact
		timeout, hedge   time.Duration
	}{
		{name: "nobody knows it", sessions: true, timeout: firstTimeout, hedge: firstHedge},
		{name: "a session", sessions: true, linked: true, rtt: 20 * time.Millisecond, timeout: minTimeout, hedge: minHedge},
		{name: "no session", sessions: true, rtt: 20 * time.Millisecond, timeout: firstTimeout, hedge: minHedge},
		{name: "a session, far away", sessions: true, linked: true, rtt: 600 * time.Millisecond, timeout: 1800 * time.Millisecond, hedge: 900 * time.Millisecond},
		{name: "no session, far away", sessions: true, rtt: 600 * time.Millisecond, timeout: 1800 * time.Millisecond, hedge: 900 * time.Millisecond},
		{name: "nobody keeps sessions", rtt: 20 * time.Millisecond, timeout: minTimeout, hedge: minHedge},
	} {
		n := newMemNet().prepare(t, 1, nil, nil)
		n.core.cfg.sessions, n.core.cfg.linked = c.sessions, func(Key) bool { return c.linked }
		r := testRecord(t, 100, 1, epoch)
		if c.rtt > 0 {
			n.core.table.succeeded(epoch, Contact{Key: r.Key, Record: r}, c.rtt, checkFirst)
		}
		if timeout, hedge := n.core.patience(r.Key); timeout != c.timeout || hedge != c.hedge {
			t.Errorf("%s: %s and %s, want %s and %s", c.name, timeout, hedge, c.timeout, c.hedge)
		}
	}
}

// linkedNetwork keeps sessions with all.
type linkedNetwork struct{ heldNetwork }

func (*linkedNetwork) Linked(Key) bool { return true }

// A network that keeps no sessions says nothing of them.
func TestWhoKnowsOfSessions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		cfg  Config
		want bool
	}{
		{"it keeps some", Config{Network: &linkedNetwork{}}, true},
		{"it keeps none", Config{Network: &heldNetwork{}}, false},
		{"a simulation's", Config{linked: func(Key) bool { return true }}, true},
	} {
		if cfg := c.cfg.withDefaults(); cfg.sessions != c.want || cfg.linked(Key{}) != c.want {
			t.Errorf("%s: it is known: %t, %t", c.name, cfg.sessions, cfg.linked(Key{}))
		}
	}
}
