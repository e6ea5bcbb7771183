package node

import (
	"context"
	"errors"
	"fmt"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/transport"
)

// Kinds of request that nodes exchange over a session (docs/wire.md).
const (
	kindDHT     = 1
	kindMessage = 2
)

// messageHeader is the header of a message request; the payload is its body.
type messageHeader struct {
	DNA  []byte `codec:"d"` // 32 bytes
	Name string `codec:"n"` // the DNA's name, so that an error can tell why the hash is unknown
	// Again says that the message was sent before: its outcome may stand in the
	// source chain.
	Again bool `codec:"a,omitempty"`
}

func encodeHeaders(hash sdk.DNAHash, name string) (first, again []byte, err error) {
	first, err1 := sdk.Marshal(messageHeader{DNA: hash[:], Name: name})
	again, err2 := sdk.Marshal(messageHeader{DNA: hash[:], Name: name, Again: true})
	return first, again, errors.Join(err1, err2)
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
	return h, nil
}

func tooLarge(what string, value, limit int, side sdk.Side, delivered sdk.Delivered) *sdk.Error {
	return &sdk.Error{Code: sdk.TooLarge, Side: side, Delivered: delivered,
		Text:  fmt.Sprintf("%s of %d", what, value),
		Limit: &sdk.Limit{Name: what, Setting: "max-payload", Value: uint64(value), Max: uint64(limit)}}
}

// requestError is the sdk's error for a request that failed on a live session.
// Lost sessions are the caller's to handle.
func requestError(e *transport.RequestError) *sdk.Error {
	out := &sdk.Error{Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Text: e.Error()}
	if e.Remote {
		out.Side = sdk.SideRemoteNode
	}
	if e.Limit != "" {
		out.Limit = &sdk.Limit{Name: e.Limit, Setting: e.Setting, Value: e.Value, Max: e.Max, RetryAfter: e.RetryAfter}
	}
	switch e.Code {
	case transport.Busy:
		out.Code, out.Retry = sdk.Busy, true
	case transport.TooLarge:
		out.Code = sdk.TooLarge
	case transport.Unsupported:
		out.Code, out.Retry = sdk.NoHandler, true
	case transport.Timeout:
		out.Code = sdk.Timeout
	case transport.Canceled:
		out.Code, out.Side = sdk.Canceled, sdk.SideCaller
	default:
		out.Code = sdk.OutcomeUnknown
	}
	if (out.Code == sdk.Timeout || out.Code == sdk.Canceled || out.Code == sdk.OutcomeUnknown) && e.Sent {
		out.Delivered = sdk.DeliveredUnknown
	}
	if out.Delivered == sdk.DeliveredNo {
		out.Retry = true
	}
	return out
}

// contextError is the error for a context that ended while this node worked.
func contextError(ctx context.Context, delivered sdk.Delivered, doing string) *sdk.Error {
	e := &sdk.Error{Code: sdk.Canceled, Side: sdk.SideCaller, Delivered: delivered, Retry: delivered == sdk.DeliveredNo,
		Text: "the caller gave up while " + doing}
	if errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		e.Code, e.Side, e.Text = sdk.Timeout, sdk.SideNode, "the deadline passed while "+doing
		e.Limit = &sdk.Limit{Name: "deadline", Setting: "timeout"}
	}
	return e
}
