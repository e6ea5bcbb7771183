package main

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-p2p/parley/node"
	"github.com/parley-p2p/parley/node/control"
)

var _ announcer = (*node.Node)(nil)

// slowNode is ready when ready is closed.
type slowNode struct {
	mu     sync.Mutex    // guards ready
	ready  chan struct{} // closed when ready
	status atomic.Pointer[control.Status]
}

func (n *slowNode) WaitReady(ctx context.Context) error {
	n.mu.Lock()
	ready := n.ready
	n.mu.Unlock()
	select {
	case <-ready:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (n *slowNode) Status(context.Context) (control.Status, error) { return *n.status.Load(), nil }

type lockedBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// take returns what was written since the last take.
func (l *lockedBuffer) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.b.Reset()
	return l.b.String()
}

// TestAnnounce: an operator is told of a node that finds no network, then of the
// address by which others find it, then of a clock that is off.
func TestAnnounce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var b lockedBuffer
		said := func() string { synctest.Wait(); return b.take() }
		n := &slowNode{ready: make(chan struct{})}
		n.status.Store(&control.Status{NotReady: "nobody answers"})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); announce(ctx, n, newLog(&b, slog.LevelInfo, false)) }()
		if s := said(); s != "" {
			t.Errorf("at once: %q", s)
		}
		time.Sleep(patience)
		if s := said(); !strings.Contains(s, "nobody answers") || !strings.Contains(s, "--network") || strings.Count(s, "\n") != 1 {
			t.Errorf("after %s: %q", patience, s)
		}
		time.Sleep(remindEvery)
		if s := said(); strings.Count(s, "nobody answers") != 1 {
			t.Errorf("after %s more: %q", remindEvery, s)
		}
		n.status.Store(&control.Status{Ready: true, Listen: []netip.AddrPort{netip.MustParseAddrPort("[::]:7480")},
			Advertised: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:7480")}})
		close(n.ready)
		if s := said(); !strings.Contains(s, "event=ready") || !strings.Contains(s, "@192.0.2.1:7480") {
			t.Errorf("ready: %q", s)
		}
		n.status.Store(&control.Status{Ready: true, Clock: "9 minutes off"})
		time.Sleep(3 * clockEvery)
		if s := said(); strings.Count(s, "9 minutes off") != 1 {
			t.Errorf("the clock is off: %q", s)
		}
		n.status.Store(&control.Status{Ready: true})
		time.Sleep(remindEvery)
		if s := said(); strings.Count(s, "\n") != 1 || !strings.Contains(s, "agrees") {
			t.Errorf("the clock was set: %q", s)
		}
		n.mu.Lock()
		n.ready = make(chan struct{})
		n.mu.Unlock()
		n.status.Store(&control.Status{NotReady: "all are gone"})
		time.Sleep(remindEvery) // within it the clock is looked at more than once
		if s := said(); strings.Count(s, "any more") != 1 || !strings.Contains(s, "all are gone") {
			t.Errorf("not ready any more: %q", s)
		}
		time.Sleep(clockEvery)
		if s := said(); strings.Count(s, "all are gone") != 1 || !strings.Contains(s, "yet") {
			t.Errorf("still not: %q", s)
		}
		n.status.Store(&control.Status{Ready: true})
		close(n.ready)
		if s := said(); strings.Count(s, "event=ready") != 1 {
			t.Errorf("ready again: %q", s)
		}
		cancel()
		<-ended
	})
}

func TestStatusAdvises(t *testing.T) {
	t.Parallel()
	s := control.Status{Since: time.Unix(1e9, 0), NotReady: "nobody answers"}
	for after, want := range map[time.Duration]bool{time.Second: false, patience + 1: true} {
		if text := statusText(&s, nil, s.Since.Add(after)); strings.Contains(text, notReadyAdvice) != want || !strings.Contains(text, "nobody answers") {
			t.Errorf("after %s: %s", after, text)
		}
	}
}

func TestPeerOfANodeThatDoesNotListen(t *testing.T) {
	t.Parallel()
	n := &slowNode{}
	n.status.Store(&control.Status{Ready: true})
	if p := peerOf(t.Context(), n); p != "" {
		t.Errorf("got %q", p)
	}
	var b strings.Builder
	logReady(newLog(&b, slog.LevelInfo, true), "")
	if s := b.String(); !strings.Contains(s, `"event":"ready"`) || strings.Contains(s, "peer") {
		t.Errorf("%s", s)
	}
}
