package dht

import "time"

// Linker is what a Network is that keeps sessions open: a contact with one needs no
// check. Whoever owns the sessions calls DHT.Closed when one has ended without a goodbye.
type Linker interface {
	Linked(k Key) bool // a session is open
}

// Closed says that the session with k has ended without a goodbye: a contact is
// checked at once. It does not block.
func (d *DHT) Closed(k Key) {
	d.mu.Lock()
	d.core.closed(d.cfg.Now(), k)
	d.mu.Unlock()
	signal(d.wake)
}

func (c *core) closed(now time.Time, k Key) {
	if e := c.table.get(k); e != nil && now.Before(e.nextCheck) {
		e.nextCheck = now
		c.table.next = time.Time{}
	}
}
