package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/parley-p2p/parley/node/control"
)

// cli is what the commands share.
type cli struct {
	in          io.Reader
	out, errOut io.Writer

	// global flags
	data string
	json bool
}

const exitHelp = `Exit codes: 0 done; 1 failed; 2 wrong usage or input; 3 no node is running on
the data directory; 10 and above, an error of the message cycle:
11 unknown agent, 12 unreachable, 13 refused, 14 no handler, 15 busy,
16 too large, 17 timeout, 18 canceled, 19 handler failed, 20 handler crashed,
21 chain moved, 22 outcome unknown.

Every flag can also be set by the environment: --max-payload by
PARLEY_MAX_PAYLOAD. A flag goes before the environment, the environment before
the data directory's parley.toml.`

func (c *cli) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "parley",
		Short: "Messages between agents, straight from node to node",
		Long: `parley runs a node for one agent, and operates it: every command but demo and
version finds its node by the same --data directory.

` + exitHelp,
		Example: `  parley init --data alice
  parley run --data alice --plugins plugins --listen 127.0.0.1:7482
  parley status --data alice`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          noArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return applyEnvironment(cmd.Flags(), os.LookupEnv)
		},
	}
	root.SetIn(c.in)
	root.SetOut(c.out)
	root.SetErr(c.errOut)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	f := root.PersistentFlags()
	f.StringVar(&c.data, "data", defaultDataDir(), "the node's data directory")
	if err := root.MarkPersistentFlagDirname("data"); err != nil {
		panic(err) // there is no such flag
	}
	f.BoolVar(&c.json, "json", false, "print JSON, errors included")
	root.AddCommand(c.initCommand(), c.runCommand(), c.idCommand(), c.callCommand(), c.watchCommand(), c.pingCommand(), c.onlineCommand(),
		c.lookupCommand(), c.statusCommand(), c.pluginCommand(), c.chainCommand(), c.grantCommand(), c.claimCommand(), c.delegationCommand(), c.blockCommand(),
		c.allowCommand(), c.limitsCommand(), c.dhtCommand(), c.demoCommand(), c.devCommand(), c.versionCommand())
	return root
}

// defaultDataDir follows the XDG base directory specification; empty if there
// is no home either.
func defaultDataDir() string {
	if d := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "parley")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".local", "share", "parley")
}

func (c *cli) dataDir() (string, error) {
	if c.data == "" {
		return "", usagef("no data directory: name one with --data")
	}
	return c.data, nil
}

// connected runs f with a client of the node, under a deadline if there is one.
func (c *cli) connected(ctx context.Context, timeout time.Duration, f func(context.Context, *control.Client) error) (err error) {
	dir, err := c.dataDir()
	if err != nil {
		return err
	}
	client, err := control.Dial(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	ctx, stop := interruptible(ctx)
	defer stop()
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	return f(ctx, client)
}

// The argument checks of cobra, as usage errors.

func noArgs(cmd *cobra.Command, args []string) error { return argsBetween(0, 0)(cmd, args) }

func argsBetween(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) > most && cmd.HasSubCommands():
			return usagef("%q is no command of %s; see %s --help", args[0], cmd.CommandPath(), cmd.CommandPath())
		case len(args) < least || len(args) > most:
			return usagef("%d arguments given; usage: %s", len(args), cmd.UseLine())
		}
		return nil
	}
}
