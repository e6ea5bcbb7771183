package plugin

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/parley-p2p/parley/plugin/internal/sandbox"
	"github.com/parley-p2p/parley/sdk"
)

// SandboxMode says how much of the sandbox there must be.
type SandboxMode string

const (
	SandboxAuto   SandboxMode = "auto"   // what this machine allows
	SandboxStrict SandboxMode = "strict" // no handler starts if a layer is missing; a cgroup may be
	SandboxOff    SandboxMode = "off"    // only what every process gets
)

// The states of a layer.
const (
	LayerOn      = "on"
	LayerOff     = "off"     // Detail says why
	LayerGranted = "granted" // it was taken away by a grant of the operator's
)

// Layer is one layer of a handler's sandbox.
type Layer struct {
	Name   string
	State  string // LayerOn, LayerOff or LayerGranted
	Detail string
}

// Harden forbids other processes of the same user to trace this one and to read
// its memory: a handler whose sandbox lacks layers is one of them. A debugger is
// another; so it is for a node that serves, before its Manager runs.
func Harden() error { return sandbox.Harden() }

// confiner knows what the machine allows and what the operator grants. It does
// not change once it is made.
type confiner struct {
	cfg    *Config
	kernel *sandbox.Kernel
	groups *sandbox.Groups // nil without delegated cgroups
	noCG   error           // why
}

// newConfiner asks the machine. start starts a process.
func newConfiner(cfg *Config, start func(*exec.Cmd) error) *confiner {
	c := &confiner{cfg: cfg, kernel: &sandbox.Kernel{}}
	if cfg.Sandbox == SandboxOff {
		return c
	}
	c.kernel = sandbox.Probe(start)
	if c.groups, c.noCG = sandbox.Delegated(); c.noCG != nil {
		c.groups = nil
	}
	for _, r := range c.kernel.Results {
		if !r.On {
			cfg.Log.Warn("handlers run without a layer of their sandbox", "layer", r.Layer, "reason", r.Detail)
		}
	}
	return c
}

// missing says what keeps a handler from being started in strict mode.
func (c *confiner) missing() error {
	if c.cfg.Sandbox != SandboxStrict {
		return nil
	}
	var lacks []string
	for _, r := range c.kernel.Results {
		if !r.On {
			lacks = append(lacks, fmt.Sprintf("%s (%s)", r.Layer, r.Detail))
		}
	}
	if lacks == nil {
		return nil
	}
	return fmt.Errorf("the sandbox lacks %s; with handler-sandbox = \"auto\" handlers start without", strings.Join(lacks, ", "))
}

// confined is a process that is ready to be started.
type confined struct {
	cmd    *exec.Cmd
	path   string // of the program
	memory uint64 // bytes; 0 is no limit
	group  *sandbox.Group
}

// command makes what starts the handler, in its sandbox.
func (c *confiner) command(l launch, socketDir string, env []string) (*confined, error) {
	if err := c.missing(); err != nil {
		return nil, err
	}
	g := c.grant(l.name)
	for _, p := range append(slices.Clone(g.read), g.write...) {
		if _, err := os.Stat(p); err != nil {
			return nil, fmt.Errorf("%w: %w", errGrantMissing, err)
		}
	}
	out := &confined{path: l.path}
	if c.cfg.Sandbox != SandboxOff {
		out.memory = g.memory
		// Go's collector works harder below the limit, not above it.
		env = append([]string{"GOMEMLIMIT=" + strconv.FormatUint(g.memory/10*9, 10)}, env...)
	}
	spec := &sandbox.Spec{Path: l.path, Name: l.name, Layers: c.kernel.Works(), ABI: c.kernel.ABI, Network: g.network,
		Read: g.read, Write: append([]string{l.workDir, socketDir}, g.write...),
		OpenFiles: uint64(c.cfg.OpenFiles), Processes: uint64(c.cfg.Processes)}
	if c.cfg.Pins != "" {
		spec.Sum = l.sum
	}
	var err error
	if out.cmd, err = sandbox.Command(spec, env, l.workDir); err != nil {
		return nil, err
	}
	if c.groups != nil {
		if out.group, err = c.groups.New(l.name, out.memory, spec.Processes); err != nil {
			return nil, err
		}
		out.group.In(out.cmd)
	}
	return out, nil
}

// grants is what the settings give one handler.
type grants struct {
	network     bool
	read, write []string
	memory      uint64
}

// grant reads the grants of a file. They were checked.
func (c *confiner) grant(file string) grants {
	g := grants{memory: uint64(c.cfg.Memory)}
	for _, text := range c.cfg.Grants[file] {
		kind, arg, _ := strings.Cut(text, ":")
		switch kind {
		case "network":
			g.network = true
		case "read":
			g.read = append(g.read, arg)
		case "write":
			g.write = append(g.write, arg)
		case "memory":
			n, _ := strconv.ParseUint(arg, 10, 64)
			g.memory = max(g.memory, n)
		}
	}
	return g
}

// errGrantMissing is the reason for which a handler does not run that is granted
// what is not there.
var errGrantMissing = errors.New("a path that the settings grant it")

// errNotGranted is the reason for which a handler that needs more does not run.
var errNotGranted = errors.New("which is not granted")

// covers tells whether a handler has what it says it needs. The error is what
// the operator reads: it has the line for his settings.
func (c *confiner) covers(file string, needs []string) error {
	if c.cfg.Sandbox == SandboxOff {
		return nil
	}
	g := c.grant(file)
	var lacks []string
	for _, need := range needs {
		if !g.cover(need) {
			lacks = append(lacks, need)
		}
	}
	if lacks == nil {
		return nil
	}
	all := append(slices.Clone(c.cfg.Grants[file]), lacks...)
	for i, n := range all {
		all[i] = strconv.Quote(n)
	}
	return fmt.Errorf("it needs %s, %w; if it may have that, put into the settings, under [handler.%q]: grant = [%s]",
		strings.Join(lacks, ", "), errNotGranted, file, strings.Join(all, ", "))
}

func (g *grants) cover(need string) bool {
	kind, arg, _ := strings.Cut(need, ":")
	switch kind {
	case "network":
		return g.network
	case "read":
		return below(arg, g.read) || below(arg, g.write)
	case "write":
		return below(arg, g.write)
	case "memory":
		n, err := strconv.ParseUint(arg, 10, 64)
		return err == nil && n <= g.memory
	}
	return false
}

func below(path string, dirs []string) bool {
	return slices.ContainsFunc(dirs, func(d string) bool {
		return path == d || d == "/" || strings.HasPrefix(path, d+"/")
	})
}

// validateSandbox checks the sandbox's settings.
func (c *Config) validateSandbox() error {
	var errs []error
	switch c.Sandbox {
	case SandboxAuto, SandboxStrict, SandboxOff:
	default:
		errs = append(errs, fmt.Errorf("plugin: handler-sandbox is %q, \"auto\", \"strict\" or \"off\" expected", c.Sandbox))
	}
	for _, l := range []struct {
		name             string
		value, low, high int64
	}{
		{"handler-memory", c.Memory, 64 << 20, 1 << 50},
		{"handler-processes", int64(c.Processes), 64, 1 << 22},
		{"handler-open-files", int64(c.OpenFiles), 64, 1 << 20},
	} {
		if l.value < l.low || l.value > l.high {
			errs = append(errs, fmt.Errorf("plugin: %s is %d, %d to %d allowed", l.name, l.value, l.low, l.high))
		}
	}
	for file, all := range c.Grants {
		for _, g := range all {
			if err := sdk.CheckNeed(g); err != nil {
				errs = append(errs, fmt.Errorf("plugin: grant of handler %q: %w", file, err))
			}
		}
	}
	return errors.Join(errs...)
}
