package transport

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

// Early data: one read rides in message 1, and its answer in message 2, so that
// who has no session is answered two round trips after the SYN. Both are
// extensions of the hello (hello.go):
//
//	type 1 in message 1, a question: kind 1 | body, at most MaxEarly
//	type 1 in message 2, its answer: body
//	type 2, padding: zeros
//	type 3, quiet: seconds 2 (hello.go)
//
// Message 2 is never longer than message 1, so that nobody can be flooded in
// another's name with more than was sent: who asks pads message 1 to the length
// of the answer that it hopes for, and an answer that does not fit is left out.
const (
	extEarly      = 1
	extPadding    = 2
	extQuiet      = 3
	extensionHead = 2 + 2

	// MaxEarly bounds the body of a read that rides in message 1, in bytes.
	MaxEarly = 1024
	// earlyMessage1 is the greatest length of a message 1 with a question, its own
	// length field left out. With that field it is 4,096 bytes: three segments, well within
	// TCP's initial window of ten (RFC 6928). It leaves 2,931 bytes to the answer.
	earlyMessage1 = 4096 - 2
)

// EarlyReader is a Handler that answers reads before their session begins.
type EarlyReader interface {
	// ReadEarly answers r in at most max bytes, or returns nil: then whoever asks
	// does so again over the session. It must change nothing, neither what the
	// node does nor what it counts of its peers: r may be a replay, which only
	// EarlyBegan rules out. It must not wait: it takes the turn of one of as many
	// handshakes as there are processors. A panic is logged, and no answer.
	ReadEarly(r *EarlyRead, max int) []byte
	// EarlyBegan tells that r, which was answered, was no replay: its session has
	// begun. It is called once, before any other request of the session, and must
	// not wait.
	EarlyBegan(r *EarlyRead)
}

// EarlyRead is a read that came in message 1.
type EarlyRead struct {
	Peer PeerKey
	// Addr is the other end of the connection, as this side sees it.
	Addr netip.AddrPort
	Kind uint8
	Body []byte
	// Answered is how many bytes the answer had, for EarlyBegan.
	Answered int
}

// question is a read of ours on its way.
type question struct {
	kind   uint8
	body   []byte
	answer int // bytes hoped for; 0: as many as there is room for
}

// earlyAnswer is what a session's message 2 brought.
type earlyAnswer struct {
	to   *question
	body []byte // not nil
}

func appendExtension(b []byte, typ uint16, value ...[]byte) []byte {
	n := 0
	for _, v := range value {
		n += len(v)
	}
	b = binary.BigEndian.AppendUint16(b, typ)
	b = binary.BigEndian.AppendUint16(b, uint16(n))
	for _, v := range value {
		b = append(b, v...)
	}
	return b
}

// extensions are those of a message 1 with the hello h that asks q; none where q is nil.
func (q *question) extensions(h hello) []byte {
	if q == nil {
		return nil
	}
	most := earlyMessage1
	if q.answer > 0 { // the other side's hello is taken to be as long as h
		most = min(most, minMessage2+h.extra()+extensionHead+q.answer)
	}
	room := earlyMessage1 - minMessage1 - h.extra()
	b := appendExtension(make([]byte, 0, room), extEarly, []byte{q.kind}, q.body)
	return appendExtension(b, extPadding, make([]byte, max(0, most-minMessage1-h.extra()-len(b)-extensionHead)))
}

// answerRoom is how long the answer may be, beside the hello h, to a question in a
// message 1 of n bytes, lengths left out; less than 0 where there is no room for any.
func answerRoom(n int, h hello) int {
	return min(n, maxMessage2) - minMessage2 - h.extra() - extensionHead
}

// walkExtensions calls f for each extension, until one is refused.
func walkExtensions(b []byte, f func(typ uint16, value []byte) error) error {
	for len(b) > 0 {
		if len(b) < extensionHead {
			return fmt.Errorf("%w: hello ends within an extension", ErrProtocol)
		}
		end := extensionHead + int(binary.BigEndian.Uint16(b[2:]))
		if len(b) < end {
			return fmt.Errorf("%w: hello ends within an extension", ErrProtocol)
		}
		if err := f(binary.BigEndian.Uint16(b), b[extensionHead:end:end]); err != nil {
			return err
		}
		b = b[end:]
	}
	return nil
}

// parseExtensions returns how often the peer sends on a quiet session, 0 if it does
// not say, and the value of the early data, or nil if there is none. What it does not
// know it skips.
func parseExtensions(b []byte) (quiet uint16, early []byte, err error) {
	err = walkExtensions(b, func(typ uint16, value []byte) error {
		switch {
		case typ == extEarly && early != nil:
			return fmt.Errorf("%w: early data twice", ErrProtocol)
		case typ == extEarly:
			early = value
		case typ == extQuiet && (quiet != 0 || len(value) != 2 || binary.BigEndian.Uint16(value) == 0):
			return fmt.Errorf("%w: quiet of %d bytes, or zero, or twice", ErrProtocol, len(value))
		case typ == extQuiet:
			quiet = binary.BigEndian.Uint16(value)
		case typ == extPadding && len(bytes.TrimLeft(value, "\x00")) > 0:
			return fmt.Errorf("%w: padding that is not zero", ErrProtocol)
		}
		return nil
	})
	return quiet, early, err
}

// answerEarly returns the extensions of message 2: the answer to what message 1
// of n bytes asked, if there is one, beside the hello h. r.read has taken it.
func (e *Endpoint) answerEarly(r *responder, h hello, from netip.AddrPort, n int) (ext []byte) {
	room := answerRoom(n, h)
	if e.early == nil || len(r.early) == 0 || len(r.early) > 1+MaxEarly || room < 0 {
		return nil
	}
	q := &EarlyRead{Peer: r.agent, Addr: from, Kind: r.early[0], Body: r.early[1:]}
	defer func() {
		if p := recover(); p != nil {
			e.panicked("a handler panicked at early data; the peer asks again over the session", q.Peer, q.Kind, p)
			ext = nil
		}
	}()
	answer := e.early.ReadEarly(q, room)
	if answer == nil || len(answer) > room {
		return nil
	}
	q.Answered = len(answer)
	r.answered = q
	return appendExtension(make([]byte, 0, extensionHead+len(answer)), extEarly, answer)
}

// earlyBegan tells the handler that what it answered was asked in earnest.
func (e *Endpoint) earlyBegan(q *EarlyRead) {
	if q == nil {
		return
	}
	defer func() {
		if p := recover(); p != nil {
			e.panicked("a handler panicked when told that an early read was in earnest", q.Peer, q.Kind, p)
		}
	}()
	e.early.EarlyBegan(q)
}

// askTries is how often Ask begins anew because a session ended before the
// question left.
const askTries = 3

// Ask asks a read of peer and waits for the reply: over the live session, or
// while addrs are dialled as Session does. The question of who begins a dial
// rides in message 1, where the peer may answer it at once and more than once,
// and anybody who records it and learns the peer's key one day can read it:
// Ask is for questions that change nothing, and are no secret. What the peer did
// not answer there, what has a header or a body over MaxEarly, and what others
// ask while the dial is under way goes over the session. The session stays.
//
// Errors are those of Session and Session.Request.
func (e *Endpoint) Ask(ctx context.Context, peer PeerKey, addrs []netip.AddrPort, o Outgoing) (reply []byte, s *Session, err error) {
	var q *question
	if len(o.Header) == 0 && len(o.Body) <= MaxEarly {
		q = &question{o.Kind, bytes.Clone(o.Body), o.Answer} // the dial may outlive the call
	}
	for try := 1; ; try++ {
		var answer []byte
		if s, answer, _, err = e.session(ctx, peer, addrs, q); err != nil {
			return nil, nil, err
		}
		if answer != nil {
			return answer, s, nil
		}
		reply, err = s.Request(ctx, o)
		var re *RequestError
		if try == askTries || !errors.As(err, &re) || re.Code != Lost || re.Sent || ctx.Err() != nil {
			return reply, s, err
		}
	}
}
