package node

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
)

// The only bootstrap node moved, and the settings say where to. What the cache
// remembers must not stand in the way.
func TestSettingsAfterAStaleCache(t *testing.T) {
	t.Parallel()
	w := newTestNetwork(t, testDNA)
	bob := w.start("bob")
	stale := closedPort(t)
	remember := func(dir string) {
		n, err := New(Config{DataDir: dir, Network: "test"})
		if err != nil {
			t.Fatal(err)
		}
		n.addresses.worked(n.now(), bob.Agent(), stale)
		n.saveCache()
	}
	remember(filepath.Join(w.dir, "alice"))
	alice := w.start("alice") // ready only once Bob has answered
	if _, err := sendTo(t, alice, bob, testMessage{Do: "echo"}); err != nil {
		t.Fatal(err)
	}

	// The same without the DHT's help.
	cfg := w.base
	cfg.DataDir, cfg.Bootstrap = filepath.Join(w.dir, "carol"), w.first
	carol, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	carol.addresses.worked(carol.now(), bob.Agent(), stale)
	known, src := carol.known(t.Context(), bob.Agent())
	if len(known) != 2 || known[0] != stale || known[1] != bob.Addr() || src != sourceCache {
		t.Fatalf("known: %v from %s", known, src)
	}
	if set := carol.configured(t.Context(), bob.Agent()); len(set) != 1 || set[0] != bob.Addr() {
		t.Errorf("configured: %v", set)
	}
}

// closedPort is an address at which nobody listens.
func closedPort(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return netip.MustParseAddrPort(l.Addr().String())
}

// A node that fails to start gives back its port.
func TestFailedStartFreesThePort(t *testing.T) {
	t.Parallel()
	cfg := testConfig()
	cfg.DataDir = shortTempDir(t)
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	// Where the control socket would be is something that is not one.
	if err := os.MkdirAll(filepath.Join(cfg.DataDir, "control.sock", "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		select {
		case <-n.Started():
			cancel()
		case <-ctx.Done():
		}
	}()
	waited := make(chan error, 1)
	go func() { waited <- n.WaitReady(context.Background()) }()
	if err := n.Run(ctx); err == nil {
		t.Fatal("a node ran without a control socket")
	}
	if err := <-waited; err == nil {
		t.Error("it was ready")
	}
	l, err := net.Listen("tcp", n.Addr().String())
	if err != nil {
		t.Fatalf("the port is still taken: %v", err)
	}
	l.Close()
}
