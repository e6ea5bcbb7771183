package plugin

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/parley-p2p/parley/sdk/handlerpb"
)

// TestDebug: a handler that is stopped, as a debugger stops it, dies of its
// health probes; one of a node that debugs stands still for as long, and goes on.
func TestDebug(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	nodes := [2]*testNode{}
	pids := [2]int{}
	for i, debug := range []bool{false, true} {
		nodes[i] = startNode(t, Config{Dir: place(t, "alpha.ok"), Debug: debug, probeEvery: 10 * time.Millisecond})
		pids[i] = nodes[i].handler(t, "alpha").status().PID
	}
	for i := range pids {
		if err := unix.Kill(pids[len(pids)-1-i], unix.SIGSTOP); err != nil { // the one that is debugged first
			t.Fatal(err)
		}
	}
	waitDead(ctx, t, pids[0])
	if state := stateOf(t, pids[1]); state != "T" {
		t.Fatalf("the process that is debugged is in state %q", state)
	}
	if err := unix.Kill(pids[1], unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	h := nodes[1].handler(t, "alpha")
	out, err := h.Serve(ctx, &testHost{}, call("echo", "hello"))
	if s := h.status(); err != nil || string(out) != "hello" || s.PID != pids[1] || s.Restarts != 0 {
		t.Errorf("after it: %q, %v; status %+v", out, err, s)
	}
	if out, err = h.Serve(ctx, &testHost{}, call("env", "")); err != nil || !strings.Contains(string(out), handlerpb.EnvDebug+"=1") {
		t.Errorf("environment %s, %v", out, err)
	}
}

// stateOf is the letter of a process's state.
func stateOf(t *testing.T, pid int) string {
	t.Helper()
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return rest[:1]
}

func TestDebugConfig(t *testing.T) {
	t.Parallel()
	env := []string{"A=b"}
	c := Config{Debug: true, Env: env, StartTimeout: time.Second}.withDefaults()
	if c.StartTimeout != debugPatience || c.probeEvery != debugPatience || !slices.Contains(c.Env, handlerpb.EnvDebug+"=1") {
		t.Errorf("%+v", c)
	}
	if c = (Config{Env: env}).withDefaults(); c.StartTimeout == debugPatience || len(c.Env) != 1 {
		t.Errorf("without it: %+v", c)
	}
}
