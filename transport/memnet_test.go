package transport

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// memNet is a network in memory, for synctest: connections are net.Pipes with
// addresses, which can be frozen (nothing arrives, nobody is told) or made to
// fail at the n-th operation.
type memNet struct {
	mu        sync.Mutex // guards:
	listeners map[netip.AddrPort]*memListener
	silent    map[netip.AddrPort]bool // connect hangs
	port      uint16
	conns     []*memConn
	failAt    int64         // the operation that fails on connections made from now on; 0 = none
	failFar   bool          // on the listening side instead of the dialling one
	oneWay    time.Duration // how long a byte is under way on connections made from now on
	forgets   time.Duration // connections made from now on freeze when nothing was written for so long; 0: they don't
}

func newMemNet() *memNet {
	return &memNet{listeners: make(map[netip.AddrPort]*memListener), silent: make(map[netip.AddrPort]bool)}
}

var (
	errRefused  = errors.New("memnet: connection refused")
	errInjected = errors.New("memnet: injected fault")
)

type memAddr string

func (a memAddr) Network() string { return "mem" }
func (a memAddr) String() string  { return string(a) }

type memListener struct {
	addr   netip.AddrPort
	accept chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *memListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.accept:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}
func (l *memListener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *memListener) Addr() net.Addr { return memAddr(l.addr.String()) }

func (n *memNet) listen(address string) (net.Listener, error) {
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	l := &memListener{addr: a, accept: make(chan net.Conn), closed: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.listeners[a] = l
	return l, nil
}

func (n *memNet) dialFrom(ip string) func(context.Context, netip.AddrPort) (net.Conn, error) {
	return func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
		n.mu.Lock()
		l, silent, failAt, failFar, oneWay, forgets := n.listeners[to], n.silent[to], n.failAt, n.failFar, n.oneWay, n.forgets
		n.port++
		from := netip.AddrPortFrom(netip.MustParseAddr(ip), 40000+n.port)
		n.mu.Unlock()
		if silent {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		if l == nil {
			return nil, errRefused
		}
		near, far := net.Pipe()
		if oneWay > 0 {
			near, far = newSlowConn(near, oneWay), newSlowConn(far, oneWay)
			time.Sleep(oneWay)       // the SYN
			defer time.Sleep(oneWay) // the answer to it
		}
		link := &memLink{forgets: forgets}
		a := &memConn{Conn: near, link: link, local: from, remote: to, closed: make(chan struct{})}
		b := &memConn{Conn: far, link: link, local: to, remote: from, closed: make(chan struct{})}
		if failFar {
			b.failAt = failAt
		} else {
			a.failAt = failAt
		}
		select {
		case l.accept <- b:
		case <-l.closed:
			a.Close()
			b.Close()
			return nil, errRefused
		case <-ctx.Done():
			a.Close()
			b.Close()
			return nil, ctx.Err()
		}
		n.mu.Lock()
		n.conns = append(n.conns, a, b)
		n.mu.Unlock()
		return a, nil
	}
}

// freeze stops all present connections.
func (n *memNet) freeze() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.conns {
		c.link.frozen.Store(true)
	}
}

type memLink struct {
	frozen  atomic.Bool
	forgets time.Duration
	mu      sync.Mutex // guards:
	written time.Time
}

// write notes that something is written, which a connection that was forgotten swallows.
func (l *memLink) write() {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.forgets > 0 && !l.written.IsZero() && now.Sub(l.written) > l.forgets {
		l.frozen.Store(true)
	}
	l.written = now
}

// memConn is one end.
type memConn struct {
	net.Conn
	link          *memLink
	local, remote netip.AddrPort
	ops, failAt   int64
	failed        atomic.Bool
	mu            sync.Mutex // guards ops
	once          sync.Once
	closed        chan struct{}
}

func (c *memConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

func (c *memConn) LocalAddr() net.Addr  { return memAddr(c.local.String()) }
func (c *memConn) RemoteAddr() net.Addr { return memAddr(c.remote.String()) }

// fault counts an operation and tells whether it is to fail.
func (c *memConn) fault() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ops++
	if c.failAt > 0 && c.ops == c.failAt {
		c.failed.Store(true)
		return true
	}
	return false
}

func (c *memConn) Read(b []byte) (int, error) {
	if c.fault() {
		return 0, errInjected
	}
	for {
		n, err := c.Conn.Read(b)
		if !c.link.frozen.Load() {
			return n, err
		}
		if err != nil { // not even the end of the stream arrives
			<-c.closed
			return 0, net.ErrClosed
		}
	}
}

func (c *memConn) Write(b []byte) (int, error) {
	if c.fault() {
		c.Conn.Write(b[:len(b)/2]) // half of it arrives
		return len(b) / 2, errInjected
	}
	if c.link.write(); c.link.frozen.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

func (c *memConn) SetDeadline(t time.Time) error { return c.Conn.SetDeadline(t) }
