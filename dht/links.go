package dht

import "time"

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
		c.table.lookAgain(c.table.bucket(e.id))
		c.sched.check = now
	}
}
