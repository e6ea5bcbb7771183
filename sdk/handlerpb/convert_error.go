package handlerpb

import (
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// errorToWire never fails: an error has to reach the other side. What is out of
// bounds is cut, and an error outside the closed set becomes HandlerFailed.
func errorToWire(e *sdk.Error) *Error {
	if e == nil {
		return nil
	}
	w := &Error{
		Code: uint32(e.Code), Side: uint32(e.Side), Delivered: uint32(e.Delivered), Retry: e.Retry,
		Text: clip(e.Text, maxText), HandlerCode: clip(e.HandlerCode, maxCode),
	}
	if !e.Code.Valid() {
		w.Code = uint32(sdk.HandlerFailed)
	}
	if !e.Side.Valid() {
		w.Side = uint32(sdk.SideHandler)
	}
	if e.Delivered > sdk.DeliveredYes {
		w.Delivered = uint32(sdk.DeliveredUnknown)
	}
	if l := e.Limit; l != nil {
		w.Limit = &Limit{Name: clip(l.Name, maxCode), Setting: clip(l.Setting, maxCode),
			Value: l.Value, Max: l.Max, RetryAfterNs: max(0, int64(l.RetryAfter))}
	}
	for _, a := range e.Attempts[:min(len(e.Attempts), sdk.MaxAttempts)] {
		w.Attempts = append(w.Attempts, &Attempt{Address: clip(a.Address, maxAddress), Cause: clip(a.Cause, maxCause)})
	}
	return w
}

func errorFromWire(w *Error) (*sdk.Error, error) {
	e := &sdk.Error{Code: sdk.Code(w.Code), Side: sdk.Side(w.Side), Delivered: sdk.Delivered(w.Delivered),
		Retry: w.Retry, Text: w.Text, HandlerCode: w.HandlerCode}
	switch {
	case w.Code > 0xff || !e.Code.Valid():
		return nil, malformed("error code %d", w.Code)
	case w.Side > 0xff || !e.Side.Valid():
		return nil, malformed("error side %d", w.Side)
	case w.Delivered > uint32(sdk.DeliveredYes):
		return nil, malformed("error delivered %d", w.Delivered)
	case len(w.Attempts) > sdk.MaxAttempts:
		return nil, malformed("error with %d attempts, at most %d allowed", len(w.Attempts), sdk.MaxAttempts)
	}
	if err := checkLen("error text", len(w.Text), 0, maxText); err != nil {
		return nil, err
	}
	if err := checkLen("handler code", len(w.HandlerCode), 0, maxCode); err != nil {
		return nil, err
	}
	if l := w.Limit; l != nil {
		if len(l.Name) > maxCode || len(l.Setting) > maxCode || l.RetryAfterNs < 0 {
			return nil, malformed("error limit out of bounds")
		}
		e.Limit = &sdk.Limit{Name: l.Name, Setting: l.Setting, Value: l.Value, Max: l.Max,
			RetryAfter: time.Duration(l.RetryAfterNs)}
	}
	for _, a := range w.Attempts {
		if len(a.GetAddress()) > maxAddress || len(a.GetCause()) > maxCause {
			return nil, malformed("error attempt out of bounds")
		}
		e.Attempts = append(e.Attempts, sdk.Attempt{Address: a.GetAddress(), Cause: a.GetCause()})
	}
	return e, nil
}
