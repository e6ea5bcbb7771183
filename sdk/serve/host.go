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

func (c *call) Send(ctx context.Context, m sdk.Message) ([]byte, error) {
	if len(m.Payload) > c.s.v.maxPayload {
		return nil, tooLarge("the message", len(m.Payload), c.s.v.maxPayload, sdk.SideCaller, sdk.DeliveredNo)
	}
	a, err := c.ask(ctx, &handlerpb.Callback{Op: handlerpb.OpSend, Message: m, Remaining: c.remaining(ctx)})
	if err != nil {
		return nil, err
	}
	return a.Reply, nil
}

// remaining is the time that is left where ctx ends before the call does, else 0.
func (c *call) remaining(ctx context.Context) time.Duration {
	if d, ok := ctx.Deadline(); ok {
		if own, has := c.ctx.Deadline(); !has || d.Before(own) {
			return max(time.Until(d), 1)
		}
	}
	return 0
}

// Commit asks the node only about a large entry. Of any other it knows all that
// the node would answer: whether the call may stage it, and its hash.
func (c *call) Commit(ctx context.Context, e sdk.Entry) (sdk.Hash, error) {
	queued, err := c.stageEntry(ctx, &e)
	switch {
	case err != nil:
		return sdk.Hash{}, c.failed(handlerpb.OpCommit, err, false)
	case queued:
		return sdk.EntryHash(e.Content), nil
	}
	cb := handlerpb.Callback{Op: handlerpb.OpCommit, Entry: e}
	a, err := c.ask(ctx, &cb)
	if err != nil {
		if cb.ID == 0 { // it was not sent
			c.unstage(&e)
		}
		return sdk.Hash{}, err
	}
	return a.Hash, nil
}

// stageEntry counts an entry in, and queues it if it is small.
func (c *call) stageEntry(ctx context.Context, e *sdk.Entry) (queued bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	c.sending.RLock()
	defer c.sending.RUnlock()
	c.mu.Lock()
	if c.done || c.gaveUp {
		c.mu.Unlock()
		return false, c.noAnswer()
	}
	if err = c.stage.Add(e); err == nil && len(e.Content) > c.s.v.maxPayload { // of a node that told no limit
		c.stage.Remove(e)
		err = tooLarge("the entry", len(e.Content), c.s.v.maxPayload, sdk.SideCaller, sdk.DeliveredNo)
	}
	c.mu.Unlock()
	if err != nil {
		return false, err
	}
	if queued, err = c.s.hs.Commit(ctx, c.id, e); err != nil {
		c.unstage(e)
	}
	return queued, err
}

func (c *call) unstage(e *sdk.Entry) {
	c.mu.Lock()
	c.stage.Remove(e)
	c.mu.Unlock()
}

func (c *call) Query(ctx context.Context, q sdk.Query) ([]sdk.Record, error) {
	a, err := c.ask(ctx, &handlerpb.Callback{Op: handlerpb.OpQuery, Query: q})
	if err != nil {
		return nil, err
	}
	return a.Records, nil
}

func (c *call) Get(ctx context.Context, record sdk.Hash) (sdk.Record, error) {
	a, err := c.ask(ctx, &handlerpb.Callback{Op: handlerpb.OpGet, Record: record, Remaining: c.remaining(ctx)})
	if err != nil {
		return sdk.Record{}, err
	}
	return a.Record, nil
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
	case err != nil:
		return nil, c.failed(cb.Op, err, cb.ID != 0)
	case a.Err != nil:
		return nil, a.Err
	case a.Op != cb.Op && (a.Op != handlerpb.OpDone || !onlyDone(cb.Op)):
		return nil, callbackError(cb.Op, fmt.Errorf("%w: the answer is to another operation", handlerpb.ErrMalformed), true)
	}
	return a, nil
}

// failed is why a callback has no answer, or was not sent.
func (c *call) failed(op handlerpb.Op, err error, sent bool) error {
	if c.over() {
		return errEnded
	}
	return callbackError(op, err, sent)
}

var opNames = map[handlerpb.Op]string{handlerpb.OpSend: "send", handlerpb.OpCommit: "commit", handlerpb.OpQuery: "query", handlerpb.OpGet: "get",
	handlerpb.OpNotify: "notify", handlerpb.OpEmit: "emit", handlerpb.OpOnline: "online", handlerpb.OpGrant: "grant",
	handlerpb.OpRevoke: "revoke", handlerpb.OpClaim: "claim", handlerpb.OpDelegate: "delegate",
	handlerpb.OpList: "list"}

// onlyDone tells of an operation whose answer says no more than that it was done.
func onlyDone(op handlerpb.Op) bool {
	return op == handlerpb.OpEmit || op == handlerpb.OpRevoke || op == handlerpb.OpClaim
}

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
	if sent && (op == handlerpb.OpSend || op == handlerpb.OpNotify) {
		e.Delivered = sdk.DeliveredUnknown
	}
	return e
}
