package plugin

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A directory that is made anew is watched like the first one, whatever its
// inode, and one that is away for a while is found again.
func TestDirectoryMadeAnew(t *testing.T) {
	t.Parallel()
	for name, away := range map[string]time.Duration{"at once": 0, "after a while": 300 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "plugins")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			n := startNode(t, Config{Dir: dir, rescan: time.Hour})
			if err := os.Remove(dir); err != nil {
				t.Fatal(err)
			}
			time.Sleep(away)
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * watchPause) // it has been looked at by then
			put(t, dir, "alpha.v", "one", true)
			n.await(t, EventUp)
		})
	}
}
