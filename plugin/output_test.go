package plugin

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestLineSplitter(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", maxLine+100)
	in := "one\r\n\ntwo\n" + long + "\nlast"
	want := []string{"one", "", "two", long[:maxLine], "last"}
	for _, chunk := range []int{1, 7, 1000, len(in)} {
		var got []string
		cuts := 0
		s := &lineSplitter{line: func(b []byte, cut bool) {
			got = append(got, string(b))
			if cut {
				cuts++
			}
		}}
		for rest := []byte(in); len(rest) > 0; {
			n := min(chunk, len(rest))
			_, _ = s.Write(rest[:n])
			rest = rest[n:]
		}
		s.end()
		if strings.Join(got, "|") != strings.Join(want, "|") || cuts != 1 {
			t.Errorf("chunks of %d: %d lines, %d cut", chunk, len(got), cuts)
		}
	}
}

func TestHandshakeFinder(t *testing.T) {
	t.Parallel()
	const shake = "1|1|unix|/tmp/x/plugin1|grpc|cert"
	for _, c := range []struct{ in, pass, rest string }{
		{shake + "\n", shake + "\n", ""},
		{"hello\n" + shake + "\nafter\n", shake + "\n", "hello,after"},
		{"1|2\n|||||\nx|1|unix|a|grpc\n", "", "1|2,|||||,x|1|unix|a|grpc"},
		{shake + "\n" + shake + "\n", shake + "\n", shake},
	} {
		var pass bytes.Buffer
		var rest []string
		h := &handshakeFinder{pass: &pass, giveUp: func(error) { t.Error("gave up") },
			rest: &lineSplitter{line: func(b []byte, _ bool) { rest = append(rest, string(b)) }}}
		for _, b := range []byte(c.in) {
			_, _ = h.Write([]byte{b})
		}
		h.end()
		if pass.String() != c.pass || strings.Join(rest, ",") != c.rest {
			t.Errorf("%q: passed %q, rest %q", c.in, pass.String(), rest)
		}
	}
}

// FuzzOutput: whatever a process prints, its node stays up, and what is logged
// is text.
func FuzzOutput(f *testing.F) {
	f.Add([]byte(`{"@message":1}`+"\n"), []byte("1|1|unix|a|grpc|c\n"))
	f.Add([]byte(`{"@message":"a","@level":[],"k":{"x":null}}`+"\npanic: no\n\ngoroutine 1"), []byte("x"))
	f.Fuzz(func(t *testing.T, stderr, stdout []byte) {
		var log bytes.Buffer
		o := newOutputs(slog.New(slog.NewTextHandler(&log, nil)))
		h := &handshakeFinder{pass: io.Discard, rest: o.stdout, giveUp: func(error) {}}
		_, _ = o.stderr.Write(stderr)
		_, _ = h.Write(stdout)
		h.end()
		o.close()
		if !utf8.Valid(log.Bytes()) || bytes.ContainsRune(log.Bytes(), '\x1b') {
			t.Errorf("log %q", log.Bytes())
		}
		if len(o.lastWords()) > 4*maxWords {
			t.Errorf("last words of %d bytes", len(o.lastWords()))
		}
	})
}

func TestStage(t *testing.T) {
	t.Parallel()
	dir, src := t.TempDir(), filepath.Join(t.TempDir(), "src")
	if err := os.WriteFile(src, []byte("#!/bin/sh\nexit 0\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	path, sum, err := stage(dir, src)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := hashFile(path); err != nil || got != sum || filepath.Base(filepath.Dir(path)) != sum {
		t.Errorf("staged %s with hash %s, want %s; %v", path, got, sum, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o500 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	// The operator's changes don't reach the copy; a damaged copy is replaced.
	if err := os.WriteFile(src, []byte("#!/bin/sh\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(path).CombinedOutput(); err != nil {
		t.Errorf("the copy: %v %s", err, out)
	}
	path2, sum2, err := stage(dir, src)
	if err != nil || sum2 == sum {
		t.Errorf("new content: %s, %v", sum2, err)
	}
	if err := os.Chmod(path2, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path2, []byte("damaged"), 0o700); err != nil {
		t.Fatal(err)
	}
	if path3, sum3, err := stage(dir, src); err != nil || path3 != path2 || sum3 != sum2 {
		t.Errorf("over a damaged copy: %s, %v", path3, err)
	}
	if got, _ := hashFile(path2); got != sum2 {
		t.Error("the damaged copy is still there")
	}
	// Other copies of the same length are passed over, and so is one under a name
	// that is not its hash.
	for i, other := range []string{"#!/bin/sh\nexit 1\n", "#!/bin/sh\nexit 2\n", "#!/bin/sk\nexit 1\n"} {
		home := filepath.Join(dir, strings.Repeat(strconv.Itoa(i), 64))
		if err := os.Mkdir(home, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(home, "plugin"), []byte(other), 0o500); err != nil {
			t.Fatal(err)
		}
	}
	if path4, sum4, err := stage(dir, src); err != nil || path4 != path2 || sum4 != sum2 {
		t.Errorf("beside others: %s, %v", path4, err)
	}
	for _, bad := range []struct{ dir, file string }{{dir, filepath.Join(dir, "nowhere")}, {filepath.Join(dir, "nowhere"), src}, {dir, dir}} {
		if _, _, err := stage(bad.dir, bad.file); err == nil {
			t.Errorf("stage(%v) worked", bad)
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, ".stage-*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// BenchmarkStage is what a start waits for before the process: of a new binary
// of 32 MB, and of one that has its copy.
func BenchmarkStage(b *testing.B) {
	src := filepath.Join(b.TempDir(), "src")
	if err := os.WriteFile(src, bytes.Repeat([]byte("0123456789abcdef"), 2<<20), 0o700); err != nil {
		b.Fatal(err)
	}
	for _, again := range []bool{false, true} {
		b.Run(fmt.Sprintf("again=%t", again), func(b *testing.B) {
			dir := b.TempDir()
			for b.Loop() {
				path, _, err := stage(dir, src)
				if err != nil {
					b.Fatal(err)
				}
				if !again {
					os.RemoveAll(filepath.Dir(path))
				}
			}
		})
	}
}
