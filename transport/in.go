package transport

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// budget counts the bytes of incomplete messages, for one session and for all.
// Memory is only allocated after a take.
type budget struct {
	max   int64
	used  atomic.Int64
	total *budget // nil in the total itself
}

func (b *budget) take(n int) bool {
	if b.used.Add(int64(n)) > b.max {
		b.used.Add(-int64(n))
		return false
	}
	if b.total != nil && !b.total.take(n) {
		b.used.Add(-int64(n))
		return false
	}
	return true
}

func (b *budget) give(n int) {
	b.used.Add(-int64(n))
	if b.total != nil {
		b.total.give(n)
	}
}

// assembly collects the body of one incoming message. Memory grows with what
// has arrived, not with what was announced.
type assembly struct {
	buf    []byte
	prefix int // bytes before the body (a request's header)
	total  int // prefix and announced body
	held   int // taken from the budget
}

// firstGrant is the most that is allocated for a message of which only the
// first fragment is there.
const firstGrant = 128 << 10

var errBudget = fmt.Errorf("reassembly budget exhausted")

// begin starts with a copy of header and the body's first part.
func (a *assembly) begin(header, part []byte, total int, b *budget) error {
	a.prefix, a.total = len(header), len(header)+total
	if len(header)+len(part) < a.total {
		grant := min(a.total, max(firstGrant, 2*(len(header)+len(part))))
		if !b.take(grant) {
			return errBudget
		}
		a.held = grant
		a.buf = make([]byte, 0, grant)
	} else {
		a.buf = make([]byte, 0, a.total)
	}
	a.buf = append(append(a.buf, header...), part...)
	return nil
}

// add appends the next part, which check has allowed.
func (a *assembly) add(part []byte, b *budget) error {
	if need := len(a.buf) + len(part); need > cap(a.buf) {
		grant := min(a.total, max(need, 2*cap(a.buf)))
		if !b.take(grant) { // old and new are there at the same time
			return errBudget
		}
		next := make([]byte, len(a.buf), grant)
		copy(next, a.buf)
		a.buf = next
		b.give(a.held)
		a.held = grant
	}
	a.buf = append(a.buf, part...)
	return nil
}

// check holds a fragment against what was announced.
func (a *assembly) check(have, part int, last bool) error {
	end := have + part
	switch {
	case end > a.total:
		return fmt.Errorf("%w: a message exceeds its announced length", ErrProtocol)
	case last != (end == a.total):
		return fmt.Errorf("%w: a message does not end where it was announced to", ErrProtocol)
	case part == 0 && !last:
		return fmt.Errorf("%w: empty fragment", ErrProtocol)
	}
	return nil
}

func (a *assembly) release(b *budget) {
	b.give(a.held)
	a.held = 0
	a.buf = nil
}

func (a *assembly) header() []byte { return a.buf[:a.prefix:a.prefix] }
func (a *assembly) body() []byte   { return a.buf[a.prefix:a.total:a.total] }

// incoming is a request or notify from its first frame to its reply.
type incoming struct {
	req      Request
	ctx      serveCtx
	asm      assembly
	s        *Session
	id       uint64
	notify   bool
	complete bool      // guarded by s.mu: handed to the handler
	grew     time.Time // guarded by s.mu: when its last part arrived, while incomplete
}

// serveCtx is the context of a served request. Most handlers never ask for
// more than its deadline, so the real context is only made when they do.
type serveCtx struct {
	parent   context.Context
	deadline time.Time

	mu     sync.Mutex // guards:
	inner  context.Context
	cancel context.CancelCauseFunc
	stop   context.CancelFunc
	ended  bool
	cause  error
}

func (c *serveCtx) real() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inner != nil {
		return c.inner
	}
	c.inner, c.cancel = context.WithCancelCause(c.parent)
	if !c.deadline.IsZero() {
		c.inner, c.stop = context.WithDeadline(c.inner, c.deadline)
	}
	if c.ended {
		c.cancel(c.cause)
	}
	return c.inner
}

// end cancels; the first cause counts. A nil cause is context.Canceled.
func (c *serveCtx) end(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	c.ended, c.cause = true, cause
	if c.cancel != nil {
		c.cancel(cause)
	}
	if c.stop != nil {
		c.stop()
	}
}

// causeOf is the cause of end, once it was called.
func (c *serveCtx) causeOf() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
}

func (c *serveCtx) Deadline() (time.Time, bool) { return c.deadline, !c.deadline.IsZero() }
func (c *serveCtx) Done() <-chan struct{}       { return c.real().Done() }
func (c *serveCtx) Err() error                  { return c.real().Err() }
func (c *serveCtx) Value(key any) any           { return c.real().Value(key) }

var _ context.Context = (*serveCtx)(nil)
