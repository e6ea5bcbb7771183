package node

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// checkLeaks runs the tests and then looks for what they left: goroutines of
// this module, descriptors, child processes.
func checkLeaks(m *testing.M) int {
	before := descriptors()
	code := m.Run()
	if code != 0 {
		return code
	}
	if left := awaitNothingLeft(before); left != "" {
		fmt.Fprintln(os.Stderr, "left behind after all tests:", left)
		return 1
	}
	return 0
}

// awaitNothingLeft says what is left when it has had time to go.
func awaitNothingLeft(before int) string {
	// What ended asynchronously gets until the deadline to be gone; each look is
	// at the true state, so that the wait decides nothing.
	deadline := time.Now().Add(10 * time.Second)
	for {
		left := leftBehind(before)
		if left == "" || time.Now().After(deadline) {
			return left
		}
		runtime.Gosched()
		sleep(context.Background(), 10*time.Millisecond)
	}
}

func leftBehind(before int) string {
	buf := make([]byte, 1<<20)
	for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(g, "parley-p2p") && !strings.Contains(g, "TestMain") && !strings.Contains(g, "spawner") {
			return "a goroutine:\n" + g
		}
	}
	if after := descriptors(); after > before {
		return fmt.Sprintf("descriptors: %d before, %d after", before, after)
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/children", os.Getpid()))
	if err == nil && strings.TrimSpace(string(b)) != "" {
		return "child processes: " + string(b)
	}
	return ""
}

func descriptors() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(entries)
}

func fdatasync(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }

// shortTempDir is a temporary directory whose path leaves room for a socket's
// name: the kernel allows 107 bytes.
func shortTempDir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "pt")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
