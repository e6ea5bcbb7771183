package plugin

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// die lets the handler's process end in a call.
func die(t testing.TB, h *Handler) {
	t.Helper()
	if _, err := h.Serve(testContext(t), &testHost{}, call("exit", "")); code(err) != sdk.HandlerCrashed {
		t.Fatalf("exit: %v", err)
	}
}

// A binary whose pin was taken away is not started again, and is when it is pinned again.
func TestPinnedAgain(t *testing.T) {
	t.Parallel()
	dir, pins := t.TempDir(), filepath.Join(t.TempDir(), "pins")
	put(t, dir, "alpha.v", "one", true)
	sum, err := HashFile(filepath.Join(dir, "alpha.v"))
	if err != nil {
		t.Fatal(err)
	}
	pinned := Pins{sum: "alpha"}
	if err := pinned.Write(pins); err != nil {
		t.Fatal(err)
	}
	n := startNode(t, Config{Dir: dir, Pins: pins})
	n.await(t, EventUp)
	if err := (Pins{}).Write(pins); err != nil {
		t.Fatal(err)
	}
	die(t, n.handler(t, "alpha"))
	n.await(t, EventRejected)
	if err := pinned.Write(pins); err != nil {
		t.Fatal(err)
	}
	n.look(t)
	n.await(t, EventUp)
	if s := n.onlyStatus(t); s.State != StateRunning || s.Refused != "" {
		t.Errorf("status %+v", s)
	}
}

// A binary that failed is tried again when it is put there again.
func TestFailedAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put(t, dir, "alpha.v", "one", true)
	n := startNode(t, Config{Dir: dir})
	n.await(t, EventUp)
	for range crashLoopCount {
		die(t, n.handler(t, "alpha"))
	}
	n.await(t, EventFailed)
	put(t, dir, "alpha.v", "one", true)
	waitFor(t, func() bool { return n.onlyStatus(t).State == StateRunning })
	if v := versionOf(t, n.handler(t, "alpha")); v != "one" {
		t.Errorf("version %q", v)
	}
}

// While the last good binary is on its way, because what lay in the directory was
// rejected, a newer one is not taken for another handler of the DNA.
func TestSwapDuringFirstRevival(t *testing.T) {
	t.Parallel()
	cfg := Config{Dir: t.TempDir(), StateDir: t.TempDir()}
	put(t, cfg.Dir, "alpha.v", "one", true)
	n := startNode(t, cfg)
	n.stop()
	put(t, cfg.Dir, "alpha.v", "dead", true)
	attaching, attach, made := make(chan struct{}, 10), make(chan struct{}), make(chan struct{})
	cfg.Attach = func(ctx context.Context, h *Handler, d sdk.Description) (sdk.Setup, error) {
		<-made
		s, err := n.attach(ctx, h, d)
		attaching <- struct{}{}
		<-attach
		return s, err
	}
	n = newNode(t, cfg)
	close(made)
	<-attaching
	put(t, cfg.Dir, "alpha.v", "three", true)
	for range 2 {
		n.look(t)
	}
	select {
	case <-attaching:
		t.Error("a second try while the first one is being taken")
	case <-time.After(200 * time.Millisecond): // of a try that must not be
	}
	close(attach)
	n.await(t, EventUp)
	n.await(t, EventSwapped)
	if v, s := versionOf(t, n.handler(t, "alpha")), n.onlyStatus(t); v != "three" || s.Refused != "" || len(s.Quarantined) != 1 {
		t.Errorf("version %q, status %+v", v, s)
	}
}

// A start of the old binary gives way to a new one that is up before it.
func TestRevivalGivesWay(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put(t, dir, "alpha.v", "one", true)
	ones, reviving := 0, make(chan struct{})
	n := startNode(t, Config{Dir: dir, Ready: func(ctx context.Context, p *Starting) error {
		v, err := p.Serve(ctx, &testHost{}, call("version", ""))
		if string(v) == "one" {
			if ones++; ones == 2 {
				close(reviving)
				<-ctx.Done()
				return ctx.Err()
			}
		}
		return err
	}})
	n.await(t, EventUp)
	die(t, n.handler(t, "alpha"))
	<-reviving
	put(t, dir, "alpha.v", "two", true)
	n.await(t, EventUp)
	die(t, n.handler(t, "alpha"))
	n.await(t, EventUp)
	if v, s := versionOf(t, n.handler(t, "alpha")), n.onlyStatus(t); v != "two" || s.Restarts != 2 {
		t.Errorf("version %q, status %+v", v, s)
	}
}

// New files that hang at their start keep no other handler down.
func TestHangingStartsAndRevival(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put(t, dir, "alpha.v", "one", true)
	n := startNode(t, Config{Dir: dir, StartParallel: 1})
	n.await(t, EventUp)
	put(t, dir, "beta.v", "silent", true)
	waitFor(t, func() bool {
		for _, s := range n.Status() {
			if s.File == "beta.v" && s.Trying != "" {
				return true
			}
		}
		return false
	})
	begun := time.Now()
	die(t, n.handler(t, "alpha"))
	n.await(t, EventUp)
	if d := time.Since(begun); d > 50*time.Second { // the other one's start takes a minute
		t.Errorf("up again after %s", d)
	}
}
