package sdk

import (
	"fmt"
	"strings"
	"time"
)

// Code is one of the closed set of errors that a message can end with. A Code
// is itself an error, to be used with errors.Is:
//
//	if errors.Is(err, sdk.Unreachable) { … }
type Code uint8

const (
	UnknownAgent   Code = iota + 1 // no address record in the DHT, the cache or the settings
	Unreachable                    // there are addresses, none answered
	Refused                        // blocked, not granted, grant expired or revoked
	NoHandler                      // the agent is there, this DNA or function is not running there
	Busy                           // a limit was reached; says which and when to try again
	TooLarge                       // over a size limit; carries both figures
	Timeout                        // the deadline passed
	Canceled                       // the caller gave up
	HandlerFailed                  // the handler returned an error; carries its code and text
	HandlerCrashed                 // the process died while it ran; its commits are rolled back
	ChainMoved                     // strict ordering, and the chain grew meanwhile
	OutcomeUnknown                 // the session and every retry were lost after the message left
)

var codeNames = [...]string{
	UnknownAgent: "unknown agent", Unreachable: "unreachable", Refused: "refused", NoHandler: "no handler",
	Busy: "busy", TooLarge: "too large", Timeout: "timeout", Canceled: "canceled",
	HandlerFailed: "handler failed", HandlerCrashed: "handler crashed", ChainMoved: "chain moved",
	OutcomeUnknown: "outcome unknown",
}

// Valid tells whether c is one of the closed set.
func (c Code) Valid() bool { return c >= UnknownAgent && c <= OutcomeUnknown }

func (c Code) String() string {
	if !c.Valid() {
		return fmt.Sprintf("error code %d", uint8(c))
	}
	return codeNames[c]
}

// Error makes a Code usable as the target of errors.Is.
func (c Code) Error() string { return c.String() }

// Side says where an error arose, seen from whoever holds it.
type Side uint8

const (
	SideCaller        Side = iota + 1 // the caller itself: it gave up, or asked for what can't be
	SideNode                          // this agent's node
	SideHandler                       // this agent's handler
	SideRemoteNode                    // the other agent's node
	SideRemoteHandler                 // the other agent's handler
)

var sideNames = [...]string{
	SideCaller: "caller", SideNode: "this node", SideHandler: "this agent's handler",
	SideRemoteNode: "the other node", SideRemoteHandler: "the other agent's handler",
}

func (s Side) Valid() bool { return s >= SideCaller && s <= SideRemoteHandler }

func (s Side) String() string {
	if !s.Valid() {
		return fmt.Sprintf("side %d", uint8(s))
	}
	return sideNames[s]
}

// Delivered says whether the message reached the other agent's receive.
type Delivered uint8

const (
	DeliveredUnknown Delivered = iota
	DeliveredNo
	DeliveredYes
)

func (d Delivered) String() string {
	switch d {
	case DeliveredNo:
		return "no"
	case DeliveredYes:
		return "yes"
	}
	return "unknown"
}

// Limit is the limit that an error is about.
type Limit struct {
	Name    string // what is limited, such as "payload"
	Setting string // the setting that moves it, such as "max-payload"; empty if none does
	Value   uint64 // what was asked for; 0 if it does not apply
	Max     uint64
	// RetryAfter is how long to wait before a retry; 0 if unknown.
	RetryAfter time.Duration
}

// Attempt is one address that was tried, and why it did not answer.
type Attempt struct {
	Address string
	Cause   string
}

// Error is how a message ends that was not answered. It is the same value on
// every side of every boundary: handler, node, wire, control API, CLI.
type Error struct {
	Code      Code
	Side      Side
	Delivered Delivered
	// Retry tells whether the same message may be sent again without the risk
	// that it takes effect twice.
	Retry bool
	// Text says what failed and what to do, in one line.
	Text string
	// HandlerCode is the handler's own code, with HandlerFailed. Codes that
	// begin with "parley." are the node's and the SDK's: see Code constants.
	HandlerCode string
	Limit       *Limit    // with Busy, TooLarge, Timeout
	Attempts    []Attempt // with Unreachable; at most MaxAttempts
}

// MaxAttempts bounds Error.Attempts.
const MaxAttempts = 16

// Handler codes of the node and the SDK, with HandlerFailed.
const (
	HandlerCodePanic    = "parley.panic"    // the handler panicked
	HandlerCodeInput    = "parley.input"    // the payload is not what the function takes
	HandlerCodeOutput   = "parley.output"   // the answer could not be encoded
	HandlerCodeCommit   = "parley.commit"   // an entry can't be staged, or the chain could not take the commits (disk full, I/O error)
	HandlerCodeValidate = "parley.validate" // an entry is not valid: the DNA's validate says so
	HandlerCodeReceipt  = "parley.receipt"  // there is no matching receipt, whatever became of the message: Delivered says it
	HandlerCodeQuorum   = "parley.quorum"   // of a SendMany: fewer agents have answered than were asked for
	HandlerCodeContext  = "parley.context"  // a call's context was used after the call had returned
	// HandlerCodeNotFound is of a Get: the nodes that would keep the entry were
	// asked, and none has it.
	HandlerCodeNotFound = "parley.not_found"
)

// Fail is the error that a handler returns to say why it refuses, with a code
// of its own that the caller can compare.
func Fail(code, format string, args ...any) *Error {
	return &Error{Code: HandlerFailed, Side: SideHandler, Delivered: DeliveredYes,
		HandlerCode: code, Text: fmt.Sprintf(format, args...)}
}

// Is makes errors.Is(err, sdk.Timeout) work.
func (e *Error) Is(target error) bool {
	c, ok := target.(Code)
	return ok && c == e.Code
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Code.String())
	if e.HandlerCode != "" {
		fmt.Fprintf(&b, " [%s]", e.HandlerCode)
	}
	if e.Text != "" {
		b.WriteString(": " + e.Text)
	}
	for i, a := range e.Attempts {
		sep := "; "
		if i == 0 {
			sep = ": "
		}
		fmt.Fprintf(&b, "%s%s: %s", sep, a.Address, a.Cause)
	}
	if l := e.Limit; l != nil {
		fmt.Fprintf(&b, " (limit %s", l.Name)
		if l.Max > 0 {
			fmt.Fprintf(&b, ": %d of at most %d", l.Value, l.Max)
		}
		if l.Setting != "" {
			fmt.Fprintf(&b, ", setting %s", l.Setting)
		}
		if l.RetryAfter > 0 {
			fmt.Fprintf(&b, ", try again in %s", l.RetryAfter)
		}
		b.WriteString(")")
	}
	retry := "no"
	if e.Retry {
		retry = "yes"
	}
	fmt.Fprintf(&b, " [from: %s; delivered: %s; safe to retry: %s]", e.Side, e.Delivered, retry)
	return b.String()
}

// Remote is e as the agent on the other end of a session holds it: this node
// becomes the other node. The receiving node applies it to what arrives.
func (e *Error) Remote() *Error {
	r := *e
	switch e.Side {
	case SideNode, SideCaller, SideRemoteNode:
		r.Side = SideRemoteNode
	default:
		r.Side = SideRemoteHandler
	}
	return &r
}
