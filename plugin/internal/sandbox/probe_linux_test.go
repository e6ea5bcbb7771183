package sandbox

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What a machine forbids is off, with the reason; the rest stays on.
func TestProbeWithout(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		flags  uintptr // forbidden
		layers []Layer
	}{
		{"pid", unix.CLONE_NEWPID, []Layer{PID}},
		{"net and ipc", unix.CLONE_NEWNET | unix.CLONE_NEWIPC, []Layer{Net, IPC}},
		{"all", unix.CLONE_NEWUSER | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWPID, spaces},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			full := kernel()
			k := Probe(func(cmd *exec.Cmd) error {
				if cmd.SysProcAttr.Cloneflags&c.flags != 0 {
					return &os.PathError{Op: "fork/exec", Path: cmd.Path, Err: unix.EPERM}
				}
				return Start(cmd)
			})
			for i, r := range k.Results {
				want := full.Results[i].On && !slices.Contains(c.layers, r.Layer)
				if r.Layer != All[i] || r.On != want || !r.On && r.Detail == "" {
					t.Errorf("%+v, want on: %v", r, want)
				}
			}
		})
	}
	k := Probe(func(*exec.Cmd) error { return errors.New("no /proc") })
	if w := k.Works(); len(w) != 0 || k.Results[0].Detail != "no /proc" {
		t.Errorf("with nothing to start: %+v", k.Results)
	}
}

// Interpreters start with every layer on.
func TestInterpreters(t *testing.T) {
	t.Parallel()
	k := kernel()
	for program, body := range map[string]string{
		"/bin/sh":          "echo done > out\n",
		"/usr/bin/python3": "import ssl, socket, subprocess, multiprocessing, json\nsubprocess.run(['/bin/true'], check=True)\nopen('out', 'w').write('done')\n",
		"/usr/bin/node":    "require('https'); require('child_process').execFileSync('/bin/true'); require('fs').writeFileSync('out', 'done')\n",
	} {
		t.Run(filepath.Base(program), func(t *testing.T) {
			t.Parallel()
			if _, err := os.Stat(program); err != nil {
				t.Skip(err)
			}
			dir := t.TempDir()
			script := filepath.Join(dir, "script")
			if err := os.WriteFile(script, []byte("#!"+program+"\n"+body), 0o700); err != nil {
				t.Fatal(err)
			}
			s := &Spec{Path: script, Name: "script", Layers: k.Works(), ABI: k.ABI, Write: []string{dir}, OpenFiles: 1024, Processes: 512}
			cmd, err := Command(s, []string{"PATH=/usr/bin:/bin", "HOME=" + dir}, dir)
			if err != nil {
				t.Fatal(err)
			}
			var words strings.Builder
			cmd.Stderr = &words
			if err := Start(cmd); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Fatalf("%v: %s", err, words.String())
			}
			if b, err := os.ReadFile(filepath.Join(dir, "out")); err != nil || strings.TrimSpace(string(b)) != "done" {
				t.Errorf("%q, %v", b, err)
			}
		})
	}
}
