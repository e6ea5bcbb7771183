package control

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// maxIdleConns is how many connections a client keeps for its next calls,
	// maxIdleTime for how long: less than the server's idleTimeout.
	maxIdleConns = 64
	maxIdleTime  = idleTimeout / 2
)

// roundTripper speaks HTTP/1.1 over connections to the socket, one request at a
// time on each. net/http's Transport serves a connection with two goroutines of
// its own, and each request changes between three; here the caller's does all
// of it (docs/decisions/0608).
type roundTripper struct {
	dial func() (net.Conn, error)

	mu     sync.Mutex // guards:
	idle   []*clientConn
	closed bool
}

var _ http.RoundTripper = (*roundTripper)(nil)

type clientConn struct {
	net.Conn
	in    *bufio.Reader
	out   *bufio.Writer
	since time.Time // when it became idle
}

// RoundTrip implements http.RoundTripper. It never sends a request twice: a
// call may have taken effect.
func (t *roundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx := r.Context()
	c, err := t.conn(ctx)
	if err != nil {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(longAgo) })
	res, err := c.roundTrip(r)
	if err != nil {
		stop()
		_ = c.Close()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, err
	}
	res.Body = &responseBody{ReadCloser: res.Body, ctx: ctx, t: t, c: c, stop: stop, reuse: !res.Close && !r.Close}
	return res, nil
}

// longAgo is a deadline that ends what waits.
var longAgo = time.Unix(1, 0)

func (c *clientConn) roundTrip(r *http.Request) (*http.Response, error) {
	err := r.Write(c.out) // closes the body
	if err == nil {
		err = c.out.Flush()
	}
	if err != nil && r.Context().Err() == nil {
		// The node answers what it refuses before it has read all of it.
		if res, errRead := http.ReadResponse(c.in, r); errRead == nil {
			res.Close = true
			return res, nil
		}
	}
	if err != nil {
		return nil, err
	}
	return http.ReadResponse(c.in, r)
}

// conn is an idle connection or a new one.
func (t *roundTripper) conn(ctx context.Context) (*clientConn, error) {
	for {
		t.mu.Lock()
		n := len(t.idle)
		if n == 0 {
			t.mu.Unlock()
			break
		}
		c := t.idle[n-1]
		t.idle[n-1] = nil
		t.idle = t.idle[:n-1]
		t.mu.Unlock()
		// A node that went away since has closed it.
		if time.Since(c.since) < maxIdleTime && stillOpen(c.Conn) {
			return c, nil
		}
		_ = c.Close()
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	conn, err := t.dial()
	if err != nil {
		return nil, err
	}
	return &clientConn{Conn: conn, in: bufio.NewReader(conn), out: bufio.NewWriter(conn)}, nil
}

// put keeps a connection whose response was read to its end.
func (t *roundTripper) put(c *clientConn) {
	c.since = time.Now()
	t.mu.Lock()
	keep := !t.closed && len(t.idle) < maxIdleConns && c.in.Buffered() == 0
	if keep {
		t.idle = append(t.idle, c)
	}
	t.mu.Unlock()
	if !keep {
		_ = c.Close()
	}
}

// close closes the idle connections; those in use close when they are done.
func (t *roundTripper) close() {
	t.mu.Lock()
	idle := t.idle
	t.idle, t.closed = nil, true
	t.mu.Unlock()
	for _, c := range idle {
		_ = c.Close()
	}
}

// responseBody gives its connection back when it was read to its end and
// closed. It is used by one goroutine at a time.
type responseBody struct {
	io.ReadCloser
	ctx   context.Context
	t     *roundTripper
	c     *clientConn // nil once given back
	stop  func() bool
	reuse bool
	ended bool // the end was read
}

func (b *responseBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	switch {
	case err == io.EOF:
		b.ended = true
	case err != nil && b.ctx.Err() != nil:
		err = b.ctx.Err()
	}
	return n, err
}

// Close does not wait for what nobody wants to read.
func (b *responseBody) Close() error {
	c := b.c
	if c == nil {
		return nil
	}
	b.c = nil
	stopped := b.stop()
	if !b.ended {
		var probe [1]byte
		_ = c.SetReadDeadline(longAgo)
		n, err := b.ReadCloser.Read(probe[:]) // the end of a response without a body
		b.ended = n == 0 && err == io.EOF
		_ = c.SetReadDeadline(time.Time{})
	}
	if !b.ended || !b.reuse || !stopped {
		return c.Close()
	}
	b.t.put(c)
	return nil
}
