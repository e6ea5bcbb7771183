package dht

import (
	"net/netip"
	"slices"
	"time"
)

// setAddrs takes over where this node can be dialled. A change is published at once.
func (c *core) setAddrs(now time.Time, addrs []netip.AddrPort) {
	addrs = addrs[:min(len(addrs), MaxAddrs)]
	if slices.Equal(addrs, c.own.addrs) || c.own.gone && len(addrs) > 0 {
		return
	}
	stays := func(a netip.AddrPort) bool { return slices.Contains(addrs, a) }
	if len(c.own.addrs) > 0 && !slices.ContainsFunc(c.own.addrs, stays) {
		c.own.ready = false // what others have of this node leads nowhere
	}
	c.own.addrs = slices.Clone(addrs)
	c.proof.next, c.proof.asked = now, nil
	c.outbox = slices.DeleteFunc(c.outbox, func(q query) bool { return q.req.Op == OpDialBack })
	if c.own.rec != nil { // whom we ask learns of it
		c.table.each(func(e *entry) { c.table.checkAt(e, now.Add(time.Duration(c.rnd.Int64N(int64(time.Minute))))) })
		c.table.lookAtAll()
	}
	c.sign(now)
	c.sched.publish, c.sched.republish = now, publishFirst
}

// renew signs the own record again if half its time is over.
func (c *core) renew(now time.Time) {
	if c.own.rec != nil && now.Sub(c.own.rec.IssuedAt).Abs() >= c.renewAfter() {
		c.sign(now)
	}
}

// sign makes the own record anew.
func (c *core) sign(now time.Time) {
	r, ok := c.next()
	if !ok {
		return
	}
	r.Seq, r.IssuedAt = max(c.own.seq+1, uint64(now.UnixMilli())), now
	rec, err := c.signer(r)
	if err != nil {
		c.own.rec, c.stats.PublishError = nil, err
		return
	}
	c.own.rec, c.own.seq = rec, r.Seq
}

// steady tells whether one path will do to renew the own record or to read it back: the
// neighbourhood is known, and nothing has failed since the last time.
func (c *core) steady() bool {
	return c.sched.filled && c.table.n >= siblingSize && c.sched.repairs == 0 && c.sched.republish == publishFirst
}

// renewed tells whether others have a record that says the same as the own one.
func (c *core) renewed() bool {
	return c.own.last != nil && c.own.rec != nil && c.own.rec.SameAs(c.own.last)
}

// published is the end of a publication.
func (c *core) published(now time.Time, o *op) {
	s := &c.sched
	err := o.publishError()
	c.stats.PublishError = err
	if o.newer > c.own.seq { // an earlier life of ours was ahead: go beyond it
		c.own.seq = o.newer
		c.sign(now)
	}
	if o.rec != c.own.rec {
		s.publish = now // the record changed meanwhile
		return
	}
	if err != nil {
		c.publishLater(now)
		return
	}
	if c.own.last = o.rec; c.sched.filled {
		c.knowsSelf(now)
	}
	if o.holders < ackShare {
		c.acked(now, o)
	}
	c.stats.Holders = o.holders
	s.readback, s.repairs = now, 0
	if c.own.ready {
		s.readback = now.Add(readbackAfter)
	}
	s.publish = o.rec.IssuedAt.Add(c.renewAfter())
}

// acked notes that enough others hold the record that o publishes.
func (c *core) acked(now time.Time, o *op) {
	if o.rec == c.own.rec {
		c.stats.Published, c.stats.PublishTook, c.stats.Holders = now, now.Sub(o.lookup.start), o.holders
	}
}

func (c *core) publishLater(now time.Time) {
	c.sched.publish = now.Add(c.jitter(c.sched.republish))
	c.sched.republish = min(2*c.sched.republish, publishMost)
}

// readBack is the end of the search for our own record: what others find.
func (c *core) readBack(now time.Time, o *op) {
	if o.result.Record == nil || o.result.Record.Seq < seqOf(c.own.rec) {
		if c.own.rec != nil {
			c.publishLater(now)
		}
		return
	}
	c.sched.republish = publishFirst
	c.foundBack(o.result.Record)
	c.repairOwn(now, o.lookup)
}

// repairOwn puts the own record again at those who took it and don't have it, and
// at more nodes than before, if too few of those who should have it do.
func (c *core) repairOwn(now time.Time, l *lookup) {
	should := c.holders(l)
	var missing []*node
	for _, n := range should {
		if !n.holds {
			missing = append(missing, n)
		}
	}
	have := len(should) - len(missing)
	if 4*have >= 3*min(len(should), bucketSize) || c.sched.repairs == maxOwnRepairs {
		return
	}
	for _, n := range l.nearest(maxHolders) { // beyond the radius: those within it lie
		if n.gave == 0 && !slices.Contains(should, n) {
			missing = append(missing, n)
		}
	}
	for _, n := range missing {
		c.deliver(n.contact(), &Request{Op: OpPut, Record: c.own.rec})
	}
	c.sched.repairs++
	c.sched.readback = now.Add(repairAfter)
}
