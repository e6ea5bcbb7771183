package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/parley-p2p/parley/node/control"
)

// localTimeout bounds what the node answers by itself.
const localTimeout = 30 * time.Second

func (c *cli) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "status",
		Short:   "Show how the node and its parts are",
		Example: "  parley status --data alice\n  parley status --data alice --json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.connected(cmd.Context(), localTimeout, func(ctx context.Context, n *control.Client) error {
				s, err := n.Status(ctx)
				if err != nil {
					return err
				}
				if c.json {
					return c.printJSON(withLists(s))
				}
				plugins, err := n.Plugins(ctx)
				if err != nil {
					return err
				}
				return c.print(statusText(&s, plugins, time.Now()))
			})
		},
	}
}

// withLists has an empty list for each that is nil: a program that reads JSON
// need not care for null.
func withLists(s control.Status) control.Status {
	s.Listen, s.Advertised = listed(s.Listen), listed(s.Advertised)
	s.Handlers, s.Rejected, s.Damaged = listed(s.Handlers), listed(s.Rejected), listed(s.Damaged)
	s.Sessions, s.Limits = listed(s.Sessions), listed(s.Limits)
	s.Handlers = slices.Clone(s.Handlers)
	for i := range s.Handlers {
		s.Handlers[i].Functions = listed(s.Handlers[i].Functions)
	}
	return s
}

func listed[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func statusText(s *control.Status, plugins []control.PluginStatus, now time.Time) string {
	var b strings.Builder
	b.WriteString(overview(s, now))
	section := func(title string, n int, t *table) {
		if n > 0 {
			b.WriteString("\n" + title + "\n" + t.String())
		}
	}
	section("Handlers", len(s.Handlers), handlerTable(s, plugins))
	section("Rejected files", len(s.Rejected), rejectedTable(s))
	section("Damaged chains: their DNAs do not run", len(s.Damaged), damagedTable(s))
	section("Sessions", len(s.Sessions), sessionTable(s, now))
	section("Limits", len(s.Limits), limitTable(s))
	return b.String()
}

func overview(s *control.Status, now time.Time) string {
	t := newTable()
	t.row("agent", s.Agent.String())
	t.row("node", fmt.Sprintf("version %s, process %d, data in %s", s.Version, s.PID, s.DataDir))
	if s.Since.IsZero() {
		t.row("state", "starting its handlers")
	} else if s.Ready {
		t.row("state", "ready, started "+ago(now, s.Since))
	} else {
		t.row("state", "not ready: "+orDash(s.NotReady))
		if now.Sub(s.Since) > patience {
			t.row("", notReadyAdvice)
		}
	}
	t.row("network", s.Network)
	t.row("listening on", addrList(s.Listen))
	t.row("published as", addrList(s.Advertised))
	dht := fmt.Sprintf("%d contacts, %d records kept, own record published %s", s.DHT.Contacts, s.DHT.Records, ago(now, s.DHT.LastPublished))
	if s.DHT.LastError != "" {
		dht += "; last error: " + s.DHT.LastError
	}
	t.row("DHT", dht)
	t.row("", roleText(s.DHT.Server, s.DHT.WhyClient))
	if text := entriesText(&s.DHT); text != "" {
		t.row("public entries", text)
	}
	t.row("sent", fmt.Sprintf("%d notifications (%d not taken), %d signals (%d lost)", s.Traffic.Notifications, s.Traffic.NotificationsFailed, s.Traffic.Signals, s.Traffic.SignalsLost))
	t.row("received", fmt.Sprintf("%d messages (%d bytes), %d DHT requests", s.Traffic.Messages, s.Traffic.MessageBytes, s.Traffic.DHTRequests))
	if s.Clock != "" {
		t.row("WARNING", s.Clock)
	}
	return t.String()
}

func handlerTable(s *control.Status, plugins []control.PluginStatus) *table {
	t := newTable("DNA", "STATE", "PROCESS", "RESTARTS", "RUNNING", "QUEUED", "CALLS", "FUNCTIONS", "HASH", "FILE", "LAST ERROR")
	for i := range s.Handlers {
		h := &s.Handlers[i]
		pid := "-"
		if h.PID != 0 {
			pid = fmt.Sprint(h.PID)
		}
		functions := h.Functions
		if h.Receives {
			functions = append(functions[:len(functions):len(functions)], "(receive)")
		}
		t.row(h.DNA, handlerState(h, plugins), pid, fmt.Sprint(h.Restarts), fmt.Sprint(h.InFlight), fmt.Sprint(h.Queued), fmt.Sprint(h.Calls),
			strings.Join(functions, " "), h.Hash.String(), orDash(h.File), orDash(h.LastError))
	}
	return t
}

func rejectedTable(s *control.Status) *table {
	t := newTable("FILE", "REASON")
	for _, f := range s.Rejected {
		t.row(f.File, f.Reason)
	}
	return t
}

func damagedTable(s *control.Status) *table {
	t := newTable("DNA", "FIRST WRONG RECORD", "REASON", "FILE")
	for _, d := range s.Damaged {
		t.row(d.DNA, fmt.Sprint(d.Seq), d.Reason, d.Path)
	}
	return t
}

func sessionTable(s *control.Status, now time.Time) *table {
	t := newTable("AGENT", "ADDRESS", "DIALLED BY", "OPENED", "LAST HEARD", "IN FLIGHT", "BYTES IN", "BYTES OUT", "CLOCK")
	for _, x := range s.Sessions {
		by := "the other"
		if x.Dialled {
			by = "this node"
		}
		t.row(x.Agent.String(), x.Address.String(), by, ago(now, x.Since), ago(now, x.LastHeard), fmt.Sprint(x.InFlight),
			fmt.Sprint(x.BytesIn), fmt.Sprint(x.BytesOut), skew(x.ClockSkew))
	}
	return t
}

func skew(d time.Duration) string {
	if d.Abs() < time.Second {
		return "agrees"
	}
	return fmt.Sprintf("%+.0f s", d.Seconds())
}

func limitTable(s *control.Status) *table {
	t := newTable("LIMIT", "USED", "MOST", "SETTING")
	for _, l := range s.Limits {
		t.row(l.Name, fmt.Sprint(l.Used), fmt.Sprint(l.Max), orDash(l.Setting))
	}
	return t
}

// entriesText is of the agent's own public entries; empty where it has none.
func entriesText(d *control.DHTStatus) string {
	if d.EntriesPublished+d.EntriesWaiting == 0 && d.EntriesLeftOut == 0 {
		return ""
	}
	text := fmt.Sprintf("%d published, %d wait", d.EntriesPublished, d.EntriesWaiting)
	if d.EntriesLeftOut > 0 {
		text += fmt.Sprintf(", %d older ones are over the limit (setting public-entries)", d.EntriesLeftOut)
	}
	if d.LastEntryError != "" {
		text += "; last error: " + d.LastEntryError
	}
	return text
}
