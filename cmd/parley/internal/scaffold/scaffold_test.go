package scaffold

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
)

// here is this build: a development build, unless paths were trimmed.
func here(t *testing.T) Origin {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	o := OriginOf(nil, filepath.Join(dir, "module.go"), 4)
	if o.Source == "" {
		t.Fatal("the source tree was not found")
	}
	return o
}

// offline has go take its modules from the module cache.
func offline(t *testing.T) {
	t.Setenv("GOFLAGS", "-mod=mod")
	t.Setenv("GOPROXY", "off")
	t.Setenv("GOWORK", "off")
}

func goIn(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestWrite: what is written is vetted, builds, passes its test and says what it is.
func TestWrite(t *testing.T) {
	offline(t)
	dir := filepath.Join(t.TempDir(), "x")
	r, err := Write(t.Context(), Options{Name: "note-book_2", Dir: dir, Origin: here(t)})
	if want := []string{"main.go", "main_test.go", "go.mod", "go.sum"}; err != nil || !r.Module || !slices.Equal(r.Files, want) {
		t.Fatalf("%+v, %v", r, err)
	}
	mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil || !strings.Contains(string(mod), "\nreplace "+parley+" => "+here(t).Source) || !strings.Contains(string(mod), "// The parley that wrote") {
		t.Errorf("%v, go.mod:\n%s", err, mod)
	}
	if out, err := exec.Command("gofmt", "-l", dir).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("gofmt: %s, %v", out, err)
	}
	goIn(t, dir, "vet", ".")
	goIn(t, dir, "test", ".")
	goIn(t, dir, "build", "-o", "dna", ".")
	out, err := exec.Command(filepath.Join(dir, "dna"), "--describe").CombinedOutput()
	if err != nil || !strings.Contains(string(out), `"name": "note-book_2"`) {
		t.Errorf("--describe: %s, %v", out, err)
	}

	// A second DNA in the same module needs no go.mod of its own.
	second := filepath.Join(dir, "second")
	r, err = Write(t.Context(), Options{Name: "second", Dir: second})
	if err != nil || r.Module || len(r.Files) != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	goIn(t, second, "vet", ".")
}

// TestWriteInTheTree: within parley's own module nothing of go.mod is written.
func TestWriteInTheTree(t *testing.T) {
	t.Parallel()
	const parent = "testdata" // which go list ./... passes over
	if err := os.MkdirAll(parent, 0o700); err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(parent)
	dir := filepath.Join(parent, "notes")
	r, err := Write(t.Context(), Options{Name: "notes", Dir: dir})
	if err != nil || r.Module {
		t.Fatalf("%+v, %v", r, err)
	}
	goIn(t, dir, "vet", ".")
}

func TestRefused(t *testing.T) {
	t.Parallel()
	tmp := t.TempDir()
	full := filepath.Join(tmp, "full")
	if err := errors.Join(os.Mkdir(full, 0o700), os.WriteFile(filepath.Join(full, "main.go"), []byte("mine"), 0o600)); err != nil {
		t.Fatal(err)
	}
	o := here(t)
	for _, c := range []struct {
		opts Options
		want error
	}{
		{Options{Name: "No Name", Dir: filepath.Join(tmp, "a"), Origin: o}, ErrName},
		{Options{Name: "", Dir: filepath.Join(tmp, "a"), Origin: o}, ErrName},
		{Options{Name: "ok", Dir: full, Origin: o}, ErrTaken},
		{Options{Name: "ok", Dir: filepath.Join(tmp, "b")}, nil}, // nothing to require
		{Options{Name: "ok", Dir: filepath.Join(tmp, "no", "parent"), Origin: o}, nil},
	} {
		r, err := Write(t.Context(), c.opts)
		if err == nil || c.want != nil && !errors.Is(err, c.want) || r.Files != nil {
			t.Errorf("%+v: %+v, %v", c.opts, r, err)
		}
	}
	left, err := os.ReadDir(tmp)
	text, readErr := os.ReadFile(filepath.Join(full, "main.go"))
	if err != nil || readErr != nil || len(left) != 1 || string(text) != "mine" {
		t.Errorf("left: %v, %v, %q, %v", left, err, text, readErr)
	}
}

// TestCleanedUp: where the modules can't be had, nothing stays, and an empty
// directory that was there does.
func TestCleanedUp(t *testing.T) {
	offline(t)
	for _, exists := range []bool{false, true} {
		dir := filepath.Join(t.TempDir(), "x")
		if exists {
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		_, err := Write(t.Context(), Options{Name: "x", Dir: dir, Origin: Origin{Version: "v9.9.9"}})
		if err == nil || !strings.Contains(err.Error(), "GOPROXY") {
			t.Errorf("got %v", err)
		}
		left, err := os.ReadDir(dir)
		if exists != (err == nil) || len(left) > 0 {
			t.Errorf("exists=%v: left %v, %v", exists, left, err)
		}
	}
}

func TestOrigin(t *testing.T) {
	t.Parallel()
	released := &debug.BuildInfo{Main: debug.Module{Path: parley, Version: "v1.2.3", Sum: "h1:x"}}
	_, self, _, _ := runtime.Caller(0)
	if o := OriginOf(released, self, 4); o != (Origin{Version: "v1.2.3"}) {
		t.Errorf("released: %+v", o)
	}
	if o := OriginOf(nil, parley+"/cmd/parley/pluginnew.go", 2); o != (Origin{}) {
		t.Errorf("trimmed: %+v", o)
	}
	if o := OriginOf(nil, "/nowhere/cmd/parley/pluginnew.go", 2); o != (Origin{}) {
		t.Errorf("gone: %+v", o)
	}
}
