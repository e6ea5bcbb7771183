package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// self is this binary, even where its file was replaced or removed meanwhile.
const self = "/proc/self/exe"

// Attr is what every process gets: a session, and so a process group, of its own
// with no terminal; and it dies with the thread that started it.
func Attr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
}

// Command is the command that starts what s says.
func Command(s *Spec, env []string, dir string) (*exec.Cmd, error) {
	attr := Attr()
	if len(s.Layers) == 0 && s.Sum == "" && !s.probe {
		return &exec.Cmd{Path: s.Path, Args: []string{s.Name}, Env: env, Dir: dir, SysProcAttr: attr}, nil
	}
	arg, err := s.encode()
	if err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	if s.has(Net) {
		attr.Cloneflags |= unix.CLONE_NEWNET
	}
	if s.has(IPC) {
		attr.Cloneflags |= unix.CLONE_NEWIPC
	}
	if s.has(PID) {
		attr.Cloneflags |= unix.CLONE_NEWPID | unix.CLONE_NEWNS
	}
	if s.has(User) {
		attr.Cloneflags |= unix.CLONE_NEWUSER
		uid, gid := os.Geteuid(), os.Getegid()
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
		// Without them the exec of the shim would leave a user other than root
		// nothing of what he may do in his namespace.
		attr.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_SETPCAP}
	}
	return &exec.Cmd{Path: self, Args: []string{argv0, arg}, Env: env, Dir: dir, SysProcAttr: attr}, nil
}

// hardening guards the process's dumpable flag: 0 but in Start.
var hardening struct {
	sync.Mutex
	on bool
}

// Harden forbids other processes of the same user to trace this one and to read
// its memory, environment and open files.
func Harden() error {
	hardening.Lock()
	defer hardening.Unlock()
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("forbid tracing: %w", err)
	}
	hardening.on = true
	return nil
}

// Start starts cmd.
func Start(cmd *exec.Cmd) error {
	hardening.Lock()
	defer hardening.Unlock()
	if cmd.SysProcAttr == nil || cmd.SysProcAttr.Cloneflags&unix.CLONE_NEWUSER == 0 {
		return cmd.Start()
	}
	err := startInNamespace(cmd)
	if errors.Is(err, unix.ENOSPC) {
		err = fmt.Errorf("%w (sysctl user.max_user_namespaces and its like allow no more)", err)
	}
	return err
}

// startInNamespace is called with hardening held. The files by which a user namespace gets its users belong to
// root while the process is hardened, since the child shares its memory until it
// is another program. So the hardening stops for that moment. It matters to none
// of the processes in such namespaces: they can trace nobody outside.
func startInNamespace(cmd *exec.Cmd) error {
	if !hardening.on {
		return cmd.Start()
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("allow a user namespace: %w", err)
	}
	err := cmd.Start()
	if err2 := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err2 != nil && err == nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return fmt.Errorf("forbid tracing: %w", err2)
	}
	return err
}
