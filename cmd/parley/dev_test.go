package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/parley-p2p/parley/node"
)

// inTree is a directory within the module that go list ./... passes over.
func inTree(t *testing.T) string {
	t.Helper()
	if err := os.MkdirAll("testdata", 0o700); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("testdata", "dna")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		os.RemoveAll(dir)
		os.Remove("testdata") // the last one
	})
	return dir
}

// devRun is a process of parley dev.
type devRun struct {
	t     *testing.T
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan string // of stdout; closed at its end
	tmp   string

	mu  sync.Mutex // guards log
	log bytes.Buffer
}

func (d *devRun) Write(b []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.log.Write(b)
}

func startDev(t *testing.T, args ...string) *devRun {
	t.Helper()
	tmp, err := os.MkdirTemp("", "pv") // short, since control sockets lie in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(tmp) })
	d := &devRun{t: t, tmp: tmp, cmd: parley(append([]string{"dev"}, args...)...), lines: make(chan string, 1000)}
	d.cmd.Env = append(d.cmd.Env, "TMPDIR="+tmp, "GOTMPDIR=")
	d.cmd.Stderr = d
	var errs [3]error
	var out io.Reader
	d.in, errs[0] = d.cmd.StdinPipe()
	out, errs[1] = d.cmd.StdoutPipe()
	errs[2] = d.cmd.Start()
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(d.lines)
		for r := bufio.NewScanner(out); r.Scan(); {
			fmt.Fprintln(d, "stdout:", r.Text())
			d.lines <- r.Text()
		}
	}()
	t.Cleanup(func() {
		_ = d.cmd.Process.Kill() // ended already, unless the test failed
		for range d.lines {
		}
		_ = d.cmd.Wait()
		if t.Failed() {
			d.mu.Lock()
			defer d.mu.Unlock()
			t.Logf("parley dev %s:\n%s", strings.Join(args, " "), d.log.String())
		}
	})
	return d
}

// await reads on until each of the texts has stood in a line, in any order.
func (d *devRun) await(texts ...string) {
	d.t.Helper()
	for line := range d.lines {
		for i, text := range texts {
			if strings.Contains(line, text) {
				texts = append(texts[:i:i], texts[i+1:]...)
				break
			}
		}
		if len(texts) == 0 {
			return
		}
	}
	d.t.Fatalf("it ended before it printed %q", texts)
}

func (d *devRun) say(line string) {
	d.t.Helper()
	if _, err := io.WriteString(d.in, line+"\n"); err != nil {
		d.t.Fatal(err)
	}
}

// over waits for the end, and holds the process against an exit code.
func (d *devRun) over(code int) {
	d.t.Helper()
	for range d.lines {
	}
	err := d.cmd.Wait()
	if got := d.cmd.ProcessState.ExitCode(); got != code {
		d.t.Errorf("exit code %d, want %d: %v", got, code, err)
	}
	leftovers(d.t, d.tmp)
}

// edit replaces text in a file by rename, as editors do, or in place.
func edit(t *testing.T, path, old, text string, rename bool) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(b), old) {
		t.Fatalf("%s holds no %q: %v", path, old, err)
	}
	b = []byte(strings.ReplaceAll(string(b), old, text))
	if !rename {
		err = os.WriteFile(path, b, 0o600)
	} else if err = os.WriteFile(path+"~", b, 0o600); err == nil {
		err = os.Rename(path+"~", path)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestDev is the author's loop: a new DNA, a call, a change, a mistake, another
// package, a function less, the end.
func TestDev(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(inTree(t), "notes")
	cmd("plugin", "new", "notes", "--dir", dir).ok(t)
	source := filepath.Join(dir, "main.go")
	const leave = `alice leave {"to": "@bob", "text": "hi"}`

	d := startDev(t, "./"+dir)
	d.await("alice | agent1", "bob   | agent1", "functions: leave, notes", "ready: ")
	d.say(leave)
	d.await(`alice: "Kept" (`)

	edit(t, source, `"Kept"`, `"Stored"`, true)
	d.await("alice: swapped in ", "bob: swapped in ")
	d.say(leave)
	d.await(`alice: "Stored" (`)

	edit(t, source, `"Stored", nil`, `Stored, nil`, false)
	d.await("undefined: Stored", "not built")
	d.say(leave)
	d.await(`alice: "Stored" (`)

	// The package is imported before it is there.
	edit(t, source, `Stored, nil`, `words.Stored, nil`, true)
	path := module + "/cmd/parley/" + filepath.ToSlash(dir) + "/words"
	edit(t, source, "import (\n", "import (\n\t\""+path+"\"\n", true)
	d.await("not built")
	if err := os.Mkdir(filepath.Join(dir, "words"), 0o700); err != nil {
		t.Fatal(err)
	}
	words := filepath.Join(dir, "words", "words.go")
	if err := os.WriteFile(words, []byte("package words\n\nconst Stored = \"In\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.await("alice: swapped in ", "bob: swapped in ")
	edit(t, words, `"In"`, `"In a package"`, true)
	d.await("alice: swapped in ", "bob: swapped in ")
	d.say(leave)
	d.await(`alice: "In a package" (`)

	edit(t, source, `sdk.Function("notes", notes)`, `sdk.Function("list", notes)`, true)
	d.await("alice: rejected: ", "bob: rejected: ")
	d.say("replace")
	d.await("alice: up in ", "bob: up in ")
	d.say("bob list")
	d.await(`bob: [{"from":"agent1`)
	d.say("quit")
	d.over(0)
}

// TestDevBegins: what does not build at first is built when it is saved; what
// can't be asked for is told; Ctrl-C leaves nothing, and the data that was to be kept.
func TestDevBegins(t *testing.T) {
	t.Parallel()
	dir, data := filepath.Join(inTree(t), "notes"), filepath.Join(t.TempDir(), "d")
	cmd("plugin", "new", "notes", "--dir", dir).ok(t)
	source := filepath.Join(dir, "main.go")
	edit(t, source, "func main()", "func main(", false)
	d := startDev(t, "./"+dir, "--nodes", "3", "--data", data, "--properties", `{"a": 1}`)
	d.await("not built")
	edit(t, source, "func main(", "func main()", true)
	d.await("carol | agent1", "ready: ")
	d.say("carol nothing")
	d.await("carol: nothing failed after ")
	d.say("dave leave")
	d.await(`no node or command "dave"`)
	d.say("status")
	d.await("carol | notes running")
	if err := d.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	d.over(0)
	for _, name := range []string{"alice", "bob", "carol"} {
		if chains, err := os.ReadDir(filepath.Join(data, name, "chains")); err != nil || len(chains) != 1 {
			t.Errorf("%s: %v, %v", name, chains, err)
		}
	}
	if _, err := node.Pins(filepath.Join(data, "alice")); err != nil {
		t.Error(err)
	}
	if r := cmd("dev", "./"+dir, "--data", filepath.Join(data, "alice")); r.code != exitUsage {
		t.Errorf("on a node's data directory: %+v", r)
	}
}

// TestDevScript: lines of a pipe run in their order, and what fails is the exit code.
func TestDevScript(t *testing.T) {
	t.Parallel()
	hello := module + "/examples/hello"
	for _, c := range []struct {
		lines string
		code  int
	}{
		{"\nalice greet \"@bob\"\nhelp\nbob greet \"@alice\"\n", 0},
		{"alice greet \"@nobody\"\nalice greet \"@bob\"", 1},
	} {
		d := startDev(t, hello)
		d.say(c.lines)
		if err := d.in.Close(); err != nil {
			t.Fatal(err)
		}
		d.await(`alice: "Noted, agent1`)
		if c.code == 0 {
			d.await(`bob: "Noted, agent1`)
		}
		d.over(c.code)
	}
	for _, bad := range []string{"./nowhere", module + "/sdk"} {
		if r := cmd("dev", bad); r.code != exitUsage || strings.Count(r.err, "\n") != 1 {
			t.Errorf("%s: %+v", bad, r)
		}
	}
	for _, bad := range [][]string{{"--nodes", "1"}, {"--nodes", "9"}, {"--properties", "{"}, {"--log-level", "loud"}} {
		if r := cmd(append([]string{"dev", hello}, bad...)...); r.code != exitUsage {
			t.Errorf("%v: %+v", bad, r)
		}
	}
}
