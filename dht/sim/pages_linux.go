package sim

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	leastPages = 32 << 20 // a mapping is worth it from this size on: a run's memory is mapped in pieces of 64 MiB
	largePage  = 2 << 20  // of amd64 and arm64 with small ones of 4 KiB
)

// largePages has the kernel back the process's memory with large pages. Events go all over
// gigabytes: with pages of 4 KiB the processor spends a quarter of a run in page tables.
// What the kernel refuses stays as it is.
func largePages() {
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		from, to, ok := anonymous(lines.Text())
		if ok && to-from >= leastPages {
			unix.Syscall(unix.SYS_MADVISE, from, to-from, unix.MADV_HUGEPAGE) // what is mapped to memory from now on
			from = (from + largePage - 1) &^ (largePage - 1)
			for ; from+largePage <= to; from += largePage { // each by itself: the kernel ends with the first that it refuses
				unix.Syscall(unix.SYS_MADVISE, from, largePage, unix.MADV_COLLAPSE) // and what is already; Linux 6.1
			}
		}
	}
}

// anonymous parses a line of /proc/PID/maps: it tells whether it is memory to read and
// write without a file or a name, but one that Go gives.
func anonymous(line string) (from, to uintptr, ok bool) {
	f := strings.Fields(line)
	if len(f) < 5 || f[1] != "rw-p" || len(f) > 5 && !strings.Contains(line, "[anon: Go: ") {
		return 0, 0, false
	}
	_, err := fmt.Sscanf(f[0], "%x-%x", &from, &to)
	return from, to, err == nil
}
