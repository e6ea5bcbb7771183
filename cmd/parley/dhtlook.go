package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
)

// addDHTLook adds the commands that show a running node's part in the DHT.
func (c *cli) addDHTLook(group *cobra.Command) {
	group.AddCommand(c.dhtTableCommand(), c.dhtLookupCommand(), c.dhtStatsCommand())
}

func (c *cli) dhtTableCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "table",
		Short: "Show the routing table: buckets and contacts",
		Long: `Shows the contacts that the node finds others by. Bucket N holds those whose ids
share N leading bits with the node's own; a sibling is one of the 32 nearest.
FAILS counts the calls in a row that were not answered: 3 drop a contact.`,
		Example: "  parley dht table --data alice\n  parley dht table --data alice --json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.connected(cmd.Context(), localTimeout, func(ctx context.Context, n *control.Client) error {
				t, err := n.DHTTable(ctx)
				if err != nil {
					return err
				}
				if c.json {
					t.Buckets, t.Contacts = listed(t.Buckets), listed(t.Contacts)
					for i := range t.Contacts {
						t.Contacts[i].Addresses = listed(t.Contacts[i].Addresses)
					}
					return c.printJSON(t)
				}
				return c.print(dhtTableText(&t, time.Now()))
			})
		},
	}
}

func dhtTableText(t *control.DHTTable, now time.Time) string {
	if len(t.Buckets) == 0 {
		return "no contacts: the node has found nobody yet\n"
	}
	buckets := newTable("BUCKET", "CONTACTS", "REPLACEMENTS", "LAST LOOKUP")
	for _, b := range t.Buckets {
		buckets.row(fmt.Sprint(b.Bucket), fmt.Sprint(b.Contacts), fmt.Sprint(b.Replacements), ago(now, b.Touched))
	}
	contacts := newTable("BUCKET", "AGENT", "ADDRESSES", "KNOWN", "RTT", "FAILS", "SIBLING", "ROLE")
	for i := range t.Contacts {
		x := &t.Contacts[i]
		sibling := "-"
		if x.Sibling {
			sibling = "yes"
		}
		contacts.row(fmt.Sprint(x.Bucket), x.Agent.String(), addrList(x.Addresses), ago(now, x.Since), took(x.RTT), fmt.Sprint(x.Fails), sibling, orDash(x.Role))
	}
	return buckets.String() + "\n" + contacts.String()
}

func (c *cli) dhtLookupCommand() *cobra.Command {
	var o control.DHTSearch
	var trace bool
	cmd := c.peerCommand("lookup", "Search the DHT for an agent's address record",
		`Searches the DHT, whatever the node knows already, and shows the record found: its
number, age, end, addresses, and how many nodes hold it. With --trace each step
is shown: on which of the disjoint paths, after how many hops, whom, and the answer.
With --strict every node that could have the record is asked, and the newest one
wins; without it three that agree are enough. With --hardened it goes over 8
disjoint paths in the place of 3. If there is no record, the exit code is 11; if
the agent has withdrawn it, 12.`,
		func(ctx context.Context, n *control.Client, agent sdk.AgentID) error {
			l, err := n.DHTLookup(ctx, agent, o)
			if err != nil {
				return err
			}
			if c.json {
				l.Addresses, l.Steps = listed(l.Addresses), listed(l.Steps)
				for i := range l.Steps {
					l.Steps[i].Addresses = listed(l.Steps[i].Addresses)
				}
				if !trace {
					l.Steps = l.Steps[:0]
				}
				err = c.printJSON(l)
			} else {
				err = c.print(dhtLookupText(&l, trace, time.Now()))
			}
			if err == nil {
				err = outcomeError(&l)
			}
			return err
		})
	cmd.Example = "  parley dht lookup --data alice $(parley id --data bob) --trace"
	cmd.Flags().BoolVar(&o.Strict, "strict", false, "ask every node that could have the record")
	cmd.Flags().BoolVar(&o.Hardened, "hardened", false, "go over 8 disjoint paths")
	cmd.Flags().BoolVar(&trace, "trace", false, "show each step")
	return cmd
}

// outcomeError is the error of a lookup that found no way to the agent.
func outcomeError(l *control.DHTLookup) error {
	e := &sdk.Error{Code: sdk.UnknownAgent, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true, Text: l.Reason}
	switch l.Outcome {
	case control.OutcomeFound:
		return nil
	case control.OutcomeWithdrawn:
		e.Code = sdk.Unreachable
	}
	return e
}

func dhtLookupText(l *control.DHTLookup, trace bool, now time.Time) string {
	t := newTable()
	t.row("agent", l.Agent.String())
	outcome := strings.ReplaceAll(l.Outcome, "_", " ")
	if !l.Final {
		outcome += ", not final"
	}
	t.row("outcome", fmt.Sprintf("%s in %s, %d nodes asked", outcome, took(l.Took), len(l.Steps)))
	if l.Seq != 0 {
		t.row("record", fmt.Sprintf("number %d, made %s, expires %s", l.Seq, ago(now, l.Issued), clock(l.Expires)))
		t.row("held by", fmt.Sprintf("%d of the nodes asked", l.Holders))
	}
	if l.Outcome == control.OutcomeFound {
		t.row("addresses", addrList(l.Addresses))
		t.row("role", orDash(l.Role))
	}
	if !trace || len(l.Steps) == 0 {
		return t.String()
	}
	steps := newTable("PATH", "HOP", "ASKED", "AT", "AFTER", "ANSWER", "TIME")
	for i := range l.Steps {
		s := &l.Steps[i]
		steps.row(fmt.Sprint(s.Path), fmt.Sprint(s.Hop), s.Agent.String(), addrList(s.Addresses), took(s.Start), stepText(s), took(s.Took))
	}
	return t.String() + "\n" + steps.String()
}

func stepText(s *control.DHTStep) string {
	parts := []string{s.Answer}
	if s.Seq != 0 {
		parts = append(parts, fmt.Sprintf("number %d", s.Seq))
	}
	if s.Contacts > 0 {
		parts = append(parts, fmt.Sprintf("%d contacts", s.Contacts))
	}
	text := strings.Join(parts, ", ")
	if s.Error != "" {
		text += ": " + s.Error
	}
	return text
}

func (c *cli) dhtStatsCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "stats",
		Short:   "Show the DHT's counters and estimates",
		Example: "  parley dht stats --data alice\n  parley dht stats --data alice --json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.connected(cmd.Context(), localTimeout, func(ctx context.Context, n *control.Client) error {
				s, err := n.DHTStats(ctx)
				if err != nil {
					return err
				}
				if c.json {
					return c.printJSON(s)
				}
				return c.print(dhtStatsText(&s, time.Now()))
			})
		},
	}
}

func dhtStatsText(s *control.DHTStats, now time.Time) string {
	t := newTable()
	t.row("agent", s.Agent.String())
	t.row("id", s.ID)
	t.row("role", roleText(s.Server, s.WhyClient))
	t.row("ready", fmt.Sprint(s.Ready))
	t.row("uplink", uplinkText(s, now))
	t.row("table", fmt.Sprintf("%d contacts in %d buckets, %d replacements", s.Contacts, s.Buckets, s.Replacements))
	t.row("network", fmt.Sprintf("about %d nodes, which stay %s (estimates)", s.Nodes, s.Session.Round(time.Minute)))
	t.row("kept for others", fmt.Sprintf("%d records (%d bytes), %d entries (%d bytes), %d sequence numbers", s.Records, s.RecordBytes, s.Entries, s.EntryBytes, s.Floors))
	t.row("own record", ownRecordText(s, now))
	if s.PublishError != "" {
		t.row("last error", s.PublishError)
	}
	t.row("asked others", fmt.Sprintf("%d lookups, %d calls, %d of them failed", s.Lookups, s.Calls, s.Failed))
	t.row("pace", fmt.Sprintf("runs %s late, so at most %d calls at once for itself", s.Late.Round(100*time.Microsecond), s.OwnCalls))
	t.row("asked by others", fmt.Sprintf("%d requests, %d more refused", s.Served, s.Refused))
	t.row("clock", fmt.Sprintf("%+.3f s from the others'", s.ClockOff.Seconds()))
	return t.String()
}

func uplinkText(s *control.DHTStats, now time.Time) string {
	if s.UplinkDown.IsZero() {
		return "up"
	}
	return "nobody answers since " + clock(s.UplinkDown) + ", " + ago(now, s.UplinkDown)
}

func ownRecordText(s *control.DHTStats, now time.Time) string {
	if s.Seq == 0 {
		return "none"
	}
	text := fmt.Sprintf("number %d, published %s to %d nodes", s.Seq, ago(now, s.Published), s.Holders)
	if s.PublishTook > 0 {
		text += " in " + took(s.PublishTook)
	}
	if !s.ReadBackUntil.IsZero() {
		text += ", others have one until " + clock(s.ReadBackUntil)
	}
	return text
}

// roleText says what the node is in the DHT.
func roleText(server bool, why string) string {
	if server {
		return "server: others can dial it, and it answers for them"
	}
	return "client: " + orDash(why)
}
