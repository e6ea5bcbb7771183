package serve

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
	"github.com/parley-p2p/parley/sdk/handlerpb"
)

// service is a sdk.Handler as the contract wants it.
type service struct {
	h          sdk.Handler
	maxPayload int
	exit       func(int) // ends the process; nil where there is none to end

	controls atomic.Int64                     // Control streams ever opened
	commits  atomic.Pointer[sdk.CommitLimits] // that Setup told; nil before it

	mu    sync.Mutex
	setup bool // guarded by mu
}

var _ handlerpb.Service = (*service)(nil)

func newService(h sdk.Handler, maxPayload int) *service {
	return &service{h: h, maxPayload: maxPayload}
}

func (v *service) Describe(ctx context.Context) (d sdk.Description, err error) {
	defer recoverTo(&err, "describe")
	d, err = v.h.Describe(ctx)
	return complete(d), err
}

func (v *service) Setup(ctx context.Context, s sdk.Setup) (err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.setup {
		return errors.New("setup was called before")
	}
	defer recoverTo(&err, "setup")
	if err := v.h.Setup(ctx, s); err != nil {
		return err
	}
	v.commits.Store(&s.Commits)
	v.setup = true
	return nil
}

// stage gives a new call its count of commits.
func (v *service) stage() (s sdk.Stage) {
	if l := v.commits.Load(); l != nil {
		s.Limits = *l
	}
	return s
}

// Drain does nothing yet: the SDK gives a handler no background work.
func (v *service) Drain(context.Context) error { return nil }

// Control ends with its node, and the process with it. It is the portable twin
// of Pdeathsig.
func (v *service) Control(ctx context.Context) error {
	v.controls.Add(1)
	<-ctx.Done()
	if v.exit != nil {
		v.exit(0)
	}
	return nil
}

// guardTimeout is how long a process waits for its node's Control stream. A
// node opens it within its start timeout.
const guardTimeout = 2 * time.Minute

// guardStart ends a process whose node died before it opened Control.
func (v *service) guardStart() (stop func()) {
	t := time.AfterFunc(guardTimeout, func() {
		if v.controls.Load() == 0 {
			slog.Error("no node opened the control stream: exiting")
			v.exit(1)
		}
	})
	return func() { t.Stop() }
}

// protect turns a panic into an error; the process lives on.
func (v *service) protect(ctx context.Context, host sdk.Host, call *sdk.Call) (reply []byte, err error) {
	defer recoverTo(&err, "call "+call.Function)
	return v.h.Serve(ctx, host, call)
}

func recoverTo(err *error, what string) {
	r := recover()
	if r == nil {
		return
	}
	slog.Error("panic in "+what, "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
	*err = &sdk.Error{Code: sdk.HandlerFailed, Side: sdk.SideHandler, Delivered: sdk.DeliveredYes,
		HandlerCode: sdk.HandlerCodePanic, Text: fmt.Sprintf("panic: %v", r)}
}

// asError keeps a *sdk.Error as it is and makes one of any other error.
func asError(ctx context.Context, err error) *sdk.Error {
	var e *sdk.Error
	if errors.As(err, &e) && e != nil {
		return e
	}
	e = &sdk.Error{Code: sdk.HandlerFailed, Side: sdk.SideHandler, Delivered: sdk.DeliveredYes, Text: err.Error()}
	if ctx.Err() == nil {
		return e
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		e.Code = sdk.Timeout
	case errors.Is(err, context.Canceled):
		e.Code = sdk.Canceled
	}
	return e
}

func tooLarge(what string, n, limit int, side sdk.Side, delivered sdk.Delivered) *sdk.Error {
	return &sdk.Error{Code: sdk.TooLarge, Side: side, Delivered: delivered,
		Text:  fmt.Sprintf("%s has %d bytes, at most %d are allowed", what, n, limit),
		Limit: &sdk.Limit{Name: "payload", Setting: "max-payload", Value: uint64(n), Max: uint64(limit)}}
}
