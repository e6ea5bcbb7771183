package plugin

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// A directory that is made anew is watched like the first one, whatever its
// inode, and one that is away for a while is found again.
func TestDirectoryMadeAnew(t *testing.T) {
	t.Parallel()
	for _, missed := range []bool{false, true} {
		t.Run(fmt.Sprintf("missed %t", missed), func(t *testing.T) {
			t.Parallel()
			dir, log := filepath.Join(t.TempDir(), "plugins"), &logText{}
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			n := startNode(t, Config{Dir: dir, rescan: time.Hour, Log: slog.New(slog.NewTextHandler(log, nil))})
			if err := os.Remove(dir); err != nil {
				t.Fatal(err)
			}
			if missed {
				waitFor(t, func() bool { return log.has("can't be read") })
			}
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"alpha.v", "beta.v"} { // the second is found by the new watch only
				put(t, dir, name, "one", true)
				n.await(t, EventUp)
			}
		})
	}
}

// logText keeps what is logged.
type logText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logText) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logText) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), text)
}
