package plugin

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
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
