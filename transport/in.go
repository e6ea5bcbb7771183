package transport

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
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

// incoming is a request or notify from its first frame to its reply. It is
// used again when its reply is framed; what a handler may keep is in use.
type incoming struct {
	next     *incoming // in serving.ready
	use      *served
	asm      assembly
	s        *Session
	id       uint64
	size     uint32 // of the body
	notify   bool
	joined   bool  // its header and body are in use
	complete bool  // guarded by s.mu: handed to the workers
	grew     int64 // guarded by s.mu: when its last part arrived, while incomplete
	charged  int   // bytes taken from serving.bodies
	reply    outMsg
}

// served is what the handler sees of a request. It is never used again.
type served struct {
	req Request
	ctx serveCtx
}

func (u *served) init(s *Session, head *requestHead) {
	u.req.Peer, u.req.Addr, u.req.Kind, u.req.ID = s.peer, s.addr, head.kind, head.id
	u.ctx.ep, u.req.ctx = s.ep, &u.ctx
}

// incomingPool belongs to an endpoint.
type incomingPool struct{ pool sync.Pool }

func (p *incomingPool) get() *incoming {
	if in, _ := p.pool.Get().(*incoming); in != nil {
		return in
	}
	return new(incoming)
}

// put takes back one that nothing refers to any more.
func (p *incomingPool) put(in *incoming) {
	*in = incoming{}
	p.pool.Put(in)
}
