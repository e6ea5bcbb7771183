package dht

import (
	"fmt"
	"time"
)

// maxContactBytes bounds the records in one Response.
const maxContactBytes = 8 << 10

// serve answers a request that passed Validate. It changes nothing on the word
// of the asker: who asks is at most put on the list of contacts to check.
func (c *core) serve(now time.Time, from Key, req *Request) *Response {
	c.stats.Served++
	c.visited(from, req.Seq)
	resp := &Response{Seq: seqOf(c.own.rec), Time: uint64(now.UnixMilli())}
	switch req.Op {
	case OpPing:
		resp.Record = c.own.rec
	case OpFind:
		resp.Contacts = c.name(from, req.Target)
	case OpGet:
		c.serveGet(now, from, req, resp)
	case OpPut:
		c.servePut(now, req.Record, resp)
	}
	return resp
}

func (c *core) serveGet(now time.Time, from Key, req *Request, resp *Response) {
	rec := c.store.get(now, req.Target)
	if req.Target == c.id {
		rec = c.own.rec
	}
	switch {
	case rec == nil:
		resp.Status = StatusNone
	case rec.Seq <= req.KnownSeq:
		resp.Status = StatusNotNewer
	default:
		resp.Record = rec
	}
	resp.Contacts = c.name(from, req.Target)
}

func (c *core) servePut(now time.Time, rec *Record, resp *Response) {
	if rec.Key == c.self {
		resp.Status = StatusNotClose // its own record a node keeps itself
		return
	}
	resp.Status, resp.Record = c.store.put(now, rec)
	switch resp.Status {
	case StatusOK:
		if e := c.table.get(rec.Key); e != nil && rec.Seq > seqOf(e.Record) {
			c.table.learn(e, Contact{Key: rec.Key, Record: rec})
		}
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
	delete(c.dead, from)
	e := c.table.get(from)
	switch {
	case e == nil && c.wanted(from):
		c.probeStranger(from)
	case e != nil && seq > seqOf(e.Record):
		c.probe(Contact{Key: from})
	}
}

// name returns the live contacts nearest to target, without the asker.
func (c *core) name(from Key, target ID) []Contact {
	size := 0
	near := c.table.closest(target, MaxContacts, func(e *entry) bool { return live(e) && e.Key != from })
	out := make([]Contact, 0, len(near))
	for _, e := range near {
		if size += len(e.Record.raw); size > maxContactBytes {
			break
		}
		out = append(out, Contact{Key: e.Key, Record: e.Record})
	}
	return out
}
