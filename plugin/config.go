package plugin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/handlerpb"
)

// ErrTaken is wrapped by Config.Attach where another handler of the DNA runs.
var ErrTaken = errors.New("another handler of it runs already")

// Config says which handlers to run and how. Dir, StateDir and Attach are
// required; everything else has a default.
type Config struct {
	// Dir holds the handlers' binaries, one file each. It must exist.
	Dir string
	// StateDir is the node's own: staged copies, working directories, sockets.
	StateDir string
	// Attach decides on a handler that started and described itself: under
	// which agent and DNA it runs. An error rejects the binary and is shown in
	// Status; ErrTaken has it tried again when another handler is gone. It is
	// called once per handler; processes that follow describe the same DNA, and at
	// least the functions that the one before them had. It may be called
	// concurrently for several handlers, and must not block on any of them.
	Attach func(context.Context, *Handler, sdk.Description) (sdk.Setup, error)
	// Ready is called for each process, between its Setup and its first call. An
	// error rejects it as one of Attach does. It may take its time, during which
	// the process before this one goes on, and ends by its ctx. nil does nothing.
	Ready func(context.Context, *Starting) error
	// Detach is called once for each handler that was attached, when it ends
	// for good. nil does nothing.
	Detach func(*Handler)
	// Pins is a file (see ReadPins) of the binaries that may run: then no other
	// does. Empty: every binary of Dir may.
	Pins string
	// Event is told what happens to handlers, in the order in which it happens to
	// each. It must not block. nil does nothing.
	Event func(Event)
	// Log takes what the manager and the handlers have to say. nil discards it.
	Log *slog.Logger

	// MaxPayload bounds each payload in bytes (setting max-payload, 16 MiB).
	MaxPayload int
	// MaxCalls bounds the calls of one handler that run at once (setting
	// handler-max-calls, 256); MaxQueue those that wait (handler-max-queue, 1024).
	MaxCalls, MaxQueue int
	// StartTimeout bounds start, handshake, Describe and Setup together
	// (setting handler-start-timeout, 10 s).
	StartTimeout time.Duration
	// StartParallel bounds the files that start at once, and the handlers that are
	// started again (4).
	StartParallel int
	// DrainTimeout is how long calls may go on when the node stops (setting
	// handler-drain-timeout, 10 s); SwapTimeout, when another process has taken
	// the place of theirs, or their handler's file is gone (setting
	// handler-swap-timeout, 2 minutes).
	DrainTimeout, SwapTimeout time.Duration
	// RestartWait is how long a call waits for a handler that is being
	// restarted, if its deadline allows (setting handler-restart-wait, 5 s).
	RestartWait time.Duration
	// StuckAfter is how long a call may go on after its caller gave up, before its
	// process is replaced as in a swap (setting handler-stuck-after, 30 s).
	StuckAfter time.Duration
	// Env holds more variables ("KEY=value") for the handlers' environment,
	// which has nothing of the node's own.
	Env []string
	// Debug is for handlers that a debugger may stop: none is ended because it
	// does not answer or takes long to start. They are told so (EnvDebug).
	Debug bool

	// Sandbox says how much of the sandbox there must be (setting
	// handler-sandbox, "auto").
	Sandbox SandboxMode
	// Memory bounds what one handler's processes hold together, in bytes
	// (setting handler-memory, 1 GiB). Grants may give one more.
	Memory int64
	// Processes bounds one handler's processes and threads (setting
	// handler-processes, 512), OpenFiles the open files of each of its processes
	// (handler-open-files, 1024).
	Processes, OpenFiles int
	// Grants are what the operator gives the handler of a file beyond that, in
	// the words of sdk.Needs (setting grant in [handler."FILE"]).
	Grants map[string][]string

	confine    *confiner             // made by Run
	probeEvery time.Duration         // between health probes; for tests
	policy     func() *restartPolicy // of restarts; for tests
	settle     time.Duration         // without a change, until a file is complete; for tests
	rescan     time.Duration         // between looks at the directory, at most; for tests
}

// debugPatience is how long a process may stand still that is debugged.
const debugPatience = 10_000 * time.Hour

func (c Config) withDefaults() Config {
	if c.Debug {
		c.StartTimeout, c.probeEvery = debugPatience, debugPatience
		c.Env = append(slices.Clip(c.Env), handlerpb.EnvDebug+"=1")
	}
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	span := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	def(&c.MaxPayload, handlerpb.DefaultMaxPayload)
	def(&c.MaxCalls, 256)
	def(&c.MaxQueue, 1024)
	def(&c.StartParallel, 4)
	def(&c.Processes, DefaultProcesses)
	def(&c.OpenFiles, DefaultOpenFiles)
	if c.Memory == 0 {
		c.Memory = DefaultMemory
	}
	if c.Sandbox == "" {
		c.Sandbox = SandboxAuto
	}
	span(&c.StartTimeout, 10*time.Second)
	span(&c.DrainTimeout, 10*time.Second)
	span(&c.SwapTimeout, 2*time.Minute)
	span(&c.RestartWait, 5*time.Second)
	span(&c.StuckAfter, 30*time.Second)
	span(&c.settle, defaultSettle)
	span(&c.rescan, rescanEvery)
	span(&c.probeEvery, defaultProbe)
	if c.policy == nil {
		c.policy = newRestartPolicy
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Event == nil {
		c.Event = func(Event) {}
	}
	if c.Ready == nil {
		c.Ready = func(context.Context, *Starting) error { return nil }
	}
	if c.Detach == nil {
		c.Detach = func(*Handler) {}
	}
	return c
}

// Defaults of Config that an operator's help shows.
const (
	DefaultMemory    = 1 << 30
	DefaultProcesses = 512
	DefaultOpenFiles = 1024
)

const (
	// maxMaxPayload keeps messages within gRPC's 32-bit lengths.
	maxMaxPayload = 1 << 30
	// maxMaxCalls leaves room for calls that don't end with their caller.
	maxMaxCalls = handlerpb.MaxOpenCalls / 2
)

func (c *Config) validate() error {
	var errs []error
	bad := func(cond bool, format string, args ...any) {
		if cond {
			errs = append(errs, fmt.Errorf("plugin: "+format, args...))
		}
	}
	bad(c.StateDir == "", "Config.StateDir is empty")
	bad(c.Attach == nil, "Config.Attach is nil")
	bad(c.MaxPayload < 1 || c.MaxPayload > maxMaxPayload, "max-payload is %d, 1 to %d allowed", c.MaxPayload, maxMaxPayload)
	bad(c.MaxCalls < 1 || c.MaxCalls > maxMaxCalls, "handler-max-calls is %d, 1 to %d allowed", c.MaxCalls, maxMaxCalls)
	bad(c.MaxQueue < 0 || c.MaxQueue > 1<<20, "handler-max-queue is %d, 0 to %d allowed", c.MaxQueue, 1<<20)
	bad(c.StartParallel < 1, "Config.StartParallel is %d, at least 1 expected", c.StartParallel)
	bad(c.StartTimeout < 0, "handler-start-timeout is %s", c.StartTimeout)
	bad(c.DrainTimeout < 0, "handler-drain-timeout is %s", c.DrainTimeout)
	bad(c.SwapTimeout < 0, "handler-swap-timeout is %s", c.SwapTimeout)
	bad(c.RestartWait < 0, "handler-restart-wait is %s", c.RestartWait)
	info, err := os.Stat(c.Dir)
	switch {
	case c.Dir == "":
		bad(true, "Config.Dir is empty")
	case err != nil:
		bad(true, "the plugin directory can't be read; make it, or name another one: %w", err)
	default:
		bad(!info.IsDir(), "the plugin directory %s is a file", c.Dir)
	}
	errs = append(errs, c.validateSandbox())
	return errors.Join(errs...)
}
