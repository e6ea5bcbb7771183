package plugin

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// A handler without a cgroup is watched: its memory is what it and its children
// hold that no file backs. growth is faster than a machine fills memory, so that
// a look at what is there tells until when none is needed.
const (
	growth      = 4 << 30 // bytes in a second
	soonestLook = 10 * time.Millisecond
	latestLook  = time.Second
)

// watchMemory kills the process when it holds more than its limit. It ends when
// the process is over.
func (r *procRunner) watchMemory(pid int) {
	for {
		used := memoryOf(pid)
		if used > r.limit {
			r.killFor(overLimit(r.limit))
			return
		}
		wait := time.Duration(float64(r.limit-used) / growth * float64(time.Second))
		t := time.NewTimer(min(max(wait, soonestLook), latestLook))
		select {
		case <-t.C:
		case <-r.over:
			t.Stop()
			return
		}
	}
}

func overLimit(limit uint64) error {
	return fmt.Errorf("it was killed: over its memory limit of %d MiB (setting handler-memory, or grant memory:BYTES)", limit>>20)
}

// memoryOf adds up the memory of a process and of all below it.
func memoryOf(pid int) (sum uint64) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return 0 // it has ended
	}
	for lines := bufio.NewScanner(bytes.NewReader(status)); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), ":")
		switch name {
		case "RssAnon", "RssShmem", "VmSwap":
			kb, _ := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			sum += kb << 10
		}
	}
	lists, _ := filepath.Glob(filepath.Join(dir, "task", "*", "children"))
	for _, l := range lists {
		b, _ := os.ReadFile(l)
		for _, f := range strings.Fields(string(b)) {
			if child, err := strconv.Atoi(f); err == nil {
				sum += memoryOf(child)
			}
		}
	}
	return sum
}
