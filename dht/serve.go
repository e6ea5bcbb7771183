package dht

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"
)

// maxContactBytes bounds the records in one Response.
const maxContactBytes = 8 << 10

// serve answers a request that passed Validate. It changes nothing on the word
// of the asker: who asks is at most put on the list of contacts to check.
func (c *core) serve(now time.Time, from Key, addr netip.Addr, req *Request) *Response {
	resp := &Response{}
	c.serveInto(now, from, addr, req, resp)
	return resp
}

// serveInto is serve into resp, whose Contacts are room for new ones.
func (c *core) serveInto(now time.Time, from Key, addr netip.Addr, req *Request, resp *Response) {
	c.stats.Served++
	c.notAlone(now)
	c.visited(from, req.Seq)
	c.replyInto(now, from, req, resp)
	if req.Op == OpPut {
		c.servePut(now, from, addr, req, resp)
	}
	c.charge(now, from, resp)
}

// reply answers what changes nothing here: all but a PUT.
func (c *core) reply(now time.Time, from Key, req *Request) *Response {
	resp := &Response{}
	c.replyInto(now, from, req, resp)
	return resp
}

func (c *core) replyInto(now time.Time, from Key, req *Request, resp *Response) {
	*resp = Response{Seq: seqOf(c.own.rec), Time: uint64(now.UnixMilli()), Contacts: resp.Contacts[:0]}
	switch req.Op {
	case OpPing:
		resp.Record = c.own.rec
	case OpFind:
		resp.Contacts = c.name(resp.Contacts, from, req.Target, req.Known)
	case OpGet:
		c.serveGet(now, from, req, resp)
	case OpSync:
		if w := c.budgets.of(now, from).other().syncs.take(now, 1, syncBurst, syncRate); w > 0 {
			c.busy(resp, w, "too many SYNCs")
		} else {
			c.serveSync(req.Have, resp)
		}
	}
}

// charge takes an answer off its asker's budget. One that the budget has no room
// for is left out.
func (c *core) charge(now time.Time, from Key, resp *Response) {
	size := 64 + len(resp.Entry) + len(resp.Want)
	if resp.Record != nil {
		size += len(resp.Record.raw)
	}
	for _, ct := range resp.Contacts {
		size += len(ct.Record.raw)
	}
	if w := c.budgets.of(now, from).answers.take(now, float64(size), answerBurst, answerRate); w > 0 {
		c.busy(resp, w, "this node answers each other one with at most 16 KiB/s")
		resp.Record, resp.Entry, resp.Contacts, resp.Want = nil, nil, nil, nil
	}
}

func (c *core) busy(resp *Response, wait time.Duration, why string) {
	resp.Status, resp.Reason = StatusBusy, why
	resp.RetryAfter = uint32(min(wait, time.Minute)/time.Millisecond) + 1
}

func (c *core) serveGet(now time.Time, from Key, req *Request, resp *Response) {
	rec := c.store.get(now, req.Target)
	if req.Target == c.id && !c.off.Holders {
		rec = c.own.rec
	}
	switch {
	case rec == nil:
		if resp.Entry = c.entries.get(now, req.Target); resp.Entry == nil {
			resp.Status = StatusNone
		}
	case rec.Seq <= req.KnownSeq:
		resp.Status = StatusNotNewer
	default:
		resp.Record = rec
	}
	near := req.Target
	if req.Near != (ID{}) {
		near = req.Near
	}
	resp.Contacts = c.name(resp.Contacts, from, near, req.Known)
}

// inReach tells whether this node is near enough to a position to keep what belongs
// there: 4 times the radius, for the others' estimates of it differ.
func (c *core) inReach(id ID) bool {
	n, known := c.size()
	return !known || c.off.Stores || n < 4*bucketSize || fraction(c.id, id) <= 4*c.radius()
}

func (c *core) servePut(now time.Time, from Key, addr netip.Addr, req *Request, resp *Response) {
	rec := req.Record
	if rec != nil && (rec.Key == c.self || !c.inReach(rec.position())) {
		resp.Status = StatusNotClose // its own record a node keeps itself
		return
	}
	_, source := c.cfg.Group(addr)
	wait := time.Duration(0)
	may := func() bool {
		wait = c.budgets.mayVerify(now, from, c.table.get(from) != nil)
		return wait == 0
	}
	if rec == nil {
		if resp.Status = StatusBusy; may() {
			resp.Status = c.entries.put(now, req.Entry, time.Duration(req.Age)*time.Second, source, c.inReach)
		}
	} else {
		resp.Status, resp.Record = c.store.take(now, rec, origin{source, rec.Key == from}, may)
	}
	if resp.Status == StatusInvalid {
		c.budgets.forged(now, from)
	}
	if wait > 0 {
		c.busy(resp, wait, "too many PUTs")
		return
	}
	if rec == nil {
		return
	}
	switch resp.Status {
	case StatusOK:
		c.moved(rec)
	case StatusFuture:
		resp.Reason = fmt.Sprintf("the record was issued %s ahead of this node's clock, allowed are %s: one of the clocks is wrong",
			rec.IssuedAt.Sub(now).Round(time.Second), maxFuture)
	case StatusExpired:
		resp.Reason = fmt.Sprintf("the record expired %s ago by this node's clock: one of the clocks is wrong, or the record is old",
			now.Sub(rec.Expires()).Round(time.Second))
	case StatusBusy:
		resp.RetryAfter = uint32(writeEvery / time.Millisecond)
		resp.Reason = "this record changes too often"
	}
}

// visited notes that a node asked us something. Its session proves that it is
// alive; whether it answers, our own call must show.
func (c *core) visited(from Key, seq uint64) {
	if seq == 0 {
		return // it has no record: nobody can call it
	}
	c.dead.del(from.hash(), from)
	e := c.table.get(from)
	switch {
	case e == nil && c.wanted(from):
		c.addStranger(from)
	case e != nil && seq > seqOf(e.record()):
		c.probe(Contact{Key: from}, probeCheck)
	}
}

// name appends the live contacts nearest to target, without the asker, to out. Of one who says
// whom it knows these are left out, and where it knows as many as it may say, who is farther than they.
func (c *core) name(out []Contact, from Key, target ID, known []byte) []Contact {
	var space [MaxKnown]uint64
	tops := space[:0]
	for ; len(known) > 0; known = known[KnownSize:] {
		tops = append(tops, binary.BigEndian.Uint64(known))
	}
	size, most, far := 0, MaxContacts, uint64(math.MaxUint64)
	if len(tops) > 0 {
		most = MaxBrief
	}
	if len(tops) == MaxKnown {
		far = 0
		for _, t := range tops {
			far = max(far, t^target.top())
		}
	}
	asker := c.table.id(from)
	n, at := len(out), target.top()
	c.table.nearest(target, func(p place) bool {
		r, top := p.named[p.i], p.tops[p.i]
		switch {
		case top^at > far:
			return true // so is whoever comes after it
		case r == nil || slices.Contains(tops, top) || top == asker.top() && r.Key == from:
			return false
		}
		if size += len(r.raw); size <= maxContactBytes {
			out = append(out, Contact{Key: r.Key, Record: r})
		}
		return size > maxContactBytes || len(out)-n == most
	})
	return out
}
