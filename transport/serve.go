package transport

import (
	"fmt"
	"time"
)

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
	in.use = new(served)
	in.use.init(s, &head)
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
// lock. Small ones go to a handler that takes them as they come, the others to
// workers.
func (s *Session) admitRequests() error {
	if len(s.rx.requests) == 0 {
		return nil
	}
	var refused []refused
	var err error
	starting := s.rx.requests[:0]
	s.mu.Lock()
	for _, in := range s.rx.requests {
		if err != nil {
			continue
		}
		var refusal *errorHead
		switch refusal, err = s.takeSlotLocked(in); {
		case refusal != nil:
			refused = append(refused, refusedBy(in, refusal))
			s.ep.incoming.put(in)
		case err != nil:
		case s.ep.starter != nil && !in.notify && in.size <= fastLimit && !s.heldLocked():
			starting = append(starting, in)
		default:
			s.serve.ready.push(in)
		}
	}
	summon := s.summonLocked()
	s.mu.Unlock()
	rest := starting[:0]
	for _, in := range starting {
		if err != nil || !in.start(s.ep.starter) {
			rest = append(rest, in)
		}
	}
	if len(rest) > 0 {
		s.mu.Lock()
		for _, in := range rest {
			s.serve.ready.push(in)
		}
		summon = s.summonLocked() || summon
		s.mu.Unlock()
	}
	clear(s.rx.requests)
	s.rx.requests = s.rx.requests[:0]
	if summon {
		s.ep.workers.give(s)
	}
	for _, r := range refused {
		s.refuse(r)
	}
	return err
}

// takeSlotLocked admits a request, or says with which error to refuse it.
func (s *Session) takeSlotLocked(in *incoming) (*errorHead, error) {
	cfg := &s.ep.cfg
	if in.id <= s.serve.lastID {
		return nil, fmt.Errorf("%w: request %d after %d", ErrProtocol, in.id, s.serve.lastID)
	}
	s.serve.lastID = in.id
	if in.use.req.Kind != cfg.Background {
		s.use.messages++
	}
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
		if refusal := s.chargeLocked(in); refusal != nil {
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

// chargeLocked counts a complete request, or says which limit forbids it. Bodies
// of up to fastLimit are not counted: MaxRequests bounds them.
func (s *Session) chargeLocked(in *incoming) *errorHead {
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
	refusal := s.chargeLocked(in)
	in.complete = refusal == nil
	if in.complete {
		s.serve.ready.push(in)
	}
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
