package main

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
)

// drop puts a build of the auction's handler, or a text, into a plugin directory
// in one step. What is added after the build makes another binary of it.
func drop(t *testing.T, dir, content, added string) {
	t.Helper()
	b := []byte(content)
	if content == "" {
		var err error
		if b, err = os.ReadFile(filepath.Join(auctionPlugins(t), "auction")); err != nil {
			t.Fatal(err)
		}
	}
	tmp := filepath.Join(filepath.Dir(dir), "new")
	if err := os.WriteFile(tmp, append(b, added...), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, filepath.Join(dir, "auction")); err != nil {
		t.Fatal(err)
	}
}

// follower is a process of parley plugin events --follow --json.
type follower struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines *bufio.Scanner
	seen  []control.PluginEvent
}

func follow(t *testing.T, data string) *follower {
	t.Helper()
	f := &follower{t: t, cmd: parley("plugin", "events", "--follow", "--json", "--data", data)}
	out, err := f.cmd.StdoutPipe()
	if err == nil {
		err = f.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	f.lines = bufio.NewScanner(out)
	t.Cleanup(func() {
		if f.cmd.ProcessState == nil { // the test failed before its end
			f.cmd.Process.Kill()
			f.cmd.Wait()
		}
	})
	return f
}

// next reads one event.
func (f *follower) next() (e control.PluginEvent) {
	f.t.Helper()
	if !f.lines.Scan() {
		f.t.Fatalf("no more events after %+v", f.seen)
	}
	if err := json.Unmarshal(f.lines.Bytes(), &e); err != nil {
		f.t.Fatalf("%v in %s", err, f.lines.Text())
	}
	f.seen = append(f.seen, e)
	return e
}

// await reads events up to one of a kind.
func (f *follower) await(kind string) control.PluginEvent {
	f.t.Helper()
	for {
		if e := f.next(); e.Kind == kind {
			return e
		}
	}
}

// ends fails the test unless the process ends with a code.
func (f *follower) ends(code int) {
	f.t.Helper()
	for f.lines.Scan() {
		f.t.Errorf("one more event: %s", f.lines.Text())
	}
	f.cmd.Wait() // its exit code is looked at
	if got := f.cmd.ProcessState.ExitCode(); got != code {
		f.t.Errorf("parley plugin events: exit code %d, want %d", got, code)
	}
}

// TestLivePlugins has a real node start, swap, refuse and restart what is put
// into its plugin directory.
func TestLivePlugins(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "plugins")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	n := startNode(t, newData(t, ""), "--plugins", dir)
	if out := cmd("plugin", "status", "--data", n.data).ok(t); !strings.HasPrefix(out, "no files") {
		t.Errorf("an empty directory: %q", out)
	}
	if out := cmd("plugin", "events", "--data", n.data).ok(t); out != "" {
		t.Errorf("nothing happened: %q", out)
	}
	events, other := follow(t, n.data), follow(t, n.data)
	drop(t, dir, "", "")
	first := events.await("up")
	one := pluginNow(t, n)
	if one.State != "running" || one.DNA != "auction" || one.SHA256 != first.SHA256 || one.Generation != 1 || one.PID == 0 {
		t.Errorf("%+v", one)
	}
	callBids(t, n)
	drop(t, dir, "", "another build")
	swapped := events.await("swapped")
	two := pluginNow(t, n)
	if two.SHA256 != swapped.SHA256 || two.SHA256 == one.SHA256 || two.Good != one.SHA256 || two.PID == one.PID || two.Generation != 2 || two.Probation.IsZero() {
		t.Errorf("%+v", two)
	}
	callBids(t, n)
	t.Run("refused", func(t *testing.T) { refusedPlugin(t, n, dir, events, &two) })
	t.Run("restart", func(t *testing.T) { restartPlugin(t, n, dir, events, &two) })
	if err := events.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Error(err)
	}
	events.ends(0)
	for range events.seen {
		other.next()
	}
	printedEvents(t, n, events.seen)
	n.stop()
	other.ends(exitNotRunning)
}

func pluginNow(t *testing.T, n *runningNode) control.PluginStatus {
	t.Helper()
	list := okJSON[[]control.PluginStatus](t, cmd("plugin", "status", "auction", "--json", "--data", n.data))
	if len(list) != 1 {
		t.Fatalf("%+v", list)
	}
	return list[0]
}

func callBids(t *testing.T, n *runningNode) {
	t.Helper()
	cmd("call", "auction", "bids", "--data", n.data).ok(t)
}

// refusedPlugin: a program that is no handler changes nothing but the status.
func refusedPlugin(t *testing.T, n *runningNode, dir string, events *follower, before *control.PluginStatus) {
	drop(t, dir, "#!/bin/sh\nexit 3\n", "")
	rejected := events.await("rejected")
	p := pluginNow(t, n)
	if p.PID != before.PID || p.State != "running" || p.Refused == "" || len(p.Quarantined) != 1 || p.Quarantined[0].SHA256 != rejected.SHA256 {
		t.Errorf("%+v", p)
	}
	out := cmd("plugin", "status", "--data", n.data).ok(t)
	for _, want := range []string{"auction\n", shortSum(p.SHA256), "generation 2", "probation", "refused", "quarantined", shortSum(rejected.SHA256), p.Quarantined[0].Reason} {
		if !strings.Contains(out, want) {
			t.Errorf("plugin status does not print %q:\n%s", want, out)
		}
	}
	if out := cmd("status", "--data", n.data).ok(t); !strings.Contains(out, "running (new binary refused") {
		t.Errorf("status prints\n%s", out)
	}
	callBids(t, n)
	checkFailure(t, "restart", cmd("plugin", "restart", "auction", "--json", "--data", n.data), sdk.NoHandler)
	events.await("rejected")
	callBids(t, n)
	if r := cmd("plugin", "status", "chess", "--data", n.data); r.code != exitUsage || !strings.Contains(r.err, "chess") {
		t.Errorf("status of a handler that is not there: %+v", r)
	}
	if r := cmd("plugin", "restart", "chess", "--data", n.data); r.code != exitUsage || !strings.Contains(r.err, `there are ["auction"]`) {
		t.Errorf("restart of a handler that is not there: %+v", r)
	}
}

// restartPlugin: the first build again, and then another process of it.
func restartPlugin(t *testing.T, n *runningNode, dir string, events *follower, before *control.PluginStatus) {
	drop(t, dir, "", "")
	events.await("swapped")
	was := pluginNow(t, n)
	if was.PID == before.PID {
		t.Errorf("swapped, and the process is the same: %+v", was)
	}
	if out := cmd("plugin", "restart", "auction", "--data", n.data).ok(t); !strings.HasPrefix(out, "auction: running, process ") || !strings.Contains(out, shortSum(was.SHA256)) {
		t.Errorf("restart prints %q", out)
	}
	p := pluginNow(t, n)
	if p.PID == was.PID || p.SHA256 != was.SHA256 || p.Refused != "" || len(p.Quarantined) != 0 {
		t.Errorf("%+v", p)
	}
	callBids(t, n)
	if out := cmd("plugin", "restart", "auction", "--json", "--data", n.data).ok(t); strings.Contains(out, ":null") {
		t.Errorf("restart prints %s", out)
	}
	for range 2 { // the restarts
		events.await("swapped")
	}
}

// printedEvents: without --follow every event is printed, each in a line.
func printedEvents(t *testing.T, n *runningNode, seen []control.PluginEvent) {
	out := cmd("plugin", "events", "--data", n.data).ok(t)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) < len(seen) {
		t.Fatalf("%d events, printed are\n%s", len(seen), out)
	}
	for i, e := range seen {
		if want := eventLine(&e); lines[i]+"\n" != want {
			t.Errorf("line %d is %q, want %q", i, lines[i], want)
		}
	}
}
