package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/handlerpb"
)

// errEnded is for a callback of a call that has returned.
var errEnded = &sdk.Error{Code: sdk.HandlerFailed, Side: sdk.SideHandler, Delivered: sdk.DeliveredNo,
	HandlerCode: sdk.HandlerCodeContext, Text: "the call has returned; its host can't be used any more"}

var _ sdk.Host = (*call)(nil)

func (c *call) Send(ctx context.Context, to sdk.AgentID, payload []byte) ([]byte, error) {
	if len(payload) > c.s.v.maxPayload {
		return nil, tooLarge("the message", len(payload), c.s.v.maxPayload, sdk.SideCaller, sdk.DeliveredNo)
	}
	cb := handlerpb.Callback{Op: handlerpb.OpSend, To: to, Payload: payload}
	if d, ok := ctx.Deadline(); ok {
		if own, has := c.ctx.Deadline(); !has || d.Before(own) {
			cb.Remaining = max(time.Until(d), 1)
		}
	}
	a, err := c.ask(ctx, &cb)
	if err != nil {
		return nil, err
	}
	return a.Reply, nil
}

func (c *call) Commit(ctx context.Context, e sdk.Entry) (sdk.Hash, error) {
	if len(e.Content) > c.s.v.maxPayload {
		return sdk.Hash{}, tooLarge("the entry", len(e.Content), c.s.v.maxPayload, sdk.SideCaller, sdk.DeliveredNo)
	}
	a, err := c.ask(ctx, &handlerpb.Callback{Op: handlerpb.OpCommit, Entry: e})
	if err != nil {
		return sdk.Hash{}, err
	}
	return a.Hash, nil
}

func (c *call) Query(ctx context.Context, q sdk.Query) ([]sdk.Record, error) {
	a, err := c.ask(ctx, &handlerpb.Callback{Op: handlerpb.OpQuery, Query: q})
	if err != nil {
		return nil, err
	}
	return a.Records, nil
}

// Log waits for room in the queue at most. A line that can't be sent is dropped.
func (c *call) Log(_ context.Context, level slog.Level, text string, args ...any) {
	l := handlerpb.LogRecord{Level: level, Text: text}
	var r slog.Record
	r.Add(args...)
	r.Attrs(func(a slog.Attr) bool {
		l.Attrs = append(l.Attrs, handlerpb.LogAttr{Key: a.Key, Value: a.Value.Resolve().String()})
		return true
	})
	c.sending.RLock()
	defer c.sending.RUnlock()
	if !c.over() {
		_ = c.s.hs.Log(c.id, &l)
	}
}

// ask sends a callback and gives the node's answer. Every error is a *sdk.Error.
func (c *call) ask(ctx context.Context, cb *handlerpb.Callback) (*handlerpb.Answer, error) {
	err := ctx.Err()
	var a *handlerpb.Answer
	if err == nil {
		a, err = c.callback(ctx, cb)
	}
	switch {
	case err != nil && c.over():
		return nil, errEnded
	case err != nil:
		return nil, callbackError(cb.Op, err, cb.ID != 0)
	case a.Err != nil:
		return nil, a.Err
	case a.Op != cb.Op:
		return nil, callbackError(cb.Op, fmt.Errorf("%w: the answer is to another operation", handlerpb.ErrMalformed), true)
	}
	return a, nil
}

var opNames = map[handlerpb.Op]string{handlerpb.OpSend: "send", handlerpb.OpCommit: "commit", handlerpb.OpQuery: "query"}

// callbackError says why a callback has no answer. sent tells whether the node
// may have seen it.
func callbackError(op handlerpb.Op, err error, sent bool) error {
	var e *sdk.Error
	if errors.As(err, &e) {
		return e
	}
	e = &sdk.Error{Code: sdk.HandlerFailed, Side: sdk.SideCaller, Delivered: sdk.DeliveredNo, Retry: !sent,
		HandlerCode: sdk.HandlerCodeInput, Text: opNames[op] + ": " + err.Error()}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		e.Code, e.HandlerCode = sdk.Timeout, ""
	case errors.Is(err, context.Canceled):
		e.Code, e.HandlerCode = sdk.Canceled, ""
	case errors.Is(err, handlerpb.ErrMalformed):
		return e
	default:
		e.Code, e.HandlerCode, e.Side = sdk.OutcomeUnknown, "", sdk.SideNode
	}
	if sent && op == handlerpb.OpSend {
		e.Delivered = sdk.DeliveredUnknown
	}
	return e
}
