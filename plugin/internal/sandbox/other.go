//go:build !linux

package sandbox

import (
	"errors"
	"os/exec"
	"runtime"
	"syscall"
)

// Attr is what every process gets: a session of its own.
func Attr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// Command starts the program as it is.
func Command(s *Spec, env []string, dir string) (*exec.Cmd, error) {
	return &exec.Cmd{Path: s.Path, Args: []string{s.Name}, Env: env, Dir: dir, SysProcAttr: Attr()}, nil
}

// Harden does nothing.
func Harden() error { return nil }

// Start starts cmd.
func Start(cmd *exec.Cmd) error { return cmd.Start() }

// Probe finds nothing.
func Probe(func(*exec.Cmd) error) *Kernel {
	k := &Kernel{}
	for _, l := range All {
		k.Results = append(k.Results, Result{Layer: l, Detail: "not on " + runtime.GOOS})
	}
	return k
}

// Groups are cgroups, of which there are none.
type Groups struct{}

// Group is one of them.
type Group struct{}

// Delegated finds none.
func Delegated() (*Groups, error) { return nil, errors.New("not on " + runtime.GOOS) }

// New is never called.
func (*Groups) New(string, uint64, uint64) (*Group, error) { return nil, errors.ErrUnsupported }

// OutOfMemory is never called.
func (*Group) OutOfMemory() bool { return false }

// Remove is never called.
func (*Group) Remove() error { return nil }

// In is never called.
func (*Group) In(*exec.Cmd) {}
