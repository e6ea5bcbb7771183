package node

import (
	"net"
	"net/netip"
	"sync"
	"testing"
)

// proxy is a TCP relay in front of a node that can go deaf, go dumb or break.
type proxy struct {
	t        *testing.T
	listener net.Listener
	to       string
	wg       sync.WaitGroup

	mu    sync.Mutex // guards what follows
	conns map[net.Conn]bool
	mute  bool          // the node's answers are swallowed
	heard chan struct{} // closed when something was swallowed
	down  bool          // nothing passes any more
}

func newProxy(t *testing.T) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{t: t, listener: l, conns: map[net.Conn]bool{}}
	p.wg.Go(p.accept)
	t.Cleanup(func() { p.end(); p.wg.Wait() })
	return p
}

func (p *proxy) addr() netip.AddrPort { return netip.MustParseAddrPort(p.listener.Addr().String()) }

// forward names the node behind the proxy, whenever its address is known.
func (p *proxy) forward(to netip.AddrPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.to = to.String()
}

func (p *proxy) accept() {
	for {
		in, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		to := p.to
		p.mu.Unlock()
		out, err := net.Dial("tcp", to)
		if err != nil {
			in.Close()
			continue
		}
		if !p.join(in, out) {
			in.Close()
			out.Close()
			return
		}
		p.wg.Go(func() { p.copy(out, in, false) })
		p.wg.Go(func() { p.copy(in, out, true) })
	}
}

func (p *proxy) join(in, out net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.down {
		p.conns[in], p.conns[out] = true, true
	}
	return !p.down
}

func (p *proxy) copy(to, from net.Conn, answers bool) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 && !(answers && p.swallow()) {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (p *proxy) swallow() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mute && p.heard != nil {
		close(p.heard)
		p.heard = nil
	}
	return p.mute
}

// setMute swallows what the node answers from now on; the channel is closed
// when the first of it was.
func (p *proxy) setMute(mute bool) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mute = mute
	p.heard = make(chan struct{})
	return p.heard
}

// end takes the proxy away for good.
func (p *proxy) end() {
	p.listener.Close()
	p.mu.Lock()
	p.down = true
	p.mu.Unlock()
	p.cut()
}

// cut breaks every connection.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
		delete(p.conns, c)
	}
}
