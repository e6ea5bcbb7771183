package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/parley-p2p/parley/node/control"
)

// complete offers what f says of a running node's handlers; nothing where none
// runs. A file name is never what is asked for.
func (c *cli) complete(f func(args []string, h *control.HandlerStatus) []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, begun string) (found []string, _ cobra.ShellCompDirective) {
		ask := func(ctx context.Context, n *control.Client) error {
			s, err := n.Status(ctx)
			for i := range s.Handlers {
				for _, name := range f(args, &s.Handlers[i]) {
					if strings.HasPrefix(name, begun) {
						found = append(found, cleanLine(name))
					}
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

// completeNothing is for arguments that only the user knows.
func completeNothing([]string, *control.HandlerStatus) []string { return nil }
