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

// Outcome takes what a call has come to.
type Outcome interface {
	// Done is called once, mostly by the goroutine that reads what the process
	// sends. It must not block. err is nil or a *sdk.Error.
	Done(reply []byte, err error)
}

// running is one call that runs. Whoever ends it first claims it: its result,
// the end of its context, or that of the stream.
type running struct {
	p          *process
	s          *callStream
	h          *Handler // that is to be told with out; nil where the caller does
	id         uint64   // set by callStream.add
	ctx        context.Context
	host       sdk.Host
	call       *sdk.Call
	maxPayload int
	ticket     handlerpb.Ticket // set when the call is queued
	out        Outcome

	mu         sync.Mutex
	open       map[uint64]*callback // that are not answered yet, by id
	performing int                  // callbacks and commits that use the host
	logs       []*handlerpb.LogRecord
	logging    bool       // a worker writes logs
	sends      bool       // the call sent a message
	refused    *sdk.Error // the first commit without an answer that the node did not take
	ended      bool       // reply and err stand; no callback begins any more
	told       bool
	reply      []byte
	err        error
}

// waiter is an Outcome that somebody waits for.
type waiter struct {
	done  chan struct{}
	reply []byte
	err   error
}

func (w *waiter) Done(reply []byte, err error) {
	w.reply, w.err = reply, err
	close(w.done)
}

// callWait runs one call in the process and waits for it. Its error is
// errNotSent or a *sdk.Error.
func (p *process) callWait(ctx context.Context, host sdk.Host, c *sdk.Call, maxPayload int) ([]byte, error) {
	remaining, ok := timeLeft(ctx)
	if !ok {
		return nil, ctxError(ctx, sdk.DeliveredNo)
	}
	w := &waiter{done: make(chan struct{})}
	r := &running{p: p, s: p.stream, ctx: ctx, host: host, call: c, maxPayload: maxPayload, out: w}
	quiet, err := r.s.add(r)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNotSent, err)
	}
	if err := r.s.s.Start(ctx, r.id, c, remaining, quiet, &r.ticket); err != nil && r.claim() {
		r.s.remove(r.id)
		return nil, startError(ctx, err)
	}
	select {
	case <-w.done:
	case <-ctx.Done():
		r.Ended()
		<-w.done
	}
	r.s.s.Release(r.ticket)
	return w.reply, w.err
}

// callStart begins a small call in the process, unless that would have to wait.
// ctx tells r of its end.
func (p *process) callStart(r *running, ctx ender) bool {
	remaining, ok := timeLeft(r.ctx)
	if !ok {
		return false
	}
	quiet, err := r.s.add(r)
	if err != nil {
		return false
	}
	if !r.s.s.TryStart(r.id, r.call, remaining, quiet, &r.ticket) && r.claim() {
		r.s.remove(r.id)
		return false
	}
	ctx.OnEnd(r)
	return true
}

// ender is a context that calls Ended when it ends.
type ender interface {
	OnEnd(h interface{ Ended() })
}

// timeLeft is the time until ctx's deadline; 0 without one. It fails when that
// has passed.
func timeLeft(ctx context.Context) (time.Duration, bool) {
	d, ok := ctx.Deadline()
	if !ok {
		return 0, true
	}
	left := time.Until(d)
	return left, left > 0
}

// startError says why a call was not queued.
func startError(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, handlerpb.ErrMalformed):
		return &sdk.Error{Code: sdk.HandlerFailed, Side: sdk.SideCaller, Delivered: sdk.DeliveredNo,
			HandlerCode: sdk.HandlerCodeInput, Text: err.Error()}
	case ctx.Err() != nil:
		return ctxError(ctx, sdk.DeliveredNo)
	}
	return fmt.Errorf("%w: %w", errNotSent, err)
}

// claim makes the caller the one who ends the call, without telling anybody.
func (r *running) claim() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	first := !r.ended
	r.ended, r.told = true, r.told || first
	return first
}

// finish ends the call. Its outcome is told when nothing uses its host any more.
func (r *running) finish(reply []byte, err error) {
	var open []*callback
	r.mu.Lock()
	if r.ended {
		r.mu.Unlock()
		return
	}
	r.ended, r.reply, r.err = true, reply, err
	for _, c := range r.open {
		open = append(open, c)
	}
	tell := r.overLocked()
	r.mu.Unlock()
	for _, c := range open {
		if err := r.ctx.Err(); err != nil {
			c.ctx.End(err, causeOf(r.ctx))
		} else {
			c.ctx.End(context.Canceled, nil)
		}
	}
	if tell {
		r.tell()
	}
}

// overLocked reports, once, that the outcome may be told.
func (r *running) overLocked() bool {
	if !r.ended || r.told || r.performing > 0 || r.logging {
		return false
	}
	r.told = true
	return true
}

func (r *running) tell() {
	if r.h != nil {
		r.h.ended(r)
		return
	}
	r.out.Done(r.reply, r.err)
}

// Ended gives the call up: its context has ended. The handler is told, and ends
// it in its own time.
func (r *running) Ended() {
	r.mu.Lock()
	ended := r.ended
	r.mu.Unlock()
	if ended {
		return
	}
	r.s.leave(r.id)
	onItsWay, err := r.s.s.Cancel(r.id, r.ticket)
	if err != nil {
		r.s.fail(&faultError{err})
	}
	delivered := sdk.DeliveredYes
	if !onItsWay {
		r.s.remove(r.id)
		delivered = sdk.DeliveredNo
	}
	r.finish(nil, ctxError(r.ctx, delivered))
}

// frame takes a frame of the call, in the stream's goroutine.
func (r *running) frame(f handlerpb.FromHandler) error {
	switch {
	case f.Callback != nil && f.Callback.ID == 0:
		r.unanswered(f.Callback)
	case f.Callback != nil:
		return r.callback(f.Callback)
	case f.Cancel != 0:
		r.cancelCallback(f.Cancel)
	case f.Log != nil:
		r.logLater(f.Log)
	case f.Result != nil:
		r.finish(r.result(f.Result))
	}
	return nil
}

// result is what a result says. A refusal that the handler could not be told is
// the result, whatever it sent.
func (r *running) result(res *handlerpb.Result) ([]byte, error) {
	r.mu.Lock()
	refused := r.refused
	r.mu.Unlock()
	switch {
	case refused != nil:
		return nil, refused
	case res.Err != nil:
		return nil, res.Err
	case len(res.Reply) > r.maxPayload:
		return nil, tooLarge("the handler's reply", len(res.Reply), r.maxPayload, sdk.SideHandler, sdk.DeliveredYes)
	}
	return res.Reply, nil
}

// unanswered performs a commit, or a notification, that wants no answer, in the
// stream's goroutine: so they keep their order, and come before the call's result.
// After a refusal the call has failed.
func (r *running) unanswered(cb *handlerpb.Callback) {
	r.mu.Lock()
	if r.ended || r.refused != nil {
		r.mu.Unlock()
		return
	}
	r.performing++ // the host is this call's until it has ended
	r.sends = r.sends || lasting(cb.Op)
	r.mu.Unlock()
	var err error
	switch {
	case cb.Op == handlerpb.OpCommit:
		_, err = r.host.Commit(r.ctx, cb.Entry)
	case len(cb.Notice.Payload) > r.maxPayload:
		err = tooLarge("the notification", len(cb.Notice.Payload), r.maxPayload, sdk.SideCaller, sdk.DeliveredNo)
	default: // the contract has no other; without Wait it does not block
		_, err = r.host.Notify(r.ctx, cb.Notice)
	}
	r.mu.Lock()
	if err != nil {
		r.refused = asError(r.ctx, err)
	}
	r.performing--
	tell := r.overLocked()
	r.mu.Unlock()
	if tell {
		r.tell()
	}
}

// crashGrace is how long a call whose stream broke waits for the process's end
// to say how it came about.
const crashGrace = time.Second

// lost ends a call whose stream broke with cause; why says how the process
// ended, if it has.
func (r *running) lost(cause, why error) {
	if !r.s.s.Handed(&r.ticket) {
		r.finish(nil, fmt.Errorf("%w: %w", errNotSent, cause))
		return
	}
	if why == nil {
		why = cause
	}
	r.mu.Lock()
	sends := r.sends
	r.mu.Unlock()
	r.finish(nil, &sdk.Error{Code: sdk.HandlerCrashed, Side: sdk.SideHandler, Delivered: sdk.DeliveredYes,
		Retry: !sends, // its commits are gone; only a message that it sent may have taken effect
		Text:  "the handler was lost while it ran the call: " + why.Error()})
}

func causeOf(ctx context.Context) error {
	if c, ok := ctx.(*handlerpb.Context); ok {
		return c.Cause()
	}
	return context.Cause(ctx)
}

func ctxError(ctx context.Context, delivered sdk.Delivered) *sdk.Error {
	e := &sdk.Error{Code: sdk.Canceled, Side: sdk.SideCaller, Delivered: delivered, Retry: delivered == sdk.DeliveredNo,
		Text: "the caller gave up"}
	cause := causeOf(ctx)
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
