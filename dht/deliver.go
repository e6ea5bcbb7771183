package dht

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"slices"
	"time"
)

const (
	maxOutbox  = 256 // requests in the background that wait
	delivering = 8   // of them at once
	maxRepairs = 2   // PUTs after one GET
	handers    = 3   // of the nearest holders of a record, who hand it to a newcomer
	syncEvery  = 15 * time.Minute
)

// deliver puts a request that nobody waits for on the list. When that is full it
// is dropped: what it would have done, the next publication or SYNC does.
func (c *core) deliver(to Contact, req *Request) bool {
	if req == nil || to.Key == c.self || len(c.outbox) >= maxOutbox || c.off.Replicas && req.Op == OpPut {
		return false
	}
	timeout, _ := c.patience(to.Key)
	if req.Op == OpDialBack {
		timeout += dialBackLimit
	}
	c.outbox = append(c.outbox, query{to, req, timeout})
	return true
}

// nextDeliveries appends those requests that may be made now.
func (c *core) nextDeliveries(now time.Time, out []*call) []*call {
	for c.ownRoom() > 0 && c.delivering < delivering && len(c.outbox) > 0 {
		cl := &call{query: pop(&c.outbox), back: true}
		if c.emit(now, cl) {
			c.delivering++
			out = append(out, cl)
		} else if cl.req.Op == OpDialBack {
			c.proved(now, cl, nil)
		}
	}
	return out
}

// repair gives a newer record to the nearest of those that had none or an older
// one, of those that a GET asked.
func (c *core) repair(now time.Time, l *lookup) {
	if l.best == nil || l.best.Expires().Sub(now) < c.cfg.TTL/16 {
		return
	}
	left := maxRepairs
	for _, n := range c.holders(l) {
		if left > 0 && n.gave < l.best.Seq && n.key() != l.best.Key && !n.holds {
			c.deliver(n.contact(), &Request{Op: OpPut, Record: l.best})
			left--
		}
	}
}

// handOver gives a newcomer what it should keep, if this node is among the nearest
// of those who keep it.
func (c *core) handOver(now time.Time, e *entry) {
	if e.record() == nil || !c.table.besides(e.id()) {
		return
	}
	reach := 4 * c.radius()
	should := func(id ID) bool {
		if fraction(id, e.id()) > reach || c.rank(id, c.id, handers+1) > handers || c.rank(id, e.id(), bucketSize) >= bucketSize {
			return false
		}
		h := c.store.records.at(id)
		return h == nil || c.store.mayHandOn(h)
	}
	var ids []ID
	for id := range c.store.records.ids() {
		if should(id) {
			ids = append(ids, id)
		}
	}
	nearestFirst(c.id, ids)
	records := len(ids)
	for id := range c.entries.kept {
		if should(id) {
			ids = append(ids, id)
		}
	}
	nearestFirst(c.id, ids[records:])
	for _, id := range ids {
		c.deliver(e.contact(), c.putRequest(now, id)) // dropped where there is no room: the next publications do it
	}
}

// rank is how many contacts are nearer to target than id: where they are most or more, any number from most on.
func (c *core) rank(target, id ID, most int) int {
	n := 0
	own, zeros := prefixLen(c.table.self, target), prefixLen(target, id)
	for i := range c.table.buckets {
		if i < own && i < zeros { // there all are farther: they differ from target at bit i
			continue
		}
		if n += c.table.buckets[i].nearer(target, id); n >= most {
			break
		}
	}
	return n
}

// sync compares the records that one of the neighbours should keep too.
func (c *core) sync(now time.Time) {
	near := c.table.closest(c.id, bucketSize, live)
	if len(near) == 0 {
		return
	}
	e := near[c.rnd.IntN(len(near))]
	var space [MaxDigests * DigestSize]byte
	have := space[:0]
	ids := c.store.recordIDs()
	for i, from := 0, c.rnd.IntN(len(ids)+1); i < len(ids) && len(have) < MaxDigests*DigestSize; i++ {
		id := ids[(from+i)%len(ids)]
		if r := c.store.get(now, id); r != nil && c.store.mayHandOn(c.store.records.at(id)) && r.Key != e.key() && c.rank(id, e.id(), bucketSize) < bucketSize {
			have = r.appendDigest(have)
		}
	}
	if len(have) > 0 {
		c.deliver(e.contact(), &Request{Op: OpSync, Have: slices.Clone(have)})
	}
}

func (r *Record) appendDigest(b []byte) []byte {
	id, sum := r.position(), sha256.Sum256(r.raw)
	b = append(b, id[:8]...)
	b = binary.BigEndian.AppendUint64(b, r.Seq)
	return append(b, sum[:8]...)
}

// serveSync says of each digest which of the two records is newer.
func (c *core) serveSync(have []byte, resp *Response) {
	resp.Want = make([]byte, 0, len(have)/DigestSize)
	for ; len(have) > 0; have = have[DigestSize:] {
		verdict := byte(SyncSame)
		var at ID
		copy(at[:], have[:8])
		if h := c.store.records.first(binary.BigEndian.Uint64(have)); h != nil {
			var space [DigestSize]byte
			switch bytes.Compare(have[8:DigestSize], h.rec.appendDigest(space[:0])[8:]) {
			case 1:
				verdict = SyncWant
			case -1:
				verdict = SyncNewer
			}
		} else if c.inReach(at) {
			verdict = SyncWant
		}
		resp.Want = append(resp.Want, verdict)
	}
}

// synced follows the answer to a SYNC.
func (c *core) synced(now time.Time, cl *call, resp *Response) {
	have := cl.req.Have
	for i := 0; i < len(resp.Want) && (i+1)*DigestSize <= len(have); i++ {
		h := c.store.records.first(binary.BigEndian.Uint64(have[i*DigestSize:]))
		if h == nil {
			continue
		}
		id := h.rec.position()
		switch resp.Want[i] {
		case SyncWant:
			c.deliver(cl.to, c.putRequest(now, id))
		case SyncNewer:
			c.deliver(cl.to, &Request{Op: OpGet, Target: id})
		}
	}
}

// fetched takes a record that a neighbour has newer.
func (c *core) fetched(now time.Time, cl *call, resp *Response) {
	if r := resp.Record; r != nil && resp.Status == StatusOK && r.position() == cl.req.Target && r.Key != c.self {
		c.store.put(now, r, netip.Prefix{}) // refused, where it is no newer after all
	}
}
