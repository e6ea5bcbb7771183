package dht

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"time"
)

// checkOwn checks the record that a node gives as its own.
func (c *core) checkOwn(now time.Time, k Key, resp *Response) error {
	r := resp.Record
	if r == nil {
		return nil
	}
	if r.Key != k {
		return errWrongRecord
	}
	if err := r.Current(now); err != nil {
		return err
	}
	if e := c.table.get(k); e != nil && e.knows(r) {
		return nil // verified before
	}
	return c.verify(r)
}

// alive notes that a call was answered.
func (c *core) alive(now time.Time, cl *call, resp *Response) {
	c.dead.del(cl.to.Key.hash(), cl.to.Key)
	c.notAlone(now)
	ct := cl.to
	if cl.req.Op == OpPing && resp.Record != nil {
		if !resp.Record.serves() {
			c.table.forget(ct.Key)
			return
		}
		ct = Contact{Key: ct.Key, Record: resp.Record}
	}
	if cl.stranger && !c.off.JoinFirst && !c.table.mayCome(ct.Key) || c.withdrawn(now, ct) {
		return
	}
	if c.table.succeeded(now, ct, now.Sub(cl.sent), checkFirst) {
		c.sched.backoff = bootstrapFirst
		if c.table.n == 1 { // the first who can tell whether we can be dialled
			c.proof.next, c.proof.backoff = now, 0
		}
		if e := c.table.has(&ct); e != nil {
			c.table.setCalled(e, cl.stranger)
			if c.sched.joined {
				c.handOver(now, e)
			}
		}
	}
	e := c.table.has(&ct)
	newer := e != nil && resp.Seq > seqOf(e.record())
	if cl.req.Op != OpPing && resp.Seq != 0 && (newer || e == nil && ct.Record == nil && c.wanted(ct.Key)) {
		c.probe(Contact{Key: ct.Key, Addrs: ct.Addrs, Record: ct.Record}, probeCheck)
	}
	if len(resp.Contacts) == 0 || e != nil && e.called && c.table.n >= smallTable && !c.off.JoinFirst {
		return // whom nobody vouches for vouches for nobody
	}
	h := hearing{by: c.network(cl.to), dead: func(ct *Contact, by uint32) bool { return c.isDead(now, ct, by) }}
	if t := cl.req.Target; t != (ID{}) && !c.sched.filled { // whoever is as near knows enough others who are
		h.least = min(prefixLen(c.id, t), prefixLen(c.id, cl.to.id()))
	}
	for i := range resp.Contacts {
		named := &resp.Contacts[i]
		switch {
		case c.off.Probe && !h.dead(named, h.by):
			c.table.succeeded(now, *named, firstHedge, checkFirst)
		case !c.off.Probe && c.table.heard(&h, named):
			c.sched.candidates = true
		}
	}
}

// network is the wide network of a contact, as a number; 0 where it has none.
func (c *core) network(ct Contact) uint32 {
	for _, a := range ct.Addresses() {
		if _, wide := c.cfg.Group(a.Addr()); wide.IsValid() {
			return groupHash(group{wide, true}) | 1
		}
	}
	return 0
}

// wanted tells whether the table has k, or room for it.
func (c *core) wanted(k Key) bool {
	id := c.table.id(k)
	if c.table.getAt(id, k) != nil {
		return true
	}
	b := c.table.bucket(id)
	return len(b.entries) < c.table.k || c.table.besides(id)
}

// blame notes that a contact did not answer, and why.
func (c *core) blame(now time.Time, cl *call, err error) {
	ct := cl.to
	undialled := errors.Is(err, ErrDial)
	failed := c.up.failed
	if errors.Is(err, ErrUplink) {
		failed = c.up.cut
	}
	if counts := c.table.get(ct.Key) != nil; !failed(now, ct.Key, c.table.n, counts) && counts {
		return
	}
	e := c.table.get(ct.Key)
	switch {
	case e == nil:
	case cl.ended:
		c.table.fail(e, max(e.fails, maxFails-1)) // what was in flight over the session may have counted
	case c.counted(cl, err) && e.fails > 0:
		return
	}
	if undialled {
		c.shutOut(now, ct)
		if e != nil && e.moved {
			c.table.fail(e, maxFails) // it was never reached where it says it is now
		}
	}
	var last Contact // as the table knows it
	if e != nil {
		last = e.contact()
	}
	if c.table.failed(now, ct.Key) {
		c.lives.died()
		c.sched.candidates = true
		c.sched.remember(last)
		if c.table.n == 0 { // perhaps it was the uplink: nobody is left to tell
			c.dead.clear()
			c.shut.clear()
		}
	} else if e != nil {
		c.sched.check = earlier(c.sched.check, now.Add(checkRetry))
	}
	if c.dead.len() >= maxDead {
		c.sweepDead(now)
	}
	if c.dead.len() < maxDead {
		c.dead.set(ct.Key.hash(), ct.Key, dead{c.table.stamp(now.Add(deadKept)), seqOf(ct.Record)})
	}
}

// counted tells whether cl was lost with a session whose end has been held against the contact
// since cl was sent: however many calls are in flight, they end at once, and are one failure.
func (c *core) counted(cl *call, err error) bool {
	d, blamed := c.dead.get(cl.to.Key.hash(), cl.to.Key)
	return blamed && c.table.stamp(cl.sent) < d.until-stamp(deadKept) &&
		!errors.Is(err, ErrDial) && !errors.Is(err, ErrUplink) && !errors.Is(err, context.DeadlineExceeded)
}

// shutOut leaves a contact's addresses alone for a while, for what its referrer
// names: so a crowd that names one address brings it few dials of each node
// (docs/dht.md, A10).
func (c *core) shutOut(now time.Time, ct Contact) {
	if c.familiar(ct.Key) || c.off.LeaveAlone {
		return
	}
	if c.shut.len() >= maxShut {
		c.sweepShut(now)
	}
	by := referrer(&ct, ct.by)
	for _, a := range ct.Addresses() {
		hash := addrHash(a)
		s, known := c.shut.get(hash, a)
		if c.table.stamp(now) >= s.until {
			s = shut{}
		}
		if !slices.Contains(s.by[:s.n], by) && s.n < maxReferrers {
			s.by[s.n] = by
			s.n++
		}
		s.until = c.table.stamp(now.Add(shutKept))
		if known || c.shut.len() < maxShut {
			c.shut.set(hash, a, s)
		}
	}
}

// sweepDead and sweepShut forget what is over.
func (c *core) sweepDead(now time.Time) {
	at := c.table.stamp(now)
	c.dead.sweep(Key.hash, func(d dead) bool { return at >= d.until })
}

func (c *core) sweepShut(now time.Time) {
	at := c.table.stamp(now)
	c.shut.sweep(addrHash, func(s shut) bool { return at >= s.until })
}

// referrer is by, the network of who named ct; where that is none, ct itself.
func referrer(ct *Contact, by uint32) uint32 {
	if by != 0 {
		return by
	}
	return binary.BigEndian.Uint32(ct.Key[4:])
}

// familiar are the contacts that this node's operator, or its last run, has named:
// they are tried again and again.
func (c *core) familiar(k Key) bool {
	return c.cfg.linked(k) || c.sched.former(k) >= 0 ||
		slices.ContainsFunc(c.cfg.Bootstrap, func(o Contact) bool { return o.Key == k })
}

// isDead tells whether a contact, as by names it, is not worth a try now.
func (c *core) isDead(now time.Time, ct *Contact, by uint32) bool {
	if d, ok := c.dead.get(ct.Key.hash(), ct.Key); ok && c.table.stamp(now) < d.until && seqOf(ct.Record) <= d.seq {
		return true
	}
	return c.isShut(now, ct, by)
}

// isShut tells whether all of a contact's addresses are to be left alone.
func (c *core) isShut(now time.Time, ct *Contact, by uint32) bool {
	if c.shut.len() == 0 {
		return false
	}
	addrs, by := ct.Addresses(), referrer(ct, by)
	for _, a := range addrs { // most are not, and this is soon known
		s, known := c.shut.get(addrHash(a), a)
		if !known || c.table.stamp(now) >= s.until || s.n < maxReferrers && !slices.Contains(s.by[:s.n], by) {
			return false
		}
	}
	if e := c.table.has(ct); len(addrs) == 0 || e != nil && e.fails == 0 {
		return false // it answered last time, perhaps over a session of its own
	}
	return !c.familiar(ct.Key)
}

// noteClock returns this clock minus the answerer's.
func (c *core) noteClock(now time.Time, cl *call, resp *Response) time.Duration {
	if resp.Time == 0 {
		return 0
	}
	there := time.UnixMilli(int64(resp.Time)).Add(now.Sub(cl.sent) / 2)
	off := now.Round(0).Sub(there)
	c.offs[c.offsAt%offsets] = off
	c.offsAt++
	return off
}
