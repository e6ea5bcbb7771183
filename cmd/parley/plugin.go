package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/parley-p2p/parley/node"
	"github.com/parley-p2p/parley/node/control"
)

func (c *cli) pluginCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "plugin",
		Short: "Begin a DNA; see, restart and pin the handlers of the plugin directory",
		Long: `The plugin directory is live: a binary that is put into it is started, and one
that replaces another takes its place without a call being lost. A new binary
that does worse is taken back by itself. These commands show what became of it.`,
		Example: "  parley plugin status --data alice\n  parley plugin events --follow --data alice",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(c.pluginNewCommand(), c.pluginStatusCommand(), c.pluginRestartCommand(), c.pluginEventsCommand(), c.pinCommand())
	return cmd
}

func (c *cli) pluginStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status [NAME]",
		Short: "Show every file of the plugin directory, or those of a name",
		Long: `Shows every file of the plugin directory: its process and binary, the calls, what
is held against a new binary. NAME is a file or a DNA.`,
		Example:           "  parley plugin status --data alice\n  parley plugin status auction --data alice --json",
		Args:              argsBetween(0, 1),
		ValidArgsFunction: c.offer(pluginNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.connected(cmd.Context(), localTimeout, func(ctx context.Context, n *control.Client) error {
				list, err := n.Plugins(ctx)
				if err == nil && len(args) == 1 {
					list, err = pluginsNamed(list, args[0])
				}
				if err != nil {
					return err
				}
				if c.json {
					return c.printJSON(pluginLists(list))
				}
				return c.print(pluginsText(list, time.Now()))
			})
		},
	}
}

// pluginsNamed are those of a file or a DNA.
func pluginsNamed(list []control.PluginStatus, name string) (found []control.PluginStatus, err error) {
	for _, p := range list {
		if p.File == name || p.DNA == name {
			found = append(found, p)
		}
	}
	if found == nil {
		return nil, usagef("no handler %q: neither a file of the plugin directory nor a DNA; parley plugin status shows all", name)
	}
	return found, nil
}

// pluginLists has an empty list for each that is nil, as withLists.
func pluginLists(list []control.PluginStatus) []control.PluginStatus {
	out := listed([]control.PluginStatus(nil))
	for _, p := range list {
		p.Draining, p.Quarantined, p.Layers = listed(p.Draining), listed(p.Quarantined), listed(p.Layers)
		out = append(out, p)
	}
	return out
}

func (c *cli) pluginRestartCommand() *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "restart NAME",
		Short: "Start what lies in the plugin directory anew",
		Long: `Starts what lies in the plugin directory anew, for a file or a DNA, and forgets
what is held against it: crashes, quarantine. The new process takes over when it
is ready; until then, and if it is not taken, the one before it goes on. It waits
until that has come to an end.`,
		Example:           "  parley plugin restart auction --data alice",
		Args:              argsBetween(1, 1),
		ValidArgsFunction: c.offer(pluginNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkTimeout(timeout); err != nil {
				return err
			}
			return c.connected(cmd.Context(), timeout, func(ctx context.Context, n *control.Client) error {
				if err := n.RestartPlugin(ctx, args[0]); err != nil {
					return err
				}
				list, err := n.Plugins(ctx)
				if err == nil {
					list, err = pluginsNamed(list, args[0])
				}
				if err != nil {
					return fmt.Errorf("it was restarted, but how it is now could not be found out: %w", err)
				}
				if c.json {
					return c.printJSON(pluginLists(list))
				}
				return c.print(outcomeText(list))
			})
		},
	}
	timeoutFlag(cmd.Flags(), &timeout, node.DefaultDeadline)
	return cmd
}

var errNodeStopped = fmt.Errorf("the node has stopped: %w", control.ErrNotRunning)

func (c *cli) pluginEventsCommand() *cobra.Command {
	var q control.EventQuery
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Show what happened to handlers",
		Long: `Shows what happened to handlers since the node's start, one line for each event;
the node keeps the last 256. With --follow it goes on until Ctrl-C, or until the
node stops, which is exit code 3.`,
		Example: "  parley plugin events --data alice\n  parley plugin events --follow --json --data alice",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			timeout := localTimeout
			if q.Follow {
				timeout = 0
			}
			return c.connected(cmd.Context(), timeout, func(ctx context.Context, n *control.Client) error {
				err := n.PluginEvents(ctx, q, c.eventPrinter())
				switch {
				case q.Follow && errors.Is(ctx.Err(), context.Canceled):
					return nil // Ctrl-C is how it ends
				case q.Follow && err == nil:
					return errNodeStopped
				}
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&q.Follow, "follow", false, "go on with the events to come")
	return cmd
}

// eventPrinter prints each event as it comes.
func (c *cli) eventPrinter() func(control.PluginEvent) error {
	var last uint64
	return func(e control.PluginEvent) error {
		missed := e.Seq - last - 1
		last = e.Seq
		if c.json {
			return c.printJSON(e)
		}
		if missed > 0 {
			fmt.Fprintf(c.errOut, "%d events are no longer kept\n", missed)
		}
		return c.print(eventLine(&e))
	}
}
