package dht

import "time"

const (
	uplinkRun = 8 // calls to different contacts that fail one after the other
	localRun  = 3 // calls that this machine could not send
)

// uplink tells a dead contact from an uplink that is down: when contact after
// contact fails and nobody answers or asks, nobody is blamed.
type uplink struct {
	run   map[Key]bool // contacts that failed since anybody was heard
	local int          // calls that this machine could not send, since then
	down  time.Time    // since when; zero: it is up
}

// failed notes that k did not answer. It tells whether k may be blamed for it.
func (u *uplink) failed(now time.Time, k Key) bool {
	if u.run == nil {
		u.run = map[Key]bool{}
	}
	if len(u.run) < uplinkRun {
		u.run[k] = true
	}
	if len(u.run) < uplinkRun {
		return true
	}
	if u.down.IsZero() {
		u.down = now
	}
	return false
}

// cut notes that the machine itself could not send to k. It tells whether k may
// be blamed for it: it can be the only one on a network that this machine has no
// way to.
func (u *uplink) cut(now time.Time, k Key) bool {
	if u.local++; u.local >= localRun && u.down.IsZero() {
		u.down = now
	}
	return u.failed(now, k) && u.down.IsZero()
}

// heard notes that somebody answered or asked. It tells whether the uplink was
// down, and who failed before that was known.
func (u *uplink) heard() (was bool, run map[Key]bool) {
	was, run = !u.down.IsZero(), u.run
	u.run, u.local, u.down = nil, 0, time.Time{}
	return was, run
}

// notAlone is told that there is somebody out there.
func (c *core) notAlone(now time.Time) {
	if len(c.up.run) == 0 {
		return
	}
	was, run := c.up.heard()
	if !was {
		return
	}
	clear(c.dead)
	clear(c.shut)
	c.table.next = time.Time{}
	for k := range run {
		if e := c.table.get(k); e != nil {
			e.fails = max(0, e.fails-1)
		}
	}
	c.table.each(func(e *entry) { // whom it really cost is found out soon, not all at once
		if e.fails > 0 && now.Before(e.nextCheck) {
			e.nextCheck = now.Add(c.jitter(checkRetry))
		}
	})
	c.sched.publish = now // the address may be another one
}
