package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
)

const peerTimeout = 20 * time.Second

// peerCommand is a command about one other agent.
func (c *cli) peerCommand(name, short, long string, ask func(context.Context, *control.Client, sdk.AgentID) error) *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: name + " AGENT", Short: short, Long: long,
		Example:           "  parley " + name + " --data alice $(parley id --data bob)",
		Args:              argsBetween(1, 1),
		ValidArgsFunction: c.complete(completeNothing),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkTimeout(timeout); err != nil {
				return err
			}
			agent, err := sdk.ParseAgentID(args[0])
			if err != nil {
				return &usageError{err}
			}
			return c.connected(cmd.Context(), timeout, func(ctx context.Context, n *control.Client) error {
				return ask(ctx, n, agent)
			})
		},
	}
	timeoutFlag(cmd.Flags(), &timeout, peerTimeout)
	return cmd
}

func (c *cli) pingCommand() *cobra.Command {
	return c.peerCommand("ping", "Measure one round trip to an agent",
		`Measures one round trip to an agent's node, over a session that it opens if there
is none. The answer proves the agent's key.`,
		func(ctx context.Context, n *control.Client, agent sdk.AgentID) error {
			p, err := n.Ping(ctx, agent)
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(p)
			}
			session := "new session"
			if p.Reused {
				session = "session reused"
			}
			return c.print(fmt.Sprintf("%s at %s: %s, %s, address from %s\n", agent, p.Address, took(p.Time), session, cleanLine(string(p.Source))))
		})
}

func (c *cli) lookupCommand() *cobra.Command {
	return c.peerCommand("lookup", "Find an agent's addresses, and by which route",
		`Finds an agent's addresses without connecting to them, and shows which nodes were
asked on the way.`,
		func(ctx context.Context, n *control.Client, agent sdk.AgentID) error {
			l, err := n.Lookup(ctx, agent)
			if err != nil {
				return err
			}
			if c.json {
				l.Addresses, l.Route = listed(l.Addresses), listed(l.Route)
				return c.printJSON(l)
			}
			return c.print(lookupText(l))
		})
}

func lookupText(l control.LookupResult) string {
	t := newTable()
	t.row("agent", l.Agent.String())
	t.row("addresses", addrList(l.Addresses))
	t.row("from", string(l.Source))
	if l.Seq != 0 {
		t.row("record", fmt.Sprintf("number %d, expires %s", l.Seq, clock(l.Expires)))
	}
	text := t.String()
	if len(l.Route) == 0 {
		return text
	}
	return text + "\n" + routeText(l.Route)
}

func routeText(route []control.RouteStep) string {
	t := newTable("HOP", "ASKED", "AT", "ANSWER", "TIME")
	for _, s := range route {
		t.row(fmt.Sprint(s.Hop), s.Agent.String(), addrOrDash(s), s.Answer, took(s.Time))
	}
	return t.String()
}

func addrOrDash(s control.RouteStep) string {
	if !s.Address.IsValid() {
		return "-"
	}
	return s.Address.String()
}
