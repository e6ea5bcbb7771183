package control

import (
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/parley-p2p/parley/node/control/controlpb"
	"github.com/parley-p2p/parley/sdk"
)

// statusOf is the connect code for each error of the closed set, for clients
// that look no further. Connect maps it to an HTTP status.
func statusOf(e *sdk.Error) connect.Code {
	switch e.Code {
	case sdk.UnknownAgent, sdk.NoHandler:
		return connect.CodeNotFound
	case sdk.Unreachable:
		return connect.CodeUnavailable
	case sdk.Refused:
		return connect.CodePermissionDenied
	case sdk.Busy, sdk.TooLarge:
		return connect.CodeResourceExhausted
	case sdk.Timeout:
		return connect.CodeDeadlineExceeded
	case sdk.Canceled:
		return connect.CodeCanceled
	case sdk.HandlerFailed:
		switch e.HandlerCode {
		case sdk.HandlerCodeInput:
			return connect.CodeInvalidArgument
		case sdk.HandlerCodeNotFound:
			return connect.CodeNotFound
		}
		return connect.CodeFailedPrecondition
	case sdk.ChainMoved:
		return connect.CodeAborted
	case sdk.HandlerCrashed:
		return connect.CodeInternal
	}
	return connect.CodeUnknown // sdk.OutcomeUnknown
}

// errorToWire is err as the service returns it.
func errorToWire(err error) error {
	var e *sdk.Error
	var input *InputError
	switch {
	case errors.As(err, &e):
		return detailed(e)
	case errors.As(err, &input):
		return connect.NewError(connect.CodeInvalidArgument, input)
	case errors.Is(err, context.DeadlineExceeded):
		return detailed(callerError(sdk.Timeout, "the deadline passed"))
	case errors.Is(err, context.Canceled):
		return detailed(callerError(sdk.Canceled, "the caller gave up, or the node stopped"))
	}
	return connect.NewError(connect.CodeInternal, err)
}

// detailed makes e fit for the wire (bounded, printable, valid UTF-8) and
// attaches it.
func detailed(e *sdk.Error) error {
	clean, err := sdk.ParseError(sdk.AppendError(nil, e))
	if err != nil {
		return connect.NewError(connect.CodeInternal, fmt.Errorf("the node has a bug here: an error outside the closed set: %w", err))
	}
	ce := connect.NewError(statusOf(clean), errors.New(clean.Error()))
	detail, err := connect.NewErrorDetail(errorMessage(clean))
	if err != nil {
		return connect.NewError(connect.CodeInternal, fmt.Errorf("encode error: %w", err))
	}
	ce.AddDetail(detail)
	return ce
}

func errorMessage(e *sdk.Error) *controlpb.Error {
	m := &controlpb.Error{Code: e.Code.Name(), Side: e.Side.Name(), Delivered: e.Delivered.String(), Retry: e.Retry,
		Text: e.Text, HandlerCode: e.HandlerCode}
	if l := e.Limit; l != nil {
		m.Limit = &controlpb.ErrorLimit{Name: l.Name, Setting: l.Setting, Value: l.Value, Max: l.Max,
			RetryAfter: durationpb.New(l.RetryAfter)}
	}
	for _, a := range e.Attempts {
		m.Attempts = append(m.Attempts, &controlpb.Attempt{Address: a.Address, Cause: a.Cause})
	}
	return m
}

func errorFromMessage(m *controlpb.Error) (*sdk.Error, error) {
	code, err1 := sdk.ParseCode(m.GetCode())
	side, err2 := sdk.ParseSide(m.GetSide())
	delivered, err3 := sdk.ParseDelivered(m.GetDelivered())
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	e := &sdk.Error{Code: code, Side: side, Delivered: delivered, Retry: m.GetRetry(), Text: m.GetText(), HandlerCode: m.GetHandlerCode()}
	if l := m.GetLimit(); l != nil {
		e.Limit = &sdk.Limit{Name: l.GetName(), Setting: l.GetSetting(), Value: l.GetValue(), Max: l.GetMax(),
			RetryAfter: l.GetRetryAfter().AsDuration()}
	}
	for _, a := range m.GetAttempts() {
		e.Attempts = append(e.Attempts, sdk.Attempt{Address: a.GetAddress(), Cause: a.GetCause()})
	}
	return sdk.ParseError(sdk.AppendError(nil, e)) // holds it against the bounds
}

// errorFromWire is what a Client returns for err. what names the request; a
// connection that breaks under a call leaves its outcome unknown.
func errorFromWire(ctx context.Context, what string, err error) error {
	var ce *connect.Error
	if errors.As(err, &ce) {
		for _, d := range ce.Details() {
			v, valueErr := d.Value()
			m, ok := v.(*controlpb.Error)
			if valueErr != nil || !ok {
				continue
			}
			e, convertErr := errorFromMessage(m)
			if convertErr != nil {
				return fmt.Errorf("%s: the node's error could not be read: %w", what, convertErr)
			}
			return e
		}
	}
	var dial *dialError
	switch {
	case errors.As(err, &dial):
		return fmt.Errorf("%s: %w", what, dial)
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return callerError(sdk.Timeout, "the deadline passed before the node answered")
	case errors.Is(ctx.Err(), context.Canceled):
		return callerError(sdk.Canceled, "the caller gave up before the node answered")
	case ce == nil || !connect.IsWireError(err):
		return brokenError(what, err)
	case ce.Code() == connect.CodeInvalidArgument:
		return &InputError{Text: ce.Message()}
	}
	return fmt.Errorf("%s: %w", what, ce)
}

// brokenError is for a connection that ended before the answer came. A function
// may have taken effect; whatever else was asked can be asked again.
func brokenError(what string, err error) error {
	const text = "the connection to the node ended before it answered: look at the node's log"
	if what != callName {
		return fmt.Errorf("%s: %s (%w)", what, text, errors.Join(ErrNotRunning, err))
	}
	return &sdk.Error{Code: sdk.OutcomeUnknown, Side: sdk.SideNode, Delivered: sdk.DeliveredUnknown, Text: text}
}

// callName names Call in a Client's errors.
const callName = "call"

func callerError(code sdk.Code, text string) *sdk.Error {
	return &sdk.Error{Code: code, Side: sdk.SideCaller, Delivered: sdk.DeliveredUnknown, Text: text}
}
