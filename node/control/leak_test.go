package control

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestMain looks for goroutines and descriptors that the tests left.
func TestMain(m *testing.M) {
	before := descriptors()
	code := m.Run()
	if code == 0 {
		if left := awaitNothingLeft(before); left != "" {
			fmt.Fprintln(os.Stderr, "left behind after all tests:", left)
			code = 1
		}
	}
	os.Exit(code)
}

// awaitNothingLeft gives what ends by itself (connections of net/http) until
// the deadline; each look is at the true state.
func awaitNothingLeft(before int) (left string) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range 1000 {
		if left = leftBehind(before); left == "" {
			return ""
		}
		<-tick.C
	}
	return left
}

func leftBehind(before int) string {
	buf := make([]byte, 1<<20)
	for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(g, "node/control.") && !strings.Contains(g, "TestMain") {
			return "a goroutine:\n" + g
		}
	}
	if after := descriptors(); after > before {
		return fmt.Sprintf("descriptors: %d before, %d after", before, after)
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
