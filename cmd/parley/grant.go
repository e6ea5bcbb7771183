package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
)

func (c *cli) grantCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "grant",
		Short: "Let other agents call functions of this agent's DNAs",
		Long: `A grant lets other agents call functions of this agent's DNA, as if they were its
own clients. It stands on the source chain, as a private entry, and holds until it
expires, its uses are spent, or it is revoked, which is effective at once.`,
		Example: "  parley grant add auction --to agent1… --function highest --expires 24h --data bob\n  parley grant list auction --data bob",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(c.grantAddCommand(), c.grantListCommand(), c.grantRevokeCommand())
	return cmd
}

// grantFlags are what a grant is made of on the command line.
type grantFlags struct {
	to, functions              []string
	expires                    time.Duration
	uses, input                int
	rate                       string
	transferable, unrestricted bool
}

func (f *grantFlags) grant(now time.Time) (g sdk.Grant, err error) {
	g = sdk.Grant{Kind: sdk.GrantAssigned, Functions: f.functions, Uses: f.uses, MaxPayload: f.input}
	switch {
	case f.transferable && f.unrestricted, (f.transferable || f.unrestricted) && len(f.to) > 0:
		return g, usagef("a grant is --to agents, or --transferable, or --unrestricted")
	case f.transferable:
		g.Kind = sdk.GrantTransferable
	case f.unrestricted:
		g.Kind = sdk.GrantUnrestricted
	case len(f.to) == 0:
		return g, usagef("name those it is for with --to, or make it --transferable or --unrestricted")
	}
	if g.Agents, err = agentArgs(f.to); err != nil {
		return g, err
	}
	if f.expires < 0 {
		return g, usagef("--expires: %s has passed already", f.expires)
	}
	if f.expires > 0 {
		g.Expires = now.Add(f.expires)
	}
	if f.rate != "" {
		if g.Rate, err = parseRate(f.rate); err != nil {
			return g, err
		}
	}
	if err := g.Check(); err != nil {
		return g, usagef("%w", err)
	}
	return g, nil
}

// parseRate reads "10/1m": ten in each minute.
func parseRate(s string) (r sdk.Rate, err error) {
	n, per, ok := strings.Cut(s, "/")
	if r.N, err = strconv.Atoi(n); ok && err == nil {
		r.Per, err = time.ParseDuration(per)
	}
	if !ok || err != nil || r.N <= 0 || r.Per <= 0 {
		return r, usagef("--rate: %q; such as 10/1m, ten calls in each minute", s)
	}
	return r, nil
}

func agentArgs(texts []string) (agents []sdk.AgentID, err error) {
	for _, s := range texts {
		a, err := sdk.ParseAgentID(s)
		if err != nil {
			return nil, usagef("%w", err)
		}
		agents = append(agents, a)
	}
	return agents, nil
}

func hashArg(s string) (sdk.Hash, error) {
	h, err := sdk.ParseHash(s)
	if err != nil {
		return h, usagef("%w", err)
	}
	return h, nil
}

// grantMade is what grant add prints.
type grantMade struct {
	Grant sdk.Hash `json:"grant"`
	Claim string   `json:"claim"`
}

func (c *cli) grantAddCommand() *cobra.Command {
	var f grantFlags
	cmd := &cobra.Command{
		Use:   "add DNA",
		Short: "Make a grant",
		Long: `Makes a grant and prints its name and its claim. Agents named by --to are told by
the node and can call at once. Whoever has the claim of a --transferable grant can
use it: pass it on as you would a password; it is shown this once. What is not
limited is not limited.`,
		Example: `  parley grant add auction --to agent1… --function highest --uses 100 --data bob
  parley grant add auction --transferable --function highest --expires 24h --rate 10/1m --data bob`,
		Args:              argsBetween(1, 1),
		ValidArgsFunction: c.complete(completeDNA),
		RunE: func(cmd *cobra.Command, args []string) error {
			g, err := f.grant(time.Now())
			if err != nil {
				return err
			}
			return c.connected(cmd.Context(), localTimeout, func(ctx context.Context, n *control.Client) error {
				claim, err := n.AddGrant(ctx, args[0], g)
				if err != nil {
					return err
				}
				made := grantMade{claim.Grant, claim.Text()}
				if c.json {
					return c.printJSON(made)
				}
				return c.print(fmt.Sprintf("grant  %s\nclaim  %s\n", made.Grant, made.Claim))
			})
		},
	}
	p := cmd.Flags()
	p.StringSliceVar(&f.to, "to", nil, "agent that it is for; may be repeated")
	p.StringSliceVar(&f.functions, "function", nil, "function that may be called; may be repeated; none: all")
	p.DurationVar(&f.expires, "expires", 0, "how long it holds, such as 24h; 0: until it is revoked")
	p.IntVar(&f.uses, "uses", 0, "how many calls in all; 0: any number")
	p.StringVar(&f.rate, "rate", "", "how many calls in each time, such as 10/1m")
	p.IntVar(&f.input, "input-limit", 0, "largest input of a call, in bytes; 0: what the node takes")
	p.BoolVar(&f.transferable, "transferable", false, "for whoever has its claim")
	p.BoolVar(&f.unrestricted, "unrestricted", false, "for everybody")
	return cmd
}

func (c *cli) grantListCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "list DNA",
		Short:             "List the grants that were not revoked",
		Example:           "  parley grant list auction --data bob",
		Args:              argsBetween(1, 1),
		ValidArgsFunction: c.complete(completeDNA),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.connected(cmd.Context(), localTimeout, func(ctx context.Context, n *control.Client) error {
				list, err := n.Grants(ctx, args[0])
				if err != nil {
					return err
				}
				if c.json {
					for i := range list {
						list[i].Agents, list[i].Functions = listed(list[i].Agents), listed(list[i].Functions)
					}
					return c.printJSON(listed(list))
				}
				t := newTable("GRANT", "FOR", "FUNCTIONS", "EXPIRES", "USES", "RATE", "INPUT")
				for i := range list {
					g := &list[i]
					t.row(g.ID.String(), forText(g), functionsText(g.Functions), expiresText(g.Expires, g.Expired), usesText(g), rateText(g), numberOr(g.MaxPayload, "-"))
				}
				return c.print(t.String())
			})
		},
	}
}

func forText(g *control.Grant) string {
	switch {
	case len(g.Agents) == 0:
		return g.Kind
	case len(g.Agents) == 1:
		return g.Agents[0].Short() + "…"
	}
	return fmt.Sprintf("%s… and %d more", g.Agents[0].Short(), len(g.Agents)-1)
}

func functionsText(list []string) string {
	if len(list) == 0 {
		return "all"
	}
	return strings.Join(list, ",")
}

func expiresText(t time.Time, expired bool) string {
	if expired {
		return clock(t) + " (over)"
	}
	return clock(t)
}

func usesText(g *control.Grant) string {
	if g.Uses == 0 {
		return "-"
	}
	return fmt.Sprintf("%d of %d", g.Used, g.Uses)
}

func rateText(g *control.Grant) string {
	if g.Rate == 0 {
		return "-"
	}
	return fmt.Sprintf("%d/%s", g.Rate, g.Per)
}

func numberOr(n int, none string) string {
	if n == 0 {
		return none
	}
	return fmt.Sprint(n)
}

func (c *cli) grantRevokeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "revoke DNA GRANT",
		Short: "End a grant, at once",
		Long: `Ends a grant: no call that it would let in begins from then on; those that run go
on. Those that it is for, and those that have used it, are told.`,
		Example:           "  parley grant revoke auction hash1… --data bob",
		Args:              argsBetween(2, 2),
		ValidArgsFunction: c.complete(completeDNA),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := hashArg(args[1])
			if err != nil {
				return err
			}
			return c.connected(cmd.Context(), localTimeout, func(ctx context.Context, n *control.Client) error {
				return n.RevokeGrant(ctx, args[0], id)
			})
		},
	}
}
