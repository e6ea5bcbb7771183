package dht

import (
	"net/netip"
	"time"
)

// Linker is what a Network is that keeps sessions open: a contact with one needs no
// check. Whoever owns the sessions calls Suspect when one has ended without a goodbye.
type Linker interface {
	Linked(k Key) bool // a session is open
}

// Suspect says that a contact could not be dialled, or that the session with it has
// ended without a goodbye: it is asked at once, and not only when its time has come.
// It does not block.
func (d *DHT) Suspect(k Key) {
	d.mu.Lock()
	d.core.suspect(d.cfg.Now(), k)
	d.mu.Unlock()
	signal(d.wake)
}

func (c *core) suspect(now time.Time, k Key) {
	if e := c.table.get(k); e != nil && e.fails == 0 && now.Before(c.table.time(e.nextCheck)) {
		c.table.checkAt(e, now)
		if !c.off.Recheck && c.probe(e.contact(), probeEnded) {
			c.table.checkAt(e, now.Add(checkRetry)) // until the answer moves it on
		}
		c.table.sooner(c.table.bucket(e.id()), e)
		c.sched.check = earlier(c.sched.check, c.table.time(e.nextCheck))
	}
}

// Opened says that a session with k has begun. dialled is the address that this
// node dialled, zero where k did. It does not block.
func (d *DHT) Opened(k Key, dialled netip.AddrPort) {
	d.mu.Lock()
	woken := d.core.opened(d.cfg.Now(), k, dialled)
	d.mu.Unlock()
	if woken {
		signal(d.wake)
	}
}

// opened takes back what was held against k, when its answer came too late for
// the call that began the dial. Who knows nobody asks around at once: somebody is
// there. It tells whether there is something to do.
func (c *core) opened(now time.Time, k Key, dialled netip.AddrPort) (woken bool) {
	c.notAlone(now)
	if c.table.n == 0 && now.Before(c.sched.bootstrap) {
		c.sched.bootstrap, c.sched.backoff = now, bootstrapFirst
		woken = true
	}
	if !dialled.IsValid() {
		return woken
	}
	c.shut.del(addrHash(dialled), dialled)
	if late := c.dead.del(k.hash(), k); late {
		return (c.wanted(k) && c.probe(Contact{Key: k}, probeCheck)) || woken
	}
	return woken
}
