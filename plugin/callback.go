package plugin

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/handlerpb"
)

// sender is a host that sends without a goroutine that waits.
type sender interface {
	// StartSend begins a Send, and tells out what it has come to; or it returns
	// false where it would have to wait, and has done nothing. ctx has OnEnd.
	StartSend(ctx context.Context, m *sdk.Message, out interface{ Done([]byte, error) }) bool
}

// callback is one callback that runs. Its context ends with the call's: finish.
type callback struct {
	r   *running
	cb  *handlerpb.Callback
	ctx handlerpb.Context
}

var (
	_ handlerpb.Task = (*callback)(nil)
	_ Outcome        = (*callback)(nil)
)

// callback begins a callback. What has to wait is a worker's.
func (r *running) callback(cb *handlerpb.Callback) error {
	r.mu.Lock()
	if r.ended {
		r.mu.Unlock()
		return nil
	}
	if r.open[cb.ID] != nil {
		r.mu.Unlock()
		return fmt.Errorf("%w: callback %d of call %d is open already", handlerpb.ErrMalformed, cb.ID, r.id)
	}
	// One that is answered has left its place as soon as the handler knows it; answers
	// that wait to be read are bounded besides.
	if r.performing >= handlerpb.MaxCallbacks || len(r.open) >= 2*handlerpb.MaxCallbacks {
		r.mu.Unlock()
		return r.s.s.Refuse(r.id, cb.ID, &sdk.Error{Code: sdk.Busy, Side: sdk.SideNode,
			Delivered: sdk.DeliveredNo, Retry: true, Text: "too many callbacks of one call are open; wait for one of them",
			Limit: &sdk.Limit{Name: "callbacks of one call", Value: handlerpb.MaxCallbacks + 1, Max: handlerpb.MaxCallbacks}})
	}
	c := &callback{r: r, cb: cb}
	own := false
	deadline, _ := r.ctx.Deadline()
	if cb.Remaining > 0 {
		if d := time.Now().Add(cb.Remaining); deadline.IsZero() || d.Before(deadline) {
			deadline, own = d, true
		}
	}
	c.ctx.Start(deadline, own)
	if r.open == nil {
		r.open = make(map[uint64]*callback, 1)
	}
	r.open[cb.ID] = c
	r.sends = r.sends || lasting(cb.Op)
	r.performing++
	r.mu.Unlock()
	if cb.Op == handlerpb.OpSend && len(cb.Message.Payload) <= r.maxPayload {
		if s, ok := r.host.(sender); ok && s.StartSend(&c.ctx, &cb.Message, c) {
			return nil
		}
	}
	r.s.workers.Do(c)
	return nil
}

// lasting tells of an operation whose effect stays when its call fails.
func lasting(op handlerpb.Op) bool {
	switch op {
	case handlerpb.OpSend, handlerpb.OpNotify, handlerpb.OpGrant, handlerpb.OpRevoke, handlerpb.OpDelegate:
		return true
	}
	return false
}

func (r *running) cancelCallback(id uint64) {
	r.mu.Lock()
	c := r.open[id]
	r.mu.Unlock()
	if c != nil {
		c.ctx.End(context.Canceled, nil)
	}
}

// Run performs the callback and answers it, in a worker.
func (c *callback) Run() {
	a := c.perform()
	if c.over() {
		c.answer(a)
	}
	c.close()
}

// Done is told what a Send has come to that nobody waits for.
func (c *callback) Done(reply []byte, err error) {
	a := &handlerpb.Answer{ID: c.cb.ID, Op: c.cb.Op, Reply: reply}
	if err != nil {
		a.Err = asError(&c.ctx, err)
	}
	if !c.over() || c.r.s.s.TryAnswer(c.r.id, a, c.r.s.quiet()) {
		c.close()
		return
	}
	// There is no room in the queue: somebody has to wait.
	if !c.r.s.spawn(func() { c.answer(a); c.close() }) {
		c.close()
	}
}

// over notes that the callback no longer uses the host, and tells whether the
// handler still waits for its answer.
func (c *callback) over() (waited bool) {
	r := c.r
	c.ctx.Release()
	c.ctx.End(context.Canceled, nil)
	r.mu.Lock()
	waited = !r.ended
	r.performing--
	tell := r.overLocked()
	r.mu.Unlock()
	if tell {
		r.tell()
	}
	return waited
}

// answer sends the answer, and waits for room. The call does not wait for it.
func (c *callback) answer(a *handlerpb.Answer) {
	r := c.r
	err := r.s.s.Answer(r.p.ctx, r.id, a, r.s.quiet())
	if errors.Is(err, handlerpb.ErrMalformed) {
		_ = r.s.s.Answer(r.p.ctx, r.id, &handlerpb.Answer{ID: c.cb.ID, Err: &sdk.Error{Code: sdk.HandlerFailed,
			Side: sdk.SideNode, HandlerCode: sdk.HandlerCodeOutput, Text: err.Error()}}, false)
	}
}

// close frees the callback's place among the call's.
func (c *callback) close() {
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	delete(c.r.open, c.cb.ID)
}

// perform asks the node for what the callback wants.
func (c *callback) perform() *handlerpb.Answer {
	r, ctx, cb := c.r, &c.ctx, c.cb
	a := &handlerpb.Answer{ID: cb.ID, Op: cb.Op}
	var err error
	switch cb.Op {
	case handlerpb.OpSend:
		if len(cb.Message.Payload) > r.maxPayload {
			err = tooLarge("the message", len(cb.Message.Payload), r.maxPayload, sdk.SideCaller, sdk.DeliveredNo)
			break
		}
		a.Reply, err = r.host.Send(ctx, cb.Message)
	case handlerpb.OpCommit:
		a.Hash, err = r.host.Commit(ctx, cb.Entry)
	case handlerpb.OpQuery:
		a.Records, err = r.host.Query(ctx, cb.Query)
	case handlerpb.OpGet:
		a.Record, err = r.host.Get(ctx, cb.Record)
	case handlerpb.OpNotify:
		if len(cb.Notice.Payload) > r.maxPayload {
			err = tooLarge("the notification", len(cb.Notice.Payload), r.maxPayload, sdk.SideCaller, sdk.DeliveredNo)
			break
		}
		a.Results, err = r.host.Notify(ctx, cb.Notice)
	case handlerpb.OpEmit:
		if len(cb.Payload) > r.maxPayload {
			err = tooLarge("the signal", len(cb.Payload), r.maxPayload, sdk.SideCaller, sdk.DeliveredNo)
			break
		}
		err = r.host.Emit(ctx, cb.Payload)
	case handlerpb.OpOnline:
		a.Presence, err = r.host.Online(ctx, cb.Agent)
	case handlerpb.OpGrant:
		a.Claim, err = r.host.Grant(ctx, cb.Grant)
	case handlerpb.OpRevoke:
		err = r.host.Revoke(ctx, cb.Revoke)
	case handlerpb.OpClaim:
		err = r.host.Claim(ctx, cb.Claim)
	case handlerpb.OpDelegate:
		a.Proof, err = r.host.Delegate(ctx, cb.Delegate)
	case handlerpb.OpList:
		a.Page, err = r.host.List(ctx, cb.List)
	}
	if err != nil {
		a.Err = asError(ctx, err)
	}
	return a
}

// maxCallLogs bounds the log lines of one call that wait to be written.
const maxCallLogs = 64

// logLater has a line written by a worker: the log may be slow.
func (r *running) logLater(l *handlerpb.LogRecord) {
	if !r.p.out.lines.allow() {
		return
	}
	r.mu.Lock()
	if r.ended || len(r.logs) >= maxCallLogs {
		r.mu.Unlock()
		return
	}
	r.logs = append(r.logs, l)
	start := !r.logging
	r.logging = true
	r.mu.Unlock()
	if start {
		r.s.workers.Do((*logWriter)(r))
	}
}

// logWriter writes the log lines of a call, before its outcome is told.
type logWriter running

func (w *logWriter) Run() {
	r := (*running)(w)
	for {
		r.mu.Lock()
		logs := r.logs
		r.logs = nil
		if len(logs) == 0 {
			r.logging = false
			tell := r.overLocked()
			r.mu.Unlock()
			if tell {
				r.tell()
			}
			return
		}
		r.mu.Unlock()
		for _, l := range logs {
			r.log(l)
		}
	}
}

// log is limited together with what the process prints.
func (r *running) log(l *handlerpb.LogRecord) {
	args := make([]any, 0, 2*len(l.Attrs))
	for _, a := range l.Attrs {
		args = append(args, printable([]byte(a.Key), maxWords), printable([]byte(a.Value), maxLine))
	}
	r.host.Log(r.ctx, l.Level, printable([]byte(l.Text), maxLine), args...)
}
