package transport

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Code classes the failures of a request.
type Code uint8

const (
	Busy        Code = iota + 1 // a limit was reached: Limit names it
	TooLarge                    // a part exceeds Max
	Timeout                     // the deadline passed
	Canceled                    // the caller gave up
	Unsupported                 // the peer's handler failed without an error of its own, or does not know the kind
	Lost                        // the session ended before the answer came
)

var codeNames = [...]string{Busy: "busy", TooLarge: "too large", Timeout: "timeout",
	Canceled: "canceled", Unsupported: "unsupported", Lost: "session lost"}

func (c Code) String() string {
	if int(c) < len(codeNames) && codeNames[c] != "" {
		return codeNames[c]
	}
	return fmt.Sprintf("code %d", uint8(c))
}

// RequestError says why a request has no reply.
type RequestError struct {
	Code Code
	// Remote tells that the peer said so.
	Remote bool
	// Sent tells whether any byte of the request may have reached the socket.
	// With Sent false the peer has not seen it.
	Sent bool
	// Served tells, with Remote, whether the peer's handler may have begun to
	// run. With Remote and not Served it has not, for certain.
	Served bool
	// Limit, Setting, Value and Max describe the limit with Busy and TooLarge:
	// its name in words, the field of Config that moves it (of the peer's
	// Config where Remote), what would have been needed and what is allowed.
	Limit, Setting string
	Value, Max     uint64
	// RetryAfter is when to try again with Busy; 0 where nobody knows.
	RetryAfter time.Duration
	Err        error // the cause, where there is one
}

func (e *RequestError) Error() string {
	var b strings.Builder
	b.WriteString("request: " + e.Code.String())
	if e.Remote {
		b.WriteString(", says the peer")
	}
	if e.Limit != "" {
		fmt.Fprintf(&b, ": %s", e.Limit)
		if e.Max > 0 {
			fmt.Fprintf(&b, " %d of at most %d", e.Value, e.Max)
		}
		if e.Setting != "" {
			fmt.Fprintf(&b, " (setting %s)", e.Setting)
		}
	}
	if e.RetryAfter > 0 {
		fmt.Fprintf(&b, ", try again in %s", e.RetryAfter)
	}
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	if e.Sent {
		b.WriteString(" [sent]")
	} else {
		b.WriteString(" [not sent]")
	}
	return b.String()
}

func (e *RequestError) Unwrap() error { return e.Err }

// PeerError is an application's error. A Handler returns it, and the requester
// gets it with the same Body, which the transport does not look into.
type PeerError struct{ Body []byte }

func (e *PeerError) Error() string {
	return fmt.Sprintf("the peer answered with an error of %d bytes", len(e.Body))
}

// Attempt is one address that was dialled.
type Attempt struct {
	Addr netip.AddrPort
	Err  error
}

// DialError says why there is no session: each address and its cause, in the
// order in which the attempts ended.
type DialError struct {
	Peer     PeerKey
	Attempts []Attempt
}

func (e *DialError) Error() string {
	if len(e.Attempts) == 0 {
		return "dial: there is no address"
	}
	var b strings.Builder
	b.WriteString("dial: no address answered")
	for i, a := range e.Attempts {
		sep := "; "
		if i == 0 {
			sep = ": "
		}
		fmt.Fprintf(&b, "%s%s: %v", sep, a.Addr, a.Err)
	}
	return b.String()
}

// Unwrap makes the causes visible to errors.Is and errors.As.
func (e *DialError) Unwrap() []error {
	errs := make([]error, len(e.Attempts))
	for i, a := range e.Attempts {
		errs[i] = a.Err
	}
	return errs
}

var (
	// ErrClosed: the endpoint ended (Run has returned or is about to).
	ErrClosed = errors.New("transport: the endpoint is closed")
	// ErrSelf: a node does not dial its own key.
	ErrSelf = errors.New("transport: this is our own key")
	// ErrNoAnswer: the other side ended the connection without a valid answer.
	// It has another key, is of another network or protocol version, or limits us.
	ErrNoAnswer = errors.New("no answer to the handshake: it is not this agent, not of this network or protocol version, or it refuses us for now")
	// ErrPeerDead: nothing was heard within the time that liveness allows.
	ErrPeerDead = errors.New("transport: the peer has fallen silent")
	// ErrProtocol is what every violation of the wire format by a peer wraps.
	ErrProtocol = errors.New("transport: the peer broke the protocol")
	// ErrSlowReader: the peer does not read its replies, and their memory is needed.
	ErrSlowReader = errors.New("transport: the peer does not read its replies")
	// ErrReplaced: the session was drained in favour of a newer one.
	ErrReplaced = errors.New("transport: the session was replaced by a newer one")
	// ErrPeerClosed: the peer said goodbye.
	ErrPeerClosed = errors.New("transport: the peer closed the session")
)
