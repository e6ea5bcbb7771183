package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
)

const policyHelp = `What is said holds at once, and after a restart. The DHT is for everybody: what
others ask of it is answered, whoever they are.`

func (c *cli) blockCommand() *cobra.Command {
	return c.listCommand("block", "Block agents: nothing that they send is heard",
		`Who is blocked gets "refused" for every message, call and notification, and is not
told why.`, func(p *control.Policy) []sdk.AgentID { return p.Blocked },
		func(a []sdk.AgentID) control.PolicyChange { return control.PolicyChange{Block: a} },
		func(a []sdk.AgentID) control.PolicyChange { return control.PolicyChange{Unblock: a} })
}

func (c *cli) allowCommand() *cobra.Command {
	return c.listCommand("allow", "Hear no agents but those that are allowed",
		`As long as an agent is allowed, only those that are may reach this node; all
others are treated as if they were blocked. Who is blocked and allowed is blocked.`,
		func(p *control.Policy) []sdk.AgentID { return p.Allowed },
		func(a []sdk.AgentID) control.PolicyChange { return control.PolicyChange{Allow: a} },
		func(a []sdk.AgentID) control.PolicyChange { return control.PolicyChange{Disallow: a} })
}

// listCommand is one of the two lists.
func (c *cli) listCommand(name, short, long string, of func(*control.Policy) []sdk.AgentID,
	add, remove func([]sdk.AgentID) control.PolicyChange) *cobra.Command {
	cmd := &cobra.Command{
		Use:     name,
		Short:   short,
		Long:    long + "\n\n" + policyHelp,
		Example: fmt.Sprintf("  parley %s add agent1… --data bob\n  parley %s list --data bob", name, name),
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	change := func(verb, short string, make func([]sdk.AgentID) control.PolicyChange) *cobra.Command {
		return &cobra.Command{
			Use:               verb + " AGENT...",
			Short:             short,
			Example:           fmt.Sprintf("  parley %s %s agent1… --data bob", name, verb),
			Args:              argsBetween(1, 1000),
			ValidArgsFunction: c.complete(completeNothing),
			RunE: func(cmd *cobra.Command, args []string) error {
				agents, err := agentArgs(args)
				if err != nil {
					return err
				}
				return c.connected(cmd.Context(), localTimeout, func(ctx context.Context, n *control.Client) error {
					_, err := n.ChangePolicy(ctx, make(agents))
					return err
				})
			},
		}
	}
	list := &cobra.Command{
		Use:     "list",
		Short:   "List the agents, one on each line",
		Example: fmt.Sprintf("  parley %s list --data bob", name),
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.connected(cmd.Context(), localTimeout, func(ctx context.Context, n *control.Client) error {
				p, err := n.Policy(ctx)
				if err != nil {
					return err
				}
				agents := listed(of(&p))
				if c.json {
					return c.printJSON(agents)
				}
				var b strings.Builder
				for _, a := range agents {
					fmt.Fprintln(&b, a)
				}
				return c.print(b.String())
			})
		},
	}
	cmd.AddCommand(change("add", "Add agents to the list", add), change("remove", "Take agents from the list", remove), list)
	return cmd
}

func (c *cli) limitsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "limits",
		Short: "Limit what another agent may have under way here at once",
		Long: `agent-requests bounds the messages and calls of one agent that are served at once,
agent-bytes their payloads together, agent-signals its notifications that wait for
their handler. They hold for each agent, or with --agent for one. Without them only
the node's own limits hold (max-requests and others of parley run).

` + policyHelp,
		Example: "  parley limits set agent-requests 20 --data bob\n  parley limits set agent-bytes none --agent agent1… --data bob\n  parley limits list --data bob",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(c.limitsListCommand(), c.limitsSetCommand(), c.limitsResetCommand())
	return cmd
}

func (c *cli) limitsListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the limits that were set",
		Example: "  parley limits list --data bob",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.connected(cmd.Context(), localTimeout, func(ctx context.Context, n *control.Client) error {
				p, err := n.Policy(ctx)
				if err != nil {
					return err
				}
				if c.json {
					return c.printJSON(listed(p.Limits))
				}
				t := newTable("LIMIT", "MAX", "OF")
				for _, l := range p.Limits {
					of, most := "each agent", strconv.Itoa(l.Max)
					if !l.Agent.IsZero() {
						of = l.Agent.String()
					}
					if l.Max < 0 {
						most = "none"
					}
					t.row(l.Name, most, of)
				}
				return c.print(t.String())
			})
		},
	}
}

func (c *cli) limitsSetCommand() *cobra.Command {
	var agent string
	cmd := &cobra.Command{
		Use:               "set NAME VALUE",
		Short:             "Set a limit of each agent, or of one",
		Long:              "Sets a limit of each agent, or with --agent of one. The VALUE none lifts it.",
		Example:           "  parley limits set agent-requests 20 --data bob",
		Args:              argsBetween(2, 2),
		ValidArgsFunction: limitNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			most := -1
			if args[1] != "none" {
				var err error
				if most, err = strconv.Atoi(args[1]); err != nil || most <= 0 {
					return usagef("%q: a number greater than 0, or none", args[1])
				}
			}
			return c.setLimits(cmd, agent, []string{args[0]}, most)
		},
	}
	agentFlag(cmd, &agent)
	return cmd
}

func (c *cli) limitsResetCommand() *cobra.Command {
	var agent string
	cmd := &cobra.Command{
		Use:               "reset [NAME]",
		Short:             "Take limits back: those of each agent, or of one",
		Example:           "  parley limits reset --agent agent1… --data bob",
		Args:              argsBetween(0, 1),
		ValidArgsFunction: limitNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				args = agentLimits
			}
			return c.setLimits(cmd, agent, args, 0)
		},
	}
	agentFlag(cmd, &agent)
	return cmd
}

var agentLimits = []string{"agent-requests", "agent-bytes", "agent-signals"}

func limitNames(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return agentLimits, cobra.ShellCompDirectiveNoFileComp
}

func agentFlag(cmd *cobra.Command, agent *string) {
	cmd.Flags().StringVar(agent, "agent", "", "of this agent alone")
}

func (c *cli) setLimits(cmd *cobra.Command, agent string, names []string, most int) error {
	var who sdk.AgentID
	if agent != "" {
		agents, err := agentArgs([]string{agent})
		if err != nil {
			return err
		}
		who = agents[0]
	}
	var change control.PolicyChange
	for _, name := range names {
		if !slices.Contains(agentLimits, name) {
			return usagef("%q is no limit: %s", name, strings.Join(agentLimits, ", "))
		}
		change.Limits = append(change.Limits, control.AgentLimit{Agent: who, Name: name, Max: most})
	}
	return c.connected(cmd.Context(), localTimeout, func(ctx context.Context, n *control.Client) error {
		_, err := n.ChangePolicy(ctx, change)
		return err
	})
}
