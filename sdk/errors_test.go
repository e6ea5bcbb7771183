package sdk

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

// closedSet is the table of the promises: order, names and numbers are frozen,
// since they travel.
var closedSet = []struct {
	code   Code
	number uint8
	text   string
	name   string
}{
	{UnknownAgent, 1, "unknown agent", "unknown_agent"},
	{Unreachable, 2, "unreachable", "unreachable"},
	{Refused, 3, "refused", "refused"},
	{NoHandler, 4, "no handler", "no_handler"},
	{Busy, 5, "busy", "busy"},
	{TooLarge, 6, "too large", "too_large"},
	{Timeout, 7, "timeout", "timeout"},
	{Canceled, 8, "canceled", "canceled"},
	{HandlerFailed, 9, "handler failed", "handler_failed"},
	{HandlerCrashed, 10, "handler crashed", "handler_crashed"},
	{ChainMoved, 11, "chain moved", "chain_moved"},
	{OutcomeUnknown, 12, "outcome unknown", "outcome_unknown"},
}

func TestClosedSet(t *testing.T) {
	t.Parallel()
	for _, c := range closedSet {
		if uint8(c.code) != c.number || c.code.String() != c.text || c.code.Name() != c.name || !c.code.Valid() {
			t.Errorf("%d %q %q, want %d %q %q", c.code, c.code, c.code.Name(), c.number, c.text, c.name)
		}
		if got, err := ParseCode(c.name); err != nil || got != c.code {
			t.Errorf("%s is read as %v, %v", c.name, got, err)
		}
		err := fmt.Errorf("outer: %w", &Error{Code: c.code, Side: SideNode, Text: "why"})
		for _, other := range closedSet {
			if got := errors.Is(err, other.code); got != (other.code == c.code) {
				t.Errorf("errors.Is(%v, %v) = %v", c.code, other.code, got)
			}
		}
		if e, ok := errors.AsType[*Error](err); !ok || e.Code != c.code {
			t.Errorf("%v is lost in a chain of errors", c.code)
		}
		if !strings.HasPrefix(c.code.Error(), c.text) {
			t.Errorf("as an error of its own: %q", c.code.Error())
		}
	}
	for _, c := range []Code{0, 13, 255} {
		if c.Valid() || !strings.Contains(c.String(), "error code") {
			t.Errorf("%d is %q", uint8(c), c)
		}
	}
	for _, name := range []string{"", "unknown agent", "Busy", "error_code_13"} {
		if c, err := ParseCode(name); err == nil {
			t.Errorf("%q is read as %v", name, c)
		}
	}
}

func TestSides(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		side, remote Side
		name         string
	}{
		{SideCaller, SideRemoteNode, "caller"},
		{SideNode, SideRemoteNode, "node"},
		{SideHandler, SideRemoteHandler, "handler"},
		{SideRemoteNode, SideRemoteNode, "remote_node"},
		{SideRemoteHandler, SideRemoteHandler, "remote_handler"},
	} {
		e := &Error{Code: Busy, Side: c.side}
		if r := e.Remote(); r.Side != c.remote || e.Side != c.side {
			t.Errorf("%v becomes %v, want %v; the original is %v", c.side, r.Side, c.remote, e.Side)
		}
		if got, err := ParseSide(c.name); err != nil || got != c.side || c.side.Name() != c.name {
			t.Errorf("%q: %v, %v, %q", c.name, got, err, c.side.Name())
		}
	}
	for _, d := range []Delivered{DeliveredUnknown, DeliveredNo, DeliveredYes} {
		if got, err := ParseDelivered(d.String()); err != nil || got != d {
			t.Errorf("%v: %v, %v", d, got, err)
		}
	}
	if _, err := ParseSide("this node"); err == nil {
		t.Error("a side's text is read as its name")
	}
	if _, err := ParseDelivered("maybe"); err == nil {
		t.Error("maybe is read")
	}
}

func TestErrorText(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  *Error
		want string
	}{
		{Fail("auction.closed", "the auction ended at %d", 5),
			"handler failed [auction.closed]: the auction ended at 5 [from: this agent's handler; delivered: yes; safe to retry: no]"},
		{&Error{Code: Unreachable, Side: SideNode, Delivered: DeliveredNo, Retry: true,
			Attempts: []Attempt{{"192.0.2.1:1", "refused"}, {"192.0.2.2:1", "timeout"}}},
			"unreachable: 192.0.2.1:1: refused; 192.0.2.2:1: timeout [from: this node; delivered: no; safe to retry: yes]"},
		{&Error{Code: TooLarge, Side: SideRemoteNode, Delivered: DeliveredNo, Limit: &Limit{Name: "payload", Setting: "max-payload", Value: 20, Max: 10}},
			"too large (limit payload: 20 of at most 10, setting max-payload) [from: the other node; delivered: no; safe to retry: no]"},
		{&Error{Code: Busy, Side: SideCaller, Limit: &Limit{Name: "calls", RetryAfter: time.Second}},
			"busy (limit calls, try again in 1s) [from: caller; delivered: unknown; safe to retry: no]"},
	} {
		if got := c.err.Error(); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}

func TestErrorJSON(t *testing.T) {
	t.Parallel()
	for _, e := range []*Error{fullError(), Fail("a.b", "no"), {Code: OutcomeUnknown, Side: SideRemoteHandler}} {
		b, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		got := &Error{Text: "of before"}
		if err := json.Unmarshal(b, got); err != nil || !reflect.DeepEqual(got, e) {
			t.Errorf("got %+v, %v of %s", got, err, b)
		}
	}
	b, _ := json.Marshal(Fail("a.b", "no"))
	want := `{"code":"handler_failed","message":"handler failed [a.b]: no [from: this agent's handler; delivered: yes; safe to retry: no]",` +
		`"side":"handler","delivered":"yes","retry":false,"text":"no","handler_code":"a.b"}`
	if string(b) != want {
		t.Errorf("got  %s\nwant %s", b, want)
	}
	for _, bad := range []string{
		`{`, `{}`, `{"code":"busy"}`, `{"code":"busy","side":"node"}`, `{"code":"none","side":"node","delivered":"no"}`,
		`{"code":"busy","side":"mars","delivered":"no"}`, `{"code":"busy","side":"node","delivered":"no","more":1}`,
		`{"code":"busy","side":"node","delivered":"no","text":"a\nb"}`,
		`{"code":"busy","side":"node","delivered":"no","text":"` + strings.Repeat("x", MaxErrorText+1) + `"}`,
		`{"code":"busy","side":"node","delivered":"no","limit":{"name":"x","value":1,"max":1,"retry_after_ns":-1}}`,
	} {
		if err := json.Unmarshal([]byte(bad), new(Error)); err == nil {
			t.Errorf("%.80s is accepted", bad)
		}
	}
}
