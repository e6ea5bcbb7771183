package plugin

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Copies of binaries that were rejected or removed do not pile up.
func TestCopiesGo(t *testing.T) {
	t.Parallel()
	cfg := Config{Dir: t.TempDir(), StateDir: t.TempDir()}
	copies := func() int {
		entries, err := os.ReadDir(filepath.Join(cfg.StateDir, "plugins"))
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	put(t, cfg.Dir, "alpha.v", "one", true)
	n := startNode(t, cfg)
	for i := range 3 {
		put(t, cfg.Dir, "alpha.v", fmt.Sprintf("dead%d", i), true)
		n.await(t, EventRejected)
	}
	waitFor(t, func() bool { return copies() == 1 })
	if err := os.Remove(filepath.Join(cfg.Dir, "alpha.v")); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return copies() == 0 })
}

// A file that is being written to is not started by a restart either.
func TestRestartOfHalfWritten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put(t, dir, "alpha.v", "one", true)
	n := startNode(t, Config{Dir: dir})
	out := openVersion(t, filepath.Join(dir, "alpha.v"), "two")
	done := make(chan error, 1)
	go func() { done <- n.Restart(testContext(t), "alpha") }()
	select {
	case err := <-done:
		t.Errorf("restart of a file that is being written: %v", err)
	case <-time.After(300 * time.Millisecond): // of a try that must not be
	}
	if v := versionOf(t, n.handler(t, "alpha")); v != "one" {
		t.Errorf("version %q", v)
	}
	if _, err := out.Write([]byte("2")); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if v := versionOf(t, n.handler(t, "alpha")); v != "two2" {
		t.Errorf("version %q", v)
	}
}
