package dht

import (
	"fmt"
	"net/netip"
	"time"
)

// Learn takes the record that an agent sent of itself over its own session. It
// tells whether the record is verified and no older than any that this node knows:
// it may have come by a PUT a moment ago. The error wraps ErrRecord (another agent's, expired, forged) or ErrBusy (too many
// of one agent).
func (d *DHT) Learn(from Key, r *Record) (newest bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	newest, err = d.core.learn(d.cfg.Now(), from, r)
	if err != nil {
		d.core.stats.Refused++
		return false, fmt.Errorf("dht: record that %s sent of itself: %w", from, err)
	}
	if len(d.core.probes)+len(d.core.strangers) > 0 {
		signal(d.wake)
	}
	return newest, nil
}

func (c *core) learn(now time.Time, from Key, r *Record) (bool, error) {
	if r == nil || r.Key != from || from == c.self {
		return false, recordErrorf("another agent's")
	}
	if known := c.knownRecord(r); !r.newer(known) {
		return string(r.raw) == string(known.raw), nil // known ones are verified
	}
	if err := checkRecord(r); err != nil {
		return false, recordErrorf("%w", err)
	}
	if err := r.Current(now); err != nil {
		return false, err
	}
	w := c.budgets.of(now, from).other().learnt.take(now, 1, learnBurst, learnRate)
	if w == 0 {
		w = c.budgets.mayVerify(now, from, c.table.get(from) != nil)
	}
	if w > 0 {
		return false, fmt.Errorf("%w: records of one agent; the next in %s", ErrBusy, w.Round(time.Millisecond))
	}
	if err := c.verify(r); err != nil {
		return false, err
	}
	c.notAlone(now)
	if c.store.records.at(r.id) != nil || r.tombstone() && c.inReach(r.id) {
		c.store.put(now, r, netip.Prefix{})
	}
	c.moved(r)
	if !r.tombstone() && r.Flags&FlagServer != 0 {
		c.visited(from, r.Seq)
	}
	return true, nil
}

// knownRecord is the newest record of r's agent that this node has.
func (c *core) knownRecord(r *Record) *Record {
	var known *Record
	if h := c.store.records.at(r.id); h != nil {
		known = h.rec
	}
	if e := c.table.get(r.Key); e != nil {
		if own := e.record(); own != nil && own.newer(known) {
			known = own
		}
	}
	return known
}

// moved takes a newer, verified record of a contact over into the table. Who has
// withdrawn is no contact any more.
func (c *core) moved(r *Record) {
	e := c.table.get(r.Key)
	if e == nil || r.Seq <= seqOf(e.record()) {
		return
	}
	if !r.tombstone() {
		c.table.learn(e, Contact{Key: r.Key, Record: r})
		return
	}
	b := c.table.bucket(e.id())
	c.sched.remember(e.contact()) // its next node is perhaps where the last one was
	c.table.remove(b, b.find(e.top(), r.Key))
	c.lives.died()
	c.sched.candidates = true
}

// withdrawn tells whether this node keeps a tombstone that is newer than what ct
// is known by: it answers still, and won't for long.
func (c *core) withdrawn(now time.Time, ct Contact) bool {
	if c.store.withdrawn == 0 {
		return false
	}
	h := c.store.records.at(ct.id())
	return h != nil && h.rec.tombstone() && h.rec.Seq > seqOf(ct.Record) && h.rec.Current(now) == nil
}

// OwnRecord is the record that this node publishes; nil if it has none.
func (d *DHT) OwnRecord() *Record {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.core.own.rec
}

// Renewed has something to read after OwnRecord has changed.
func (d *DHT) Renewed() <-chan struct{} { return d.renewed }

// UplinkDown tells whether no other node can be reached at the moment: nobody is
// to blame for not answering.
func (d *DHT) UplinkDown() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.core.up.down.IsZero()
}
