package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// docBlock is a fenced block of commands that a document marks to be run; the
// marks are defined in docs/decisions/0602.
type docBlock struct {
	scenario, until, needs string
	line                   int // of the mark
	script                 string
	prints                 string // what it prints, "…" standing for anything; empty: not told
}

var docMark = regexp.MustCompile(`^<!-- run: ([a-z0-9-]+)(?: until: (.+?))?(?: needs: (\S+))? -->$`)

// docBlocks reads the marked blocks of a document.
func docBlocks(text string) ([]docBlock, error) {
	var blocks []docBlock
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		if !strings.HasPrefix(lines[i], "<!-- run:") {
			continue
		}
		m := docMark.FindStringSubmatch(lines[i])
		if m == nil {
			return nil, fmt.Errorf("line %d: not a mark: %s", i+1, lines[i])
		}
		b := docBlock{scenario: m[1], until: m[2], needs: m[3], line: i + 1}
		if i+1 >= len(lines) || lines[i+1] != "```sh" {
			return nil, fmt.Errorf("line %d: no block of ```sh follows the mark", i+1)
		}
		end := slices.Index(lines[i+2:], "```")
		if end < 0 {
			return nil, fmt.Errorf("line %d: the block has no end", i+1)
		}
		b.script = strings.Join(lines[i+2:i+2+end], "\n") + "\n"
		i += 2 + end
		if next := i + 2; next < len(lines) && lines[next] == "<!-- prints -->" {
			end := slices.Index(lines[min(next+2, len(lines)):], "```")
			if next+1 >= len(lines) || lines[next+1] != "```text" || end < 0 || b.until != "" {
				return nil, fmt.Errorf("line %d: a block of ```text, after commands that end, expected", next+1)
			}
			b.prints = strings.Join(lines[next+2:next+2+end], "\n") + "\n"
			i = next + 2 + end
		}
		blocks = append(blocks, b)
	}
	return blocks, nil
}

// printed tells what of a text that a document shows the output does not have. Lines
// are compared in their order, without the blanks around them.
func printed(want, out string) (missing string) {
	lines := strings.Split(out, "\n")
	for w := range strings.Lines(want) {
		w = strings.TrimSpace(w)
		pattern := regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(w), "…", ".*") + "$")
		at := slices.IndexFunc(lines, func(l string) bool { return pattern.MatchString(strings.TrimSpace(l)) })
		if at < 0 {
			return w
		}
		lines = lines[at+1:]
	}
	return ""
}

func TestPrinted(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ want, out, missing string }{
		{"a\nb\n", "x\n a\ny\nb\n", ""},
		{"a\nb\n", "b\na\n", "b"},
		{"id …: (ok)\n", "id 17: (ok)\n", ""},
		{"id …: (ok)\n", "id 17: ok\n", "id …: (ok)"},
		{"a\n", "ab\n", "a"},
	} {
		if got := printed(c.want, c.out); got != c.missing {
			t.Errorf("%q in %q: %q is missing, want %q", c.want, c.out, got, c.missing)
		}
	}
}

func TestDocBlocks(t *testing.T) {
	t.Parallel()
	const doc = "text\n<!-- run: a -->\n```sh\nx\ny\n```\n```sh\nnot marked\n```\n<!-- run: b until: it is up -->\n```sh\nz\n```\n<!-- run: c needs: curl -->\n```sh\n```\n" +
		"<!-- run: d -->\n```sh\nw\n```\n\n<!-- prints -->\n```text\nit\n```\n"
	got, err := docBlocks(doc)
	want := []docBlock{{"a", "", "", 2, "x\ny\n", ""}, {"b", "it is up", "", 10, "z\n", ""}, {"c", "", "curl", 14, "\n", ""}, {"d", "", "", 17, "w\n", "it\n"}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{"<!-- run: A -->\n```sh\n```", "<!-- run: a -->\ntext", "<!-- run: a -->\n```sh\nx",
		"<!-- run: a -->\n```sh\n```\n\n<!-- prints -->\n```sh\n```", "<!-- run: a until: x -->\n```sh\n```\n\n<!-- prints -->\n```text\n```"} {
		if got, err := docBlocks(bad); err == nil {
			t.Errorf("%q gave %+v", bad, got)
		}
	}
}

// TestDocuments runs the marked commands of all documents.
func TestDocuments(t *testing.T) {
	t.Parallel()
	var files []string
	for _, pattern := range []string{"../../docs/*.md", "../../examples/*/README.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	run := 0
	for _, file := range append(files, "../../README.md") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		blocks, err := docBlocks(string(text))
		if err != nil {
			t.Errorf("%s: %v", file, err)
		}
		for len(blocks) > 0 {
			name := blocks[0].scenario
			of := func(b docBlock) bool { return b.scenario == name }
			scenario := slices.Collect(func(yield func(docBlock) bool) {
				for _, b := range blocks {
					if of(b) && !yield(b) {
						return
					}
				}
			})
			blocks = slices.DeleteFunc(blocks, of)
			run++
			t.Run(strings.TrimPrefix(file, "../../")+"/"+name, func(t *testing.T) { runScenario(t, scenario) })
		}
	}
	if run == 0 {
		t.Error("no document has a marked block")
	}
}

// blockLimit bounds a block, so that a command that should have been marked with
// until: does not keep the tests waiting.
const blockLimit = 3 * time.Minute

// runScenario runs blocks one after the other in a copy of the tree.
func runScenario(t *testing.T, blocks []docBlock) {
	dir := copyTree(t)
	for i, b := range blocks {
		if _, err := exec.LookPath(b.needs); b.needs != "" && err != nil {
			t.Logf("line %d: left out: %v", b.line, err)
			continue
		}
		// A loopback address of this process's own: its ports are free.
		pid := os.Getpid()
		own := fmt.Sprintf("127.%d.%d.%d", 64+pid>>14&63, pid>>7&127, 1+pid&127)
		ctx, cancel := context.WithTimeout(t.Context(), blockLimit)
		defer cancel()
		cmd := exec.CommandContext(ctx, "sh", "-eu", "-c", strings.ReplaceAll(b.script, "127.0.0.1", own))
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOFLAGS=-trimpath "+noDWARF) // the build cache then serves every copy
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
		if b.until != "" {
			// It is stopped at the end of the test, which comes later than ctx's.
			cmd = detached(cmd)
			startBlock(t, cmd, b)
			continue
		}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("block %d, line %d: %v\n%s", i+1, b.line, err, out)
		}
		if missing := printed(b.prints, string(out)); missing != "" {
			t.Errorf("block %d, line %d: it does not print %q but\n%s", i+1, b.line, missing, out)
		}
	}
}

// detached is cmd without its context.
func detached(cmd *exec.Cmd) *exec.Cmd {
	d := exec.Command(cmd.Args[0], cmd.Args[1:]...)
	d.Dir, d.Env, d.SysProcAttr = cmd.Dir, cmd.Env, cmd.SysProcAttr
	return d
}

// startBlock starts a block and returns once it has printed what it is to
// print. It is stopped when the test ends.
func startBlock(t *testing.T, cmd *exec.Cmd, b docBlock) {
	r, w := io.Pipe()
	var mu sync.Mutex
	var all bytes.Buffer
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	seen, read := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(read)
		once := sync.OnceFunc(func() { close(seen) })
		for lines := bufio.NewReader(r); ; {
			text, err := lines.ReadString('\n')
			mu.Lock()
			all.WriteString(text)
			mu.Unlock()
			if strings.Contains(text, b.until) {
				once()
			}
			if err != nil {
				return
			}
		}
	}()
	ended := make(chan error, 1)
	go func() { ended <- errors.Join(cmd.Wait(), w.Close()) }()
	output := func() string { mu.Lock(); defer mu.Unlock(); return all.String() }
	select {
	case <-seen:
	case err := <-ended:
		<-read
		t.Fatalf("line %d: it ended before it printed %q: %v\n%s", b.line, b.until, err, output())
	}
	t.Cleanup(func() {
		// The shell, if it did not become its last command, dies of the signal;
		// what counts is that the group ends.
		if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM); err != nil {
			t.Errorf("line %d: %v", b.line, err)
		}
		err := <-ended
		<-read
		var exit *exec.ExitError
		if err != nil && (!errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM) {
			t.Errorf("line %d: %v\n%s", b.line, err, output())
		}
	})
}

// copyTree copies the module, without what a build or a clone adds to it.
func copyTree(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "parley")
	keep := []string{"go.mod", "go.sum", "cmd", "dht", "examples", "node", "plugin", "sdk", "transport"}
	for _, name := range keep {
		err = errors.Join(err, copyInto(filepath.Join(root, name), filepath.Join(dir, name)))
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func copyInto(from, to string) error {
	return filepath.WalkDir(from, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(to, strings.TrimPrefix(path, from))
		if e.IsDir() {
			if e.Name() == "testdata" || e.Name() == "node_modules" {
				return filepath.SkipDir
			}
			return os.MkdirAll(target, 0o700)
		}
		b, err := os.ReadFile(path)
		if err == nil && !strings.HasSuffix(path, "_test.go") {
			err = errors.Join(os.MkdirAll(filepath.Dir(target), 0o700), os.WriteFile(target, b, 0o600))
		}
		return err
	})
}
