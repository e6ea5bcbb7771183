package plugin

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// leaks tells what the tests left behind: goroutines of this package, of
// go-plugin or of gRPC, processes, open files, socket directories. What ends by
// itself has a few seconds for it.
func leaks(filesBefore int) string {
	deadline := time.Now().Add(10 * time.Second) // a failure bound
	for {
		found := findLeaks(filesBefore)
		if found == "" || time.Now().After(deadline) {
			return found
		}
		runtime.Gosched()
	}
}

func findLeaks(filesBefore int) string {
	var found []string
	buf := make([]byte, 4<<20)
	buf = buf[:runtime.Stack(buf, true)]
	for _, g := range strings.Split(string(buf), "\n\n")[1:] { // the first is this one
		for _, of := range []string{"parley/", "go-plugin", "google.golang.org/grpc"} {
			if strings.Contains(g, of) {
				found = append(found, "goroutine: "+g)
				break
			}
		}
	}
	if c := children(); len(c) > 0 {
		found = append(found, fmt.Sprintf("processes: %v", c))
	}
	if n := openFileCount(); n > filesBefore {
		files, _ := openFiles()
		found = append(found, fmt.Sprintf("%d open files, %d before:\n%s", n, filesBefore, files))
	}
	return strings.Join(found, "\n\n")
}

// openFileCount counts what a test could leave open: not the runtime's own
// poll and event descriptors, which come with the first use.
func openFileCount() (n int) {
	links, _ := filepath.Glob("/proc/self/fd/*")
	for _, l := range links {
		to, err := os.Readlink(l)
		if err == nil && !strings.HasPrefix(to, "anon_inode:") {
			n++
		}
	}
	return n
}
