package sdk

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Bounds of an encoded Error, in bytes. AppendError cuts to them, ParseError
// refuses what is over them.
const (
	MaxErrorText   = 4 << 10 // Error.Text
	MaxHandlerCode = 128     // Error.HandlerCode
	maxErrorName   = 64      // Limit.Name and Limit.Setting
	maxAttemptAddr = 256     // Attempt.Address
	maxAttemptText = 512     // Attempt.Cause
	// MaxErrorBytes bounds what AppendError appends: all of the above, the 16
	// attempts, and 8 bytes or less of msgpack around each field.
	MaxErrorBytes = MaxErrorText + MaxHandlerCode + 2*maxErrorName + MaxAttempts*(maxAttemptAddr+maxAttemptText) + 1024
)

// The encoded form: a msgpack map, its keys in this order, the optional ones
// left out where they are empty.
//
//	a  attempts: array of {a: address, c: cause}     optional
//	c  code, 1 to 12
//	d  delivered: 0 unknown, 1 no, 2 yes
//	h  handler code                                  optional
//	l  limit: {m: max, n: name, r: retry after in ns, s: setting, v: value}  optional
//	r  safe to retry
//	s  side, 1 to 5
//	t  text                                          optional
type wireErr struct {
	Attempts  []wireAttempt `codec:"a,omitempty"`
	Code      uint8         `codec:"c"`
	Delivered uint8         `codec:"d"`
	Handler   string        `codec:"h,omitempty"`
	Limit     *wireLimit    `codec:"l,omitempty"`
	Retry     bool          `codec:"r"`
	Side      uint8         `codec:"s"`
	Text      string        `codec:"t,omitempty"`
}

type wireAttempt struct {
	Address string `codec:"a"`
	Cause   string `codec:"c"`
}

type wireLimit struct {
	Max     uint64 `codec:"m"`
	Name    string `codec:"n"`
	Retry   int64  `codec:"r"`
	Setting string `codec:"s"`
	Value   uint64 `codec:"v"`
}

// AppendError appends the encoded form of e, at most MaxErrorBytes. Texts that
// are too long are cut; line breaks and other control characters become spaces,
// so that nobody can write to another's terminal or log.
func AppendError(b []byte, e *Error) []byte {
	w := wireErr{Code: uint8(e.Code), Side: uint8(e.Side), Delivered: uint8(e.Delivered), Retry: e.Retry,
		Handler: cleanText(e.HandlerCode, MaxHandlerCode), Text: cleanText(e.Text, MaxErrorText)}
	if l := e.Limit; l != nil {
		w.Limit = &wireLimit{Name: cleanText(l.Name, maxErrorName), Setting: cleanText(l.Setting, maxErrorName),
			Value: l.Value, Max: l.Max, Retry: max(0, int64(l.RetryAfter))}
	}
	for _, a := range e.Attempts[:min(len(e.Attempts), MaxAttempts)] {
		w.Attempts = append(w.Attempts, wireAttempt{cleanText(a.Address, maxAttemptAddr), cleanText(a.Cause, maxAttemptText)})
	}
	out, err := encodePayload(&w)
	if err != nil {
		panic("encode a struct of numbers and valid strings: " + err.Error()) // cannot happen
	}
	return append(b, out...)
}

// ParseError reads one encoded Error that fills all of b. It accepts only
// what AppendError writes for an Error of the closed set: each has one form.
func ParseError(b []byte) (*Error, error) {
	if len(b) > MaxErrorBytes {
		return nil, fmt.Errorf("encoded error: %d bytes, at most %d allowed", len(b), MaxErrorBytes)
	}
	var w wireErr
	if err := decodePayload(b, reflect.ValueOf(&w).Elem(), true); err != nil {
		return nil, fmt.Errorf("encoded error: %w", err)
	}
	e := &Error{Code: Code(w.Code), Side: Side(w.Side), Delivered: Delivered(w.Delivered), Retry: w.Retry,
		Text: w.Text, HandlerCode: w.Handler}
	for _, a := range w.Attempts {
		e.Attempts = append(e.Attempts, Attempt(a))
	}
	if l := w.Limit; l != nil {
		e.Limit = &Limit{Name: l.Name, Setting: l.Setting, Value: l.Value, Max: l.Max, RetryAfter: time.Duration(l.Retry)}
	}
	if err := e.validate(); err != nil {
		return nil, fmt.Errorf("encoded error: %w", err)
	}
	if !bytes.Equal(AppendError(nil, e), b) {
		return nil, errors.New("encoded error: not in its one form")
	}
	return e, nil
}

// validate holds e against the closed set and the bounds.
func (e *Error) validate() error {
	switch {
	case !e.Code.Valid():
		return fmt.Errorf("code %d is unknown", uint8(e.Code))
	case !e.Side.Valid():
		return fmt.Errorf("side %d is unknown", uint8(e.Side))
	case e.Delivered > DeliveredYes:
		return fmt.Errorf("delivered %d is unknown", uint8(e.Delivered))
	case len(e.Attempts) > MaxAttempts:
		return fmt.Errorf("%d attempts, at most %d allowed", len(e.Attempts), MaxAttempts)
	}
	texts := []boundedText{{"text", e.Text, MaxErrorText}, {"handler code", e.HandlerCode, MaxHandlerCode}}
	if l := e.Limit; l != nil {
		if l.RetryAfter < 0 {
			return fmt.Errorf("retry after %s", l.RetryAfter)
		}
		texts = append(texts, boundedText{"limit's name", l.Name, maxErrorName}, boundedText{"setting", l.Setting, maxErrorName})
	}
	for _, a := range e.Attempts {
		texts = append(texts, boundedText{"address", a.Address, maxAttemptAddr}, boundedText{"cause", a.Cause, maxAttemptText})
	}
	for _, t := range texts {
		if len(t.s) > t.max {
			return fmt.Errorf("%s of %d bytes, at most %d allowed", t.name, len(t.s), t.max)
		}
		if strings.ContainsFunc(t.s, unprintable) {
			return fmt.Errorf("%s with control characters", t.name)
		}
	}
	return nil
}

type boundedText struct {
	name, s string
	max     int
}

// cleanText makes s one line of valid UTF-8 of at most n bytes.
func cleanText(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if unprintable(r) {
			return ' '
		}
		return r
	}, s[:min(len(s), 2*n)]) // invalid UTF-8 becomes U+FFFD here
	if len(s) <= n {
		return s
	}
	const mark = "…"
	n -= len(mark)
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + mark
}

// unprintable tells whether r could break a line or turn a terminal's text
// around: control characters, line and paragraph separators, bidi controls.
func unprintable(r rune) bool {
	return unicode.IsControl(r) || r == 0x2028 || r == 0x2029 ||
		r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069
}
