package transport

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// call is a request or notify of ours, from admission to its end.
type call struct {
	msg      outMsg
	deadline time.Time     // zero = none
	done     chan struct{} // capacity 1: filled once, when reply and err are set

	// Guarded by the session's mu until done.
	reply   []byte
	err     error
	ended   bool // reply and err are set
	sent    bool // a byte of it may have reached the socket
	waiting bool // for admission
	gone    bool // the requester has left or will; the answer only frees the slot

	receiver Receiver // of a request that nobody waits for in Request; static

	answer answer // owned by the reader
}

// answer is a response or error that arrives in pieces.
type answer struct {
	asm     assembly
	have    int // bytes of the body that have arrived, skipped ones included
	open    bool
	isError bool
	skip    bool // nobody wants it any more
}

// callPool belongs to an endpoint.
type callPool struct{ pool sync.Pool }

func (p *callPool) get(typ uint8, o *Outgoing) *call {
	c, _ := p.pool.Get().(*call)
	if c == nil {
		c = &call{done: make(chan struct{}, 1)}
	}
	c.msg = outMsg{call: c, typ: typ, kind: o.Kind, messageID: o.ID, header: o.Header, body: o.Body}
	return c
}

// put takes back a call that nothing refers to any more.
func (p *callPool) put(c *call) {
	*c = call{done: c.done}
	p.pool.Put(c)
}

// calls are ours; the session's mu guards them.
type calls struct {
	byID     map[uint64]*call // requests that have begun
	inFlight int              // admitted and not answered
	max      int              // what the peer serves at once
	waiting  list             // for admission
	tell     []*call          // have ended; their receivers hear of it without the lock
}

// finish ends a call. Whoever holds the lock calls unlockAndTell then.
func (cs *calls) finish(c *call, reply []byte, err error) {
	c.reply, c.err, c.ended = reply, err, true
	if c.receiver != nil {
		cs.tell = append(cs.tell, c)
		return
	}
	c.done <- struct{}{}
}

// unlockAndTell unlocks s.mu and tells the receivers of calls that have ended.
func (s *Session) unlockAndTell() {
	tell := s.calls.tell
	s.calls.tell = nil
	s.mu.Unlock()
	for _, c := range tell {
		s.tell(c)
	}
}

func (cs *calls) failAll(cause error) {
	for _, c := range cs.byID {
		if !c.gone {
			c.gone = true
			cs.finish(c, nil, &RequestError{Code: Lost, Sent: true, Err: cause})
		}
	}
	cs.byID, cs.inFlight = nil, 0
	cs.moveWaiting()
}

// moveWaiting sends what has not been admitted elsewhere.
func (cs *calls) moveWaiting() {
	for cs.waiting.head != nil {
		c := cs.waiting.pop().call
		c.waiting = false
		cs.finish(c, nil, errMoved)
	}
}

// Request sends a request and waits for its reply. The ctx's deadline travels
// with it, and its end cancels the peer's handler. The error is a *PeerError
// (the peer's handler returned it) or a *RequestError.
//
// While the peer serves as many requests as it allows, or MaxQueued bytes wait
// to be written, Request waits for its turn.
func (s *Session) Request(ctx context.Context, o Outgoing) ([]byte, error) {
	return s.roundTrip(ctx, typeRequest, &o)
}

// Notify sends a one-way message and returns when it is on its way. A peer
// that serves as much as it can drops it. The error is a *RequestError.
func (s *Session) Notify(ctx context.Context, o Outgoing) error {
	_, err := s.roundTrip(ctx, typeNotify, &o)
	return err
}

func (s *Session) roundTrip(ctx context.Context, typ uint8, o *Outgoing) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, contextError(ctx, false)
	}
	for {
		if err := s.checkSize(o); err != nil {
			return nil, err
		}
		reply, err := s.attempt(ctx, typ, o)
		if err != errMoved {
			return reply, err
		}
		next, ok := s.ep.Live(s.peer)
		if !ok || next == s {
			return nil, &RequestError{Code: Lost, Err: s.whyNot()}
		}
		s = next
	}
}

// whyNot says why the session takes no request.
func (s *Session) whyNot() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	return s.farewell(s.drain.reason)
}

func (s *Session) checkSize(o *Outgoing) error {
	if len(o.Header) > MaxHeader {
		return &RequestError{Code: TooLarge, Limit: "bytes of a header", Value: uint64(len(o.Header)), Max: MaxHeader}
	}
	limit := uint64(s.ep.cfg.MaxMessage)
	theirs := uint64(s.hello.maxMessage)
	if uint64(len(o.Body)) > min(limit, theirs) {
		return &RequestError{Code: TooLarge, Remote: theirs < limit, Limit: limitNames[limitMessage].name,
			Setting: "MaxMessage", Value: uint64(len(o.Body)), Max: min(limit, theirs)}
	}
	return nil
}

// errInParts: the answer is complete and lies in call.answer, to be joined by
// the requester.
var errInParts = errors.New("answer in parts")

// contextError is what a request that ctx ended returns.
func contextError(ctx context.Context, sent bool) error {
	code := Canceled
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		code = Timeout
	}
	return &RequestError{Code: code, Sent: sent, Err: context.Cause(ctx)}
}

func (s *Session) attempt(ctx context.Context, typ uint8, o *Outgoing) ([]byte, error) {
	c := s.ep.idle.get(typ, o)
	c.deadline, _ = ctx.Deadline()
	s.mu.Lock()
	if err := s.admitLocked(c); err != nil {
		s.mu.Unlock()
		s.ep.idle.put(c)
		return nil, err
	}
	s.flushLocked() // unlocks
	select {
	case <-c.done:
	case <-ctx.Done():
		if !s.abandon(c) {
			return nil, contextError(ctx, c.sent)
		}
		<-c.done
	}
	reply, err := c.result()
	if !c.gone { // else the reader may still hold it
		s.ep.idle.put(c)
	}
	return reply, err
}

// result is what the call has come to. Joining a large reply takes milliseconds.
func (c *call) result() (reply []byte, err error) {
	if c.err != errInParts {
		return c.reply, c.err
	}
	_, reply = c.answer.asm.join()
	if c.answer.isError {
		return nil, &PeerError{Body: reply}
	}
	return reply, nil
}

// admitLocked queues the call or lets it wait for its turn.
func (s *Session) admitLocked(c *call) error {
	if s.err != nil || s.drain.on {
		return errMoved
	}
	if s.calls.waiting.head == nil && s.hasRoomLocked(c) {
		s.calls.inFlight++
		s.out.push(&c.msg)
		return nil
	}
	if n := s.calls.waiting.n; n >= s.ep.cfg.MaxWaiting {
		return &RequestError{Code: Busy, Limit: "requests waiting for their turn", Setting: "MaxWaiting",
			Value: uint64(n + 1), Max: uint64(n), RetryAfter: time.Second}
	}
	c.waiting = true
	s.calls.waiting.push(&c.msg)
	return nil
}

func (s *Session) hasRoomLocked(c *call) bool {
	return s.calls.inFlight < s.calls.max &&
		(s.out.bytes == 0 || s.out.bytes+len(c.msg.header)+len(c.msg.body) <= s.ep.cfg.MaxQueued)
}

// admitWaitingLocked admits those whose turn has come.
func (s *Session) admitWaitingLocked() {
	for s.calls.waiting.head != nil && s.hasRoomLocked(s.calls.waiting.head.call) {
		c := s.calls.waiting.pop().call
		c.waiting = false
		s.calls.inFlight++
		s.out.push(&c.msg)
	}
}

// abandon ends a call whose requester leaves. It reports whether the call has
// ended meanwhile; if not, c belongs to the session and no longer refers to
// the requester's memory.
func (s *Session) abandon(c *call) (ended bool) {
	s.mu.Lock()
	if c.ended {
		s.mu.Unlock()
		return true
	}
	switch {
	case c.waiting:
		s.calls.waiting.remove(&c.msg)
	case !c.msg.started:
		s.out.drop(&c.msg)
		s.calls.inFlight--
	default:
		c.gone = true
		s.out.drop(&c.msg)
		s.out.push(&outMsg{typ: typeCancel, id: c.msg.id, code: uint8(Canceled)})
		if c.msg.typ == typeNotify { // nothing will come back
			s.calls.inFlight--
		}
	}
	c.msg.header, c.msg.body = nil, nil
	s.admitWaitingLocked()
	s.settleLocked()
	s.mu.Unlock()
	s.wake()
	return false
}

// began is told by the queue that c's first frame is packed.
func (s *Session) beganLocked(m *outMsg) {
	m.call.sent = true
	if m.kind != s.ep.cfg.Background {
		s.use.messages++
	}
	if m.typ == typeRequest {
		if s.calls.byID == nil {
			s.calls.byID = make(map[uint64]*call)
		}
		s.calls.byID[m.id] = m.call
	}
}

// endedLocked is told by the queue that all of m is packed.
func (s *Session) endedLocked(m *outMsg) {
	switch {
	case m.in != nil:
		s.serve.slots--
		if n := len(m.body); n > fastLimit {
			s.serve.replies.give(n)
		}
		s.ep.incoming.put(m.in)
	case m.typ == typePong:
		s.pings.pongs--
	case m.typ == typeNotify:
		s.calls.inFlight--
		s.calls.finish(m.call, nil, nil) // m is the requester's again
	}
}

// answered ends a call of ours with what the peer said.
func (s *Session) answered(id uint64, reply []byte, err error) error {
	s.mu.Lock()
	e := s.answeredLocked(id, reply, err)
	s.afterAnswersLocked()
	return e
}

func (s *Session) answeredLocked(id uint64, reply []byte, err error) error {
	c := s.calls.byID[id]
	if c == nil {
		if s.err != nil {
			return nil
		}
		return fmt.Errorf("%w: an answer to %d, which we have not asked", ErrProtocol, id)
	}
	delete(s.calls.byID, id)
	s.calls.inFlight--
	if c.msg.off < len(c.msg.body) { // refused before all of it was sent
		s.out.drop(&c.msg)
	}
	if !c.gone {
		s.calls.finish(c, reply, err)
	}
	return nil
}

// afterAnswersLocked uses what answers have made free. It unlocks s.mu.
func (s *Session) afterAnswersLocked() {
	queued := s.calls.waiting.head != nil || s.drain.on
	if queued {
		s.admitWaitingLocked()
		s.settleLocked()
	}
	s.unlockAndTell()
	if queued {
		s.wake()
	}
}
