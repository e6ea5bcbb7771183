package transport

import (
	"bytes"
	"context"
	"net/netip"
	"sync"
	"testing"
)

// handlerFunc is a Handler for tests.
type handlerFunc struct {
	request func(ctx context.Context, r *Request) ([]byte, error)
	notify  func(ctx context.Context, r *Request)
}

func (h handlerFunc) ServeRequest(ctx context.Context, r *Request) ([]byte, error) {
	if h.request == nil {
		return r.Body, nil
	}
	return h.request(ctx, r)
}

func (h handlerFunc) ServeNotify(ctx context.Context, r *Request) {
	if h.notify != nil {
		h.notify(ctx, r)
	}
}

// node is an endpoint that runs, for tests.
type node struct {
	*Endpoint
	stop func() // ends Run and waits for it
}

func testConfig(t testing.TB, h Handler) Config {
	t.Helper()
	key, err := GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	if h == nil {
		h = handlerFunc{}
	}
	return Config{Key: key, Network: "test", Handler: h, Listen: "127.0.0.1:0"}
}

func startNode(t testing.TB, c Config) *node {
	t.Helper()
	e, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Bind(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	n := &node{Endpoint: e, stop: sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})}
	t.Cleanup(n.stop)
	return n
}

func (n *node) key() PeerKey { return n.id.agent }

func (n *node) to(t testing.TB, m *node) *Session {
	t.Helper()
	s, _, err := n.Session(t.Context(), m.key(), []netip.AddrPort{m.Addr()})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestRequest(t *testing.T) { bothWays(t, testRequest) }

func testRequest(t *testing.T, w way) {
	t.Parallel()
	a, b := startNode(t, testConfig(t, nil)), startNode(t, testConfig(t, w.serve(t, handlerFunc{})))
	s := a.to(t, b)
	if s.Peer() != b.key() {
		t.Fatalf("peer %s, want %s", s.Peer(), b.key())
	}
	for _, size := range []int{0, 1, 100, 5000, fastLimit, 64 << 10, 1 << 20, 16 << 20} {
		body := bytes.Repeat([]byte{7}, size)
		reply, err := w.request(s, t.Context(), Outgoing{Kind: 2, Body: body})
		if err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if !bytes.Equal(reply, body) {
			t.Fatalf("%d bytes: another reply, %d bytes", size, len(reply))
		}
	}
}
