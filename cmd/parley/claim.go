package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
)

// maxClaimText is more than any claim has.
const maxClaimText = 8 << 10

func (c *cli) claimCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "claim",
		Short: "See and keep grants of other agents",
		Long: `A claim is another agent's grant as its holder knows it. Grants that are assigned
to this agent come by themselves; those that are passed on as text are added. The
node chooses a claim for a call by itself.`,
		Example: "  parley claim list auction --data alice\n  parley claim add auction claim1… --data alice",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(c.claimListCommand(), c.claimAddCommand(), c.claimRemoveCommand())
	return cmd
}

func (c *cli) claimListCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "list DNA",
		Short:             "List the claims that are held",
		Example:           "  parley claim list auction --data alice",
		Args:              argsBetween(1, 1),
		ValidArgsFunction: c.complete(completeDNA),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.connected(cmd.Context(), localTimeout, func(ctx context.Context, n *control.Client) error {
				list, err := n.Claims(ctx, args[0])
				if err != nil {
					return err
				}
				if c.json {
					for i := range list {
						list[i].Functions = listed(list[i].Functions)
					}
					return c.printJSON(listed(list))
				}
				t := newTable("GRANTOR", "GRANT", "FUNCTIONS", "EXPIRES", "FROM", "STATE")
				for i := range list {
					k := &list[i]
					from := "added"
					if k.Told {
						from = "told"
					}
					t.row(k.Grantor.Short()+"…", k.Grant.String(), functionsText(k.Functions), expiresText(k.Expires, false), from, orDash(k.Refused))
				}
				return c.print(t.String())
			})
		},
	}
}

func (c *cli) claimAddCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "add DNA CLAIM",
		Short: "Keep a claim that was passed on",
		Long: `Keeps a claim that was passed on as text, and prints the grant's name. - reads it
from stdin, so that it stands in no list of processes.`,
		Example:           "  parley claim add auction claim1… --data alice\n  parley claim add auction - --data alice < claim",
		Args:              argsBetween(2, 2),
		ValidArgsFunction: c.complete(completeDNA),
		RunE: func(cmd *cobra.Command, args []string) error {
			text := args[1]
			if text == "-" {
				b, err := io.ReadAll(io.LimitReader(c.in, maxClaimText))
				if err != nil {
					return fmt.Errorf("read stdin: %w", err)
				}
				text = strings.TrimSpace(string(b))
			}
			claim, err := sdk.ParseClaim(text)
			if err != nil {
				return usagef("%w", err)
			}
			return c.connected(cmd.Context(), localTimeout, func(ctx context.Context, n *control.Client) error {
				if err := n.AddClaim(ctx, args[0], claim); err != nil {
					return err
				}
				if c.json {
					return c.printJSON(claimAdded{claim.Grant, claim.Grantor})
				}
				return c.print(claim.Grant.String() + "\n")
			})
		},
	}
}

// claimAdded is what claim add prints.
type claimAdded struct {
	Grant   sdk.Hash    `json:"grant"`
	Grantor sdk.AgentID `json:"grantor"`
}

func (c *cli) claimRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "remove DNA GRANT",
		Short:             "Let the claim of a grant go",
		Example:           "  parley claim remove auction hash1… --data alice",
		Args:              argsBetween(2, 2),
		ValidArgsFunction: c.complete(completeDNA),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := hashArg(args[1])
			if err != nil {
				return err
			}
			return c.connected(cmd.Context(), localTimeout, func(ctx context.Context, n *control.Client) error {
				return n.RemoveClaim(ctx, args[0], id)
			})
		},
	}
}
