package transport

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

// errPeerCanceled is the cause of a served request's context after a cancel frame.
var errPeerCanceled = fmt.Errorf("the peer gave up: %w", context.Canceled)

// onRequest takes the first frame of a request or notify.
func (s *Session) onRequest(f frame) error {
	head, header, part, err := parseRequest(f.payload)
	if err != nil {
		return err
	}
	fits := int64(head.body) <= int64(s.ep.cfg.MaxMessage)
	if fits {
		whole := assembly{total: int(head.body)}
		if err := whole.check(0, len(part), f.last); err != nil {
			return err
		}
	}
	in := s.ep.incoming.get()
	in.s, in.id, in.notify, in.size = s, f.id, f.typ == typeNotify, head.body
	in.use = &served{req: Request{Peer: s.peer, Addr: s.addr, Kind: head.kind, ID: head.id}}
	in.use.ctx.ep = s.ep
	if head.remaining > 0 {
		in.use.ctx.deadline = s.rx.at.Add(time.Duration(head.remaining) * time.Millisecond)
	}
	if f.last && fits {
		in.complete = true
		if err := in.asm.begin(header, part, int(head.body), &s.serve.asm); err != nil {
			return err // can't be: what is complete takes nothing from the budget
		}
		s.rx.requests = append(s.rx.requests, in)
		return nil
	}
	if err := s.flushBatch(); err != nil {
		return err
	}
	s.mu.Lock()
	refusal, err := s.takeSlotLocked(in)
	s.mu.Unlock()
	switch {
	case err != nil:
		return err
	case refusal != nil:
		s.refuse(refusedBy(in, refusal))
	case in.asm.begin(header, part, int(head.body), &s.serve.asm) != nil:
		s.drop(in, s.reassemblyFull(head.body))
	}
	return nil
}

// admitRequests takes slots for the complete requests of a record, under one
// lock, and summons a worker for them.
func (s *Session) admitRequests() error {
	if len(s.rx.requests) == 0 {
		return nil
	}
	var refused []refused
	var err error
	s.mu.Lock()
	for i, in := range s.rx.requests {
		s.rx.requests[i] = nil
		if err != nil {
			continue
		}
		var refusal *errorHead
		if refusal, err = s.takeSlotLocked(in); refusal != nil {
			refused = append(refused, refusedBy(in, refusal))
			s.ep.incoming.put(in)
		}
	}
	summon := s.summonLocked()
	s.mu.Unlock()
	s.rx.requests = s.rx.requests[:0]
	if summon {
		s.ep.workers.give(s)
	}
	for _, r := range refused {
		s.refuse(r)
	}
	return err
}

// takeSlotLocked admits a request, and hands it to the workers if it is
// complete; or it says with which error to refuse it.
func (s *Session) takeSlotLocked(in *incoming) (*errorHead, error) {
	cfg := &s.ep.cfg
	if in.id <= s.serve.lastID {
		return nil, fmt.Errorf("%w: request %d after %d", ErrProtocol, in.id, s.serve.lastID)
	}
	s.serve.lastID = in.id
	switch {
	case s.err != nil:
		return nil, s.err
	case s.drain.peer:
		return nil, fmt.Errorf("%w: a request after a go-away", ErrProtocol)
	case int64(in.size) > int64(cfg.MaxMessage):
		return &errorHead{code: uint8(TooLarge), limit: limitMessage, value: uint64(in.size), max: uint64(cfg.MaxMessage)}, nil
	case s.serve.slots >= cfg.MaxRequests:
		return &errorHead{code: uint8(Busy), limit: limitRequests, value: uint64(s.serve.slots + 1), max: uint64(cfg.MaxRequests), retry: 100}, nil
	}
	if in.complete {
		if refusal := s.readyLocked(in); refusal != nil {
			return refusal, nil
		}
	} else {
		in.grew = s.ep.clock()
	}
	s.serve.slots++
	if s.serve.byID == nil {
		s.serve.byID = make(map[uint64]*incoming)
	}
	s.serve.byID[in.id] = in
	return nil, nil
}

// readyLocked hands a complete request to the workers, or says which limit
// forbids it. Bodies of up to fastLimit are not counted: MaxRequests bounds them.
func (s *Session) readyLocked(in *incoming) *errorHead {
	e := s.ep
	if !e.served.take(1) {
		return &errorHead{code: uint8(Busy), limit: limitServed, value: uint64(e.served.max + 1), max: uint64(e.served.max), retry: 100}
	}
	if in.size > fastLimit {
		if !s.serve.bodies.take(int(in.size)) {
			e.served.give(1)
			return &errorHead{code: uint8(Busy), limit: limitServing, value: uint64(in.size), max: uint64(s.serve.bodies.max), retry: 1000}
		}
		in.charged = int(in.size)
	}
	s.serve.ready.push(in)
	return nil
}

func (s *Session) reassemblyFull(size uint32) *errorHead {
	return &errorHead{code: uint8(Busy), limit: limitReassembly, value: uint64(size), max: uint64(s.ep.cfg.MaxReassembly), retry: 1000}
}

// maxRefusals bounds the refusals in the queue: a peer that keeps sending what
// is refused, and does not read, is not honest.
const maxRefusals = 1024

// refused is a request that was not admitted, and why.
type refused struct {
	id     uint64
	notify bool
	head   *errorHead
}

func refusedBy(in *incoming, h *errorHead) refused { return refused{in.id, in.notify, h} }

// refuse answers a request that was not admitted.
func (s *Session) refuse(r refused) {
	if r.notify {
		return
	}
	s.mu.Lock()
	full := s.out.refusals >= maxRefusals
	if s.err == nil && !full {
		s.out.push(&outMsg{typ: typeError, id: r.id, errHead: r.head, refusal: true})
	}
	s.mu.Unlock()
	if full {
		s.fail(fmt.Errorf("%w: it floods us with requests and does not read the refusals", ErrProtocol))
	}
	s.wake()
}

// drop ends a request that is not complete. in is no longer the caller's.
func (s *Session) drop(in *incoming, h *errorHead) {
	in.asm.release(&s.serve.asm)
	s.mu.Lock()
	delete(s.serve.byID, in.id)
	s.serve.slots--
	s.settleLocked()
	s.mu.Unlock()
	s.refuse(refusedBy(in, h))
	s.ep.incoming.put(in)
}

// incomingOf finds the peer's message that a frame continues. It is nil for
// one that has been refused or is over.
func (s *Session) incomingOf(id uint64) (in *incoming, complete bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id > s.serve.lastID {
		return nil, false, fmt.Errorf("%w: message %d has not begun", ErrProtocol, id)
	}
	in = s.serve.byID[id]
	if in == nil {
		return nil, false, nil
	}
	if !in.complete {
		in.grew = s.ep.clock()
	}
	return in, in.complete, nil
}

// onMore takes a further part of a request or notify.
func (s *Session) onMore(f frame) error {
	in, complete, err := s.incomingOf(f.id)
	if in == nil {
		return err
	}
	if complete {
		return fmt.Errorf("%w: message %d goes on after its end", ErrProtocol, f.id)
	}
	if err := in.asm.check(in.asm.have, len(f.payload), f.last); err != nil {
		return err
	}
	if in.asm.add(f.payload, &s.serve.asm) != nil {
		s.drop(in, s.reassemblyFull(uint32(in.asm.total)))
		return nil
	}
	if !f.last {
		return nil
	}
	s.mu.Lock()
	refusal := s.readyLocked(in)
	in.complete = refusal == nil
	summon := s.summonLocked()
	if in.complete { // no worker has it before the lock is free
		s.serve.asm.give(in.asm.held)
		in.asm.held = 0
	}
	s.mu.Unlock()
	if summon {
		s.ep.workers.give(s)
	}
	if refusal != nil {
		s.drop(in, refusal)
	}
	return nil
}

// onCancel ends the context of what the peer has given up. Its answer, which
// must come, frees the peer's slot.
func (s *Session) onCancel(id uint64) error {
	s.mu.Lock()
	in := s.serve.byID[id]
	if id > s.serve.lastID || in == nil {
		defer s.mu.Unlock()
		if id > s.serve.lastID {
			return fmt.Errorf("%w: message %d has not begun", ErrProtocol, id)
		}
		return nil
	}
	use, complete := in.use, in.complete
	s.mu.Unlock()
	if complete { // in may be another request's from here on
		use.ctx.end(errPeerCanceled)
	} else {
		s.drop(in, &errorHead{code: uint8(Canceled)})
	}
	return nil
}

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
	use.req.Header, use.req.Body = in.asm.join()
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
			in.panicked(p)
			reply, err = nil, errPanicked
		}
	}()
	return in.s.ep.cfg.Handler.ServeRequest(&in.use.ctx, &in.use.req)
}

func (in *incoming) notifyHandler() {
	defer func() {
		if p := recover(); p != nil {
			in.panicked(p)
		}
	}()
	in.s.ep.cfg.Handler.ServeNotify(&in.use.ctx, &in.use.req)
}

var errPanicked = errors.New("the handler panicked")

func (in *incoming) panicked(value any) {
	if log := in.s.ep.complaints.next(); log != nil {
		log.Error("a handler panicked; the peer is told that it failed", "peer", in.s.peer,
			"kind", in.use.req.Kind, "panic", value, "stack", string(debug.Stack()))
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
	case ended && s.ep.serveCtx.Err() != nil:
		h.code, h.limit = uint8(Lost), limitStopping
	default:
		if log := s.ep.complaints.next(); log != nil {
			log.Error("a handler's error is not a PeerError and is not told to the peer",
				"peer", s.peer, "kind", in.use.req.Kind, "error", err)
		}
	}
	return h
}
