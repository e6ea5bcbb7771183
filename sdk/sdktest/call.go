package sdktest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// running is one call of a handler, and the Host that it sees.
type running struct {
	node *Node
	call *sdk.Call
	ctx  context.Context
	stop context.CancelCauseFunc
	// release frees the deadline's timer.
	release context.CancelFunc
	over    func()        // is told of its end; nil: nobody
	done    chan struct{} // closed when out and err are final

	// Of another agent's message.
	checked time.Time // when behalf was found to hold
	behalf  *sdk.Behalf
	receipt *sdk.ReceiptRequest // nil: none is asked for

	// effects counts the messages sent that may have taken effect.
	effects atomic.Int32
	once    sync.Once // the first outcome wins: the handler's, or a crash
	out     []byte
	err     *sdk.Error

	mu     sync.Mutex // guards what follows
	base   uint64     // records when the call began, or up to the last of own behind them, for strict ordering
	own    []uint64   // numbers of the node's records for this call that stand behind another's
	proven bool       // the proof under which it runs is kept
	ended  bool
	stage  sdk.Stage // of staged
	staged []sdk.Entry
}

var _ sdk.Host = (*running)(nil)

var errCrashed = errors.New("the handler crashed")

// start begins a call in a goroutine of its own. The caller waits on done; the
// Net waits for the goroutine.
func (x *Node) start(deadline time.Time, call *sdk.Call) (*running, *sdk.Error) {
	return x.startCall(deadline, &running{call: call})
}

// startCall is start for a call that more is known of.
func (x *Node) startCall(deadline time.Time, r *running) (*running, *sdk.Error) {
	call := r.call
	r.node, r.base, r.done, r.stage.Limits = x, x.chain.len(), make(chan struct{}), x.net.options.commitLimits()
	x.mu.Lock()
	own := call.Kind != sdk.CallFunction && call.Kind != sdk.CallReceive // a node lets those wait
	if max := x.net.options.MaxCalls; len(x.running) >= max && !own {
		x.mu.Unlock()
		return nil, &sdk.Error{Code: sdk.Busy, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true, Text: "too many calls run at once",
			Limit: &sdk.Limit{Name: "concurrent calls", Setting: "MaxCalls", Value: uint64(max) + 1, Max: uint64(max)}}
	}
	if !x.net.begin() {
		x.mu.Unlock()
		return nil, &sdk.Error{Code: sdk.Canceled, Side: sdk.SideCaller, Delivered: sdk.DeliveredNo, Text: "the test is over"}
	}
	ctx, release := context.WithDeadline(context.Background(), deadline)
	r.ctx, r.stop = context.WithCancelCause(ctx)
	r.release = release
	x.running[r] = true
	x.mu.Unlock()
	go r.run()
	return r, nil
}

// run is a call's goroutine.
func (r *running) run() {
	defer r.node.net.calls.Done()
	// The test's end reaches every call, whatever context it has.
	defer context.AfterFunc(r.node.net.ctx, func() { r.stop(nil) })()
	returned := false
	defer func() { // a panic, or runtime.Goexit by t.FailNow within the handler
		if p := recover(); p != nil || !returned {
			r.node.log(slog.LevelError, "the handler panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			r.node.net.Crash(r.node) // all of its process
			r.crash()
		}
	}()
	out, err := r.node.handler.Serve(r.ctx, r, r.call)
	returned = true
	r.finish(out, err)
}

// finish appends what was staged and fixes the outcome.
func (r *running) finish(out []byte, err error) {
	r.once.Do(func() {
		staged := r.end()
		switch {
		case r.ctx.Err() != nil:
			// The caller is gone or the time is over, whatever the body says.
			r.err = ctxError(r.ctx, r.delivered())
		case err != nil:
			r.err = handlerError(err)
		default:
			var own []sdk.Entry
			own, out = r.seal(staged, out)
			if r.err = r.node.net.tooLarge("answer", len(out)); r.err != nil {
				r.err.Delivered = sdk.DeliveredYes
				break
			}
			cause := sdk.Cause{Kind: r.call.Kind, Message: r.call.ID, From: r.call.From}
			if r.err = r.node.chain.append(append(staged, own...), cause, r.began()); r.err == nil {
				r.out = out
				r.node.net.changed()
			}
		}
		r.settle()
	})
}

func (r *running) crash() {
	r.once.Do(func() {
		r.end()
		r.err = &sdk.Error{Code: sdk.HandlerCrashed, Side: sdk.SideHandler, Delivered: sdk.DeliveredYes,
			Text: "the handler's process ended while the call ran; nothing of it was committed"}
		r.stop(errCrashed)
		r.settle()
	})
}

// settle publishes the outcome. Of a failed call all commits are gone: it may be
// repeated unless a message that it sent may have taken effect.
func (r *running) settle() {
	if r.err != nil {
		e := *r.err
		e.Retry = r.effects.Load() == 0
		r.err = &e
	}
	r.node.mu.Lock()
	delete(r.node.running, r)
	r.node.mu.Unlock()
	if r.over != nil {
		r.over()
	}
	close(r.done)
	r.stop(nil)
	r.release()
}

// delivered is what can be said of a call that was given up: another agent's has
// arrived, a function may or may not have sent some.
func (r *running) delivered() sdk.Delivered {
	if r.call.Kind == sdk.CallReceive || r.call.Kind == sdk.CallNotified || r.call.From != r.node.id {
		return sdk.DeliveredYes
	}
	return sdk.DeliveredUnknown
}

// cancel ends a call whose caller's ctx has ended. The body is not waited for:
// it may ignore its context.
func (r *running) cancel(ctx context.Context) {
	r.once.Do(func() {
		r.end()
		r.err = ctxError(ctx, r.delivered())
		r.settle()
	})
}

// began is the chain's length that a strict commit of the call rests upon.
func (r *running) began() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.base
}

// end makes the Host refuse, and takes what was staged.
func (r *running) end() []sdk.Entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	return r.staged
}

func handlerError(err error) *sdk.Error {
	if e, ok := errors.AsType[*sdk.Error](err); ok {
		return e
	}
	return &sdk.Error{Code: sdk.HandlerFailed, Side: sdk.SideHandler, Delivered: sdk.DeliveredYes, Text: err.Error()}
}

// run runs a function to its end, or to ctx's.
func (x *Node) run(ctx context.Context, call *sdk.Call) ([]byte, *sdk.Error) {
	r, err := x.runCall(ctx, call)
	if err != nil {
		return nil, err
	}
	return r.out, nil
}

func (x *Node) runCall(ctx context.Context, call *sdk.Call) (*running, *sdk.Error) {
	ctx, cancel := context.WithTimeout(ctx, x.net.options.Timeout)
	defer cancel()
	if ctx.Err() != nil {
		return nil, ctxError(ctx, sdk.DeliveredNo)
	}
	deadline, _ := ctx.Deadline()
	r, err := x.start(deadline, call)
	if err != nil {
		return nil, err
	}
	select {
	case <-r.done:
	case <-ctx.Done():
		r.cancel(ctx)
		<-r.done
	}
	return r, r.err
}
