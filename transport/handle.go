package transport

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
)

// errPeerCanceled is the cause of a served request's context after a cancel frame.
var errPeerCanceled = fmt.Errorf("the peer gave up: %w", context.Canceled)

// summonLocked tells whether a worker must be given to the session, which the
// caller does without the lock. While the peer does not read its replies,
// further handlers don't begin.
func (s *Session) summonLocked() bool {
	if s.serve.summoned || s.serve.ready.head == nil || s.heldLocked() {
		return false
	}
	s.serve.summoned = true
	return true
}

// heldLocked tells that replies wait for half of MaxQueued. The other half is
// for those of the handlers that run.
func (s *Session) heldLocked() bool {
	return s.err == nil && s.serve.replies.used.Load() > s.serve.replies.max/2
}

// serveReady serves the session's requests until none is ready. A worker runs it.
func (s *Session) serveReady() {
	s.mu.Lock()
	s.serve.summoned = false
	for s.serve.ready.head != nil && !s.heldLocked() {
		in := s.serve.ready.pop()
		summon := s.summonLocked()
		s.mu.Unlock()
		if summon {
			s.ep.workers.give(s)
		}
		in.serve()
		s.mu.Lock()
		s.servedLocked(in)
		if s.serve.ready.head != nil {
			s.kickLocked()
			continue
		}
		s.flushLocked() // unlocks
		return
	}
	s.mu.Unlock()
}

// serve runs the handler.
func (in *incoming) serve() {
	s, use, m := in.s, in.use, &in.reply
	if !in.joined {
		use.req.Header, use.req.Body = in.asm.join()
	}
	m.id, m.in = in.id, in
	switch {
	case in.notify:
		in.notifyHandler()
	case use.ctx.over():
		m.typ, m.errHead = typeError, &errorHead{code: uint8(Timeout)}
	case errors.Is(use.ctx.causeOf(), errPeerCanceled):
		m.typ, m.errHead = typeError, &errorHead{code: uint8(Canceled)}
	default:
		reply, err := in.requestHandler()
		s.replyWith(in, m, reply, err)
	}
	use.ctx.end(context.Canceled)
}

// servedLocked queues the reply and gives back what the request has held.
func (s *Session) servedLocked(in *incoming) {
	s.ep.served.give(1)
	if in.charged > 0 {
		s.serve.bodies.give(in.charged)
	}
	if s.err != nil {
		s.ep.incoming.put(in)
		return
	}
	delete(s.serve.byID, in.id)
	if in.notify {
		s.serve.slots--
		s.settleLocked()
		s.ep.incoming.put(in)
		return
	}
	m := &in.reply
	if n := len(m.body); n > fastLimit && !s.serve.replies.take(n) {
		m.typ, m.body = typeError, nil
		m.errHead = &errorHead{code: uint8(Busy), served: true, limit: limitQueued, value: uint64(n), max: uint64(s.serve.replies.max), retry: 1000}
	}
	s.out.push(m)
}

// requestHandler and notifyHandler keep a panic of the handler from ending the
// node: what one peer has sent must not take it down. It is logged as the
// error of the node's own code that it is.
func (in *incoming) requestHandler() (reply []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			in.s.panicked(&in.use.req, p)
			reply, err = nil, errPanicked
		}
	}()
	return in.s.ep.cfg.Handler.ServeRequest(&in.use.ctx, &in.use.req)
}

func (in *incoming) notifyHandler() {
	defer func() {
		if p := recover(); p != nil {
			in.s.panicked(&in.use.req, p)
		}
	}()
	in.s.ep.cfg.Handler.ServeNotify(&in.use.ctx, &in.use.req)
}

var errPanicked = errors.New("the handler panicked")

func (s *Session) panicked(r *Request, value any) {
	s.ep.panicked("a handler panicked; the peer is told that it failed", s.peer, r.Kind, value)
}

func (e *Endpoint) panicked(what string, peer PeerKey, kind uint8, value any) {
	if log := e.complaints.next(); log != nil {
		log.Error(what, "peer", peer, "kind", kind, "panic", value, "stack", string(debug.Stack()))
	}
}

// replyWith turns what a handler returned into a message.
func (s *Session) replyWith(in *incoming, m *outMsg, reply []byte, err error) {
	m.typ, m.body = typeResponse, reply
	if err != nil {
		var app *PeerError
		m.typ, m.body = typeError, nil
		if errors.As(err, &app) {
			m.body = app.Body
		} else {
			m.errHead = s.failure(in, err)
		}
	}
	if limit := s.hello.maxMessage; uint64(len(m.body)) > uint64(limit) {
		m.typ = typeError
		m.errHead = &errorHead{code: uint8(TooLarge), served: true, limit: limitReply, value: uint64(len(m.body)), max: uint64(limit)}
		m.body = nil
	}
}

// failure is the error frame for a handler's error that is not its own.
func (s *Session) failure(in *incoming, err error) *errorHead {
	h := &errorHead{code: uint8(Unsupported), served: true}
	ended := errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
	switch {
	case err == errPanicked:
	case ended && errors.Is(in.use.ctx.causeOf(), errPeerCanceled):
		h.code = uint8(Canceled)
	case ended && in.use.ctx.over():
		h.code = uint8(Timeout)
	case ended && s.ep.contexts.cause() != nil:
		h.code, h.limit = uint8(Lost), limitStopping
	default:
		if log := s.ep.complaints.next(); log != nil {
			log.Error("a handler's error is not a PeerError and is not told to the peer",
				"peer", s.peer, "kind", in.use.req.Kind, "error", err)
		}
	}
	return h
}
