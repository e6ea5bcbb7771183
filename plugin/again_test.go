package plugin

import (
	"path/filepath"
	"testing"

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
	if !looked(n) {
		t.Fatal("no look at the directory")
	}
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
