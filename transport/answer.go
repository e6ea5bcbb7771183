package transport

import (
	"fmt"
	"time"
)

// onAnswer takes the first frame of a response or error.
func (s *Session) onAnswer(f frame) error {
	var head errorHead
	var total uint32
	var part []byte
	var err error
	if f.typ == typeError {
		head, part, err = parseError(f.payload)
		total = head.body
	} else {
		total, part, err = parseResponse(f.payload)
	}
	if err != nil {
		return err
	}
	if f.typ == typeError && head.code != codeApplication {
		if !f.last {
			return fmt.Errorf("%w: error frame without its end", ErrProtocol)
		}
		s.rx.answers = append(s.rx.answers, arrival{id: f.id, err: remoteError(&head)})
		return nil
	}
	if int64(total) > int64(s.ep.cfg.MaxMessage) {
		return fmt.Errorf("%w: a reply of %d bytes, we have announced to take %d", ErrProtocol, total, s.ep.cfg.MaxMessage)
	}
	a := answer{isError: f.typ == typeError, asm: assembly{total: int(total)}}
	if err := a.asm.check(0, len(part), f.last); err != nil {
		return err
	}
	if f.last {
		body := append(make([]byte, 0, len(part)), part...)
		if a.isError {
			s.rx.answers = append(s.rx.answers, arrival{id: f.id, err: &PeerError{Body: body}})
		} else {
			s.rx.answers = append(s.rx.answers, arrival{id: f.id, reply: body})
		}
		return nil
	}
	if err := s.flushBatch(); err != nil {
		return err
	}
	return s.openAnswer(f.id, &a, part)
}

// arrival is a complete answer.
type arrival struct {
	id    uint64
	reply []byte
	err   error
}

// deliverAnswers ends the calls whose answers a record held, under one lock.
func (s *Session) deliverAnswers() error {
	if len(s.rx.answers) == 0 {
		return nil
	}
	var err error
	s.mu.Lock()
	for i := range s.rx.answers {
		a := &s.rx.answers[i]
		if err == nil {
			err = s.answeredLocked(a.id, a.reply, a.err)
		}
		*a = arrival{}
	}
	s.afterAnswersLocked()
	s.rx.answers = s.rx.answers[:0]
	return err
}

// callOf finds the call that a frame of the peer answers. It is nil without an
// error when the session has ended.
func (s *Session) callOf(id uint64) (c *call, gone bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, false, nil
	}
	if c = s.calls.byID[id]; c == nil {
		return nil, false, fmt.Errorf("%w: an answer to %d, which we have not asked", ErrProtocol, id)
	}
	return c, c.gone, nil
}

func (s *Session) openAnswer(id uint64, a *answer, part []byte) error {
	c, gone, err := s.callOf(id)
	if c == nil {
		return err
	}
	if c.answer.open {
		return fmt.Errorf("%w: a second answer to %d", ErrProtocol, id)
	}
	c.answer = *a
	c.answer.open, c.answer.have, c.answer.skip = true, len(part), gone
	if gone {
		return nil
	}
	if c.answer.asm.begin(nil, part, a.asm.total, &s.serve.asm) != nil {
		s.noRoom(c)
	}
	return nil
}

func (s *Session) onMoreReply(f frame) error {
	c, gone, err := s.callOf(f.id)
	if c == nil {
		return err
	}
	a := &c.answer
	if !a.open {
		return fmt.Errorf("%w: the middle of an answer to %d without its beginning", ErrProtocol, f.id)
	}
	if err := a.asm.check(a.have, len(f.payload), f.last); err != nil {
		return err
	}
	a.have += len(f.payload)
	if gone && !a.skip {
		a.asm.release(&s.serve.asm)
		a.skip = true
	}
	if !a.skip && a.asm.add(f.payload, &s.serve.asm) != nil {
		s.noRoom(c)
	}
	if !f.last {
		return nil
	}
	if a.skip {
		return s.answered(f.id, nil, nil)
	}
	s.serve.asm.give(a.asm.held)
	return s.answered(f.id, nil, errInParts)
}

// noRoom gives up on an answer that the budget has no room for. The requester
// hears at once; the rest of the answer is skipped.
func (s *Session) noRoom(c *call) {
	c.answer.asm.release(&s.serve.asm)
	c.answer.skip = true
	total := c.answer.asm.total
	s.mu.Lock()
	defer s.unlockAndTell()
	if s.err != nil || c.gone {
		return
	}
	s.out.drop(&c.msg)
	c.gone = true
	s.calls.finish(c, nil, &RequestError{Code: Busy, Sent: true, Served: true,
		Limit: limitNames[limitReassembly].name, Setting: limitNames[limitReassembly].setting,
		Value: uint64(total), Max: uint64(s.ep.cfg.MaxReassembly), RetryAfter: time.Second})
}

// remoteError is the peer's error frame as a value.
func remoteError(h *errorHead) *RequestError {
	e := &RequestError{Code: Code(h.code), Remote: true, Sent: true, Served: h.served,
		Value: h.value, Max: h.max, RetryAfter: time.Duration(h.retry) * time.Millisecond}
	if int(h.limit) < len(limitNames) {
		e.Limit, e.Setting = limitNames[h.limit].name, limitNames[h.limit].setting
	}
	return e
}
