package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/transport"
)

// Kinds of request that nodes exchange over a session (docs/wire.md).
const (
	kindDHT     = 1
	kindMessage = 2
	kindTell    = 3
	kindRevoked = 4
)

// messageHeader is the header of a message request; the payload is its body.
type messageHeader struct {
	DNA  []byte `codec:"d"` // 32 bytes
	Name string `codec:"n"` // the DNA's name, so that an error can tell why the hash is unknown
	// Age is how long ago the message was first sent, in milliseconds and at least
	// 1, where it was sent before: its outcome may stand in the source chain, or
	// be gone with the receiver's last run.
	Age uint64 `codec:"a,omitempty"`
	// Function is that of the receiver's DNA that is called; empty: its receive.
	Function string `codec:"f,omitempty"`
	// Notified tells a notification: notified gets it, and the answer is empty.
	Notified bool `codec:"s,omitempty"`
	// Order is a notification's place among its sender's: see order.
	Order []byte `codec:"o,omitempty"`
	// Claim is of a transferable grant: the grant's name, 32 bytes, and its secret, 32.
	Claim []byte `codec:"c,omitempty"`
	// Behalf is an sdk.Proof; or, in 4 bytes, the length of one that stands in front
	// of the body: see pack.
	Behalf []byte `codec:"b,omitempty"`
	// Receipt asks for a matching receipt; it is the sender's part of it.
	Receipt []byte `codec:"r,omitempty"`
}

// plain tells that only the sender, the DNA and the payload say what is asked.
func (h *messageHeader) plain() bool {
	return h.Function == "" && !h.Notified && len(h.Claim) == 0 && len(h.Behalf) == 0 && len(h.Receipt) == 0
}

// plainCall tells that beside those only a function and a claim do.
func (h *messageHeader) plainCall() bool {
	return h.Function != "" && h.Age == 0 && !h.Notified && len(h.Behalf) == 0 && len(h.Receipt) == 0
}

// encode is the header of a message of this DNA that is sent for the first time
// (age 0) or again.
func (h messageHeader) encode(hash sdk.DNAHash, name string, age time.Duration) ([]byte, error) {
	h.DNA, h.Name, h.Age = hash[:], name, 0
	if age > 0 {
		h.Age = max(1, uint64(age.Milliseconds()))
	}
	return sdk.Marshal(h)
}

// age is that of the header, 0 for a message that was not sent before. What is
// older than the memory of outcomes is as old as that.
func (h *messageHeader) age() time.Duration {
	return time.Duration(min(h.Age, uint64(outcomesAge/time.Millisecond))) * time.Millisecond
}

func parseHeader(b []byte) (messageHeader, error) {
	var h messageHeader
	if err := sdk.Unmarshal(b, &h); err != nil {
		return h, err
	}
	if len(h.DNA) != 32 {
		return h, fmt.Errorf("DNA hash of %d bytes", len(h.DNA))
	}
	if err := sdk.CheckName(h.Name); err != nil {
		return h, fmt.Errorf("DNA name: %w", err)
	}
	return h, h.check()
}

// check tells what is wrong with what is asked.
func (h *messageHeader) check() error {
	if h.Function != "" {
		if err := sdk.CheckName(h.Function); err != nil {
			return fmt.Errorf("function name: %w", err)
		}
	}
	if h.Notified {
		if _, err := parseOrder(h.Order); err != nil {
			return err
		}
	}
	switch {
	case !h.Notified && len(h.Order) > 0:
		return errors.New("an order, and no notification")
	case h.Notified && (h.Function != "" || len(h.Receipt) > 0):
		return errors.New("a notification that wants an answer")
	case len(h.Claim) != 0 && len(h.Claim) != 64:
		return fmt.Errorf("claim of %d bytes", len(h.Claim))
	case len(h.Behalf) > sdk.MaxProof:
		return fmt.Errorf("proof of %d bytes, at most %d", len(h.Behalf), sdk.MaxProof)
	case len(h.Receipt) > sdk.MaxReceiptRequest:
		return fmt.Errorf("receipt of %d bytes, at most %d", len(h.Receipt), sdk.MaxReceiptRequest)
	}
	return nil
}

func tooLarge(what string, value, limit int, side sdk.Side, delivered sdk.Delivered) *sdk.Error {
	return &sdk.Error{Code: sdk.TooLarge, Side: side, Delivered: delivered, Retry: delivered == sdk.DeliveredNo,
		Text:  fmt.Sprintf("%s of %d", what, value),
		Limit: &sdk.Limit{Name: what, Setting: "max-payload", Value: uint64(value), Max: uint64(limit)}}
}

// requestError is the sdk's error for a request that failed on a live session.
// Lost sessions are the caller's to handle.
func requestError(e *transport.RequestError) *sdk.Error {
	out := &sdk.Error{Side: sdk.SideNode, Delivered: requestDelivered(e), Text: requestText(e)}
	if e.Remote {
		out.Side = sdk.SideRemoteNode
	}
	if e.Limit != "" {
		out.Limit = &sdk.Limit{Name: e.Limit, Setting: settings[e.Setting], Value: e.Value, Max: e.Max, RetryAfter: e.RetryAfter}
	}
	switch e.Code {
	case transport.Busy:
		out.Code = sdk.Busy
	case transport.TooLarge:
		out.Code = sdk.TooLarge
	case transport.Unsupported:
		out.Code = sdk.NoHandler
	case transport.Timeout:
		out.Code = sdk.Timeout
	case transport.Canceled:
		out.Code, out.Side = sdk.Canceled, sdk.SideCaller
	default:
		out.Code = sdk.OutcomeUnknown
	}
	out.Retry = out.Delivered == sdk.DeliveredNo
	return out
}

// requestText is e without its limit, which has a place of its own in an
// sdk.Error and another name there.
func requestText(e *transport.RequestError) string {
	plain := *e
	plain.Limit, plain.RetryAfter = "", 0
	return plain.Error()
}

// settings are the node's names of the transport's, where it has them.
var settings = map[string]string{"MaxMessage": "max-payload", "MaxSessions": "max-sessions", "MaxRequests": "max-requests",
	"MaxInbound": "max-inbound-sessions", "MaxInboundPerNet": "max-inbound-per-network"}

// requestDelivered says whether the peer's handler has seen the request.
func requestDelivered(e *transport.RequestError) sdk.Delivered {
	switch {
	case e.Served && (e.Code == transport.TooLarge || e.Code == transport.Busy):
		return sdk.DeliveredYes // there is an answer, and no room for it
	case e.Served:
		return sdk.DeliveredUnknown
	case e.Remote || !e.Sent:
		return sdk.DeliveredNo
	}
	return sdk.DeliveredUnknown
}

// contextError is the error for a context that ended while this node worked.
func contextError(ctx context.Context, delivered sdk.Delivered, doing string) *sdk.Error {
	e := &sdk.Error{Code: sdk.Canceled, Side: sdk.SideCaller, Delivered: delivered, Retry: delivered == sdk.DeliveredNo,
		Text: "the caller gave up while " + doing}
	if errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		e.Code, e.Side, e.Text = sdk.Timeout, sdk.SideNode, "the deadline passed while "+doing
		e.Limit = &sdk.Limit{Name: "deadline", Setting: "deadline"}
	}
	return e
}
