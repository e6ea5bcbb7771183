package dht

import (
	"slices"
	"time"
)

const (
	uplinkRun  = 8           // calls to different contacts that fail one after the other
	uplinkFew  = 3           // where the table has no more
	uplinkMost = time.Hour   // after which contacts are blamed again: perhaps it was they
	uplinkLong = time.Minute // after which the own address may be another
	localRun   = 3           // calls that this machine could not send
)

// uplink tells a dead contact from an uplink that is down: when contact after
// contact fails and nobody answers or asks, nobody is blamed.
type uplink struct {
	run   []Key     // contacts that failed since anybody was heard, at most uplinkRun
	local int       // calls that this machine could not send, since then
	down  time.Time // since when; zero: it is up
}

// failed notes that k did not answer. It tells whether k may be blamed for it.
// counts is whether k is one of the table's contacts: whoever calls us and does not
// answer says nothing of our uplink.
func (u *uplink) failed(now time.Time, k Key, contacts int, counts bool) bool {
	most := min(max(contacts, uplinkFew), uplinkRun)
	if counts && len(u.run) < most && !slices.Contains(u.run, k) {
		u.run = append(u.run, k)
	}
	if len(u.run) < most || !u.down.IsZero() && now.Sub(u.down) > uplinkMost {
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
func (u *uplink) cut(now time.Time, k Key, contacts int, counts bool) bool {
	if u.local++; u.local >= localRun && u.down.IsZero() {
		u.down = now
	}
	return u.failed(now, k, contacts, counts) && u.down.IsZero()
}

// heard notes that somebody answered or asked. It tells since when the uplink was
// down, and who failed before that was known; zero if it was not.
func (u *uplink) heard() (since time.Time, run []Key) {
	if since = u.down; !since.IsZero() {
		run = slices.Clone(u.run)
	}
	u.run, u.local, u.down = u.run[:0], 0, time.Time{}
	return since, run
}

// notAlone is told that there is somebody out there.
func (c *core) notAlone(now time.Time) {
	if len(c.up.run) == 0 && c.up.local == 0 {
		return
	}
	since, run := c.up.heard()
	if since.IsZero() {
		return
	}
	c.dead.clear()
	for _, k := range run {
		if e := c.table.get(k); e != nil {
			c.table.fail(e, max(1, e.fails)-1)
			for _, a := range e.ref().Addresses() {
				c.shut.del(addrHash(a), a)
			}
		}
	}
	for _, w := range c.sched.restored { // the first ones were dropped for it
		ct := w.contact()
		if slices.Contains(run, ct.Key) && c.table.get(ct.Key) == nil {
			for _, a := range ct.Addresses() {
				c.shut.del(addrHash(a), a)
			}
			c.probe(ct, probeCheck)
		}
	}
	c.table.each(func(e *entry) { // whom it really cost is found out soon, not all at once
		if e.fails > 0 && now.Before(c.table.time(e.nextCheck)) {
			c.table.checkAt(e, now.Add(c.jitter(checkRetry)))
		}
	})
	c.table.lookAtAll()
	if now.Sub(since) > uplinkLong {
		c.sched.publish = now // the address may be another one
	}
}
