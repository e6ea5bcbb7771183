package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// The one init of the module: a program that is started again must become what
// it was started for before anything of its own runs.
func init() {
	if len(os.Args) == 2 && os.Args[0] == argv0 {
		runtime.LockOSThread() // layers are a thread's, and exec takes that of its caller
		err := shim(os.Args[1])
		fmt.Fprintln(os.Stderr, "sandbox:", err)
		os.Exit(ExitFailed)
	}
}

// step puts a layer on the calling thread.
type step struct {
	layer Layer
	on    func(*Spec) error
}

// steps are in an order in which none stands in the way of a later one: mounts
// and limits need capabilities, Landlock and seccomp no_new_privs, and seccomp
// forbids what others do.
var steps = []step{
	{PID, ownProc},
	{Limits, limit},
	{Capabilities, dropCapabilities},
	{NoNewPrivs, noNewPrivs},
	{Files, landlockFiles},
	{Ports, landlockPorts},
	{Scope, landlockScope},
	{Calls, filterCalls},
}

// shim returns only when something failed.
func shim(arg string) error {
	s, err := decode(arg)
	if err != nil {
		return fmt.Errorf("specification: %w", err)
	}
	unix.Umask(0o077)
	if s.probe {
		return report(s)
	}
	path := s.Path
	if s.Sum != "" {
		if path, err = seal(s); err != nil {
			return fmt.Errorf("pinned program: %w", err)
		}
	}
	for _, st := range steps {
		if !s.has(st.layer) {
			continue
		}
		if err := st.on(s); err != nil {
			return fmt.Errorf("layer %s: %w", st.layer, err)
		}
	}
	// Once more: a change of credentials may have cleared it.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("parent death signal: %w", err)
	}
	return become(s, path)
}

// become retries ETXTBSY: a fork of another thread of the node may hold the
// program open for writing for a moment (golang/go#22315).
func become(s *Spec, path string) (err error) {
	env := os.Environ()
	for range 20 {
		err = unix.Exec(path, []string{s.Name}, env)
		if !errors.Is(err, unix.ETXTBSY) {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	return fmt.Errorf("start the program: %w", err)
}

// report tries every layer that was asked for and prints what came of it.
func report(s *Spec) error {
	var found []Result
	for _, st := range steps {
		if !s.has(st.layer) {
			continue
		}
		r := Result{Layer: st.layer, On: true}
		if err := st.on(s); err != nil {
			r.On, r.Detail = false, err.Error()
			s.Layers = slices.DeleteFunc(s.Layers, func(l Layer) bool { return l == st.layer })
		}
		found = append(found, r)
	}
	if err := json.NewEncoder(os.Stdout).Encode(found); err != nil {
		return err
	}
	unix.Exit(0) // os.Exit would wait for a second under the race detector
	return nil
}
