package main

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/parley-p2p/parley/node/control"
)

// complete offers what f says of a running node's handlers; nothing where none
// runs. A file name is never what is asked for.
func (c *cli) complete(f func(args []string, h *control.HandlerStatus) []string) cobra.CompletionFunc {
	return c.offer(func(ctx context.Context, n *control.Client, args []string) (names []string, _ error) {
		s, err := n.Status(ctx)
		for i := range s.Handlers {
			names = append(names, f(args, &s.Handlers[i])...)
		}
		return names, err
	})
}

// offer offers what f says of a running node.
func (c *cli) offer(f func(ctx context.Context, n *control.Client, args []string) ([]string, error)) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, begun string) (found []string, _ cobra.ShellCompDirective) {
		ask := func(ctx context.Context, n *control.Client) error {
			names, err := f(ctx, n, args)
			for _, name := range names {
				if strings.HasPrefix(name, begun) {
					found = append(found, cleanLine(name))
				}
			}
			return err
		}
		if err := c.connected(cmd.Context(), localTimeout, ask); err != nil {
			cobra.CompDebugln(err.Error(), false)
		}
		return found, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeDNA offers the DNAs for a command's first argument.
func completeDNA(args []string, h *control.HandlerStatus) []string {
	if len(args) == 0 {
		return []string{h.DNA}
	}
	return nil
}

// completeFunction offers the DNAs, then the functions of the one that was named.
func completeFunction(args []string, h *control.HandlerStatus) []string {
	if len(args) == 1 && (h.DNA == args[0] || h.Hash.String() == args[0]) {
		return h.Functions
	}
	return completeDNA(args, h)
}

// pluginNames offers the files of the plugin directory and their DNAs for a
// command's only argument.
func pluginNames(ctx context.Context, n *control.Client, args []string) (names []string, _ error) {
	if len(args) > 0 {
		return nil, nil
	}
	list, err := n.Plugins(ctx)
	for _, p := range list {
		names = append(names, p.File)
		if p.DNA != "" {
			names = append(names, p.DNA)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), err
}

// completeNothing is for arguments that only the user knows.
func completeNothing([]string, *control.HandlerStatus) []string { return nil }
