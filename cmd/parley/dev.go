package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/parley-p2p/parley/cmd/parley/internal/dev"
	"github.com/parley-p2p/parley/node"
)

// devFlags are the settings of a development network.
type devFlags struct {
	nodes       int
	data        string
	seed, props string
	debug       bool
	logLevel    string
}

func (c *cli) devCommand() *cobra.Command {
	var f devFlags
	cmd := &cobra.Command{
		Use:   "dev DIRECTORY|PACKAGE",
		Short: "Run a private network of nodes for a DNA, and swap it when its source is saved",
		Long: `Builds a DNA with go build and runs it on two or more nodes of a network of their
own on loopback: alice, bob, carol and so on. Whenever one of its sources is saved
it is built again and takes the place of the one that runs, on every node, without
a call being lost. What does not build or start leaves the one before in place.

Logs of nodes and handlers go to stderr, each line with its node's name; all else
goes to stdout. Lines of stdin are commands:

  NODE FUNCTION [JSON]   call a function; "@bob" in the JSON stands for bob's AgentID
  status                 the nodes and their handlers
  replace                take the handler away and start it anew: for a binary
                         that drops a function or changes its integrity version
  help, quit

The end of stdin ends it. If stdin is no terminal, lines run one after the other,
and the exit code is 1 if one of them failed; /dev/null is no input at all, and
its end ends nothing. Ctrl-C stops everything in order.`,
		Example: `  parley dev ./guestbook
  parley dev ./guestbook --nodes 3 --properties '{"limit": 5}'
  echo 'alice greet "@bob"' | parley dev ./examples/hello`,
		Args: argsBetween(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error { return c.dev(cmd, args[0], &f) },
	}
	f.define(cmd.Flags())
	return cmd
}

func (f *devFlags) define(p *pflag.FlagSet) {
	p.IntVar(&f.nodes, "nodes", dev.MinNodes, fmt.Sprintf("how many nodes, %d to %d", dev.MinNodes, dev.MaxNodes))
	p.StringVar(&f.data, "data", "", "keep the nodes' data in this directory (default: a temporary one, removed at the end)")
	p.StringVar(&f.seed, "network-seed", "", "the DNA's network seed")
	p.StringVar(&f.props, "properties", "", "the DNA's properties, JSON")
	p.BoolVar(&f.debug, "handler-debug", false, "build for a debugger, and let it hold handlers; tells their PIDs")
	p.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
}

func (c *cli) dev(cmd *cobra.Command, pkg string, f *devFlags) error {
	o, err := f.options(pkg)
	if err != nil {
		return err
	}
	o.In, o.Out, o.Err = c.in, c.out, c.errOut
	o.Input, o.Colour = inputOf(c.in), colourful(c.out, c.errOut)
	o.Line, o.JSON = cleanLine, func(b []byte) string { return cleanJSON(b) }
	collectLess()
	ctx, stop := stoppable(cmd.Context(), func() {
		fmt.Fprintln(c.errOut, "stopping; a second signal ends it at once")
	})
	defer stop()
	return devError(ctx, dev.Run(ctx, o))
}

func devError(ctx context.Context, err error) error {
	var config *node.ConfigError
	switch {
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return nil // stopped before anything ran
	case errors.As(err, &config), errors.Is(err, dev.ErrPackage), errors.Is(err, dev.ErrData):
		return &usageError{err}
	case err != nil:
		return fmt.Errorf("dev: %w", err)
	}
	return nil
}

func (f *devFlags) options(pkg string) (o dev.Options, err error) {
	var errs []error
	if f.nodes < dev.MinNodes || f.nodes > dev.MaxNodes {
		errs = append(errs, fmt.Errorf("--nodes: %d, %d to %d", f.nodes, dev.MinNodes, dev.MaxNodes))
	}
	level, err := levelOf(f.logLevel)
	errs = append(errs, err)
	o = dev.Options{Package: pkg, Nodes: f.nodes, Data: f.data, Debug: f.debug, DNA: node.DNASettings{NetworkSeed: f.seed},
		Log: func(w io.Writer) *slog.Logger { return newLog(w, level, false) }}
	if f.props != "" {
		if o.DNA.Properties, err = properties(f.props); err != nil {
			errs = append(errs, fmt.Errorf("--properties: %w", err))
		}
	}
	if f.debug {
		o.Timeout = debugDeadline
	}
	if err := errors.Join(errs...); err != nil {
		return o, &usageError{err}
	}
	return o, nil
}

// inputOf tells what stdin is.
func inputOf(in io.Reader) dev.Input {
	if !characterDevice(in) {
		return dev.Script
	}
	self, err := in.(*os.File).Stat()
	null, nullErr := os.Stat(os.DevNull)
	if err == nil && nullErr == nil && os.SameFile(self, null) {
		return dev.Nothing
	}
	return dev.Terminal
}

// colourful tells whether colours are wanted: on terminals, unless NO_COLOR is set.
func colourful(out ...io.Writer) bool {
	for _, w := range out {
		if !characterDevice(w) {
			return false
		}
	}
	return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

func characterDevice(v any) bool {
	f, ok := v.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
