package plugin

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/parley-p2p/parley/sdk"
)

// hostMain is a node of its own: it runs the handlers of a directory, prints
// their process ids and waits to be killed.
func hostMain(dir, state string) int {
	m, err := New(Config{Dir: dir, StateDir: state, StartTimeout: time.Minute,
		Attach: func(context.Context, *Handler, sdk.Description) (sdk.Setup, error) { return sdk.Setup{}, nil }})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	go func() {
		<-m.Ready()
		for _, s := range m.Status() {
			fmt.Println(s.PID)
		}
	}()
	_ = m.Run(context.Background())
	return 1
}

// Fault 5: a node that is killed leaves no handler behind, and the next one
// finds its sockets and removes them.
func TestNodeKilled(t *testing.T) {
	t.Parallel()
	for _, long := range []bool{false, true} {
		t.Run(fmt.Sprintf("long=%v", long), func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t)
			dir, state := place(t, "alpha.ok"), shortDir(t)
			if long { // the sockets can't be in the state directory
				state = filepath.Join(state, strings.Repeat("long", 20))
			}
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			host := exec.CommandContext(ctx, self, dir, state)
			host.Args[0] = "node.host"
			host.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
			host.Stderr = os.Stderr
			out, err := host.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := host.Start(); err != nil {
				t.Fatal(err)
			}
			var pid int
			_, err = fmt.Fscan(out, &pid)
			_ = host.Process.Kill()
			_ = host.Wait()
			if err != nil || pid == 0 {
				t.Fatalf("pid of the handler: %d, %v", pid, err)
			}
			waitDead(ctx, t, pid)
			left := socketDirs(t, state)
			if len(left) != 1 {
				t.Fatalf("socket directories of the killed node: %v", left)
			}
			n := startNode(t, Config{Dir: dir, StateDir: state})
			if _, err := n.handler(t, "alpha").Serve(ctx, &testHost{}, call("echo", "")); err != nil {
				t.Error(err)
			}
			if long {
				if _, err := os.Stat(left[0]); err == nil {
					t.Errorf("%s was left behind", left[0])
				}
			}
			n.stop()
			if left := socketDirs(t, state); len(left) != 0 {
				t.Errorf("left after a clean end: %v", left)
			}
		})
	}
}

// shortDir is a temporary directory whose path leaves room for a socket.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "pt")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// socketDirs are the directories for sockets that exist for a state directory.
func socketDirs(t *testing.T, state string) (dirs []string) {
	t.Helper()
	note, _ := os.ReadFile(filepath.Join(state, "sockets-elsewhere"))
	for _, d := range []string{filepath.Join(state, "s"), string(note)} {
		if info, err := os.Stat(d); d != "" && err == nil && info.IsDir() {
			dirs = append(dirs, d)
		}
	}
	return dirs
}

// A handler has nothing of its node: no variable, no open file, no terminal.
func TestNothingInherited(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	secret, err := os.CreateTemp(t.TempDir(), "secret")
	if err != nil {
		t.Fatal(err)
	}
	defer secret.Close()
	n := startNode(t, Config{Dir: place(t, "alpha.ok"), Env: []string{"GIVEN=yes"}})
	h := n.handler(t, "alpha")
	env, err := h.Serve(ctx, &testHost{}, call("env", ""))
	if err != nil {
		t.Fatal(err)
	}
	allowed := map[string]bool{"PATH": true, "LANG": true, "HOME": true, "TMPDIR": true, "TZ": true, "GORACE": true, "GIVEN": true, "GOMEMLIMIT": true,
		"PARLEY_HANDLER": true, "PARLEY_MAX_PAYLOAD": true}
	for line := range strings.Lines(string(env)) {
		name, _, ok := strings.Cut(strings.TrimSpace(line), "=")
		if ok && !allowed[name] && !strings.HasPrefix(name, "PLUGIN_") && !strings.Contains(name, " ") && isName(name) {
			t.Errorf("the handler has the variable %s", name)
		}
	}
	if !strings.Contains(string(env), "GIVEN=yes") {
		t.Error("the handler has no variable of the settings")
	}
	fds, err := h.Serve(ctx, &testHost{}, call("fds", ""))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(fds)) {
		fd, target, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch {
		case fd == "0" && target != "/dev/null":
			t.Errorf("stdin is %s", target)
		case strings.HasPrefix(target, "/") && !strings.HasPrefix(target, "/dev/null") && !strings.HasPrefix(target, "/proc/") && !strings.HasPrefix(target, "/sys/"):
			t.Errorf("descriptor %s is %s", fd, target)
		}
	}
}

func isName(s string) bool {
	return strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == ""
}

// Its process leads a group of its own, and is not this one's.
func TestOwnGroup(t *testing.T) {
	t.Parallel()
	n := startNode(t, Config{Dir: place(t, "alpha.ok")})
	pid := n.Status()[0].PID
	group, err := unix.Getpgid(pid)
	if err != nil || group != pid {
		t.Errorf("process %d is of group %d, %v", pid, group, err)
	}
}

// A slow start holds up nobody else.
func TestSlowStart(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	gate := filepath.Join(t.TempDir(), "gate")
	if err := unix.Mkfifo(gate, 0o600); err != nil {
		t.Fatal(err)
	}
	n := newNode(t, Config{Dir: place(t, "alpha.ok", "beta.slow"), Env: []string{"TEST_GATE=" + gate}, StartTimeout: time.Minute,
		Grants: map[string][]string{"beta.slow": {"read:" + gate}}})
	open, err := os.OpenFile(gate, os.O_WRONLY, 0) // waits until the handler has opened it
	if err != nil {
		t.Fatal(err)
	}
	status := n.Status()
	if len(status) != 2 || status[1].State != StateStarting {
		t.Errorf("status %+v", status)
	}
	all := n.all()
	waitState(ctx, t, all[0].h, StateRunning)
	select {
	case <-n.Ready():
		t.Error("ready while a handler is starting")
	default:
	}
	if _, err := n.handler(t, "alpha").Serve(ctx, &testHost{}, call("echo", "")); err != nil {
		t.Error(err)
	}
	open.Close()
	<-n.Ready()
	if _, err := n.handler(t, "beta").Serve(ctx, &testHost{}, call("echo", "")); err != nil {
		t.Error(err)
	}
}

// A node that stops while a handler starts does not wait for it.
func TestStopWhileStarting(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	gate := filepath.Join(t.TempDir(), "gate")
	if err := unix.Mkfifo(gate, 0o600); err != nil {
		t.Fatal(err)
	}
	n := newNode(t, Config{Dir: place(t, "beta.slow"), Env: []string{"TEST_GATE=" + gate}, StartTimeout: time.Hour,
		Grants: map[string][]string{"beta.slow": {"read:" + gate}}})
	open, err := os.OpenFile(gate, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	n.stop()
	select {
	case <-n.Ready():
	case <-ctx.Done():
		t.Error("Ready is open after Run")
	}
	if s := n.Status()[0]; s.State != StateStopped {
		t.Errorf("status %+v", s)
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	attach := func(context.Context, *Handler, sdk.Description) (sdk.Setup, error) { return sdk.Setup{}, nil }
	for _, c := range []struct {
		name string
		cfg  Config
		want []string
	}{
		{"empty", Config{}, []string{"Config.Dir", "Config.StateDir", "Config.Attach"}},
		{"missing directory", Config{Dir: filepath.Join(dir, "nowhere"), StateDir: dir, Attach: attach}, []string{"can't be read"}},
		{"a file", Config{Dir: file, StateDir: dir, Attach: attach}, []string{"is a file"}},
		{"limits", Config{Dir: dir, StateDir: dir, Attach: attach, MaxPayload: -1, MaxCalls: 1 << 20, MaxQueue: -1, RestartWait: -1},
			[]string{"max-payload", "handler-max-calls", "handler-max-queue", "handler-restart-wait"}},
		{"good", Config{Dir: dir, StateDir: dir, Attach: attach}, nil},
	} {
		_, err := New(c.cfg)
		if (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v", c.name, err)
		}
		for _, w := range c.want {
			if err != nil && !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v does not name %s", c.name, err, w)
			}
		}
	}
}

func TestEmptyDirectory(t *testing.T) {
	t.Parallel()
	n := startNode(t, Config{Dir: t.TempDir()})
	if s := n.Status(); len(s) != 0 {
		t.Errorf("status %+v", s)
	}
	n.stop()
	if err := n.Run(context.Background()); err == nil {
		t.Error("Run twice")
	}
}

// children are the processes that this one started and that still exist.
func children() (pids []int) {
	tasks, _ := filepath.Glob("/proc/self/task/*/children")
	seen := map[int]bool{}
	for _, t := range tasks {
		b, _ := os.ReadFile(t)
		for _, f := range strings.Fields(string(b)) {
			if pid, err := strconv.Atoi(f); err == nil && !seen[pid] {
				seen[pid] = true
				pids = append(pids, pid)
			}
		}
	}
	return pids
}
