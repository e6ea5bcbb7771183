package transport

import (
	"context"
	"time"
)

// Receiver takes the outcome of a request that was begun with Session.Start.
type Receiver interface {
	// Answered is called once, mostly by the session's reader, with what Request
	// would have returned: before Start returns, too. It must not block.
	Answered(reply []byte, err error)
}

// Pending is a request that was begun with Session.Start. Its zero value is
// ready to be used, once. It may be part of what waits for it.
type Pending struct {
	s    *Session
	call call
}

// Start begins a request and does not wait for it; r is told how it ends. The
// deadline travels with it, and is not kept here: whoever keeps it calls
// Cancel. Start returns false, and r is told nothing, where Request would wait
// or fail at once.
func (s *Session) Start(p *Pending, deadline time.Time, o *Outgoing, r Receiver) bool {
	if s.checkSize(o) != nil {
		return false
	}
	c := &p.call
	p.s = s
	c.deadline, c.receiver = deadline, r
	c.msg = outMsg{call: c, typ: typeRequest, kind: o.Kind, messageID: o.ID, header: o.Header, body: o.Body}
	s.mu.Lock()
	if s.err != nil || s.drain.on || s.calls.waiting.head != nil || !s.hasRoomLocked(c) {
		s.mu.Unlock()
		return false
	}
	s.calls.inFlight++
	s.out.push(&c.msg)
	s.flushLocked() // unlocks
	return true
}

// Cancel gives the request up, once, and cancels what the peer runs for it. It reports
// whether it came in time: then the receiver is told nothing. sent tells whether
// the request may have reached the peer.
func (p *Pending) Cancel() (inTime, sent bool) {
	ended := p.s.abandon(&p.call)
	return !ended, p.call.sent
}

// tell tells the receiver, without the session's lock.
func (s *Session) tell(c *call) {
	switch c.err {
	case errInParts: // joining is not the reader's work
		s.ep.wg.Go(func() { c.receiver.Answered(c.result()) })
	case errMoved: // it has not left, and may go over another session
		c.receiver.Answered(nil, &RequestError{Code: Lost, Err: s.whyNot()})
	default:
		c.receiver.Answered(c.reply, c.err)
	}
}

// Starter is a Handler that takes small requests as they come.
type Starter interface {
	// StartRequest takes a request, as ServeRequest does, without blocking: it is
	// called by the session's reader. It returns true, and r.Reply is called once
	// at any later time; or it returns false and has done nothing, and the request
	// is served by ServeRequest. ctx ends as that of ServeRequest does, and when
	// Reply is called; besides Done it has OnEnd(interface{ Ended() }), which calls
	// Ended once if ctx ends before Reply, or up to a Tick later.
	StartRequest(ctx context.Context, r *Request) bool
}

// Reply answers a request that StartRequest has taken; reply and err are as those
// of ServeRequest. A second call does nothing.
func (r *Request) Reply(reply []byte, err error) {
	in := r.in.Swap(nil)
	if in == nil {
		return
	}
	s, m := in.s, &in.reply
	m.id, m.in = in.id, in
	s.replyWith(in, m, reply, err)
	r.ctx.replied()
	s.mu.Lock()
	s.servedLocked(in)
	s.flushLocked() // unlocks
}

// start gives a small request to a handler that takes it as it comes. The caller
// is the reader; a request that was taken is no longer its own.
func (in *incoming) start(h Starter) (taken bool) {
	use := in.use
	use.req.Header, use.req.Body = in.asm.join()
	in.joined = true
	if use.ctx.Err() != nil {
		return false
	}
	use.req.in.Store(in)
	s := in.s
	defer func() {
		if p := recover(); p != nil { // in may be another request's from here on
			s.panicked(&use.req, p)
			use.req.Reply(nil, errPanicked)
			taken = true
		}
	}()
	if !h.StartRequest(&use.ctx, &use.req) {
		use.req.in.Store(nil)
		return false
	}
	return true
}
