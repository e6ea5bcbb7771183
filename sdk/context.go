package sdk

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

// Context is one call of a handler. It is a context.Context: it ends when the
// caller gives up, at the deadline that the sender set, and when the call has
// returned. After that its methods fail with HandlerCodeContext. Its methods
// may be called concurrently.
type Context struct {
	context.Context
	call *liveCall
}

// liveCall is what a call's Contexts share.
type liveCall struct {
	host  Host
	call  *Call
	setup Setup
	dna   *Definition
	ctx   context.Context // the node's, without the end that lazyContext adds
	own   lazyContext
	ended atomic.Bool
}

func newContext(ctx context.Context, host Host, call *Call, d *Definition) (c *Context, end func()) {
	l := &liveCall{host: host, call: call, dna: d, ctx: ctx}
	if s := d.setup.Load(); s != nil {
		l.setup = *s
	}
	l.own.Context = ctx
	return &Context{&l.own, l}, func() {
		l.ended.Store(true)
		l.own.end()
	}
}

// lazyContext is the node's context of a call, which also ends when the call has
// returned. Few calls look at theirs, so it is only made when one does.
type lazyContext struct {
	context.Context // the node's

	mu     sync.Mutex // guards:
	real   context.Context
	cancel context.CancelCauseFunc
	ended  bool
}

func (c *lazyContext) made() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.real == nil {
		c.real, c.cancel = context.WithCancelCause(c.Context)
		if c.ended {
			c.cancel(errEnded)
		}
	}
	return c.real
}

func (c *lazyContext) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended = true; c.cancel != nil {
		c.cancel(errEnded)
	}
}

func (c *lazyContext) Done() <-chan struct{} { return c.made().Done() }
func (c *lazyContext) Err() error            { return c.made().Err() }
func (c *lazyContext) Value(key any) any     { return c.made().Value(key) }

var errEnded = errors.New("the call has returned")

// under is the context for what the host does for c: the node's own where the
// author made no other from it, since the node then knows its end by itself.
func (c *Context) under() context.Context {
	if c.Context == context.Context(&c.call.own) {
		return c.call.ctx
	}
	return c
}

// Agent is the agent whose handler this is.
func (c *Context) Agent() AgentID { return c.call.setup.Agent }

// From is the proven agent who sent the message or the notification, or who calls
// the function, and Agent in any other call.
func (c *Context) From() AgentID { return c.call.call.From }

// MessageID names the message that is received, or this call.
func (c *Context) MessageID() MessageID { return c.call.call.ID }

// DNA is the hash of the DNA that the handler runs as.
func (c *Context) DNA() DNAHash { return c.call.setup.DNA }

// Properties decodes the operator's properties, which are JSON, into *v by the
// rules of a function's input: durations as "5s", bytes as base64, an unknown
// field is an error. Without properties *v becomes its zero value.
func (c *Context) Properties(v any) error {
	return c.call.dna.properties(v)
}

// Log writes to the node's log, with the call's context.
func (c *Context) Log() *slog.Logger { return slog.New(&hostLog{c: c}) }

// With is the same call under another context, which should come from c: a
// shorter deadline for one Send, the context of an errgroup.
func (c *Context) With(ctx context.Context) *Context { return &Context{ctx, c.call} }

// WithTimeout is With under a deadline of its own.
func (c *Context) WithTimeout(d time.Duration) (*Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(c.Context, d)
	return c.With(ctx), cancel
}

// live fails once the call has returned.
func (c *Context) live(what string) error {
	if c.call.ended.Load() {
		return Fail(HandlerCodeContext, "%s after the call had returned", what)
	}
	return nil
}

// CommitOption is AsPublic or AsStrict.
type CommitOption func(*Entry)

// AsPublic has the entry published; without it an entry is private. What others
// then can read is the whole record: the content, its place in the chain, when it
// was appended, and, for a receive, the id of the message and who sent it. It has
// room for MaxPublic bytes.
func AsPublic(e *Entry) { e.Visibility = Public }

// AsStrict makes the whole call fail with ChainMoved if the chain grew since
// the call began.
func AsStrict(e *Entry) { e.Ordering = Strict }

// CheckEntryType tells what is wrong with the type of an entry.
func CheckEntryType(t string) error {
	switch {
	case t == "" || len(t) > MaxEntryType || !utf8.ValidString(t):
		return fmt.Errorf("entry type %.80q: 1 to %d bytes of UTF-8 expected", t, MaxEntryType)
	case strings.HasPrefix(t, "parley."):
		return fmt.Errorf("entry type %q: those that begin with \"parley.\" are the node's own", t)
	}
	return nil
}

// Commit stages v as an entry of this type (1 to MaxEntryType bytes of UTF-8).
// All entries of a call are appended to the agent's source chain together, when
// the call returns without an error, and only then. The hash is the entry's.
// What the DNA's Validate refuses is not staged.
func (c *Context) Commit(entryType string, v any, options ...CommitOption) (Hash, error) {
	if err := c.live("Commit"); err != nil {
		return Hash{}, err
	}
	if err := CheckEntryType(entryType); err != nil {
		return Hash{}, Fail(HandlerCodeCommit, "commit: %v", err)
	}
	b, err := Marshal(v)
	if err != nil {
		return Hash{}, Fail(HandlerCodeCommit, "commit %q: %v", entryType, err)
	}
	e := Entry{Type: entryType, Content: b}
	for _, o := range options {
		o(&e)
	}
	if d := c.call.dna; d.validate != nil {
		err := d.judge(&Candidate{Type: e.Type, Visibility: e.Visibility, Content: e.Content, Author: c.Agent(), Own: true})
		if err != nil {
			return Hash{}, err
		}
	}
	h, err := c.call.host.Commit(c.under(), e)
	if err != nil {
		return Hash{}, hostError(err, DeliveredNo)
	}
	return h, nil
}

// Query reads records of the agent's source chain: durable ones, not those that
// this call staged.
func (c *Context) Query(q Query) ([]Record, error) {
	if err := c.live("Query"); err != nil {
		return nil, err
	}
	rs, err := c.call.host.Query(c.under(), q)
	if err != nil {
		return nil, hostError(err, DeliveredNo)
	}
	return rs, nil
}

// Typed is a record with its entry's value.
type Typed[T any] struct {
	Record
	Value T
}

// QueryAs is Query for the entries of one type, which q names, decoded.
func QueryAs[T any](c *Context, q Query) ([]Typed[T], error) {
	if q.Type == "" {
		return nil, errors.New("query: QueryAs needs an entry type, since others don't decode as its values do")
	}
	rs, err := c.Query(q)
	if err != nil {
		return nil, err
	}
	out := make([]Typed[T], len(rs))
	for i, r := range rs {
		out[i].Record = r
		if err := Unmarshal(r.Content, &out[i].Value); err != nil {
			return nil, fmt.Errorf("query: record %d, entry %q: %w", r.Header.Seq, q.Type, err)
		}
	}
	return out, nil
}

// All walks over every entry of one type that q selects, page by page; q.Limit
// is the size of a page. It ends after the first error.
func All[T any](c *Context, q Query) iter.Seq2[Typed[T], error] {
	return func(yield func(Typed[T], error) bool) {
		for {
			page, err := QueryAs[T](c, q)
			if err != nil {
				yield(Typed[T]{}, err)
				return
			}
			for _, r := range page {
				if !yield(r, nil) {
					return
				}
			}
			if len(page) == 0 {
				return
			}
			last := page[len(page)-1].Header.Seq
			if !q.Reverse {
				q.From = last + 1
			} else if q.To = last; last <= q.From {
				return // To = 0 would mean no bound
			}
		}
	}
}

// hostError makes sure that what a host returned is of the closed set.
func hostError(err error, d Delivered) error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return &Error{Code: Timeout, Side: SideCaller, Delivered: d, Text: "the deadline passed"}
	case errors.Is(err, context.Canceled):
		return &Error{Code: Canceled, Side: SideCaller, Delivered: d, Text: "the caller gave up"}
	}
	return &Error{Code: HandlerFailed, Side: SideNode, Delivered: d, Text: err.Error()}
}

// outcome is the error that a call ends with, given what its body returned.
func (c *Context) outcome(err error) error {
	receive := c.call.call.Kind != CallFunction || c.From() != c.Agent()
	if inner, ok := errors.AsType[*Error](err); ok {
		return c.nested(err, inner, receive)
	}
	e := &Error{Code: HandlerFailed, Side: SideHandler, Delivered: DeliveredYes, Text: err.Error()}
	// The body may give up early under a context of its own: that is its error.
	// Only the end of the call itself is a timeout or a cancellation.
	over := c.call.ctx.Err()
	switch {
	case errors.Is(over, context.DeadlineExceeded) && errors.Is(err, over):
		e.Code = Timeout
	case errors.Is(over, context.Canceled) && errors.Is(err, over):
		e.Code = Canceled
	default:
		return e
	}
	if !receive {
		e.Delivered = DeliveredUnknown // of messages that the function sent
	}
	return e
}

// nested keeps what an inner Send, Commit or Fail returned. In a receive the
// error of an inner Send speaks of another message than the sender's: passed on
// as it is, its Delivered, Side and Retry would be lies. So they would to a node
// whose own call this is.
func (c *Context) nested(err error, inner *Error, receive bool) *Error {
	e := *inner
	if prefix, ok := strings.CutSuffix(err.Error(), inner.Error()); ok && prefix != "" {
		e.Text = prefix + e.Text
	}
	own := inner.Code == HandlerFailed && inner.Side == SideHandler
	if !receive {
		return &e
	}
	if !own {
		return &Error{Code: HandlerFailed, Side: SideHandler, Delivered: DeliveredYes,
			HandlerCode: inner.Code.Name(), Text: err.Error()}
	}
	e.Delivered, e.Retry = DeliveredYes, false
	return &e
}
