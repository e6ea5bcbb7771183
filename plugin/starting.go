package plugin

import (
	"context"
	"errors"

	"github.com/parley-p2p/parley/sdk"
)

// Starting is a process that is set up and that nobody calls yet but Ready.
type Starting struct {
	Handler     *Handler        // whose it will be
	Description sdk.Description // what it says of itself
	p           *process
}

// Serve runs one call in this very process, as sdk.Handler's Serve does. Every
// error is a *sdk.Error.
func (s *Starting) Serve(ctx context.Context, host sdk.Host, call *sdk.Call) ([]byte, error) {
	limit := s.Handler.cfg.MaxPayload
	if n := size(call); n > limit {
		return nil, tooLarge("the payload", n, limit, sdk.SideNode, sdk.DeliveredNo)
	}
	_, _ = s.p.calls.enter(ctx) // without a limit it neither waits nor fails
	defer s.p.calls.leave()
	reply, err := s.p.callWait(ctx, host, call, limit)
	if errors.Is(err, errNotSent) {
		err = &sdk.Error{Code: sdk.HandlerCrashed, Side: sdk.SideHandler, Delivered: sdk.DeliveredNo, Retry: true,
			Text: "the process was gone before it got the call: " + err.Error()}
	}
	return reply, err
}
