package sdk

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Name is c's stable name for programs: "unknown_agent", "handler_failed". It
// is what the JSON forms carry.
func (c Code) Name() string { return strings.ReplaceAll(c.String(), " ", "_") }

// ParseCode reads what Name returns.
func ParseCode(name string) (Code, error) {
	for c := UnknownAgent; c.Valid(); c++ {
		if c.Name() == name {
			return c, nil
		}
	}
	return 0, fmt.Errorf("error code %q is unknown", name)
}

var sideSlugs = [...]string{
	SideCaller: "caller", SideNode: "node", SideHandler: "handler",
	SideRemoteNode: "remote_node", SideRemoteHandler: "remote_handler",
}

// Name is s's stable name for programs, such as "remote_node".
func (s Side) Name() string {
	if !s.Valid() {
		return s.String()
	}
	return sideSlugs[s]
}

// ParseSide reads what Name returns.
func ParseSide(name string) (Side, error) {
	for s := SideCaller; s.Valid(); s++ {
		if sideSlugs[s] == name {
			return s, nil
		}
	}
	return 0, fmt.Errorf("side %q is unknown", name)
}

// ParseDelivered reads what Delivered.String returns.
func ParseDelivered(name string) (Delivered, error) {
	for d := DeliveredUnknown; d <= DeliveredYes; d++ {
		if d.String() == name {
			return d, nil
		}
	}
	return 0, fmt.Errorf("delivered %q is unknown", name)
}

// errorJSON is the JSON form of an Error, as the CLI prints it with --json and
// the control API sends it.
type errorJSON struct {
	Code        string        `json:"code"`
	Message     string        `json:"message"` // Error(), for people; not read back
	Side        string        `json:"side"`
	Delivered   string        `json:"delivered"`
	Retry       bool          `json:"retry"`
	Text        string        `json:"text,omitempty"`
	HandlerCode string        `json:"handler_code,omitempty"`
	Limit       *limitJSON    `json:"limit,omitempty"`
	Attempts    []attemptJSON `json:"attempts,omitempty"`
}

type limitJSON struct {
	Name         string `json:"name"`
	Setting      string `json:"setting,omitempty"`
	Value        uint64 `json:"value"`
	Max          uint64 `json:"max"`
	RetryAfterNS int64  `json:"retry_after_ns,omitempty"`
}

type attemptJSON struct {
	Address string `json:"address"`
	Cause   string `json:"cause"`
}

// MarshalJSON writes
//
//	{"code": "too_large", "message": "…", "side": "remote_node", "delivered": "no", "retry": false,
//	 "text": "…", "handler_code": "…",
//	 "limit": {"name": "payload", "setting": "max-payload", "value": 20, "max": 10, "retry_after_ns": 5},
//	 "attempts": [{"address": "192.0.2.1:7777", "cause": "connection refused"}]}
//
// text, handler_code, limit and attempts are left out where they are empty;
// message is the same as Error().
func (e *Error) MarshalJSON() ([]byte, error) {
	j := errorJSON{Code: e.Code.Name(), Message: e.Error(), Side: e.Side.Name(), Delivered: e.Delivered.String(),
		Retry: e.Retry, Text: e.Text, HandlerCode: e.HandlerCode}
	if l := e.Limit; l != nil {
		j.Limit = &limitJSON{l.Name, l.Setting, l.Value, l.Max, int64(l.RetryAfter)}
	}
	for _, a := range e.Attempts {
		j.Attempts = append(j.Attempts, attemptJSON(a))
	}
	return json.Marshal(&j)
}

// UnmarshalJSON reads what MarshalJSON writes, within the bounds of ParseError.
func (e *Error) UnmarshalJSON(b []byte) error {
	var j errorJSON
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&j); err != nil {
		return fmt.Errorf("error in JSON: %w", err)
	}
	code, err := ParseCode(j.Code)
	if err != nil {
		return err
	}
	side, err := ParseSide(j.Side)
	if err != nil {
		return err
	}
	delivered, err := ParseDelivered(j.Delivered)
	if err != nil {
		return err
	}
	got := Error{Code: code, Side: side, Delivered: delivered, Retry: j.Retry, Text: j.Text, HandlerCode: j.HandlerCode}
	if l := j.Limit; l != nil {
		got.Limit = &Limit{l.Name, l.Setting, l.Value, l.Max, time.Duration(l.RetryAfterNS)}
	}
	for _, a := range j.Attempts {
		got.Attempts = append(got.Attempts, Attempt(a))
	}
	if err := got.validate(); err != nil {
		return fmt.Errorf("error in JSON: %w", err)
	}
	*e = got
	return nil
}
