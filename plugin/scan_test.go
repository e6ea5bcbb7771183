package plugin

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A socket's path has at most 107 bytes, however long the directories are.
func TestSocketsAreShort(t *testing.T) {
	long := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	if err := os.MkdirAll(long, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", long)
	dir, err := sockets(long)
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if len(filepath.Join(dir, "plugin-dir4294967295", "plugin4294967295")) > 107 {
		t.Errorf("%s is too long", dir)
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	// The next node of the same state removes what this one left.
	again, err := sockets(long)
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(again)
	if _, err := os.Stat(dir); err == nil {
		t.Errorf("%s is left", dir)
	}
}

// The note of the last socket directory removes nothing that is not one.
func TestStaleSockets(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	for name, mode := range map[string]os.FileMode{"other": 0o700, "parley-open": 0o755} {
		dir := filepath.Join(base, name)
		if err := os.Mkdir(dir, mode); err != nil {
			t.Fatal(err)
		}
		removeStaleSockets(dir)
		if _, err := os.Stat(dir); err != nil {
			t.Errorf("%s was removed", name)
		}
	}
	target := filepath.Join(base, "parley-target")
	if err := os.Mkdir(target, 0o700); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(base, "parley-link")
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	removeStaleSockets(link)
	if _, err := os.Stat(target); err != nil {
		t.Error("a link was followed")
	}
	removeStaleSockets(target)
	if _, err := os.Stat(target); err == nil {
		t.Error("the stale directory is left")
	}
}
