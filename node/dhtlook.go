package node

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/parley-p2p/parley/dht"
	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/transport"
)

// DHTTable tells of the contacts in the routing table.
func (n *Node) DHTTable(context.Context) (control.DHTTable, error) {
	info := n.dht.Table()
	var t control.DHTTable
	for _, b := range info.Buckets {
		t.Buckets = append(t.Buckets, control.DHTBucket{Bucket: b.Bucket, Contacts: b.Contacts, Replacements: b.Replacements, Touched: b.Touched})
	}
	for i := range info.Contacts {
		c := &info.Contacts[i]
		out := control.DHTContact{Agent: sdk.AgentID(c.Key), Addresses: c.Addresses(), Bucket: c.Bucket, Sibling: c.Sibling,
			Since: c.Since, RTT: c.RTT, Fails: c.Fails, Role: dhtRole(c.Record)}
		if c.Record != nil {
			out.Seq = c.Record.Seq
		}
		t.Contacts = append(t.Contacts, out)
	}
	return t, nil
}

// dhtRole is empty where there is no record.
func dhtRole(r *dht.Record) string {
	switch {
	case r == nil:
		return ""
	case r.Flags&dht.FlagServer != 0:
		return control.RoleServer
	}
	return control.RoleClient
}

// DHTLookup searches for an agent's record, whatever the cache says.
func (n *Node) DHTLookup(ctx context.Context, agent sdk.AgentID, o control.DHTSearch) (control.DHTLookup, error) {
	if err := transport.ValidKey(transport.PeerKey(agent)); err != nil {
		return control.DHTLookup{}, &control.InputError{Text: fmt.Sprintf("%s is no agent's key: %v", agent, err)}
	}
	ctx, cancel := context.WithTimeout(ctx, connectLimit)
	defer cancel()
	r, err := n.dht.Search(ctx, dht.Key(agent), dht.Search{Strict: o.Strict, Hardened: o.Hardened})
	l := control.DHTLookup{Agent: agent, Outcome: control.OutcomeFound, Final: true, Holders: r.Holders, Took: r.Took, Steps: dhtSteps(r.Trace)}
	var gone *dht.WithdrawnError
	switch {
	case err == nil:
		rec := r.Record
		l.Addresses, l.Seq, l.Issued, l.Expires, l.Role = rec.Addrs, rec.Seq, rec.IssuedAt, rec.Expires(), dhtRole(rec)
		return l, nil
	case errors.As(err, &gone):
		l.Outcome, l.Seq, l.Issued = control.OutcomeWithdrawn, gone.Seq, gone.Since
	case errors.Is(err, dht.ErrNotFound):
		l.Outcome = control.OutcomeNotFound
	case errors.Is(err, dht.ErrNoAnswer):
		l.Outcome, l.Final = control.OutcomeNoAnswer, false
	default:
		l.Outcome, l.Final = control.OutcomeFailed, false
	}
	l.Reason = lookupError(agent, err, len(r.Trace), r.Took, n.dht.UplinkDown()).Text
	return l, nil
}

func dhtSteps(trace []dht.Step) []control.DHTStep {
	steps := make([]control.DHTStep, 0, len(trace))
	for _, s := range trace {
		steps = append(steps, control.DHTStep{Path: s.Path, Hop: s.Hop, Agent: sdk.AgentID(s.Key), Addresses: s.Addrs, Answer: string(s.Answer),
			Contacts: s.Contacts, Seq: s.Seq, Error: s.Err, Start: s.Start, Took: s.Took})
	}
	return steps
}

// DHTStats are the DHT's counters.
func (n *Node) DHTStats(context.Context) (control.DHTStats, error) {
	d := n.dht.Stats()
	id := dht.NodeID(dht.Key(n.id.agent))
	s := control.DHTStats{
		Agent: n.id.agent, ID: hex.EncodeToString(id[:]), Ready: d.Ready, Server: d.Server, WhyClient: whyClient(&d, n.advertised()),
		Contacts: d.Contacts, Buckets: d.Buckets, Replacements: d.Replacements, Records: d.Records, RecordBytes: d.RecordBytes, Floors: d.Floors,
		Entries: d.Entries, EntryBytes: d.EntryBytes, Lookups: d.Lookups, Calls: d.Calls, Failed: d.Failed, Served: d.Served, Refused: d.Refused,
		Seq: d.Seq, Published: d.Published, PublishTook: d.PublishTook, Holders: d.Holders, ReadBackUntil: d.ReadBackUntil,
		ClockOff: d.ClockOff, Nodes: d.Nodes, Session: d.Session, UplinkDown: d.UplinkDown,
		Late: d.Late, OwnCalls: d.OwnCalls,
	}
	if d.PublishError != nil {
		s.PublishError = d.PublishError.Error()
	}
	return s, nil
}
