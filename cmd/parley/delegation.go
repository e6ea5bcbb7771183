package main

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
)

func (c *cli) delegationCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "delegation",
		Short: "See and revoke what other agents may do in this one's name",
		Long: `A delegation lets another agent send messages and call functions in this agent's
name. Handlers make them; they stand on the source chain, as private entries, and
hold until they expire or are revoked, which everybody honours within a minute.`,
		Example: "  parley delegation list auction --data alice",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(c.delegationListCommand(), c.delegationRevokeCommand(), c.delegationShowCommand())
	return cmd
}

func (c *cli) delegationListCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "list DNA",
		Short:             "List the delegations that have not expired",
		Example:           "  parley delegation list auction --data alice",
		Args:              argsBetween(1, 1),
		ValidArgsFunction: c.complete(completeDNA),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.connected(cmd.Context(), localTimeout, func(ctx context.Context, n *control.Client) error {
				list, err := n.Delegations(ctx, args[0])
				if err != nil {
					return err
				}
				if c.json {
					return c.printJSON(listed(list))
				}
				t := newTable("DELEGATION", "TO", "FUNCTIONS", "MESSAGES", "EXPIRES", "DEPTH", "REVOKED")
				for i := range list {
					l, err := list[i].Link()
					if err != nil {
						return err
					}
					t.row(list[i].ID.String(), l.To.String(), linkFunctions(&l), yesNo(l.Messages), l.Expires.Format(time.RFC3339), fmt.Sprint(l.Depth), yesNo(list[i].Revoked))
				}
				return c.print(t.String())
			})
		},
	}
}

func (c *cli) delegationRevokeCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "revoke DNA DELEGATION",
		Short:             "End a delegation, for everybody",
		Example:           "  parley delegation revoke auction hash1… --data alice",
		Args:              argsBetween(2, 2),
		ValidArgsFunction: c.complete(completeDNA),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := sdk.ParseHash(args[1])
			if err != nil {
				return usagef("DELEGATION: %w", err)
			}
			return c.connected(cmd.Context(), localTimeout, func(ctx context.Context, n *control.Client) error {
				return n.RevokeDelegation(ctx, args[0], id)
			})
		},
	}
}

// proofBytes is a proof that is raw, hexadecimal or base64. A raw one begins with its
// version, which no text does.
func proofBytes(b []byte) []byte {
	text := strings.Join(strings.Fields(string(b)), "")
	if raw, err := hex.DecodeString(text); err == nil {
		return raw
	}
	if raw, err := base64.StdEncoding.DecodeString(text); err == nil {
		return raw
	}
	return b
}

func (c *cli) delegationShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show FILE",
		Short: "Show a proof, and check what can be checked offline",
		Long: `Shows each delegation of a proof (- is stdin; raw, hexadecimal, or base64 as JSON
has it) and checks its signatures, times and narrowing. No node need run. Whether
one was revoked only those can tell who ask the network.`,
		Example: "  parley delegation show proof.bin\n  parley delegation list auction --json --data alice | jq -r '.[0].proof' | parley delegation show -",
		Args:    argsBetween(1, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			r, err := c.openExport(args[0])
			if err != nil {
				return err
			}
			defer r.Close()
			b, err := io.ReadAll(io.LimitReader(r, 2*sdk.MaxProof+64))
			if err != nil {
				return err
			}
			b = proofBytes(b)
			links, err := sdk.Proof(b).Links()
			if err != nil {
				return err
			}
			if err := c.print(linksText(links)); err != nil {
				return err
			}
			return sdk.Proof(b).Check(time.Now())
		},
	}
}

// linksText shows a chain of delegations.
func linksText(links []sdk.Link) string {
	var b strings.Builder
	for i := range links {
		l := &links[i]
		fmt.Fprintf(&b, "%d  %s\n   from %s\n   to   %s\n   functions %s, messages %s, depth %d, expires %s\n", i+1, l.ID(), l.From, l.To,
			linkFunctions(l), yesNo(l.Messages), l.Depth, l.Expires.Format(time.RFC3339))
		if !l.NotBefore.IsZero() {
			fmt.Fprintf(&b, "   not before %s\n", l.NotBefore.Format(time.RFC3339))
		}
		if l.Uses > 0 || l.Rate.N > 0 || l.MaxPayload > 0 {
			fmt.Fprintf(&b, "   uses %s, rate %d in %s, payload %s (0 and -: no limit)\n", numberOr(l.Uses, "-"), l.Rate.N, l.Rate.Per, numberOr(l.MaxPayload, "-"))
		}
		for _, a := range l.Agents {
			fmt.Fprintf(&b, "   with %s\n", a)
		}
	}
	return b.String()
}

func linkFunctions(l *sdk.Link) string {
	switch {
	case l.All:
		return "all"
	case len(l.Functions) == 0:
		return "none"
	}
	return strings.Join(l.Functions, ",")
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
