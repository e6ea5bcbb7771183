//go:build linux

package sandbox

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A process starts in its cgroup and goes with it, its children of other
// sessions too. The controllers' files need none here: they are not checked.
func TestGroup(t *testing.T) {
	t.Parallel()
	root, err := ownGroup()
	if err != nil {
		t.Skip(err)
	}
	base := filepath.Join(root, "parley-test-"+filepath.Base(t.TempDir()))
	if err := os.Mkdir(base, 0o755); err != nil {
		t.Skipf("no cgroup can be made: %v", err)
	}
	t.Cleanup(func() { _ = os.Remove(base) })
	g := &Group{dir: base}
	if g.fd, err = os.Open(base); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/sh", "-c", "setsid sleep 1000 & cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.SysProcAttr = Attr()
	g.In(cmd)
	if err := cmd.Start(); err != nil {
		t.Skipf("no process can be started in a cgroup: %v", err)
	}
	_ = in.Close()
	_ = cmd.Wait() // the shell: its child lives
	if b, _ := os.ReadFile(filepath.Join(base, "cgroup.procs")); len(strings.Fields(string(b))) == 0 {
		t.Error("nothing is left to kill")
	}
	if err := g.Remove(); err != nil {
		t.Error(err)
	}
}

// The limits are files, and what the kernel did is read from one.
func TestGroupFiles(t *testing.T) {
	t.Parallel()
	gs := &Groups{t.TempDir()}
	made, err := gs.New("x", 1, 1) // of plain files here
	if err != nil {
		t.Fatal(err)
	}
	defer made.fd.Close()
	dir := made.dir
	for file, want := range map[string]string{"memory.max": "1", "pids.max": "1"} {
		if b, err := os.ReadFile(filepath.Join(dir, file)); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v", file, b, err)
		}
	}
	g := &Group{dir: dir}
	for text, want := range map[string]bool{"": false, "oom 1\noom_kill 0\n": false, "low 0\noom 1\noom_kill 2\n": true} {
		if err := os.WriteFile(filepath.Join(dir, "memory.events"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := g.OutOfMemory(); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
	file := filepath.Join(dir, "controllers")
	for text, want := range map[string]bool{"": false, "cpu memory": false, "cpu memory pids\n": true} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := checkControllers(file); (err == nil) != want {
			t.Errorf("%q: %v", text, err)
		}
	}
}
