package demo

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
)

func (d *demo) printf(format string, args ...any) { fmt.Fprintf(d.opts.Out, format, args...) }

// table prints rows in columns.
func (d *demo) table(rows [][]string) {
	w := tabwriter.NewWriter(d.opts.Out, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintln(w, "   "+strings.Join(r, "\t"))
	}
	w.Flush()
}

func (d *demo) printNodes() {
	var rows [][]string
	for _, p := range d.all() {
		agent, addr, _ := strings.Cut(p.peer, "@")
		rows = append(rows, []string{p.name, fmt.Sprintf("process %d", p.cmd.Process.Pid), addr, agent})
	}
	d.table(rows)
}

func (d *demo) printRoute(l control.LookupResult, took time.Duration) {
	var addrs []string
	for _, a := range l.Addresses {
		addrs = append(addrs, a.String())
	}
	d.printf("   Found in %s by %s: %s (address record %d, expires %s)\n", ms(took), l.Source, strings.Join(addrs, ", "), l.Seq, l.Expires.UTC().Format(time.TimeOnly+"Z"))
	if len(l.Route) == 0 {
		d.printf("   No other node had to be asked: Bob's record had reached Alice's share of the DHT already.\n")
		return
	}
	rows := [][]string{{"hop", "asked", "answer", "time"}}
	for _, s := range l.Route {
		rows = append(rows, []string{fmt.Sprint(s.Hop), d.name(s.Agent), fmt.Sprintf("%q", s.Answer), ms(s.Time)})
	}
	d.table(rows)
}

// printCycle prints one walk of the message cycle. The times in the middle are
// those that the two nodes signed into their records.
func (d *demo) printCycle(began time.Time, returned time.Duration, bobs, alices *sdk.Record, ping control.PingResult) {
	since := func(t time.Time) string { return ms(t.Sub(began)) }
	d.table([][]string{
		{"a", ms(0), "Alice's handler, a process of its own, calls Send with Bob's AgentID and blocks"},
		{"b", "", fmt.Sprintf("her node reaches Bob's at %s over an encrypted session (round trip %s)", ping.Address, ms(ping.Time))},
		{"c", "", "Bob's handler receives the bid, stages its commit and thinks for 1.5 s"},
		{"d", since(bobs.Header.Time), fmt.Sprintf("Bob's chain: record %d, %q, by message %s from %s", bobs.Header.Seq, bobs.Header.EntryType, bobs.Header.Cause.Message, d.name(bobs.Header.Cause.From))},
		{"e", "", "durable: only now the acknowledgement leaves Bob's node"},
		{"f", since(alices.Header.Time), fmt.Sprintf("Alice's chain: record %d, %q", alices.Header.Seq, alices.Header.EntryType)},
		{"g", ms(returned), "place_bid has returned to the client"},
	})
}

func (d *demo) printCrash(pid int, after time.Duration, e *sdk.Error) {
	d.printf("   Process %d killed; Alice's client has its error %s later, not at a deadline:\n", pid, ms(after))
	d.table([][]string{
		{"   code", e.Code.String()}, {"   from", e.Side.String()}, {"   delivered", e.Delivered.String()},
		{"   safe to retry", fmt.Sprint(e.Retry)}, {"   text", fmt.Sprintf("%q", e.Text)},
	})
}

func (d *demo) showChains(ctx context.Context) error {
	for _, p := range []*process{d.alice, d.bob} {
		records, err := p.client.Chain(ctx, dna, sdk.Query{})
		if err != nil {
			return err
		}
		d.printf("   %s\n", p.name)
		rows := [][]string{}
		for i := range records {
			rows = append(rows, d.recordRow(&records[i]))
		}
		d.table(rows)
	}
	return nil
}

func (d *demo) recordRow(r *sdk.Record) []string {
	h := &r.Header
	content, err := sdk.PayloadToJSON(r.Content)
	if err != nil {
		content = fmt.Appendf(nil, "%d bytes", len(r.Content))
	}
	return []string{fmt.Sprint("  ", h.Seq), h.Time.Format("15:04:05.000000"), h.EntryType, r.Hash().String()[:14] + "…", string(content)}
}

// whoSawWhat prints each node's counters, and fails if a message reached any
// node but Bob's.
func (d *demo) whoSawWhat(ctx context.Context) error {
	rows := [][]string{{"node", "messages received", "their bytes", "DHT requests answered", "bytes in of all sessions"}}
	var strangers []string
	for _, p := range d.all() {
		s, err := p.client.Status(ctx)
		if err != nil {
			return err
		}
		var bytes uint64
		for _, x := range s.Sessions {
			bytes += x.BytesIn
		}
		rows = append(rows, []string{p.name, fmt.Sprint(s.Traffic.Messages), fmt.Sprint(s.Traffic.MessageBytes), fmt.Sprint(s.Traffic.DHTRequests), fmt.Sprint(bytes)})
		if (s.Traffic.Messages > 0 || s.Traffic.MessageBytes > 0) != (p == d.bob) {
			strangers = append(strangers, p.name)
		}
	}
	d.table(rows)
	if len(strangers) > 0 {
		return fmt.Errorf("messages went where they must not: look at %s", strings.Join(strangers, ", "))
	}
	d.printf("   The bids reached Bob's node and no other. What the three others carried was the DHT's.\n")
	return nil
}

// printLogs prints the last lines of every node's log.
func (d *demo) printLogs() {
	for _, p := range d.all() {
		d.printLog(p)
	}
}

func (d *demo) printLog(p *process) {
	d.printf("\nThe end of %s's log:\n", p.name)
	lines := p.lines()
	for _, l := range lines[max(0, len(lines)-40):] {
		d.printf("   %s\n", l)
	}
}

func ms(t time.Duration) string { return fmt.Sprintf("%.1f ms", float64(t)/float64(time.Millisecond)) }
