package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// probeTime is what a probe may take on the busiest machine.
const probeTime = 30 * time.Second

var spaces = []Layer{User, Net, IPC, PID}

// Probe tries what this machine allows. start starts the probes' processes.
func Probe(start func(*exec.Cmd) error) *Kernel {
	k := &Kernel{ABI: landlockABI()}
	p := prober{start: start, abi: k.ABI}
	found, err := p.try(All)
	if err != nil || !on(found, PID) {
		found = p.oneByOne()
	}
	for _, l := range All {
		r := Result{Layer: l, On: true}
		if i := slices.IndexFunc(found, func(r Result) bool { return r.Layer == l }); i >= 0 {
			r = found[i]
		}
		if l == Files || l == Ports || l == Scope {
			switch {
			case k.ABI == 0:
				r.Detail = errNoLandlock.Error()
			case r.On:
				r.Detail = landlockDetail(l, k.ABI)
			}
		}
		k.Results = append(k.Results, r)
	}
	return k
}

func on(rs []Result, l Layer) bool {
	return slices.ContainsFunc(rs, func(r Result) bool { return r.Layer == l && r.On })
}

type prober struct {
	start func(*exec.Cmd) error
	abi   int
}

// oneByOne adds each namespace to those that work, then tries the rest.
func (p prober) oneByOne() (found []Result) {
	var with []Layer
	for _, l := range spaces {
		rs, err := p.try(append(slices.Clone(with), l))
		if err == nil && l == PID && !on(rs, PID) {
			err = errors.New(rs[0].Detail)
		}
		if err != nil {
			found = append(found, Result{Layer: l, Detail: err.Error() + hint()})
			continue
		}
		with = append(with, l)
		found = append(found, Result{Layer: l, On: true})
	}
	rest := slices.DeleteFunc(slices.Clone(All), func(l Layer) bool { return slices.Contains(spaces, l) })
	rs, err := p.try(append(with, rest...))
	if err != nil {
		for _, l := range rest {
			found = append(found, Result{Layer: l, Detail: err.Error()})
		}
		return found
	}
	return append(found, slices.DeleteFunc(rs, func(r Result) bool { return r.Layer == PID })...)
}

// try starts a process with these layers and gives what it says of those that
// are put on within.
func (p prober) try(layers []Layer) ([]Result, error) {
	cmd, err := Command(&Spec{Layers: layers, ABI: p.abi, Processes: 1024, probe: true}, nil, "/")
	if err != nil {
		return nil, err
	}
	var out, words bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &words
	if err := p.start(cmd); err != nil {
		var path *os.PathError
		if errors.As(err, &path) {
			err = path.Err // not which file: it is this one
		}
		return nil, err
	}
	stop := time.AfterFunc(probeTime, func() { _ = cmd.Process.Kill() })
	defer stop.Stop()
	if err := cmd.Wait(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, strings.TrimSpace(words.String()))
	}
	var found []Result
	if err := json.Unmarshal(out.Bytes(), &found); err != nil {
		return nil, fmt.Errorf("the probe's answer: %w", err)
	}
	return found, nil
}

// hint names the setting of the machine that forbids user namespaces.
func hint() string {
	if unix.Geteuid() == 0 {
		return ""
	}
	for _, h := range []struct{ file, value, text string }{
		{"/proc/sys/user/max_user_namespaces", "0", "user.max_user_namespaces is 0"},
		{"/proc/sys/kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone is 0"},
		{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1",
			"kernel.apparmor_restrict_unprivileged_userns is 1: an AppArmor profile with \"userns,\" for the node allows it"},
	} {
		if b, err := os.ReadFile(h.file); err == nil && strings.TrimSpace(string(b)) == h.value {
			return " (" + h.text + ")"
		}
	}
	return ""
}
