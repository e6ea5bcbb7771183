package plugin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/serve"
)

// A version of a handler is the test binary with a line behind it.
const versionMark = "\nversion of the handler: "

func behaveVersion(dna string) int {
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return 1
	}
	version := string(b[bytes.LastIndex(b, []byte(versionMark))+len(versionMark):])
	switch strings.TrimRight(version, "0123456789") {
	case "dead":
		fmt.Fprintln(os.Stderr, "not today")
		return 5
	case "silent":
		select {}
	case "deafsocket": // never reads the calls
		_ = syscall.Close(3)
	case "refuses":
		serve.Main(&testHandler{dna: dna, setupErr: errors.New("not on a Friday")})
	}
	serve.Main(&testHandler{dna: dna, version: version})
	return 1
}

func openVersion(t testing.TB, path, version string) io.WriteCloser {
	t.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out := openCopy(t, self, path)
	if _, err := out.WriteString(versionMark + version); err != nil {
		t.Fatal(err)
	}
	return out
}

// put copies a version into the directory, in place or by rename.
func put(t testing.TB, dir, name, version string, rename bool) {
	t.Helper()
	path := filepath.Join(dir, name)
	tmp := path
	if rename {
		tmp = filepath.Join(t.TempDir(), "new")
	}
	if err := openVersion(t, tmp, version).Close(); err != nil {
		t.Fatal(err)
	}
	if rename {
		if err := os.Rename(tmp, path); err != nil {
			t.Fatal(err)
		}
	}
}

func versionOf(t testing.TB, h *Handler) string {
	t.Helper()
	reply, err := h.Serve(testContext(t), &testHost{}, call("version", ""))
	if err != nil {
		t.Fatal(err)
	}
	return string(reply)
}

// onlyStatus is the status of a directory with one file.
func (n *testNode) onlyStatus(t testing.TB) HandlerStatus {
	t.Helper()
	all := n.Status()
	if len(all) != 1 {
		t.Fatalf("status %+v", all)
	}
	return all[0]
}

// A binary that is dropped in is up; replaced, swapped; removed, gone.
func TestLiveDirectory(t *testing.T) {
	t.Parallel()
	n := startNode(t, Config{Dir: t.TempDir()})
	if s := n.Status(); len(s) != 0 {
		t.Fatalf("status %+v", s)
	}
	put(t, n.dir, "alpha.v", "one", false)
	n.await(t, EventUp)
	h := n.handler(t, "alpha")
	if v := versionOf(t, h); v != "one" {
		t.Fatalf("version %q", v)
	}
	for i, rename := range []bool{true, false} {
		version := fmt.Sprintf("two%d", i)
		put(t, n.dir, "alpha.v", version, rename)
		n.await(t, EventSwapped)
		if v := versionOf(t, h); v != version {
			t.Fatalf("version %q, want %q", v, version)
		}
	}
	if s := n.onlyStatus(t); s.Generation != 3 || s.State != StateRunning || s.Probation.IsZero() || s.Refused != "" {
		t.Errorf("status %+v", s)
	}
	if err := os.Remove(filepath.Join(n.dir, "alpha.v")); err != nil {
		t.Fatal(err)
	}
	n.await(t, EventRemoved)
	waitFor(t, func() bool { return len(n.Status()) == 0 })
	if len(n.detached) != 1 {
		t.Errorf("detached %v", n.detached)
	}
	if _, err := h.Serve(testContext(t), &testHost{}, call("echo", "")); code(err) != sdk.NoHandler {
		t.Errorf("a call after the end: %v", err)
	}
	put(t, n.dir, "alpha.v", "one", true)
	n.await(t, EventUp)
}

func code(err error) sdk.Code {
	var e *sdk.Error
	errors.As(err, &e)
	if e == nil {
		return 0
	}
	return e.Code
}

// waitFor polls until ok: what it waits for has no event.
func waitFor(t testing.TB, ok func() bool) {
	t.Helper()
	ctx := testContext(t)
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatal("it does not come")
		case <-time.After(time.Millisecond):
		}
	}
}

// A new binary that is no better leaves the old generation alone, which loses no
// call, and does not come again.
func TestSwapRefused(t *testing.T) {
	t.Parallel()
	for version, reason := range map[string]string{
		"dead": "not today", "another": "another DNA", "integrity": "another DNA", "drops": "drops functions",
		"deaf": "receives no messages", "refuses": "not on a Friday", "silent": "handler-start-timeout", "deafsocket": "",
	} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			put(t, dir, "alpha.v", "one", true)
			cfg := Config{Dir: dir, StateDir: t.TempDir()}
			if version == "silent" {
				cfg.StartTimeout = 10 * time.Second
			}
			n := startNode(t, cfg)
			h := n.handler(t, "alpha")
			before := n.onlyStatus(t)
			put(t, dir, "alpha.v", version, true)
			if e := n.await(t, EventRejected); !strings.Contains(e.Text, reason) || e.DNA != "alpha" {
				t.Errorf("event %+v", e)
			}
			s := n.onlyStatus(t)
			if s.PID != before.PID || s.State != StateRunning || s.SHA256 != before.SHA256 || s.Restarts != 0 ||
				!strings.Contains(s.Refused, reason) || len(s.Quarantined) != 1 || !strings.Contains(s.Quarantined[0].Reason, reason) {
				t.Errorf("status %+v, before %+v", s, before)
			}
			if v := versionOf(t, h); v != "one" {
				t.Errorf("version %q", v)
			}
			// The same content again, under a new inode.
			put(t, dir, "alpha.v", version, true)
			if e := n.await(t, EventRejected); !strings.Contains(e.Text, "quarantined since") {
				t.Errorf("event %+v", e)
			}
			// The next node goes on with the good one.
			n.stop()
			cfg.Attach = nil
			n = startNode(t, cfg)
			if v := versionOf(t, n.handler(t, "alpha")); v != "one" {
				t.Errorf("after a restart version %q", v)
			}
		})
	}
}

// A new binary that crashes in its probation is taken back.
func TestRollback(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put(t, dir, "alpha.v", "one", true)
	n := startNode(t, Config{Dir: dir})
	h := n.handler(t, "alpha")
	put(t, dir, "alpha.v", "crash", true)
	n.await(t, EventSwapped)
	for i := range probationCrashes {
		if _, err := h.Serve(testContext(t), &testHost{}, call("echo", "")); code(err) != sdk.HandlerCrashed {
			t.Fatalf("call %d: %v", i, err)
		}
	}
	if e := n.await(t, EventRolledBack); !strings.Contains(e.Text, "exit status 9") {
		t.Errorf("event %+v", e)
	}
	if v := versionOf(t, h); v != "one" { // it waits for the one that comes back
		t.Errorf("version %q", v)
	}
	if s := n.onlyStatus(t); len(s.Quarantined) != 1 || s.Good != s.SHA256 || s.Refused == "" {
		t.Errorf("status %+v", s)
	}
	// The operator insists.
	if err := n.Restart(testContext(t), "alpha"); err != nil {
		t.Fatal(err)
	}
	if v := versionOf(t, h); v != "crash" {
		t.Errorf("version %q", v)
	}
	if s := n.onlyStatus(t); len(s.Quarantined) != 0 || s.Refused != "" {
		t.Errorf("status %+v", s)
	}
	put(t, dir, "alpha.v", "three", true)
	n.await(t, EventSwapped)
	waitFor(t, func() bool { return versionOf(t, h) == "three" })
}

// A call that runs stays with its generation, also when it leads back to its DNA.
func TestSwapKeepsCalls(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put(t, dir, "alpha.v", "one", true)
	n := startNode(t, Config{Dir: dir})
	h := n.handler(t, "alpha")
	sent, swapped := make(chan struct{}), make(chan struct{})
	host := &testHost{send: func(ctx context.Context, p []byte) ([]byte, error) {
		close(sent)
		<-swapped
		return h.Serve(ctx, &testHost{}, call("version", "")) // re-entrant
	}}
	done := make(chan string, 1)
	go func() {
		reply, err := h.Serve(testContext(t), host, call("send", ""))
		done <- fmt.Sprintf("%s %v", reply, err)
	}()
	<-sent
	old := n.onlyStatus(t).PID
	put(t, dir, "alpha.v", "two", true)
	n.await(t, EventSwapped)
	waitFor(t, func() bool { return len(n.onlyStatus(t).Draining) == 1 })
	if d := n.onlyStatus(t).Draining[0]; d.PID != old || d.Calls != 1 || time.Until(d.Until) < time.Minute {
		t.Errorf("draining %+v", d)
	}
	close(swapped)
	if got := <-done; got != "two <nil>" {
		t.Errorf("the call: %s", got)
	}
	waitFor(t, func() bool { return len(n.onlyStatus(t).Draining) == 0 })
	if err := syscall.Kill(old, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d: %v", old, err)
	}
}

// A drain has an end.
func TestDrainDeadline(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put(t, dir, "alpha.v", "one", true)
	n := startNode(t, Config{Dir: dir, SwapTimeout: 50 * time.Millisecond})
	h := n.handler(t, "alpha")
	done := make(chan error, 1)
	started := make(chan struct{})
	host := &testHost{send: func(context.Context, []byte) ([]byte, error) { close(started); return nil, nil }}
	go func() {
		_, err := h.Serve(testContext(t), host, call("stuck", "send"))
		done <- err
	}()
	<-started
	put(t, dir, "alpha.v", "two", true)
	n.await(t, EventSwapped)
	if err := <-done; code(err) != sdk.HandlerCrashed || !strings.Contains(err.Error(), "handler-swap-timeout") {
		t.Errorf("the call: %v", err)
	}
}

// A half-written file is never started, however slowly it is written.
func TestHalfWritten(t *testing.T) {
	t.Parallel()
	n := startNode(t, Config{Dir: t.TempDir(), settle: time.Millisecond})
	out := openVersion(t, filepath.Join(n.dir, "alpha.v"), "one")
	n.look(t)
	for _, s := range n.Status() {
		if s.File == "alpha.v" {
			t.Errorf("status %+v", s)
		}
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	n.await(t, EventUp)
	// Cut short, and nobody writes any more.
	whole, err := os.ReadFile(filepath.Join(n.dir, "alpha.v"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(n.dir, "alpha.v"), whole[:len(whole)/2], 0o700); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool {
		for _, s := range n.Status() {
			if strings.Contains(s.Refused, "half a binary") {
				return true
			}
		}
		return false
	})
	if v := versionOf(t, n.handler(t, "alpha")); v != "one" {
		t.Errorf("version %q", v)
	}
}

// newGatedNode runs a Manager whose node tells when it turns a second handler of a
// DNA away, and does so when gate is closed.
func newGatedNode(t testing.TB, dir string) (n *testNode, taken <-chan struct{}, gate chan struct{}) {
	told, gate, made := make(chan struct{}, 10), make(chan struct{}), make(chan struct{})
	n = newNode(t, Config{Dir: dir, Attach: func(ctx context.Context, h *Handler, d sdk.Description) (sdk.Setup, error) {
		<-made
		s, err := n.attach(ctx, h, d)
		if err != nil {
			told <- struct{}{}
			<-gate
		}
		return s, err
	}})
	close(made)
	return n, told, gate
}

// look has the directory looked at once more: a file that no handler is appears.
func (n *testNode) look(t testing.TB) {
	t.Helper()
	path := filepath.Join(n.dir, ".look")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(path)
	waitFor(t, func() bool {
		return slices.ContainsFunc(n.Status(), func(s HandlerStatus) bool { return s.File == ".look" })
	})
}

// Two files of one DNA: the second waits, and takes over without a gap when the
// first is removed. A file that is renamed keeps its process.
func TestOtherFileOfDNA(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put(t, dir, "alpha.v", "one", true)
	n := startNode(t, Config{Dir: dir})
	h := n.handler(t, "alpha")
	put(t, dir, "alpha.v-2", "two", true)
	if e := n.await(t, EventRejected); e.File != "alpha.v-2" || !strings.Contains(e.Text, ErrTaken.Error()) {
		t.Errorf("event %+v", e)
	}
	if err := os.Remove(filepath.Join(dir, "alpha.v")); err != nil {
		t.Fatal(err)
	}
	stop := callers(t, h, 4)
	n.await(t, EventSwapped)
	stop()
	s := n.onlyStatus(t)
	if v := versionOf(t, h); v != "two" || s.File != "alpha.v-2" || s.Generation != 2 || s.Refused != "" {
		t.Errorf("version %q, status %+v", v, s)
	}
	if err := os.Rename(filepath.Join(dir, "alpha.v-2"), filepath.Join(dir, "alpha.v-3")); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return n.onlyStatus(t).File == "alpha.v-3" })
	if now := n.onlyStatus(t); now.PID != s.PID || now.Generation != 2 {
		t.Errorf("status %+v, before the rename %+v", now, s)
	}
	if len(n.detached) != 0 {
		t.Errorf("detached %v", n.detached)
	}
	put(t, dir, "alpha.v-3", "three", true) // it is still watched
	n.await(t, EventSwapped)
}

// callers call the handler until the returned function is called; no call may fail.
func callers(t *testing.T, h *Handler, count int) (stop func() map[string]int) {
	end := make(chan struct{})
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := map[string]int{}
	for range count {
		wg.Go(func() {
			for {
				select {
				case <-end:
					return
				default:
				}
				reply, err := h.Serve(testContext(t), &testHost{}, call("version", ""))
				if err != nil {
					t.Errorf("a call: %v", err)
					return
				}
				mu.Lock()
				seen[string(reply)]++
				mu.Unlock()
			}
		})
	}
	return func() map[string]int { close(end); wg.Wait(); return seen }
}

// Many callers, a swap after the other: nothing is lost, repeated or failed.
func TestSwapUnderLoad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put(t, dir, "alpha.v", "one", true)
	n := startNode(t, Config{Dir: dir})
	stop := callers(t, n.handler(t, "alpha"), 8)
	for i := range 6 {
		if i%3 == 2 {
			put(t, dir, "alpha.v", "dead", true)
			n.await(t, EventRejected)
			continue
		}
		put(t, dir, "alpha.v", fmt.Sprintf("v%d", i), true)
		n.await(t, EventSwapped)
	}
	if seen := stop(); len(seen) < 5 {
		t.Errorf("versions %v", seen)
	}
}

// A call that goes on for ever, even one that takes all processors, has its
// process replaced; the other calls of that one end as they would have, and
// another DNA feels nothing.
func TestStuckIsReplaced(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"", "spin"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			n := startNode(t, Config{Dir: place(t, "alpha.ok", "beta.ok"), StuckAfter: time.Millisecond, probeEvery: 20 * time.Millisecond})
			h, beta := n.handler(t, "alpha"), n.handler(t, "beta")
			sent, goOn, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
			host := &testHost{send: func(context.Context, []byte) ([]byte, error) { close(sent); <-goOn; return nil, nil }}
			go func() {
				_, err := h.Serve(testContext(t), host, call("send", ""))
				done <- err
			}()
			<-sent
			old := n.all()[0].h.status().PID
			ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
			defer cancel()
			if _, err := h.Serve(ctx, &testHost{}, call("stuck", how)); code(err) != sdk.Timeout {
				t.Errorf("the stuck call: %v", err)
			}
			if e := n.await(t, EventSwapped); !strings.Contains(e.Text, "did not end") || e.DNA != "alpha" {
				t.Errorf("event %+v", e)
			}
			for _, h := range []*Handler{h, beta} {
				if _, err := h.Serve(testContext(t), &testHost{}, call("echo", "")); err != nil {
					t.Error(err)
				}
			}
			close(goOn)
			if err := <-done; err != nil {
				t.Errorf("the call beside it: %v", err)
			}
			waitFor(t, func() bool { return errors.Is(syscall.Kill(old, 0), syscall.ESRCH) })
			if s := n.all()[0].h.status(); s.Restarts != 0 || s.Generation != 2 || s.State != StateRunning {
				t.Errorf("status %+v", s)
			}
		})
	}
}
