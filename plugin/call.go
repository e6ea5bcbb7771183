package plugin

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/handlerpb"
)

// errNotSent means that a call never reached the process: it may be tried on
// another one.
var errNotSent = errors.New("the call was not sent")

// call runs one call in the process. Its error is errNotSent or a *sdk.Error.
func (p *process) call(ctx context.Context, host sdk.Host, c *sdk.Call, maxPayload int) ([]byte, error) {
	remaining := time.Duration(0)
	if d, ok := ctx.Deadline(); ok {
		if remaining = time.Until(d); remaining <= 0 {
			return nil, ctxError(ctx, sdk.DeliveredNo)
		}
	}
	r := &running{p: p, s: p.stream, ctx: ctx, host: host, maxPayload: maxPayload, news: make(chan struct{}, 1)}
	quiet, err := r.s.add(r)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNotSent, err)
	}
	if r.ticket, err = r.s.s.Start(ctx, r.id, c, remaining, quiet); err != nil {
		r.s.remove(r.id)
		switch {
		case errors.Is(err, handlerpb.ErrMalformed):
			return nil, &sdk.Error{Code: sdk.HandlerFailed, Side: sdk.SideCaller, Delivered: sdk.DeliveredNo,
				HandlerCode: sdk.HandlerCodeInput, Text: err.Error()}
		case ctx.Err() != nil:
			return nil, ctxError(ctx, sdk.DeliveredNo)
		}
		return nil, fmt.Errorf("%w: %w", errNotSent, err)
	}
	reply, err := r.await()
	r.endCallbacks()
	return reply, err
}

// running is one call that runs.
type running struct {
	p          *process
	s          *callStream
	id         uint64 // set by callStream.add
	ctx        context.Context
	host       sdk.Host
	maxPayload int
	ticket     handlerpb.Ticket

	news chan struct{} // capacity 1: look at what follows

	wg sync.WaitGroup // the callbacks

	mu      sync.Mutex
	res     *handlerpb.Result
	logs    []*handlerpb.LogRecord
	open    map[uint64]*callback // that run, by id
	ended   bool                 // no callback begins any more
	sends   bool                 // the call sent a message
	refused *sdk.Error           // the first commit without an answer that the node did not take
}

// maxCallLogs bounds the log lines of one call that wait for its goroutine.
const maxCallLogs = 64

// endCallbacks sees to it that nothing of the call goes on when it has ended.
func (r *running) endCallbacks() {
	var open []*callback
	r.mu.Lock()
	r.ended = true
	for _, c := range r.open {
		open = append(open, c)
	}
	r.mu.Unlock()
	for _, c := range open {
		if err := r.ctx.Err(); err != nil {
			c.ctx.End(err, context.Cause(r.ctx))
		} else {
			c.ctx.End(context.Canceled, nil)
		}
	}
	r.wg.Wait()
}

// await waits for the call's result.
func (r *running) await() ([]byte, error) {
	for {
		select {
		case <-r.news:
		case <-r.s.dead:
			if res := r.look(); res != nil { // it came just before
				return r.result(res)
			}
			return nil, r.streamError()
		case <-r.ctx.Done():
			return nil, r.giveUp()
		}
		if res := r.look(); res != nil {
			r.s.s.Release(r.ticket)
			return r.result(res)
		}
	}
}

// look writes the log lines that have come, and gives the result if it has. A
// refusal that the handler could not be told is the result, whatever it sent.
func (r *running) look() *handlerpb.Result {
	r.mu.Lock()
	logs, res := r.logs, r.res
	r.logs = nil
	if res != nil && r.refused != nil {
		res = &handlerpb.Result{Err: r.refused}
	}
	r.mu.Unlock()
	for _, l := range logs {
		r.log(l)
	}
	return res
}

// giveUp leaves the call to the handler, which is told.
func (r *running) giveUp() error {
	r.s.leave(r.id)
	onItsWay, err := r.s.s.Cancel(r.id, r.ticket)
	if err != nil {
		r.s.fail(&faultError{err})
	}
	if !onItsWay {
		r.s.remove(r.id)
		return ctxError(r.ctx, sdk.DeliveredNo)
	}
	return ctxError(r.ctx, sdk.DeliveredYes)
}

// frame takes a frame of the call, in the stream's goroutine.
func (r *running) frame(f handlerpb.FromHandler) error {
	switch {
	case f.Callback != nil && f.Callback.ID == 0: // a commit: the contract has no other
		r.stage(f.Callback.Entry)
		return nil
	case f.Callback != nil:
		return r.callback(f.Callback)
	case f.Cancel != 0:
		r.cancelCallback(f.Cancel)
		return nil
	case f.Log != nil && !r.p.out.lines.allow():
		return nil
	}
	r.mu.Lock()
	if f.Result != nil {
		r.res = f.Result
	} else if len(r.logs) < maxCallLogs {
		r.logs = append(r.logs, f.Log)
	}
	r.mu.Unlock()
	select {
	case r.news <- struct{}{}:
	default:
	}
	return nil
}

func (r *running) result(res *handlerpb.Result) ([]byte, error) {
	if res.Err != nil {
		return nil, res.Err
	}
	if len(res.Reply) > r.maxPayload {
		return nil, tooLarge("the handler's reply", len(res.Reply), r.maxPayload, sdk.SideHandler, sdk.DeliveredYes)
	}
	return res.Reply, nil
}

// log is limited together with what the process prints.
func (r *running) log(l *handlerpb.LogRecord) {
	args := make([]any, 0, 2*len(l.Attrs))
	for _, a := range l.Attrs {
		args = append(args, printable([]byte(a.Key), maxWords), printable([]byte(a.Value), maxLine))
	}
	r.host.Log(r.ctx, l.Level, printable([]byte(l.Text), maxLine), args...)
}

// stage performs a commit that wants no answer, in the stream's goroutine: so
// entries keep their order, and come before the call's result. After a refusal
// the call's entries are of no use.
func (r *running) stage(e sdk.Entry) {
	r.mu.Lock()
	if r.ended || r.refused != nil {
		r.mu.Unlock()
		return
	}
	r.wg.Add(1) // the host is this call's until it has ended
	r.mu.Unlock()
	defer r.wg.Done()
	if _, err := r.host.Commit(r.ctx, e); err != nil {
		r.mu.Lock()
		r.refused = asError(r.ctx, err)
		r.mu.Unlock()
	}
}

// callback is one callback that runs. Its context ends with the call's:
// endCallbacks.
type callback struct {
	r   *running
	cb  *handlerpb.Callback
	ctx handlerpb.Context
}

// callback has a callback run in a worker.
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
	if len(r.open) >= handlerpb.MaxCallbacks {
		r.mu.Unlock()
		return r.s.s.Refuse(r.id, cb.ID, &sdk.Error{Code: sdk.Busy, Side: sdk.SideNode,
			Delivered: sdk.DeliveredNo, Retry: true, Text: "too many callbacks of one call are open; wait for one of them",
			Limit: &sdk.Limit{Name: "callbacks of one call", Value: handlerpb.MaxCallbacks + 1, Max: handlerpb.MaxCallbacks}})
	}
	c := &callback{r: r, cb: cb}
	deadline, _ := r.ctx.Deadline()
	if cb.Remaining > 0 {
		if d := time.Now().Add(cb.Remaining); deadline.IsZero() || d.Before(deadline) {
			deadline = d
		}
	}
	c.ctx.Start(deadline)
	if r.open == nil {
		r.open = make(map[uint64]*callback, 1)
	}
	r.open[cb.ID] = c
	r.sends = r.sends || cb.Op == handlerpb.OpSend
	r.wg.Add(1)
	r.mu.Unlock()
	r.s.workers.Do(c)
	return nil
}

// Run performs the callback and answers it. The call does not wait for the
// answer to be sent; its slot is free only then.
func (c *callback) Run() {
	r, a := c.r, c.perform()
	c.ctx.End(context.Canceled, nil)
	r.mu.Lock()
	ended := r.ended
	r.mu.Unlock()
	r.wg.Done()
	if !ended {
		err := r.s.s.Answer(r.p.ctx, r.id, a, r.s.quiet())
		if errors.Is(err, handlerpb.ErrMalformed) {
			_ = r.s.s.Answer(r.p.ctx, r.id, &handlerpb.Answer{ID: c.cb.ID, Err: &sdk.Error{Code: sdk.HandlerFailed,
				Side: sdk.SideNode, HandlerCode: sdk.HandlerCodeOutput, Text: err.Error()}}, false)
		}
	}
	r.mu.Lock()
	delete(r.open, c.cb.ID)
	r.mu.Unlock()
}

func (r *running) cancelCallback(id uint64) {
	r.mu.Lock()
	c := r.open[id]
	r.mu.Unlock()
	if c != nil {
		c.ctx.End(context.Canceled, nil)
	}
}

// perform asks the node for what the callback wants.
func (c *callback) perform() *handlerpb.Answer {
	r, ctx, cb := c.r, &c.ctx, c.cb
	a := &handlerpb.Answer{ID: cb.ID, Op: cb.Op}
	var err error
	switch cb.Op {
	case handlerpb.OpSend:
		if len(cb.Payload) > r.maxPayload {
			err = tooLarge("the message", len(cb.Payload), r.maxPayload, sdk.SideCaller, sdk.DeliveredNo)
			break
		}
		a.Reply, err = r.host.Send(ctx, cb.To, cb.Payload)
	case handlerpb.OpCommit:
		a.Hash, err = r.host.Commit(ctx, cb.Entry)
	case handlerpb.OpQuery:
		a.Records, err = r.host.Query(ctx, cb.Query)
	}
	if err != nil {
		a.Err = asError(ctx, err)
	}
	return a
}

// crashGrace is how long a call whose stream broke waits for the process's end
// to say how it came about.
const crashGrace = time.Second

// streamError says what the stream's end means for the call.
func (r *running) streamError() error {
	err := r.s.cause()
	if !r.s.s.Handed(r.ticket) {
		return fmt.Errorf("%w: %w", errNotSent, err)
	}
	grace := crashGrace
	if errors.Is(err, handlerpb.ErrMalformed) {
		grace = 0
	}
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case <-r.p.run.exited:
		err = r.p.run.why()
	case <-r.ctx.Done():
		return ctxError(r.ctx, sdk.DeliveredYes)
	case <-t.C:
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return &sdk.Error{Code: sdk.HandlerCrashed, Side: sdk.SideHandler, Delivered: sdk.DeliveredYes,
		Retry: !r.sends, // its commits are gone; only a message that it sent may have taken effect
		Text:  "the handler was lost while it ran the call: " + err.Error()}
}

func ctxError(ctx context.Context, delivered sdk.Delivered) *sdk.Error {
	e := &sdk.Error{Code: sdk.Canceled, Side: sdk.SideCaller, Delivered: delivered, Retry: delivered == sdk.DeliveredNo,
		Text: "the caller gave up"}
	cause := context.Cause(ctx)
	if c, ok := ctx.(*handlerpb.Context); ok {
		cause = c.Cause()
	}
	var own *sdk.Error
	switch {
	case errors.As(cause, &own):
		return own
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		e.Code, e.Side, e.Text = sdk.Timeout, sdk.SideHandler, "the deadline passed before the handler had answered"
	case cause != nil && cause != context.Canceled:
		e.Text = cause.Error()
	}
	return e
}

// asError keeps a *sdk.Error as it is and makes one of any other error.
func asError(ctx context.Context, err error) *sdk.Error {
	var e *sdk.Error
	if errors.As(err, &e) && e != nil {
		return e
	}
	if ctx.Err() != nil {
		return ctxError(ctx, sdk.DeliveredUnknown)
	}
	return &sdk.Error{Code: sdk.HandlerFailed, Side: sdk.SideNode, Text: err.Error()}
}

func tooLarge(what string, n, limit int, side sdk.Side, delivered sdk.Delivered) *sdk.Error {
	return &sdk.Error{Code: sdk.TooLarge, Side: side, Delivered: delivered, Retry: delivered == sdk.DeliveredNo,
		Text:  fmt.Sprintf("%s has %d bytes, at most %d are allowed", what, n, limit),
		Limit: &sdk.Limit{Name: "payload", Setting: "max-payload", Value: uint64(n), Max: uint64(limit)}}
}
