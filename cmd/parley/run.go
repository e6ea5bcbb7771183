package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/parley-p2p/parley/node"
)

// runFlags are the settings of a node, as flags hold them.
type runFlags struct {
	plugins    string
	pinnedOnly bool
	debug      bool
	listen     string
	advertise  []string
	bootstrap  []string
	network    string
	deadline   time.Duration
	maxPayload int
	resendFor  time.Duration
	sessions   int
	limits     node.Limits
	sandbox    node.Sandbox
	logLevel   string
	logJSON    bool
}

func (c *cli) runCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the node until it is interrupted",
		Long: `Runs the node of the data directory; the agent's key is made at the first start.
SIGINT and SIGTERM stop it in order: calls end, chains close. A second one ends
it at once. The log goes to stderr.

Settings can stand in the data directory's parley.toml, by their flags' names:

  plugins = "plugins"                  # paths are relative to this file
  bootstrap = ["agent1…@192.0.2.1:7480"]
  max-payload = 1048576
  [dna.auction]                        # part of the DNA's hash
  network-seed = "friends"
  properties = { deliberate = "5s" }   # a table, or a string of JSON
  [handler."auction"]                  # a file of the plugin directory
  grant = ["network"]                  # beyond its sandbox: docs/handlers.md`,
		Example: `  parley run --data bob --plugins plugins --listen 127.0.0.1:7481
  parley run --data alice --plugins plugins --listen 127.0.0.1:7482 \
      --bootstrap $(parley id --data bob)@127.0.0.1:7481`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.runNode(cmd, &f) },
	}
	p := cmd.Flags()
	p.StringVar(&f.plugins, "plugins", "", "directory of the handlers' binaries; none: no handlers")
	p.BoolVar(&f.pinnedOnly, "pinned-only", false, "start only binaries that parley plugin pin has pinned")
	p.BoolVar(&f.debug, "handler-debug", false, "for debuggers: don't end handlers that stand still, and give calls 10 minutes")
	p.StringVar(&f.listen, "listen", node.DefaultListen, `TCP address to listen on, HOST:PORT; port 0: any free one; "none": don't listen`)
	p.StringSliceVar(&f.advertise, "advertise", nil, "addresses to publish instead of those found out, IP:PORT")
	p.StringSliceVar(&f.bootstrap, "bootstrap", nil, "nodes through which to enter the network, AGENT@HOST:PORT")
	p.StringVar(&f.network, "network", node.DefaultNetwork, "name of the network; nodes of another one don't hear this one")
	p.DurationVar(&f.deadline, "deadline", node.DefaultDeadline, "how long a call or a send may take that states no deadline")
	p.IntVar(&f.maxPayload, "max-payload", node.DefaultMaxPayload, "largest payload and reply, in bytes")
	p.DurationVar(&f.resendFor, "resend-for", node.DefaultResendFor, "how long a message is sent again whose session broke")
	p.IntVar(&f.sessions, "max-sessions", node.DefaultMaxSessions, "sessions with other nodes")
	limitFlags(p, &f.limits)
	sandboxFlags(p, &f.sandbox)
	p.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	p.BoolVar(&f.logJSON, "log-json", false, "log JSON lines")
	return cmd
}

func (c *cli) runNode(cmd *cobra.Command, f *runFlags) error {
	dir, err := c.dataDir()
	if err != nil {
		return err
	}
	file, err := readSettings(dir)
	if err != nil {
		return err
	}
	if err := applyFile(cmd.Flags(), settingsFile, file.flags()); err != nil {
		return err
	}
	if dir, err = filepath.Abs(dir); err != nil { // parley status shows it, from anywhere
		return fmt.Errorf("data directory: %w", err)
	}
	cfg, err := f.config(cmd.Flags(), dir, c.errOut)
	if err != nil {
		return err
	}
	if cfg.DNAs, err = file.dnas(); err != nil {
		return err
	}
	cfg.Sandbox.Grants = file.grants()
	if err := node.Harden(); err != nil {
		cfg.Log.Warn("other processes of this user may look into this one's memory", "error", err)
	}
	collectLess()
	if f.debug {
		cfg.Log.Warn("handlers may stand still for a debugger; this is no way to run a node for others", "setting", "handler-debug")
	}
	n, err := node.New(cfg)
	if err != nil {
		return runError(err, f.listen)
	}
	ctx, stop := stoppable(cmd.Context(), func() {
		cfg.Log.Info("stopping; a second signal ends the node at once")
	})
	defer stop()
	announceCtx, stopAnnounce := context.WithCancel(ctx)
	announced := make(chan struct{})
	go func() {
		defer close(announced)
		announce(announceCtx, n, cfg.Log)
	}()
	err = n.Run(ctx)
	stopAnnounce()
	<-announced
	if err != nil {
		return runError(err, f.listen)
	}
	cfg.Log.Info("node stopped")
	return nil
}

// runError adds what to do to errors of which the node can't know it.
// collectLess trades memory for time: a node's heap is a few MiB, which the
// default of 100 has collected all the time, for a sixth of the processor time
// of a message. GOGC in the environment goes before it.
func collectLess() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
}

func runError(err error, listen string) error {
	var config *node.ConfigError
	var op *net.OpError
	switch {
	case errors.As(err, &config):
		return &usageError{err}
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%w: end the program that uses %s, or choose another port with --listen; port 0 takes any free one", err, listen)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%w: this machine has no such address; choose one with --listen that it has, and tell others another one with --advertise", err)
	case errors.Is(err, syscall.EACCES) && errors.As(err, &op) && op.Op == "listen":
		return fmt.Errorf("%w: a port below 1024 needs a privilege; choose another one with --listen", err)
	}
	return err
}

// debugDeadline is the longest that a node takes: somebody steps through the call.
const debugDeadline = 10 * time.Minute

// config checks all flags and tells all that is wrong.
func (f *runFlags) config(flags *pflag.FlagSet, dir string, errOut io.Writer) (node.Config, error) {
	cfg := node.Config{DataDir: dir, PluginDir: f.plugins, PinnedOnly: f.pinnedOnly, DebugHandlers: f.debug, Listen: f.listen, Network: f.network,
		Deadline: f.deadline, ResendFor: f.resendFor, MaxPayload: f.maxPayload, MaxSessions: f.sessions, Limits: f.limits, Sandbox: f.sandbox}
	if f.debug && !flags.Changed("deadline") {
		cfg.Deadline = debugDeadline
	}
	if f.listen == "none" {
		cfg.Listen = ""
	}
	var errs []error
	for _, s := range f.bootstrap {
		p, err := node.ParsePeer(strings.TrimSpace(s))
		if err != nil {
			errs = append(errs, fmt.Errorf("--bootstrap: %w", err))
			continue
		}
		cfg.Bootstrap = append(cfg.Bootstrap, p)
	}
	for _, s := range f.advertise {
		a, err := netip.ParseAddrPort(strings.TrimSpace(s))
		if err != nil {
			errs = append(errs, fmt.Errorf("--advertise: %w", err))
			continue
		}
		cfg.Advertise = append(cfg.Advertise, a)
	}
	level, err := levelOf(f.logLevel)
	errs = append(errs, err)
	if f.network == "" {
		errs = append(errs, errors.New("--network: an empty name"))
	}
	errs = append(errs, notPositive(flags)...)
	if err := errors.Join(errs...); err != nil {
		return cfg, &usageError{err}
	}
	cfg.Log = newLog(errOut, level, f.logJSON)
	return cfg, nil
}

func levelOf(name string) (level slog.Level, err error) {
	switch name {
	case "debug", "info", "warn", "error":
		return level, level.UnmarshalText([]byte(name))
	}
	return level, fmt.Errorf("--log-level: %q is none of debug, info, warn, error", name)
}

// newLog writes lines for people, or JSON. Both quote control characters.
func newLog(w io.Writer, level slog.Level, asJSON bool) *slog.Logger {
	if asJSON {
		return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level}))
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				a.Value = slog.StringValue(a.Value.Time().Format("15:04:05.000"))
			}
			return a
		}}))
}
