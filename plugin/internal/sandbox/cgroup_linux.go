package sandbox

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// ours is the cgroup into which this process moves: a cgroup that has processes
// can't hand controllers on.
const ours = "parley-node"

// Groups are the cgroups below this process's own.
type Groups struct{ dir string }

// Delegated tells whether this process may make cgroups with limits of their own
// below its own, and prepares that. The error says why not. A cgroup is taken
// only where this process is alone in it, as a service with Delegate=yes is.
func Delegated() (*Groups, error) {
	dir, err := ownGroup()
	if err != nil {
		return nil, err
	}
	if filepath.Base(dir) == ours { // moved before
		dir = filepath.Dir(dir)
		return &Groups{dir}, checkControllers(filepath.Join(dir, "cgroup.subtree_control"))
	}
	if err := checkControllers(filepath.Join(dir, "cgroup.controllers")); err != nil {
		return nil, err
	}
	if unix.Access(filepath.Join(dir, "cgroup.subtree_control"), unix.W_OK) != nil || unix.Access(dir, unix.W_OK) != nil {
		return nil, errors.New("its cgroup is not delegated (systemd: Delegate=yes)")
	}
	procs, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return nil, fmt.Errorf("cgroup: %w", err)
	}
	me := strconv.Itoa(os.Getpid())
	if f := strings.Fields(string(procs)); len(f) != 1 || f[0] != me {
		return nil, errors.New("its cgroup has other processes in it (systemd: a service of its own, with Delegate=yes)")
	}
	return &Groups{dir}, takeOver(dir, me)
}

// takeOver moves this process one down and hands the controllers on.
func takeOver(dir, me string) error {
	home := filepath.Join(dir, ours)
	if err := os.Mkdir(home, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("cgroup: %w", err)
	}
	if err := os.WriteFile(filepath.Join(home, "cgroup.procs"), []byte(me), 0); err != nil {
		return fmt.Errorf("cgroup: %w", err)
	}
	control := filepath.Join(dir, "cgroup.subtree_control")
	if err := os.WriteFile(control, []byte("+memory +pids"), 0); err != nil {
		return fmt.Errorf("cgroup: %w", err)
	}
	_ = os.WriteFile(control, []byte("+cpu"), 0) // handed on to few
	return nil
}

// ownGroup is the directory of this process's cgroup.
func ownGroup() (string, error) {
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", fmt.Errorf("cgroup: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if !ok {
			continue
		}
		root, err := unified()
		return filepath.Join(root, path), err
	}
	return "", errors.New("the machine has no cgroup v2")
}

// unified is where the cgroup v2 hierarchy is mounted.
func unified() (string, error) {
	f, err := os.Open("/proc/self/mounts")
	if err != nil {
		return "", fmt.Errorf("cgroup: %w", err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if f := strings.Fields(lines.Text()); len(f) > 2 && f[2] == "cgroup2" {
			return f[1], nil
		}
	}
	return "", errors.New("no cgroup v2 is mounted")
}

func checkControllers(file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("cgroup: %w", err)
	}
	have := strings.Fields(string(b))
	for _, c := range []string{"memory", "pids"} {
		if !slices.Contains(have, c) {
			return fmt.Errorf("its cgroup has no controller for %s", c)
		}
	}
	return nil
}

// number keeps the names of this process's groups apart.
var number atomic.Uint64

// Group is the cgroup of one process and of what that starts.
type Group struct {
	dir string
	fd  *os.File
}

// New makes a cgroup. The process that starts in it is bounded.
func (g *Groups) New(name string, memory, processes uint64) (*Group, error) {
	dir := filepath.Join(g.dir, fmt.Sprintf("handler-%s-%d", name, number.Add(1)))
	_ = os.Remove(dir) // of a process that was killed
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, fmt.Errorf("cgroup: %w", err)
	}
	err := limitGroup(dir, memory, processes)
	if err == nil {
		var fd *os.File
		if fd, err = os.Open(dir); err == nil {
			return &Group{dir, fd}, nil
		}
	}
	return nil, errors.Join(fmt.Errorf("cgroup: %w", err), os.Remove(dir))
}

func limitGroup(dir string, memory, processes uint64) error {
	for _, l := range []struct {
		file, value string
		must        bool
	}{
		{"memory.max", strconv.FormatUint(memory, 10), true},
		{"memory.swap.max", "0", false},
		{"memory.oom.group", "1", false},
		{"pids.max", strconv.FormatUint(processes, 10), true},
		{"cpu.weight", "50", false}, // half of what the node has
	} {
		if err := os.WriteFile(filepath.Join(dir, l.file), []byte(l.value), 0o644); err != nil && l.must {
			return err
		}
	}
	return nil
}

// In lets cmd begin in the group: no moment of its life is outside.
func (g *Group) In(cmd *exec.Cmd) {
	cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(g.fd.Fd())
}

// OutOfMemory tells whether the kernel killed a process of the group for its memory.
func (g *Group) OutOfMemory() bool {
	b, _ := os.ReadFile(filepath.Join(g.dir, "memory.events"))
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "oom_kill" {
			return f[1] != "0"
		}
	}
	return false
}

// Remove kills what is left in the group, whatever session it is of, and
// removes it. A killed process leaves its group a moment later.
func (g *Group) Remove() error {
	_ = os.WriteFile(filepath.Join(g.dir, "cgroup.kill"), []byte("1"), 0)
	_ = g.fd.Close()
	var err error
	for range 200 {
		if err = os.Remove(g.dir); err == nil || !errors.Is(err, unix.EBUSY) {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if err != nil {
		return fmt.Errorf("cgroup: %w", err)
	}
	return nil
}
