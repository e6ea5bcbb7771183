package sdk

import (
	"reflect"
	"testing"
	"time"
)

func fullError() *Error {
	return &Error{Code: Unreachable, Side: SideNode, Delivered: DeliveredNo, Retry: true, Text: "no address answered",
		HandlerCode: "x.y", Limit: &Limit{Name: "payload", Setting: "max-payload", Value: 20, Max: 10, RetryAfter: time.Second},
		Attempts: []Attempt{{"192.0.2.1:7777", "connection refused"}, {"[2001:db8::1]:1", "timeout"}}}
}

func TestErrorRoundTrip(t *testing.T) {
	t.Parallel()
	for _, e := range []*Error{fullError(), Fail("a.b", "no"), {Code: OutcomeUnknown, Side: SideRemoteHandler}} {
		b := AppendError([]byte("before"), e)
		got, err := ParseError(b[len("before"):])
		if err != nil || !reflect.DeepEqual(got, e) {
			t.Errorf("got %+v, %v, want %+v", got, err, e)
		}
	}
}
