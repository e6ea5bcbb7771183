package plugin

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/handlerpb"
)

// errNotSent means that a call never reached the process: it may be tried on
// another one.
var errNotSent = errors.New("the call was not sent")

// call runs one call in the process. Its error is errNotSent or a *sdk.Error.
func (p *process) call(ctx context.Context, host sdk.Host, c *sdk.Call, maxPayload int) ([]byte, error) {
	s, err := p.pool.get()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNotSent, err)
	}
	r := running{p: p, s: s, host: host, maxPayload: maxPayload}
	stop := context.AfterFunc(ctx, s.cancel)
	reply, err := r.run(ctx, c)
	clean := stop() && !r.broken
	p.pool.put(s, clean)
	return reply, err
}

// running is one call that runs.
type running struct {
	p          *process
	s          *callStream
	host       sdk.Host
	maxPayload int
	broken     bool // the stream is of no use any more
	sends      bool // the call sent a message

	wg sync.WaitGroup // the callbacks

	mu   sync.Mutex
	open map[uint64]context.CancelFunc // callbacks that run, by id
}

func (r *running) run(ctx context.Context, c *sdk.Call) ([]byte, error) {
	remaining := time.Duration(0)
	if d, ok := ctx.Deadline(); ok {
		if remaining = time.Until(d); remaining <= 0 {
			return nil, ctxError(ctx, sdk.DeliveredNo)
		}
	}
	if err := r.s.Start(c, remaining); err != nil {
		r.broken = true
		if errors.Is(err, handlerpb.ErrMalformed) {
			return nil, &sdk.Error{Code: sdk.HandlerFailed, Side: sdk.SideCaller, Delivered: sdk.DeliveredNo,
				HandlerCode: sdk.HandlerCodeInput, Text: err.Error()}
		}
		if ctx.Err() != nil {
			return nil, ctxError(ctx, sdk.DeliveredNo)
		}
		return nil, fmt.Errorf("%w: %w", errNotSent, err)
	}
	reply, err := r.receive(ctx)
	r.endCallbacks()
	return reply, err
}

// endCallbacks sees to it that nothing of the call goes on when it has ended.
func (r *running) endCallbacks() {
	r.mu.Lock()
	for _, cancel := range r.open {
		cancel()
	}
	r.mu.Unlock()
	r.wg.Wait()
}

// receive takes the call's frames until its result.
func (r *running) receive(ctx context.Context) ([]byte, error) {
	for {
		f, err := r.s.Recv()
		switch {
		case err != nil:
			r.broken = true
			return nil, r.streamError(ctx, err)
		case f.Result != nil:
			return r.result(f.Result)
		case f.Callback != nil:
			r.callback(ctx, f.Callback)
		case f.Cancel != 0:
			r.cancelCallback(f.Cancel)
		case f.Log != nil:
			r.log(ctx, f.Log)
		}
	}
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
func (r *running) log(ctx context.Context, l *handlerpb.LogRecord) {
	if !r.p.out.lines.allow() {
		return
	}
	args := make([]any, 0, 2*len(l.Attrs))
	for _, a := range l.Attrs {
		args = append(args, printable([]byte(a.Key), maxWords), printable([]byte(a.Value), maxLine))
	}
	r.host.Log(ctx, l.Level, printable([]byte(l.Text), maxLine), args...)
}

// callback runs a callback beside the receiving goroutine, so that callbacks
// of one call run at once and the call's end is seen meanwhile.
func (r *running) callback(ctx context.Context, cb *handlerpb.Callback) {
	if cb.Op == handlerpb.OpSend {
		r.sends = true
	}
	var cbCtx context.Context
	var cancel context.CancelFunc
	if cb.Remaining > 0 {
		cbCtx, cancel = context.WithTimeout(ctx, cb.Remaining)
	} else {
		cbCtx, cancel = context.WithCancel(ctx)
	}
	r.mu.Lock()
	if r.open == nil {
		r.open = make(map[uint64]context.CancelFunc, 1)
	}
	full := len(r.open) >= handlerpb.MaxCallbacks
	if !full {
		r.open[cb.ID] = cancel
	}
	r.mu.Unlock()
	if full {
		cancel()
		_ = r.s.answer(&handlerpb.Answer{ID: cb.ID, Err: &sdk.Error{Code: sdk.Busy, Side: sdk.SideNode,
			Delivered: sdk.DeliveredNo, Retry: true, Text: "too many callbacks of one call are open; wait for one of them",
			Limit: &sdk.Limit{Name: "callbacks of one call", Value: handlerpb.MaxCallbacks + 1, Max: handlerpb.MaxCallbacks}}})
		return
	}
	r.wg.Go(func() {
		a := r.perform(cbCtx, cb)
		r.mu.Lock()
		delete(r.open, cb.ID)
		r.mu.Unlock()
		cancel()
		if err := r.s.answer(a); errors.Is(err, handlerpb.ErrMalformed) {
			_ = r.s.answer(&handlerpb.Answer{ID: cb.ID, Err: &sdk.Error{Code: sdk.HandlerFailed, Side: sdk.SideNode,
				HandlerCode: sdk.HandlerCodeOutput, Text: err.Error()}})
		}
	})
}

func (r *running) cancelCallback(id uint64) {
	r.mu.Lock()
	cancel := r.open[id]
	r.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}

// perform asks the node for what the callback wants.
func (r *running) perform(ctx context.Context, cb *handlerpb.Callback) *handlerpb.Answer {
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
		if len(cb.Entry.Content) > r.maxPayload {
			err = tooLarge("the entry", len(cb.Entry.Content), r.maxPayload, sdk.SideCaller, sdk.DeliveredNo)
			break
		}
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

// streamError says what a broken stream means for its call.
func (r *running) streamError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctxError(ctx, sdk.DeliveredYes)
	}
	if status.Code(err) == codes.ResourceExhausted {
		return &sdk.Error{Code: sdk.TooLarge, Side: sdk.SideHandler, Delivered: sdk.DeliveredYes,
			Text:  "the handler sent more than the payload limit allows: " + status.Convert(err).Message(),
			Limit: &sdk.Limit{Name: "payload", Setting: "max-payload", Max: uint64(r.maxPayload)}}
	}
	cause := err
	grace := crashGrace
	if errors.Is(err, handlerpb.ErrMalformed) {
		grace = 0
	}
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case <-r.p.run.exited:
		cause = r.p.run.why()
	case <-ctx.Done():
	case <-t.C:
	}
	return &sdk.Error{Code: sdk.HandlerCrashed, Side: sdk.SideHandler, Delivered: sdk.DeliveredYes,
		Retry: !r.sends, // its commits are gone; only a message that it sent may have taken effect
		Text:  "the handler was lost while it ran the call: " + cause.Error()}
}

func ctxError(ctx context.Context, delivered sdk.Delivered) *sdk.Error {
	e := &sdk.Error{Code: sdk.Canceled, Side: sdk.SideCaller, Delivered: delivered, Retry: delivered == sdk.DeliveredNo,
		Text: "the caller gave up"}
	cause := context.Cause(ctx)
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
	return &sdk.Error{Code: sdk.TooLarge, Side: side, Delivered: delivered,
		Text:  fmt.Sprintf("%s has %d bytes, at most %d are allowed", what, n, limit),
		Limit: &sdk.Limit{Name: "payload", Setting: "max-payload", Value: uint64(n), Max: uint64(limit)}}
}
