package plugin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/parley-p2p/parley/sdk"
)

// wantError checks an error of a call against the closed set.
func wantError(t *testing.T, err error, code sdk.Code, side sdk.Side, delivered sdk.Delivered) *sdk.Error {
	t.Helper()
	var e *sdk.Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v, want a *sdk.Error", err)
	}
	if e.Code != code || e.Side != side || e.Delivered != delivered {
		t.Fatalf("error %v; want %s from %s, delivered %s", err, code, side, delivered)
	}
	return e
}

// waitState waits until h is in one of the states.
func waitState(ctx context.Context, t *testing.T, h *Handler, states ...State) {
	t.Helper()
	for {
		h.mu.Lock()
		state, changed := h.state, h.changed
		h.mu.Unlock()
		for _, s := range states {
			if s == state {
				return
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("state %s, waiting for %v: %+v", state, states, h.status())
		}
	}
}

// waitDead waits for the end of a process that need not be our child.
func waitDead(ctx context.Context, t *testing.T, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return
	}
	if err != nil {
		t.Fatalf("pidfd of %d: %v", pid, err)
	}
	defer unix.Close(fd)
	for ctx.Err() == nil {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 100)
		if n == 1 {
			return
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			t.Fatal(err)
		}
	}
	t.Fatalf("process %d lives on", pid)
}

// logBuffer collects a node's log.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func (b *logBuffer) logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// Every way to lose the process in a call gives "handler crashed" to all of its
// calls at once, and a new process to the next ones.
func TestProcessDies(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"exit", "kill", "abort"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t)
			n := startNode(t, Config{Dir: place(t, "alpha.ok", "beta.ok")})
			h, other := n.handler(t, "alpha"), n.handler(t, "beta")
			host := &testHost{}
			before, err := h.Serve(ctx, host, call("pid", ""))
			if err != nil {
				t.Fatal(err)
			}
			otherBefore, _ := other.Serve(ctx, host, call("pid", ""))
			waiting := make(chan struct{}, 4)
			errs := make(chan error, 4)
			for range 4 {
				go func() {
					_, err := h.Serve(ctx, &testHost{logs: func(slog.Level, string, ...any) { waiting <- struct{}{} }}, call("wait", ""))
					errs <- err
				}()
			}
			for range 4 {
				<-waiting
			}
			_, err = h.Serve(ctx, host, call(how, ""))
			e := wantError(t, err, sdk.HandlerCrashed, sdk.SideHandler, sdk.DeliveredYes)
			if !e.Retry {
				t.Errorf("%v: nothing of it took effect, so it may be retried", e)
			}
			for range 4 {
				wantError(t, <-errs, sdk.HandlerCrashed, sdk.SideHandler, sdk.DeliveredYes)
			}
			after, err := h.Serve(ctx, host, call("pid", ""))
			if err != nil || bytes.Equal(before, after) {
				t.Errorf("after the crash: pid %s, before %s, error %v", after, before, err)
			}
			cause := map[string]string{"exit": "exit status 7", "kill": "signal: ", "abort": "nobody catches me"}[how]
			if s := h.status(); s.Restarts != 1 || s.State != StateRunning || !strings.Contains(s.LastError, cause) {
				t.Errorf("status %+v, want %q", s, cause)
			}
			otherAfter, _ := other.Serve(ctx, host, call("pid", ""))
			if !bytes.Equal(otherBefore, otherAfter) {
				t.Errorf("the other handler was started again as well")
			}
		})
	}
}

// A call that has sent a message is not safe to retry after a crash.
func TestCrashAfterSend(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	n := startNode(t, Config{Dir: place(t, "alpha.ok")})
	h := n.handler(t, "alpha")
	ended := make(chan struct{})
	host := &testHost{send: func(ctx context.Context, _ []byte) ([]byte, error) {
		_ = unix.Kill(h.status().PID, unix.SIGKILL)
		<-ctx.Done()
		close(ended)
		return nil, ctx.Err()
	}}
	_, err := h.Serve(ctx, host, call("send", "x"))
	if e := wantError(t, err, sdk.HandlerCrashed, sdk.SideHandler, sdk.DeliveredYes); e.Retry {
		t.Errorf("%v: its message may have arrived", e)
	}
	select {
	case <-ended:
	default:
		t.Error("Serve returned while a callback was running")
	}
}

func TestPanicIsAnError(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	var log logBuffer
	n := startNode(t, Config{Dir: place(t, "alpha.ok"), Log: log.logger()})
	h := n.handler(t, "alpha")
	_, err := h.Serve(ctx, &testHost{}, call("panic", ""))
	e := wantError(t, err, sdk.HandlerFailed, sdk.SideHandler, sdk.DeliveredYes)
	if e.HandlerCode != sdk.HandlerCodePanic || !strings.Contains(e.Text, "over the edge") {
		t.Errorf("error %v", e)
	}
	if s := h.status(); s.Restarts != 0 {
		t.Errorf("the process was started again: %+v", s)
	}
	n.stop()
	if !strings.Contains(log.String(), "misbehave") {
		t.Errorf("no stack in the log:\n%s", log.String())
	}
}

// Five deaths within ten minutes are enough.
func TestCrashLoop(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	n := startNode(t, Config{Dir: place(t, "alpha.ok", "beta.ok")})
	h := n.handler(t, "alpha")
	for i := range crashLoopCount {
		if _, err := h.Serve(ctx, &testHost{}, call("exit", "")); !errors.Is(err, sdk.HandlerCrashed) {
			t.Fatalf("crash %d: %v", i, err)
		}
	}
	waitState(ctx, t, h, StateFailed)
	_, err := h.Serve(ctx, &testHost{}, call("echo", ""))
	if e := wantError(t, err, sdk.NoHandler, sdk.SideNode, sdk.DeliveredNo); !strings.Contains(e.Text, "died 5 times") {
		t.Errorf("error %v", e)
	}
	if _, err := n.handler(t, "beta").Serve(ctx, &testHost{}, call("echo", "")); err != nil {
		t.Errorf("the other handler: %v", err)
	}
}

// Fault 1: a log line of an unexpected form. Fault 6: 70 KB in a line of stdout.
func TestOutputCannotHurt(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	var log logBuffer
	n := startNode(t, Config{Dir: place(t, "alpha.ok"), Log: log.logger()})
	h := n.handler(t, "alpha")
	lines := []string{
		`{"@message":1}`, `{"@message":"fine","@level":2,"@timestamp":[],"a":{"b":[1]}}`, `{"@level":"error","@message":"good one"}`,
		`{`, `null`, `[1]`, "", "\x00\xff\x1b[31mred", strings.Repeat("z", 1<<20), `{"@message":"` + strings.Repeat("w", 1<<19) + `"}`,
	}
	for range 20 { // 1.4 MB on stdout: far more than a pipe holds
		if _, err := h.Serve(ctx, &testHost{}, call("stdio", strings.Join(lines, "\n")+"\n")); err != nil {
			t.Fatal(err)
		}
	}
	if s := h.status(); s.Restarts != 0 {
		t.Errorf("status %+v", s)
	}
	n.stop()
	for _, want := range []string{`"level":"ERROR","msg":"good one"`, `"msg":"by fmt"`, `"msg":"fine"`, `{\"@message\":1}`, "[31mred"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log has no %s", want)
		}
	}
	if strings.Contains(log.String(), "\x1b") || strings.Contains(log.String(), "\\u001b") {
		t.Error("an escape sequence got into the log")
	}
}

func TestLogFlood(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	var log logBuffer
	n := startNode(t, Config{Dir: place(t, "alpha.ok"), Log: log.logger()})
	if _, err := n.handler(t, "alpha").Serve(ctx, &testHost{}, call("flood", "")); err != nil {
		t.Fatal(err)
	}
	n.stop()
	if got := strings.Count(log.String(), "all work"); got < logBurst/2 || got > 100_000 {
		t.Errorf("%d of 200000 lines were logged", got)
	}
	if !strings.Contains(log.String(), "lines were dropped") {
		t.Error("the log does not tell that lines were dropped")
	}
}

// Fault 2: a frozen process. Its calls end by their deadline or by the health
// probes' verdict, and stopping it takes the watchdog's time.
func TestFrozen(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	n := startNode(t, Config{Dir: place(t, "alpha.ok"), probeEvery: 10 * time.Millisecond})
	h := n.handler(t, "alpha")
	_, err := h.Serve(ctx, &testHost{}, call("freeze", ""))
	wantError(t, err, sdk.HandlerCrashed, sdk.SideHandler, sdk.DeliveredYes)
	if _, err := h.Serve(ctx, &testHost{}, call("echo", "")); err != nil {
		t.Errorf("after the freeze: %v", err)
	}
	if s := h.status(); !strings.Contains(s.LastError, "health probes") {
		t.Errorf("status %+v", s)
	}
}

func TestStopFrozen(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	n := startNode(t, Config{Dir: place(t, "alpha.ok"), DrainTimeout: 100 * time.Millisecond})
	h := n.handler(t, "alpha")
	pid := h.status().PID
	freezing, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		_, err := h.Serve(ctx, &testHost{send: func(context.Context, []byte) ([]byte, error) { close(freezing); return nil, nil }}, call("freeze", ""))
		ended <- err
	}()
	<-freezing
	n.stop()
	wantError(t, <-ended, sdk.HandlerCrashed, sdk.SideHandler, sdk.DeliveredYes)
	waitDead(ctx, t, pid)
}

// Fault 3: a child of the handler holds its pipes.
func TestForkedChild(t *testing.T) {
	t.Parallel()
	for _, session := range []string{"", "setsid"} {
		t.Run("session="+session, func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t)
			n := startNode(t, Config{Dir: place(t, "alpha.ok")})
			h := n.handler(t, "alpha")
			_, err := h.Serve(ctx, &testHost{}, call("fork", session))
			if err != nil {
				t.Fatal(err)
			}
			child := grandchild(t, h.status().PID)
			contained := namespaceOf(child) != namespaceOf(os.Getpid())
			if session != "" && !contained {
				defer func() { _ = unix.Kill(child, unix.SIGKILL); waitDead(ctx, t, child) }()
			}
			_, err = h.Serve(ctx, &testHost{}, call("kill", ""))
			wantError(t, err, sdk.HandlerCrashed, sdk.SideHandler, sdk.DeliveredYes)
			if session == "" || contained {
				waitDead(ctx, t, child) // it was of the process's group, or PID namespace
			}
			if _, err := h.Serve(ctx, &testHost{}, call("echo", "")); err != nil {
				t.Error(err)
			}
			n.stop() // hangs if anybody waits for the child
		})
	}
}

// grandchild is the process that the process has started, by its number here.
func grandchild(t *testing.T, pid int) int {
	t.Helper()
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, f := range tasks {
		b, _ := os.ReadFile(f)
		if child, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
			return child
		}
	}
	t.Fatalf("process %d has no child", pid)
	return 0
}

// namespaceOf is the PID namespace of a process.
func namespaceOf(pid int) string {
	ns, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
	return ns
}

// Fault 4: calls that run when the node stops finish; new ones are refused.
func TestStopInFlight(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	n := startNode(t, Config{Dir: place(t, "alpha.ok")})
	h := n.handler(t, "alpha")
	running, proceed, slow := make(chan struct{}), make(chan struct{}), make(chan string, 1)
	go func() {
		reply, err := h.Serve(ctx, &testHost{send: func(context.Context, []byte) ([]byte, error) {
			close(running)
			<-proceed
			return []byte("done"), nil
		}}, call("send", ""))
		slow <- fmt.Sprint(string(reply), err)
	}()
	<-running
	go n.stop()
	waitState(ctx, t, h, StateDraining)
	_, err := h.Serve(ctx, &testHost{}, call("echo", ""))
	wantError(t, err, sdk.NoHandler, sdk.SideNode, sdk.DeliveredNo)
	close(proceed)
	if got := <-slow; got != "done<nil>" {
		t.Errorf("the call that finished: %s", got)
	}
	n.stop()
	if s := h.status(); s.State != StateStopped || s.InFlight != 0 || s.PID != 0 {
		t.Errorf("status %+v", s)
	}
}

// Calls that don't finish in the drain's time are cut off.
func TestStopStuck(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	n := startNode(t, Config{Dir: place(t, "alpha.ok"), DrainTimeout: 50 * time.Millisecond})
	h := n.handler(t, "alpha")
	running, stuck := make(chan struct{}, 1), make(chan error, 1)
	go func() { _, err := h.Serve(ctx, logged(running), call("stuck", "")); stuck <- err }()
	<-running
	n.stop()
	wantError(t, <-stuck, sdk.HandlerCrashed, sdk.SideHandler, sdk.DeliveredYes)
}

// What is no handler is rejected with the reason; the others don't notice.
func TestBadBinaries(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	dir := place(t, "alpha.ok", "beta.chatty", "bad.exit", "bad.spam", "bad.panics", "bad.foreign", "bad.elsewhere",
		"friday.refuses", "bad.badname", ".hidden")
	write := func(name, content string, mode os.FileMode) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	copyFile(t, filepath.Join(dir, "alpha.ok"), filepath.Join(dir, "noexec"))
	if err := os.Chmod(filepath.Join(dir, "noexec"), 0o600); err != nil {
		t.Fatal(err)
	}
	write("README.txt", "put handlers here\n", 0o644)
	write("notes.txt", "executable by mistake\n", 0o755)
	write("empty", "", 0o755)
	write("script", "#!/bin/sh\necho 'not|a|handshake'\nexit 0\n", 0o755)
	write("broken", "\x7fELF and then nothing", 0o755)
	if err := os.Symlink("nowhere", filepath.Join(dir, "dangling")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "subdir"), 0o755); err != nil {
		t.Fatal(err)
	}
	n := startNode(t, Config{Dir: dir, StartParallel: 16})
	want := map[string]struct {
		state State
		text  string
	}{
		".hidden":        {StateSkipped, "dot"},
		"README.txt":     {StateSkipped, "no program"},
		"notes.txt":      {StateSkipped, "no program"},
		"empty":          {StateSkipped, "empty"},
		"noexec":         {StateSkipped, "chmod +x"},
		"dangling":       {StateSkipped, "no such file"},
		"script":         {StateRejected, "exit status 0"},
		"broken":         {StateSkipped, "half a binary"},
		"bad.exit":       {StateRejected, "nothing to do here"},
		"bad.spam":       {StateRejected, "standard output"},
		"bad.panics":     {StateRejected, "no luck today"},
		"bad.foreign":    {StateRejected, "version"},
		"bad.elsewhere":  {StateRejected, "only a unix socket in its own directory"},
		"friday.refuses": {StateRejected, "not on a Friday"},
		"bad.badname":    {StateRejected, "No Such Name"},
		"alpha.ok":       {StateRunning, ""},
		"beta.chatty":    {StateRunning, ""},
	}
	for _, s := range n.Status() {
		w, ok := want[s.File]
		if !ok || s.State != w.state || !strings.Contains(s.LastError, w.text) {
			t.Errorf("%s: %s, %q; want %s, %q", s.File, s.State, s.LastError, w.state, w.text)
		}
		if s.State != StateRunning && s.PID != 0 {
			t.Errorf("%s: process %d is left", s.File, s.PID)
		}
		delete(want, s.File)
	}
	if len(want) != 0 {
		t.Errorf("not in the status: %v", want)
	}
	for _, dna := range []string{"alpha", "beta"} {
		if _, err := n.handler(t, dna).Serve(ctx, &testHost{}, call("echo", "")); err != nil {
			t.Errorf("%s: %v", dna, err)
		}
	}
	n.stop()
	if fmt.Sprint(len(n.detached)) != "3" { // alpha, beta and the one that refused its setup
		t.Errorf("detached %v", n.detached)
	}
}

// What never answers is rejected when its time is over.
func TestNeverAnswers(t *testing.T) {
	t.Parallel()
	n := startNode(t, Config{Dir: place(t, "bad.silent", "worse.frozen"), StartTimeout: time.Second})
	for _, s := range n.Status() {
		if s.State != StateRejected || !strings.Contains(s.LastError, "handler-start-timeout") || s.PID != 0 {
			t.Errorf("status %+v", s)
		}
	}
	if c := n.detached; len(c) != 0 {
		t.Errorf("detached %v", c)
	}
}

// A second handler of one DNA is turned away by the node and shown.
func TestTwoOfOneDNA(t *testing.T) {
	t.Parallel()
	n := startNode(t, Config{Dir: place(t, "alpha.ok", "alpha.ok-2")})
	var up, rejected int
	for _, s := range n.Status() {
		switch {
		case s.State == StateRunning:
			up++
		case s.State == StateRejected && strings.Contains(s.LastError, `DNA "alpha" is`):
			rejected++
		default:
			t.Errorf("status %+v", s)
		}
	}
	if up != 1 || rejected != 1 {
		t.Errorf("%d up, %d rejected", up, rejected)
	}
}
