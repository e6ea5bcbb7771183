package transport

import (
	"context"
	"errors"
	"fmt"
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
	in := &incoming{s: s, id: f.id, notify: f.typ == typeNotify,
		req: Request{Peer: s.peer, Addr: s.addr, Kind: head.kind, ID: head.id}}
	in.asm.total = int(head.body) // for check; begin sets it anew
	in.ctx.parent = s.ep.serveCtx
	if head.remaining > 0 {
		in.ctx.deadline = time.Now().Add(time.Duration(head.remaining) * time.Millisecond)
	}
	if int64(head.body) <= int64(s.ep.cfg.MaxMessage) {
		if err := in.asm.check(0, len(part), f.last); err != nil {
			return err
		}
	}
	if f.last && int64(head.body) <= int64(s.ep.cfg.MaxMessage) {
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
	refusal, err := s.takeSlotLocked(in, head.body)
	s.mu.Unlock()
	switch {
	case err != nil:
		return err
	case refusal != nil:
		s.refuse(in, refusal)
	case in.asm.begin(header, part, int(head.body), &s.serve.asm) != nil:
		s.drop(in, s.reassemblyFull(head.body))
	}
	return nil
}

// admitRequests takes slots for the complete requests of a record, under one
// lock, and hands them to the handler.
func (s *Session) admitRequests() error {
	if len(s.rx.requests) == 0 {
		return nil
	}
	var refused []*errorHead
	var err error
	n := 0
	s.mu.Lock()
	for _, in := range s.rx.requests {
		var refusal *errorHead
		if refusal, err = s.takeSlotLocked(in, uint32(in.asm.total-in.asm.prefix)); err != nil {
			break
		}
		if refusal != nil && refused == nil {
			refused = make([]*errorHead, len(s.rx.requests))
		}
		if refusal != nil {
			refused[n] = refusal
		}
		n++
	}
	s.mu.Unlock()
	for i, in := range s.rx.requests {
		switch {
		case i >= n:
		case refused != nil && refused[i] != nil:
			s.refuse(in, refused[i])
		default:
			in.hand()
		}
		s.rx.requests[i] = nil
	}
	s.rx.requests = s.rx.requests[:0]
	return err
}

// takeSlotLocked admits a request, or says with which error to refuse it.
func (s *Session) takeSlotLocked(in *incoming, size uint32) (*errorHead, error) {
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
	case int64(size) > int64(cfg.MaxMessage):
		return &errorHead{code: uint8(TooLarge), limit: limitMessage, value: uint64(size), max: uint64(cfg.MaxMessage)}, nil
	case s.serve.slots >= cfg.MaxRequests:
		return &errorHead{code: uint8(Busy), limit: limitRequests, value: uint64(s.serve.slots + 1), max: uint64(cfg.MaxRequests), retry: 100}, nil
	case s.out.bytes > cfg.MaxQueued:
		return &errorHead{code: uint8(Busy), limit: limitQueued, value: uint64(s.out.bytes), max: uint64(cfg.MaxQueued), retry: 1000}, nil
	}
	s.serve.slots++
	if !in.complete {
		in.grew = s.ep.clock()
	}
	if s.serve.byID == nil {
		s.serve.byID = make(map[uint64]*incoming)
	}
	s.serve.byID[in.id] = in
	return nil, nil
}

func (s *Session) reassemblyFull(size uint32) *errorHead {
	return &errorHead{code: uint8(Busy), limit: limitReassembly, value: uint64(size), max: uint64(s.ep.cfg.MaxReassembly), retry: 1000}
}

// maxRefusals bounds the refusals in the queue: a peer that keeps sending what
// is refused, and does not read, is not honest.
const maxRefusals = 1024

// refuse answers a request that was not admitted.
func (s *Session) refuse(in *incoming, h *errorHead) {
	if in.notify {
		return
	}
	s.mu.Lock()
	full := s.out.refusals >= maxRefusals
	if s.err == nil && !full {
		s.out.push(&outMsg{typ: typeError, id: in.id, errHead: h, refusal: true})
	}
	s.mu.Unlock()
	if full {
		s.fail(fmt.Errorf("%w: it floods us with requests and does not read the refusals", ErrProtocol))
	}
	s.wake()
}

// drop ends a request that is not complete.
func (s *Session) drop(in *incoming, h *errorHead) {
	in.asm.release(&s.serve.asm)
	s.mu.Lock()
	delete(s.serve.byID, in.id)
	s.serve.slots--
	s.settleLocked()
	s.mu.Unlock()
	s.refuse(in, h)
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
	if f.last {
		s.serve.asm.give(in.asm.held)
		s.mu.Lock()
		in.complete = true
		s.mu.Unlock()
		in.hand()
	}
	return nil
}

// onCancel ends the context of what the peer has given up. Its answer, which
// must come, frees the peer's slot.
func (s *Session) onCancel(id uint64) error {
	in, complete, err := s.incomingOf(id)
	switch {
	case in == nil:
		return err
	case complete:
		in.ctx.end(errPeerCanceled)
	default:
		s.drop(in, &errorHead{code: uint8(Canceled)})
	}
	return nil
}

// hand gives a complete message to the handler. The endpoint waits for the goroutine.
func (in *incoming) hand() {
	in.s.ep.wg.Add(1)
	go in.run()
}

func (in *incoming) run() {
	s := in.s
	defer s.ep.wg.Done()
	h := s.ep.cfg.Handler
	in.req.Header, in.req.Body = in.asm.join()
	m := &in.reply
	m.id, m.ownsSlot = in.id, true
	if in.notify {
		h.ServeNotify(&in.ctx, &in.req)
	} else {
		reply, err := h.ServeRequest(&in.ctx, &in.req)
		s.replyWith(in, m, reply, err)
	}
	in.ctx.end(nil)
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return
	}
	delete(s.serve.byID, in.id)
	if in.notify {
		s.serve.slots--
		s.settleLocked()
	} else {
		s.out.push(m)
	}
	s.flushLocked()
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
	switch d := in.ctx.deadline; {
	case ended && errors.Is(in.ctx.causeOf(), errPeerCanceled):
		h.code = uint8(Canceled)
	case ended && !d.IsZero() && !time.Now().Before(d):
		h.code = uint8(Timeout)
	case ended && s.ep.serveCtx.Err() != nil:
		h.code, h.limit = uint8(Lost), limitStopping
	default:
		s.ep.cfg.Log.Error("a handler's error is not a PeerError and is not told to the peer",
			"peer", in.req.Peer, "kind", in.req.Kind, "error", err)
	}
	return h
}
