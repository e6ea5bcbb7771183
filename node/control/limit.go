package control

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/parley-p2p/parley/sdk"
)

// bodyOverhead is what a request may have besides the payload.
const bodyOverhead = 64 << 10

func stack() string { return string(debug.Stack()) }

// guard accepts connections of the node's own user, at most maxConns at once.
type guard struct {
	net.Listener
	log   *slog.Logger
	slots chan struct{}
	done  chan struct{}
	once  sync.Once
}

func newGuard(l net.Listener, log *slog.Logger) *guard {
	return &guard{Listener: l, log: log, slots: make(chan struct{}, maxConns), done: make(chan struct{})}
}

func (g *guard) Accept() (net.Conn, error) {
	select {
	case g.slots <- struct{}{}:
	case <-g.done:
		return nil, net.ErrClosed
	}
	for {
		c, err := g.Listener.Accept()
		if err != nil {
			<-g.slots
			return nil, err
		}
		if err := checkPeer(c); err != nil {
			g.log.Warn("control caller refused", "error", err.Error())
			c.Close()
			continue
		}
		return &guarded{Conn: c, release: sync.OnceFunc(func() { <-g.slots })}, nil
	}
}

func (g *guard) Close() error {
	g.once.Do(func() { close(g.done) })
	return g.Listener.Close()
}

// guarded is a connection that holds one of guard's slots.
type guarded struct {
	net.Conn
	release func()
}

func (c *guarded) Close() error {
	defer c.release()
	return c.Conn.Close()
}

// gate counts the requests that run.
type gate struct {
	max int

	mu      sync.Mutex // guards what follows
	running int
	waiting chan struct{} // closed when nothing runs; nil before wait
}

func newGate(max int) *gate { return &gate{max: max} }

func (g *gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.running >= g.max || g.waiting != nil {
		return false
	}
	g.running++
	return true
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.running--
	if g.running == 0 && g.waiting != nil {
		close(g.waiting)
	}
}

// wait lets nobody in any more and returns when nothing runs.
func (g *gate) wait() {
	g.mu.Lock()
	idle := make(chan struct{})
	g.waiting = idle
	if g.running == 0 {
		close(idle)
	}
	g.mu.Unlock()
	<-idle
}

// limiter stands before the service: it refuses what is too much or too large
// before anything of it is read, and bounds how long a body may take.
type limiter struct {
	next       http.Handler
	gate       *gate
	maxBody    int64
	maxPayload int
	errors     *connect.ErrorWriter
}

func (l *limiter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength > l.maxBody {
		l.refuse(w, r, &sdk.Error{Code: sdk.TooLarge, Side: sdk.SideNode, Delivered: sdk.DeliveredNo,
			Text:  "the request is larger than any payload that may be; send less or raise the setting",
			Limit: &sdk.Limit{Name: "payload", Setting: "max-payload", Value: uint64(r.ContentLength), Max: uint64(l.maxPayload)}})
		return
	}
	if !l.gate.enter() {
		l.refuse(w, r, &sdk.Error{Code: sdk.Busy, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true,
			Text: "too many control calls run at once",
			Limit: &sdk.Limit{Name: "control calls", Setting: "control-max-calls", Value: uint64(l.gate.max) + 1,
				Max: uint64(l.gate.max), RetryAfter: 100 * time.Millisecond}})
		return
	}
	defer l.gate.leave()
	rc := http.NewResponseController(w)
	if err := rc.SetReadDeadline(time.Now().Add(bodyTimeout)); err == nil {
		r.Body = &timedBody{ReadCloser: r.Body, clear: func() { _ = rc.SetReadDeadline(time.Time{}) }}
	}
	l.next.ServeHTTP(w, r)
}

func (l *limiter) refuse(w http.ResponseWriter, r *http.Request, e *sdk.Error) {
	if !l.errors.IsSupported(r) {
		http.Error(w, e.Error(), http.StatusServiceUnavailable)
		return
	}
	_ = l.errors.Write(w, r, errorToWire(e)) // the caller may be gone
}

// timedBody lifts the read deadline when the body was read: what follows is the
// call, which may take as long as its own deadline says.
type timedBody struct {
	io.ReadCloser
	clear func()
}

func (b *timedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.clear()
	}
	return n, err
}

func tooLarge(what string, value, limit int) error {
	return &sdk.Error{Code: sdk.TooLarge, Side: sdk.SideCaller, Delivered: sdk.DeliveredNo,
		Text:  fmt.Sprintf("the %s is too large; send less or raise the setting", what),
		Limit: &sdk.Limit{Name: "payload", Setting: "max-payload", Value: uint64(value), Max: uint64(limit)}}
}
