package sdk

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func fullError() *Error {
	return &Error{Code: Unreachable, Side: SideNode, Delivered: DeliveredNo, Retry: true, Text: "no address answered",
		HandlerCode: "x.y", Limit: &Limit{Name: "payload", Setting: "max-payload", Value: 20, Max: 10, RetryAfter: time.Second},
		Attempts: []Attempt{{"192.0.2.1:7777", "connection refused"}, {"[2001:db8::1]:1", "timeout"}}}
}

func TestErrorRoundTrip(t *testing.T) {
	t.Parallel()
	errs := []*Error{fullError(), Fail("a.b", "no"), {Code: OutcomeUnknown, Side: SideRemoteHandler},
		{Code: Busy, Side: SideNode, Limit: &Limit{}}, {Code: Unreachable, Side: SideNode, Attempts: []Attempt{{}}}}
	for _, e := range errs {
		b := AppendError([]byte("before"), e)
		got, err := ParseError(b[len("before"):])
		if err != nil || !reflect.DeepEqual(got, e) {
			t.Errorf("got %+v, %v, want %+v", got, err, e)
		}
	}
}

func TestErrorGolden(t *testing.T) {
	t.Parallel()
	want := map[string]*Error{"full": fullError(), "fail": Fail("a.b", "no"),
		"least": {Code: OutcomeUnknown, Side: SideRemoteHandler}}
	for _, v := range readVectors(t, "errors.txt") {
		e := want[v.left]
		if e == nil {
			t.Fatalf("vector %q is unknown", v.left)
		}
		delete(want, v.left)
		if b := AppendError(nil, e); !bytes.Equal(b, unhex(t, v.right)) {
			t.Errorf("%s is % x, want %s", v.left, b, v.right)
		}
		if got, err := ParseError(unhex(t, v.right)); err != nil || !reflect.DeepEqual(got, e) {
			t.Errorf("%s: %+v, %v", v.left, got, err)
		}
	}
	if len(want) > 0 {
		t.Errorf("no vector for %v", want)
	}
}

// TestErrorCut: the longest possible Error is cut to the bounds, and stays valid.
func TestErrorCut(t *testing.T) {
	t.Parallel()
	for _, unit := range []string{"x", "é", "🤡", "\xff", "\x1b[31m", "a\nb", "\u202e", "\u2028"} {
		long := strings.Repeat(unit, 2*MaxErrorText)
		e := &Error{Code: Busy, Side: SideNode, Text: long, HandlerCode: long,
			Limit: &Limit{Name: long, Setting: long, Value: 1<<64 - 1, Max: 1<<64 - 1, RetryAfter: 1<<63 - 1}}
		for range 2 * MaxAttempts {
			e.Attempts = append(e.Attempts, Attempt{long, long})
		}
		b := AppendError(nil, e)
		if strings.Contains(string(b), "\u202e") {
			t.Error("what turns a terminal's text around is passed on")
		}
		if len(b) > MaxErrorBytes {
			t.Errorf("%q: %d bytes, at most %d allowed", unit, len(b), MaxErrorBytes)
		}
		got, err := ParseError(b)
		if err != nil {
			t.Errorf("%q: %v", unit, err)
			continue
		}
		if len(got.Attempts) != MaxAttempts || len(got.Text) > MaxErrorText || len(got.Text) < MaxErrorText/8 ||
			!utf8.ValidString(got.Text) || strings.ContainsFunc(got.Text, unprintable) {
			t.Errorf("%q: %d attempts, text of %d bytes %.20q…", unit, len(got.Attempts), len(got.Text), got.Text)
		}
		if again := AppendError(nil, got); !bytes.Equal(again, b) {
			t.Errorf("%q: what was cut is cut again", unit)
		}
	}
}

func TestParseErrorRefuses(t *testing.T) {
	t.Parallel()
	enc := func(v any) []byte {
		b, err := encodePayload(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	good := wireErr{Code: 1, Side: 1}
	edit := func(f func(*wireErr)) []byte { w := good; f(&w); return enc(&w) }
	long := strings.Repeat("x", MaxErrorText+1)
	for what, b := range map[string][]byte{
		"nothing": nil, "nil": {0xc0}, "an empty map": {0x80}, "an array": {0x90},
		"code 0": edit(func(w *wireErr) { w.Code = 0 }), "code 13": edit(func(w *wireErr) { w.Code = 13 }),
		"side 0": edit(func(w *wireErr) { w.Side = 0 }), "side 6": edit(func(w *wireErr) { w.Side = 6 }),
		"delivered 3":   edit(func(w *wireErr) { w.Delivered = 3 }),
		"long text":     edit(func(w *wireErr) { w.Text = long }),
		"long code":     edit(func(w *wireErr) { w.Handler = long[:MaxHandlerCode+1] }),
		"line break":    edit(func(w *wireErr) { w.Text = "a\nb" }),
		"escape":        edit(func(w *wireErr) { w.Handler = "\x1b[0m" }),
		"long limit":    edit(func(w *wireErr) { w.Limit = &wireLimit{Name: long[:65]} }),
		"negative wait": edit(func(w *wireErr) { w.Limit = &wireLimit{Retry: -1} }),
		"attempts":      edit(func(w *wireErr) { w.Attempts = make([]wireAttempt, MaxAttempts+1) }),
		"long address":  edit(func(w *wireErr) { w.Attempts = []wireAttempt{{Address: long[:257]}} }),
		"more behind":   append(enc(&good), 0),
		"unknown key":   enc(map[string]any{"c": 1, "d": 0, "r": false, "s": 1, "x": 1}),
		"missing key":   enc(map[string]any{"c": 1, "d": 0, "s": 1}),
		"empty text":    enc(map[string]any{"c": 1, "d": 0, "r": false, "s": 1, "t": ""}),
		"wide number":   append([]byte{0x84, 0xa1, 'c', 0xcc, 1}, enc(&good)[4:]...),
		"huge":          make([]byte, MaxErrorBytes+1),
	} {
		if e, err := ParseError(b); err == nil {
			t.Errorf("%s: % x is read as %v", what, b, e)
		}
	}
	if _, err := ParseError(enc(&good)); err != nil {
		t.Errorf("the good one: %v", err)
	}
}

// FuzzParseError: whatever is accepted is what AppendError writes.
func FuzzParseError(f *testing.F) {
	f.Add(AppendError(nil, fullError()))
	f.Add(AppendError(nil, Fail("a", "b")))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ParseError(b)
		if err != nil {
			return
		}
		if !bytes.Equal(AppendError(nil, e), b) {
			t.Fatalf("% x is not its one form", b)
		}
		_ = e.Error()
	})
}
