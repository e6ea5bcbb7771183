package sandbox

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	procFlags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	// reservedPIDs are numbers that the kernel gives out once only.
	reservedPIDs = 300
	// largestFile bounds a file that the program writes, memory files included.
	largestFile = 4 << 30
	// otherProcesses is for what else the user runs, where RLIMIT_NPROC counts it.
	otherProcesses = 8192
)

// ownProc mounts the /proc of the process's own PID namespace over the
// machine's, where none of the mount is seen outside. Read-only: to a root of
// this machine /proc/sys is the machine's, namespace or not.
func ownProc(s *Spec) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("mounts of its own: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", procFlags, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	boundPIDs(s.Processes)
	if err := unix.Mount("", "/proc", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|procFlags, ""); err != nil {
		return fmt.Errorf("make /proc read-only: %w", err)
	}
	return nil
}

// boundPIDs bounds the processes of the namespace, root's too, which
// RLIMIT_NPROC does not. Kernels before 6.14 have one pid_max for all: there,
// the file is the machine's own and an unprivileged process can't write it; root
// could, so the kernel's version is asked.
func boundPIDs(most uint64) {
	const file = "/proc/sys/kernel/pid_max"
	if most == 0 || !ownPIDMax() {
		return
	}
	_ = os.WriteFile(file, strconv.AppendUint(nil, most+reservedPIDs, 10), 0)
}

// ownPIDMax tells whether pid_max is the namespace's: since Linux 6.14.
func ownPIDMax() bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	var major, minor int
	_, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor)
	return err == nil && (major > 6 || major == 6 && minor >= 14)
}

// limit sets the resource limits. There is none of the address space: runtimes
// reserve far more of it than they use.
func limit(s *Spec) error {
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("500"), 0) // before the node; not where /proc is read-only
	processes := s.Processes
	if processes != 0 && !s.has(User) {
		processes += otherProcesses
	}
	for _, l := range []struct {
		name     string
		resource int
		value    uint64
		always   bool
	}{
		{"core", unix.RLIMIT_CORE, 0, true},
		{"fsize", unix.RLIMIT_FSIZE, largestFile, true},
		{"nofile", unix.RLIMIT_NOFILE, s.OpenFiles, s.OpenFiles != 0},
		{"nproc", unix.RLIMIT_NPROC, processes, processes != 0},
	} {
		if !l.always {
			continue
		}
		var had unix.Rlimit
		if err := unix.Getrlimit(l.resource, &had); err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
		to := min(l.value, had.Max) // a limit that is lower already stays
		if err := unix.Setrlimit(l.resource, &unix.Rlimit{Cur: to, Max: to}); err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
	}
	return nil
}

// dropCapabilities leaves none, not even to a root: the bounding set goes where
// that is allowed, and where it is not there is nothing to get from it.
func dropCapabilities(*Spec) error {
	for c := uintptr(0); ; c++ {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err == unix.EINVAL {
			break // the kernel knows no more
		} else if err == unix.EPERM {
			break
		} else if err != nil {
			return fmt.Errorf("bounding set: %w", err)
		}
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("ambient set: %w", err)
	}
	var none [2]unix.CapUserData
	if err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0]); err != nil {
		return fmt.Errorf("sets: %w", err)
	}
	return nil
}

func noNewPrivs(*Spec) error { return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }
