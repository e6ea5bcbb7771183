package plugin

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/parley-p2p/parley/sdk"
)

// What a restart does not bring up, though it ran until then, is not quarantined.
func TestRestartFails(t *testing.T) {
	t.Parallel()
	cfg := Config{Dir: t.TempDir(), StateDir: t.TempDir()}
	put(t, cfg.Dir, "alpha.v", "one", true)
	var busy atomic.Bool
	cfg.Ready = func(context.Context, *Starting) error {
		if busy.Load() {
			return errors.New("the machine is busy")
		}
		return nil
	}
	n := startNode(t, cfg)
	busy.Store(true)
	if err := n.Restart(testContext(t), "alpha.v"); err == nil || !strings.Contains(err.Error(), "busy") {
		t.Errorf("restart: %v", err)
	}
	if s := n.onlyStatus(t); s.State != StateRunning || len(s.Quarantined) != 0 {
		t.Errorf("status %+v", s)
	}
	n.stop()
	busy.Store(false)
	cfg.Attach = nil
	n = startNode(t, cfg)
	if v := versionOf(t, n.handler(t, "alpha")); v != "one" {
		t.Errorf("version %q", v)
	}
}

// A binary that is rejected while the active one is being started again is
// quarantined, and all hear of it.
func TestRejectedDuringRevival(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put(t, dir, "alpha.v", "one", true)
	starts, reviving, gate := 0, make(chan struct{}), make(chan struct{})
	n := startNode(t, Config{Dir: dir, Ready: func(context.Context, *Starting) error {
		if starts++; starts == 2 {
			close(reviving)
			<-gate
		}
		return nil
	}})
	die(t, n.handler(t, "alpha"))
	<-reviving
	put(t, dir, "alpha.v", "dead", true)
	if e := n.await(t, EventRejected); !strings.Contains(e.Text, "not today") {
		t.Errorf("event %+v", e)
	}
	close(gate)
	if v, s := versionOf(t, n.handler(t, "alpha")), n.onlyStatus(t); v != "one" || len(s.Quarantined) != 1 {
		t.Errorf("version %q, status %+v", v, s)
	}
}

// A binary that lies beside another one of its DNA is not to blame for that, and
// takes its place in time.
func TestTakenIsNoFault(t *testing.T) {
	t.Parallel()
	cfg := Config{Dir: t.TempDir(), StateDir: t.TempDir()}
	put(t, cfg.Dir, "alpha.v-2", "one", true)
	n := startNode(t, cfg)
	put(t, cfg.Dir, "alpha.v-2", "two", true)
	n.await(t, EventSwapped)
	n.stop()
	put(t, cfg.Dir, "alpha.v", "other", true)
	first, made := make(chan struct{}), make(chan struct{})
	cfg.Attach = func(ctx context.Context, h *Handler, d sdk.Description) (sdk.Setup, error) {
		if h.File() == "alpha.v" {
			defer close(first)
		} else {
			<-first
		}
		<-made
		return n.attach(ctx, h, d)
	}
	n = newNode(t, cfg)
	close(made)
	if e := n.await(t, EventRejected); e.File != "alpha.v-2" {
		t.Errorf("event %+v", e)
	}
	<-n.Ready()
	for _, s := range n.Status() {
		if len(s.Quarantined) != 0 || s.Restarts != 0 {
			t.Errorf("status %+v", s)
		}
	}
	if err := os.Remove(filepath.Join(cfg.Dir, "alpha.v")); err != nil {
		t.Fatal(err)
	}
	n.await(t, EventSwapped)
	if v := versionOf(t, n.handler(t, "alpha")); v != "two" {
		t.Errorf("version %q", v)
	}
}

// Room that is made while a try that had none comes to its end counts.
func TestRoomDuringTry(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put(t, dir, "alpha.v", "one", true)
	n, taken, gate := newGatedNode(t, dir)
	n.await(t, EventUp)
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	called := make(chan struct{})
	host := &testHost{send: func(context.Context, []byte) ([]byte, error) { close(called); return nil, nil }}
	h := n.handler(t, "alpha")
	go func() { _, _ = h.Serve(ctx, host, call("wait", "send")) }()
	<-called
	if err := os.Remove(filepath.Join(dir, "alpha.v")); err != nil {
		t.Fatal(err)
	}
	n.await(t, EventRemoved)
	put(t, dir, "alpha.v-2", "two", true)
	<-taken
	cancel()
	waitFor(t, func() bool { return len(n.Status()) == 1 })
	n.look(t)
	close(gate)
	n.await(t, EventUp)
}

func TestBlameless(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]bool{
		fmt.Errorf("start x: %w", &os.SyscallError{Syscall: "fork", Err: syscall.EAGAIN}): true,
		fmt.Errorf("%w: stat", errGrantMissing):                                           true,
		fmt.Errorf("the node does not take it: %w", ErrTaken):                             true,
		fmt.Errorf("start x: %w", syscall.ENOEXEC):                                        false,
		&readyError{errors.New("init failed")}:                                            true,
		&readyError{&sdk.Error{Code: sdk.HandlerCrashed}}:                                 false,
	} {
		if blameless(err) != want {
			t.Errorf("%v: %v", err, !want)
		}
	}
}
