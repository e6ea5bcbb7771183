package plugin

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/parley-p2p/parley/sdk"
)

// Ready has each process for itself, between its Setup and its first call.
func TestReady(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	var asked atomic.Int32
	runs, goOn := make(chan error, 2), make(chan struct{})
	n := newNode(t, Config{Dir: place(t, "alpha.ok"), Ready: func(ctx context.Context, p *Starting) error {
		asked.Add(1)
		reply, err := p.Serve(ctx, &testHost{}, call("setup", ""))
		if err == nil && !strings.HasSuffix(string(reply), "props") {
			err = errors.New("it is not set up")
		}
		runs <- err
		<-goOn
		return nil
	}})
	if err := <-runs; err != nil {
		t.Fatal(err)
	}
	if s := n.Status()[0]; s.State != StateStarting {
		t.Errorf("status %+v", s)
	}
	select {
	case <-n.Ready():
		t.Error("ready while the node is not")
	default:
	}
	close(goOn)
	<-n.Ready()
	h := n.handler(t, "alpha")
	waitState(ctx, t, h, StateRunning)
	if _, err := h.Serve(ctx, &testHost{}, call("exit", "")); !errors.Is(err, sdk.HandlerCrashed) {
		t.Errorf("exit: %v", err)
	}
	if _, err := h.Serve(ctx, &testHost{}, call("echo", "")); err != nil {
		t.Error(err)
	}
	if asked.Load() != 2 {
		t.Errorf("asked %d times", asked.Load())
	}
}

// What Ready refuses is rejected, and detached; a process that dies in it is its
// call's error.
func TestNotReady(t *testing.T) {
	t.Parallel()
	for name, ready := range map[string]func(context.Context, *Starting) error{
		"as told": func(context.Context, *Starting) error { return errors.New("as told") },
		"handler crashed": func(ctx context.Context, p *Starting) error {
			_, err := p.Serve(ctx, &testHost{}, call("exit", ""))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := startNode(t, Config{Dir: place(t, "alpha.ok"), Ready: ready})
			if s := n.Status()[0]; s.State != StateRejected || s.PID != 0 || !strings.Contains(s.LastError, name) {
				t.Errorf("status %+v", s)
			}
			if _, err := n.all()[0].h.Serve(testContext(t), &testHost{}, call("echo", "")); !errors.Is(err, sdk.NoHandler) {
				t.Errorf("a call: %v", err)
			}
			n.mu.Lock()
			defer n.mu.Unlock()
			if len(n.detached) != 1 {
				t.Errorf("detached %q", n.detached)
			}
		})
	}
}

// A node that stops while Ready runs ends it.
func TestStopWhileNotReady(t *testing.T) {
	t.Parallel()
	runs := make(chan struct{})
	begun := sync.OnceFunc(func() { close(runs) })
	n := newNode(t, Config{Dir: place(t, "alpha.ok"), Ready: func(ctx context.Context, _ *Starting) error {
		begun()
		<-ctx.Done()
		return context.Cause(ctx)
	}})
	<-runs
	n.stop()
	if s := n.Status()[0]; s.State != StateStopped || s.PID != 0 {
		t.Errorf("status %+v", s)
	}
}

// Each of the node's own calls goes to handlers that announced it only.
func TestNodesOwnCallsAreAnnounced(t *testing.T) {
	t.Parallel()
	h := startNode(t, Config{Dir: place(t, "alpha.ok")}).handler(t, "alpha")
	for _, kind := range []sdk.CallKind{sdk.CallInit, sdk.CallValidate, sdk.CallPostCommit} {
		if _, err := h.Serve(testContext(t), &testHost{}, &sdk.Call{Kind: kind, Records: make([]sdk.Record, 1)}); !errors.Is(err, sdk.NoHandler) {
			t.Errorf("kind %d: %v", kind, err)
		}
	}
}
