package transport

import (
	"context"
	"errors"
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

// assembly collects the body of one incoming message, in chunks. Memory grows
// with what has arrived, not with what was announced, and no single step is
// long: a growing slice would stop the reader for milliseconds at a time.
type assembly struct {
	buf    []byte   // the first chunk
	chunks [][]byte // the others
	prefix int      // bytes before the body (a request's header)
	total  int      // prefix and announced body
	have   int      // prefix and body so far
	held   int      // taken from the budget
}

const (
	// firstChunk is the most that is allocated for a message of which only the
	// first fragment is there; nextChunk the size of the later chunks.
	firstChunk = 128 << 10
	nextChunk  = 256 << 10
)

var errBudget = errors.New("reassembly budget exhausted")

// begin starts with a copy of header and the body's first part.
func (a *assembly) begin(header, part []byte, total int, b *budget) error {
	a.prefix, a.total = len(header), len(header)+total
	a.have = len(header) + len(part)
	size := a.total
	if a.have < a.total {
		size = min(a.total, firstChunk)
		if !b.take(size) {
			return errBudget
		}
		a.held = size
	}
	a.buf = append(append(make([]byte, 0, size), header...), part...)
	return nil
}

// add appends the next part, which check has allowed.
func (a *assembly) add(part []byte, b *budget) error {
	a.have += len(part)
	for {
		last := &a.buf
		if n := len(a.chunks); n > 0 {
			last = &a.chunks[n-1]
		}
		n := min(len(part), cap(*last)-len(*last))
		*last = append(*last, part[:n]...)
		if part = part[n:]; len(part) == 0 {
			return nil
		}
		size := min(nextChunk, a.total-a.have+len(part))
		if !b.take(size) {
			return errBudget
		}
		a.held += size
		a.chunks = append(a.chunks, make([]byte, 0, size))
	}
}

// check holds a fragment against what was announced. have counts the bytes
// before it, as total does.
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

// release forgets an incomplete message.
func (a *assembly) release(b *budget) {
	b.give(a.held)
	a.held = 0
	a.buf, a.chunks = nil, nil
}

// join makes one piece of a complete message. It takes milliseconds for a
// large one, so it is not the reader who calls it.
func (a *assembly) join() (header, body []byte) {
	buf := a.buf
	if len(a.chunks) > 0 {
		buf = append(make([]byte, 0, a.total), buf...)
		for i, c := range a.chunks {
			buf = append(buf, c...)
			a.chunks[i] = nil
		}
	}
	a.buf, a.chunks = nil, nil
	return buf[:a.prefix:a.prefix], buf[a.prefix:a.total:a.total]
}

// incoming is a request or notify from its first frame to its reply.
type incoming struct {
	req      Request
	ctx      serveCtx
	asm      assembly
	s        *Session
	id       uint64
	notify   bool
	complete bool  // guarded by s.mu: handed to the handler
	grew     int64 // guarded by s.mu: when its last part arrived, while incomplete
	reply    outMsg
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
