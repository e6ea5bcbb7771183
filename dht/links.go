package dht

import "time"

// Linker is what a Network is that keeps sessions open and notices when they end.
// A contact with an open session needs no check, and one whose session has ended
// gets one at once.
type Linker interface {
	Linked(k Key) bool // a session is open
}

const linksEvery = 30 * time.Second

// closed is told that the session with k has ended.
func (c *core) closed(now time.Time, k Key) {
	if e := c.table.get(k); e != nil && now.Before(e.nextCheck) {
		e.nextCheck = now
		c.table.next = time.Time{}
	}
}

// look tells the core of contacts whose sessions have ended since the last look.
func (d *DHT) look(linker Linker) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.cfg.Now()
	linked := map[Key]bool{}
	d.core.table.each(func(e *entry) {
		switch {
		case linker.Linked(e.Key):
			linked[e.Key] = true
		case d.linked[e.Key]:
			d.core.closed(now, e.Key)
		}
	})
	d.linked = linked
}
