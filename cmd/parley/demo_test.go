package main

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// demoProcess is parley demo with a temporary directory of its own, in which
// whatever it left would be found.
func demoProcess(t *testing.T, args ...string) (cmd *exec.Cmd, tmp string) {
	t.Helper()
	tmp, err := os.MkdirTemp("", "pd") // short, since control sockets lie in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(tmp) })
	cmd = parley(append([]string{"demo", "--auction", filepath.Join(auctionPlugins(t), "auction")}, args...)...)
	cmd.Env = append(cmd.Env, "TMPDIR="+tmp)
	return cmd, tmp
}

// leftovers fails the test if the demo left a file, or a process that works in
// its directory.
func leftovers(t *testing.T, tmp string) {
	t.Helper()
	files, err := os.ReadDir(tmp)
	if err != nil || len(files) > 0 {
		t.Errorf("left in TMPDIR: %v, %v", files, err)
	}
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range processes {
		if b, err := os.ReadFile(p); err == nil && strings.Contains(string(b), tmp) {
			t.Errorf("left running: %s: %q", p, b)
		}
	}
}

func TestDemo(t *testing.T) {
	t.Parallel()
	cmd, tmp := demoProcess(t)
	b, err := cmd.CombinedOutput()
	out := string(b)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"\n1. [", "\n9. [", "$50 on the black velvet painting of a clown", "handler crashed",
		"Both chains are untouched", "valid: 3 records", "The bids reached Bob's node and no other"} {
		if !strings.Contains(out, want) {
			t.Errorf("the demo does not print %q:\n%s", want, out)
		}
	}
	leftovers(t, tmp)
}

// TestDemoFails: a handler that is none makes a step fail, which the demo tells
// with the node's log and its exit code, and cleans up.
func TestDemoFails(t *testing.T) {
	t.Parallel()
	cmd, tmp := demoProcess(t, "--auction", "/bin/true")
	out, err := cmd.CombinedOutput()
	if err == nil || cmd.ProcessState.ExitCode() == 0 || !strings.Contains(string(out), "parley: demo, step ") {
		t.Errorf("%v\n%s", err, out)
	}
	if !strings.Contains(string(out), "The end of alice's log:") || !strings.Contains(string(out), "handler rejected") {
		t.Errorf("no log of the node concerned:\n%s", out)
	}
	leftovers(t, tmp)
}

// TestDemoInterrupted: Ctrl-C in any step ends it with one line and leaves nothing.
func TestDemoInterrupted(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"1. ", "2. ", "4. ", "6. "} {
		t.Run("step "+step[:1], func(t *testing.T) {
			t.Parallel()
			cmd, tmp := demoProcess(t)
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			var errOut strings.Builder
			cmd.Stderr = &errOut
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			interruptAt(t, cmd, bufio.NewReader(stdout), step)
			if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != exitKilled ||
				!strings.HasPrefix(errOut.String(), "parley: the demo was interrupted") || strings.Count(errOut.String(), "\n") != 1 {
				t.Errorf("%v\n%s", err, errOut.String())
			}
			leftovers(t, tmp)
		})
	}
}

// interruptAt sends SIGINT when the demo has printed a step's line, and reads on
// to its end.
func interruptAt(t *testing.T, cmd *exec.Cmd, out *bufio.Reader, step string) {
	for {
		line, err := out.ReadString('\n')
		if err != nil {
			t.Error("the demo ended before it was interrupted")
			return
		}
		if strings.HasPrefix(line, step) {
			break
		}
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Error(err)
	}
	if _, err := io.Copy(io.Discard, out); err != nil {
		t.Error(err)
	}
}
