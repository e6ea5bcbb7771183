package sdk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fakeHost answers as it is told and keeps what it was asked.
type fakeHost struct {
	Host    // nil: nothing else is called
	answer  []byte
	err     error
	records []Record

	mu     sync.Mutex // guards what follows
	staged []Entry
	sent   [][]byte
	lines  []string
}

func (h *fakeHost) Send(_ context.Context, m Message) ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sent = append(h.sent, m.Payload)
	return h.answer, h.err
}

func (h *fakeHost) Commit(_ context.Context, e Entry) (Hash, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.staged = append(h.staged, e)
	return EntryHash(e.Content), h.err
}

// Query pages through records, two at a time.
func (h *fakeHost) Query(_ context.Context, q Query) (out []Record, err error) {
	for i := range h.records {
		if q.Reverse {
			i = len(h.records) - 1 - i
		}
		r := h.records[i]
		if s := r.Header.Seq; s < q.From || q.To > 0 && s >= q.To || r.Header.EntryType != q.Type || len(out) == 2 {
			continue
		}
		out = append(out, r)
	}
	return out, h.err
}

func (h *fakeHost) Get(_ context.Context, record Hash) (Record, error) {
	for _, r := range h.records {
		if r.Hash() == record {
			return r, nil
		}
	}
	return Record{}, cmp.Or(h.err, errors.New("no record"))
}

func (h *fakeHost) Log(_ context.Context, level slog.Level, text string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lines = append(h.lines, fmt.Sprint(append([]any{level, " ", text}, args...)...))
}

var _ Host = (*fakeHost)(nil)

func call(t *testing.T, d *Definition, h *fakeHost, function string, in any) ([]byte, error) {
	t.Helper()
	return callContext(t, t.Context(), d, h, function, in)
}

func callContext(t *testing.T, ctx context.Context, d *Definition, h *fakeHost, function string, in any) ([]byte, error) {
	t.Helper()
	b, err := Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	c := &Call{Kind: CallFunction, Function: function, Payload: b, ID: MessageID{2}}
	if s := d.setup.Load(); s != nil {
		c.From = s.Agent
	}
	if function == "" {
		c.Kind, c.From = CallReceive, AgentID{3}
	}
	return d.Serve(ctx, h, c)
}

func nothing(*Context, None) (None, error) { return None{}, nil }

func TestDescribe(t *testing.T) {
	t.Parallel()
	d := Define("a-1_b", "v", Function("zed", nothing), Function("alpha", nothing), Receive(nothing))
	got, err := d.Describe(t.Context())
	want := Description{Name: "a-1_b", Integrity: "v", Functions: []string{"alpha", "zed"}, Receives: true, SDK: Version, Protocol: Protocol}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

// TestDefineReportsAll: every fault of a definition is told at once.
func TestDefineReportsAll(t *testing.T) {
	t.Parallel()
	d := Define("Big Name", "", Part{}, Function("twice", nothing), Function("twice", nothing), Function("", nothing),
		Function("no space", nothing), Receive(nothing), Receive(nothing), Function[None, None]("empty", nil),
		Function("chan", func(*Context, struct{ C chan int }) (None, error) { return None{}, nil }),
		Function("func", func(*Context, None) ([]func(), error) { return nil, nil }),
		Function(strings.Repeat("x", MaxName+1), nothing))
	_, err := d.Describe(t.Context())
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{`DNA name "Big Name"`, "integrity version", "empty Part", `"twice" is defined twice`, `function name ""`,
		`"no space"`, "receive is defined twice", `"empty" has no body`, `function "chan": input: field "C"`,
		`function "func": output: field "[0]"`, "65 bytes"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in\n%v", want, err)
		}
	}
	if _, err := d.Serve(t.Context(), &fakeHost{}, &Call{Kind: CallReceive}); err == nil {
		t.Error("a faulty definition serves")
	}
	if _, err := Define("x", "1").Describe(t.Context()); err == nil {
		t.Error("a definition without parts is described")
	}
}

func TestServe(t *testing.T) {
	t.Parallel()
	type in struct {
		A int `json:"a"`
	}
	d := Define("d", "1",
		Function("double", func(c *Context, v in) (int, error) { return 2 * v.A, nil }),
		Function("panic", func(*Context, None) (None, error) { panic("secret") }),
		Function("output", func(*Context, None) (string, error) { return "\xff", nil }),
		Function("plain", func(*Context, None) (None, error) { return None{}, errors.New("plain") }),
	)
	if out, err := call(t, d, &fakeHost{}, "double", in{21}); err != nil || len(out) != 1 || out[0] != 42 {
		t.Errorf("got % x, %v", out, err)
	}
	for _, c := range []struct {
		function string
		in       any
		want     Error
		text     string
	}{
		{"double", "x", Error{Code: HandlerFailed, Delivered: DeliveredYes, HandlerCode: HandlerCodeInput}, "expected an object, got a string"},
		{"double", map[string]int{"b": 1}, Error{Code: HandlerFailed, Delivered: DeliveredYes, HandlerCode: HandlerCodeInput}, `no field "b"; the fields are a`},
		{"double", map[string]string{"a": "x"}, Error{Code: HandlerFailed, Delivered: DeliveredYes, HandlerCode: HandlerCodeInput}, `field "a"`},
		{"panic", nil, Error{Code: HandlerFailed, Delivered: DeliveredYes, HandlerCode: HandlerCodePanic}, "log"},
		{"output", nil, Error{Code: HandlerFailed, Delivered: DeliveredYes, HandlerCode: HandlerCodeOutput}, "UTF-8"},
		{"plain", nil, Error{Code: HandlerFailed, Delivered: DeliveredYes}, "plain"},
		{"none", nil, Error{Code: NoHandler, Delivered: DeliveredNo}, "double, output, panic, plain"},
		{"", nil, Error{Code: NoHandler, Delivered: DeliveredNo}, "receives no messages"},
	} {
		h := &fakeHost{}
		_, err := call(t, d, h, c.function, c.in)
		e, ok := errors.AsType[*Error](err)
		if !ok || e.Code != c.want.Code || e.Side != SideHandler || e.Delivered != c.want.Delivered ||
			e.HandlerCode != c.want.HandlerCode || !strings.Contains(e.Text, c.text) || strings.Contains(e.Text, "secret") {
			t.Errorf("%q(%v): got %v, want %+v with %q", c.function, c.in, err, c.want, c.text)
		}
		if c.function == "panic" && (len(h.lines) != 1 || !strings.Contains(h.lines[0], "secret") || !strings.Contains(h.lines[0], "define_test.go")) {
			t.Errorf("the node's log got %q", h.lines)
		}
	}
}

func TestContextTells(t *testing.T) {
	t.Parallel()
	type rules struct {
		Wait time.Duration `json:"wait"`
	}
	setup := Setup{Agent: AgentID{9}, DNA: DNAHash{8}, Properties: []byte(`{"wait": "5s"}`)}
	var properties rules
	d := Define("d", "1", Receive(func(c *Context, _ None) (None, error) {
		if c.Agent() != setup.Agent || c.DNA() != setup.DNA || c.From() != (AgentID{3}) || c.MessageID() != (MessageID{2}) {
			t.Errorf("%v %v %v %v", c.Agent(), c.DNA(), c.From(), c.MessageID())
		}
		return None{}, c.Properties(&properties)
	}))
	if err := d.Setup(t.Context(), setup); err != nil {
		t.Fatal(err)
	}
	if _, err := call(t, d, &fakeHost{}, "", nil); err != nil || properties.Wait != 5*time.Second {
		t.Errorf("properties %+v, %v", properties, err)
	}
	// A clone has no Setup, and its own does not reach the original.
	clone := d.Clone()
	if err := clone.Setup(t.Context(), Setup{Properties: []byte(`{"wiat": 1}`)}); err != nil {
		t.Fatal(err)
	}
	if _, err := call(t, d, &fakeHost{}, "", nil); err != nil {
		t.Errorf("the clone's setup reached the original: %v", err)
	}
}

// TestNestedErrors: a function passes on what its Send returned; a receive
// speaks for itself, since the error is about another message than the sender's.
func TestNestedErrors(t *testing.T) {
	t.Parallel()
	body := func(c *Context, wrap bool) (None, error) {
		_, err := Send[None](c, AgentID{5}, "x")
		if wrap {
			err = fmt.Errorf("asking: %w", err)
		}
		return None{}, err
	}
	d := Define("d", "1", Function("f", body), Receive(body))
	inner := &Error{Code: Busy, Side: SideRemoteNode, Delivered: DeliveredNo, Retry: true, Text: "later", Limit: &Limit{Name: "calls"}}
	for _, c := range []struct {
		function string
		wrap     bool
		inner    error
		want     *Error
	}{
		{"f", false, inner, inner},
		{"f", true, inner, &Error{Code: Busy, Side: SideRemoteNode, Delivered: DeliveredNo, Retry: true, Text: "asking: later", Limit: inner.Limit}},
		{"", false, inner, &Error{Code: HandlerFailed, Side: SideHandler, Delivered: DeliveredYes, HandlerCode: "busy", Text: inner.Error()}},
		{"", true, inner, &Error{Code: HandlerFailed, Side: SideHandler, Delivered: DeliveredYes, HandlerCode: "busy", Text: "asking: " + inner.Error()}},
		{"", false, Fail("theirs", "no").Remote(), &Error{Code: HandlerFailed, Side: SideHandler, Delivered: DeliveredYes, HandlerCode: "handler_failed", Text: Fail("theirs", "no").Remote().Error()}},
		{"f", false, context.DeadlineExceeded, &Error{Code: Timeout, Side: SideCaller, Text: "the deadline passed"}},
		{"f", false, context.Canceled, &Error{Code: Canceled, Side: SideCaller, Text: "the caller gave up"}},
		{"f", false, errors.New("host"), &Error{Code: HandlerFailed, Side: SideNode, Text: "host"}},
	} {
		_, err := call(t, d, &fakeHost{err: c.inner}, c.function, c.wrap)
		if e, ok := errors.AsType[*Error](err); !ok || !reflect.DeepEqual(e, c.want) {
			t.Errorf("%q wrap %v:\ngot  %v\nwant %v", c.function, c.wrap, err, c.want)
		}
	}
	own := Define("d", "1", Receive(func(*Context, None) (None, error) {
		mine := Fail("mine", "too low")
		mine.Delivered, mine.Retry = DeliveredNo, true // not for a receive to say: it has the message
		return None{}, fmt.Errorf("bid: %w", mine)
	}))
	_, err := call(t, own, &fakeHost{}, "", nil)
	if e, ok := errors.AsType[*Error](err); !ok || e.HandlerCode != "mine" || !strings.HasSuffix(e.Text, "too low") || e.Delivered != DeliveredYes || e.Retry {
		t.Errorf("a receive's own failure is %v", err)
	}
}

// TestCallEnds: the end of the call itself is a timeout, the end of a context
// that the body made is the body's own error.
func TestCallEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		wait := func(c *Context, d time.Duration) (None, error) {
			if d > 0 {
				short, cancel := c.WithTimeout(d)
				defer cancel()
				c = short
			}
			<-c.Done()
			return None{}, fmt.Errorf("waiting: %w", c.Err())
		}
		d := Define("d", "1", Function("f", wait), Receive(wait))
		for _, c := range []struct {
			function string
			own      time.Duration
			code     Code
			deliv    Delivered
		}{
			{"f", 0, Timeout, DeliveredUnknown}, {"", 0, Timeout, DeliveredYes},
			{"f", time.Second, HandlerFailed, DeliveredYes}, {"", time.Second, HandlerFailed, DeliveredYes},
		} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			_, err := callContext(t, ctx, d, &fakeHost{}, c.function, c.own)
			cancel()
			if e, ok := errors.AsType[*Error](err); !ok || e.Code != c.code || e.Delivered != c.deliv {
				t.Errorf("%q own %s: %v, want %v", c.function, c.own, err, c.code)
			}
		}
	})
}

func TestContextAfterReturn(t *testing.T) {
	t.Parallel()
	var kept *Context
	d := Define("d", "1", Function("f", func(c *Context, _ None) (None, error) { kept = c; return None{}, nil }))
	h := &fakeHost{}
	if _, err := call(t, d, h, "f", nil); err != nil {
		t.Fatal(err)
	}
	_, commit := kept.Commit("x", 1)
	_, query := kept.Query(Query{})
	_, get := kept.Get(Hash{1})
	_, send := Send[None](kept.With(context.Background()), AgentID{1}, 1)
	for what, err := range map[string]error{"commit": commit, "query": query, "get": get, "send": send} {
		if e, ok := errors.AsType[*Error](err); !ok || e.HandlerCode != HandlerCodeContext {
			t.Errorf("%s: %v", what, err)
		}
	}
	kept.Log().Info("too late")
	if kept.Err() == nil || len(h.staged)+len(h.sent)+len(h.lines) != 0 {
		t.Errorf("err %v, host got %v %v %v", kept.Err(), h.staged, h.sent, h.lines)
	}
}

func TestCommitAndQuery(t *testing.T) {
	t.Parallel()
	record := func(seq uint64, v any) Record {
		b, err := Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return Record{Header: Header{Seq: seq, EntryType: "n"}, Content: b}
	}
	h := &fakeHost{}
	for i := range uint64(5) {
		h.records = append(h.records, record(i+1, int(i)))
	}
	type walk struct {
		Reverse  bool
		From, To uint64
	}
	d := Define("d", "1",
		Function("commit", func(c *Context, typ string) (Hash, error) { return c.Commit(typ, 7, AsPublic, AsStrict) }),
		Function("all", func(c *Context, w walk) (out []int, err error) {
			for r, err := range All[int](c, Query{Type: "n", Reverse: w.Reverse, From: w.From, To: w.To}) {
				if err != nil {
					return nil, err
				}
				out = append(out, r.Value)
			}
			return out, nil
		}),
		Function("untyped", func(c *Context, _ None) (None, error) { _, err := QueryAs[int](c, Query{}); return None{}, err }),
		Function("wrong", func(c *Context, _ None) (None, error) {
			_, err := QueryAs[string](c, Query{Type: "n"})
			return None{}, err
		}),
	)
	out, err := call(t, d, h, "commit", "typ")
	var got Hash
	if err == nil {
		err = Unmarshal(out, &got)
	}
	want := Entry{Type: "typ", Visibility: Public, Ordering: Strict, Content: []byte{7}}
	if err != nil || got != EntryHash([]byte{7}) || len(h.staged) != 1 || !reflect.DeepEqual(h.staged[0], want) {
		t.Errorf("committed %+v, hash %v, %v", h.staged, got, err)
	}
	for _, typ := range []string{"", strings.Repeat("x", MaxEntryType+1), "parley.genesis"} {
		if _, err := call(t, d, h, "commit", typ); err == nil {
			t.Errorf("entry type %q is accepted", typ)
		}
	}
	for _, c := range []struct {
		w    walk
		want []int
	}{
		{walk{}, []int{0, 1, 2, 3, 4}}, {walk{Reverse: true}, []int{4, 3, 2, 1, 0}},
		{walk{From: 2, To: 5}, []int{1, 2, 3}}, {walk{Reverse: true, From: 2, To: 5}, []int{3, 2, 1}},
	} {
		out, err := call(t, d, h, "all", c.w)
		var got []int
		if err == nil {
			err = Unmarshal(out, &got)
		}
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%+v: %v, %v, want %v", c.w, got, err, c.want)
		}
	}
	for _, f := range []string{"untyped", "wrong"} {
		if _, err := call(t, d, h, f, nil); err == nil || !strings.Contains(err.Error(), "query: ") {
			t.Errorf("%s: %v", f, err)
		}
	}
}

func TestLog(t *testing.T) {
	t.Parallel()
	d := Define("d", "1", Function("f", func(c *Context, _ None) (None, error) {
		l := c.Log().With("a", 1).WithGroup("g").With("b", 2)
		l.Warn("text", slog.Group("h", "c", 3), "d", 4)
		c.Log().Debug("plain")
		return None{}, nil
	}))
	h := &fakeHost{}
	if _, err := call(t, d, h, "f", nil); err != nil {
		t.Fatal(err)
	}
	want := []string{fmt.Sprint(slog.LevelWarn, " ", "text", "a", int64(1), "g.b", int64(2), "g.h.c", int64(3), "g.d", int64(4)), "DEBUG plain"}
	if !reflect.DeepEqual(h.lines, want) {
		t.Errorf("got  %q\nwant %q", h.lines, want)
	}
}

func TestGet(t *testing.T) {
	t.Parallel()
	there := Record{Header: Header{Version: HeaderVersion, Kind: KindEntry, EntryType: "n", Seq: 4}, Content: []byte{7}}
	garbage := there
	garbage.Header.Seq, garbage.Content = 5, []byte{0xc1}
	missing := &Error{Code: HandlerFailed, Side: SideNode, Delivered: DeliveredNo, Retry: true, HandlerCode: HandlerCodeNotFound}
	d := Define("d", "1", Function("get", func(c *Context, h Hash) (int, error) {
		r, err := GetAs[int](c, h)
		if err == nil && r.Header != there.Header {
			err = fmt.Errorf("got %+v", r.Header)
		}
		return r.Value, err
	}))
	for name, c := range map[string]struct {
		record Hash
		fails  error // of the host
		want   func(error) bool
	}{
		"there":     {record: there.Hash(), want: func(err error) bool { return err == nil }},
		"not there": {fails: missing, want: IsNotFound},
		"no answer": {fails: &Error{Code: Unreachable, Side: SideNode}, want: func(err error) bool { return errors.Is(err, Unreachable) && !IsNotFound(err) }},
		"no T":      {record: garbage.Hash(), want: func(err error) bool { return !IsNotFound(err) && strings.Contains(err.Error(), HandlerCodeOutput) }},
		"time over": {fails: context.DeadlineExceeded, want: func(err error) bool { return errors.Is(err, Timeout) }},
	} {
		out, err := call(t, d, &fakeHost{records: []Record{there, garbage}, err: c.fails}, "get", c.record)
		if !c.want(err) || err == nil && string(out) != string([]byte{7}) {
			t.Errorf("%s: %x, %v", name, out, err)
		}
	}
	if IsNotFound(nil) || IsNotFound(errors.New("x")) || IsNotFound(Fail("app.not_found", "x")) || !IsNotFound(fmt.Errorf("so: %w", missing)) {
		t.Error("IsNotFound")
	}
}
