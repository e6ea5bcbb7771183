package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"time"

	"github.com/parley-p2p/parley/dht"
	"github.com/parley-p2p/parley/node/chain"
	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/plugin"
	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/transport"
)

var _ control.Node = (*Node)(nil)

// Ping measures one round trip to an agent's node.
func (n *Node) Ping(ctx context.Context, agent sdk.AgentID) (control.PingResult, error) {
	if agent == n.id.agent {
		return control.PingResult{Agent: agent, Address: n.Addr(), Reused: true, Source: control.SourceSelf}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Deadline)
	defer cancel()
	c, e := n.connect(ctx, agent)
	var took time.Duration
	for try := 1; ; try++ {
		if e != nil {
			return control.PingResult{}, e
		}
		var err error
		if took, err = c.session.Ping(ctx); err == nil {
			break
		}
		if try == pingTries || !errors.Is(err, transport.ErrReplaced) {
			return control.PingResult{}, pingError(ctx, agent, err)
		}
		c, e = n.connect(ctx, agent) // it has just given way to a newer session
	}
	return control.PingResult{Agent: agent, Time: took, Address: c.session.RemoteAddr(), Reused: c.reused,
		Source: control.Source(c.source)}, nil
}

// pingTries bounds the sessions that one ping goes over.
const pingTries = 3

func pingError(ctx context.Context, agent sdk.AgentID, err error) *sdk.Error {
	if ctx.Err() != nil {
		return contextError(ctx, sdk.DeliveredUnknown, agent.Short()+" had not answered the ping")
	}
	var re *transport.RequestError
	if errors.As(err, &re) && re.Code != transport.Lost {
		return requestError(re)
	}
	return &sdk.Error{Code: sdk.Unreachable, Side: sdk.SideNode, Delivered: sdk.DeliveredUnknown, Retry: true,
		Text: fmt.Sprintf("the session to %s broke: %v", agent.Short(), err)}
}

// Lookup finds an agent's addresses without connecting to them. It always asks
// the DHT: the answer is to be today's, and to show the route.
func (n *Node) Lookup(ctx context.Context, agent sdk.AgentID) (control.LookupResult, error) {
	ctx, cancel := context.WithTimeout(ctx, connectLimit)
	defer cancel()
	if err := transport.ValidKey(transport.PeerKey(agent)); err != nil {
		return control.LookupResult{}, &control.InputError{Text: fmt.Sprintf("%s is no agent's key: %v", agent, err)}
	}
	if agent == n.id.agent {
		return control.LookupResult{Agent: agent, Addresses: n.advertised(), Source: control.SourceSelf}, nil
	}
	r, err := n.dht.Lookup(ctx, dht.Key(agent))
	if err == nil {
		return control.LookupResult{Agent: agent, Addresses: r.Addrs(), Source: control.SourceDHT,
			Seq: r.Record.Seq, Expires: r.Record.Expires(), Route: route(r.Trace)}, nil
	}
	if addrs, src := n.known(ctx, agent); len(addrs) > 0 && !errors.As(err, new(*dht.WithdrawnError)) {
		return control.LookupResult{Agent: agent, Addresses: addrs, Source: control.Source(src)}, nil
	}
	return control.LookupResult{}, lookupError(agent, err, len(r.Trace), r.Took, n.dht.UplinkDown())
}

func route(trace []dht.Step) []control.RouteStep {
	steps := make([]control.RouteStep, 0, len(trace))
	for _, s := range trace {
		step := control.RouteStep{Agent: sdk.AgentID(s.Key), Hop: s.Hop, Answer: string(s.Answer), Time: s.Took}
		if len(s.Addrs) > 0 {
			step.Address = s.Addrs[0]
		}
		switch s.Answer {
		case dht.AnswerCloser:
			step.Answer = fmt.Sprintf("%d closer", s.Contacts)
		case dht.AnswerFailed:
			step.Answer += ": " + s.Err
		}
		steps = append(steps, step)
	}
	return steps
}

// Chains lists the source chains of the DNAs that run here.
func (n *Node) Chains(context.Context) ([]control.ChainInfo, error) {
	var list []control.ChainInfo
	for _, a := range n.apps.all() {
		_, head := a.chain.Head()
		list = append(list, control.ChainInfo{DNA: a.name, Hash: a.hash, Integrity: a.desc.Integrity, Records: a.chain.Len(), Head: head})
	}
	return list, nil
}

// Chain reads records.
func (n *Node) Chain(_ context.Context, dna string, q sdk.Query) ([]sdk.Record, error) {
	a, e := n.apps.named(dna)
	if e != nil {
		return nil, e
	}
	return a.chain.Query(q)
}

// VerifyChain checks every record of a chain.
func (n *Node) VerifyChain(ctx context.Context, dna string) (control.VerifyResult, error) {
	a, e := n.apps.named(dna)
	if e != nil {
		if d := n.apps.damagedNamed(dna); d != nil {
			return control.VerifyResult{DNA: d.DNA, Author: n.id.agent, Records: d.Seq, Wrong: d.Seq, Reason: d.reason()}, nil
		}
		return control.VerifyResult{}, e
	}
	r := control.VerifyResult{DNA: a.name, Hash: a.hash, Author: n.id.agent}
	count, err := a.chain.Verify(ctx)
	r.Records = count
	var damaged *chain.DamagedError
	switch {
	case errors.As(err, &damaged):
		r.Wrong, r.Reason = damaged.Seq, damaged.Reason
	case err != nil:
		return r, err
	default:
		_, r.Head = a.chain.Head()
		r.Valid = true
	}
	return r, nil
}

// ExportChain writes a chain, private entries withheld unless o asks for them.
func (n *Node) ExportChain(ctx context.Context, dna string, o control.ExportOptions, w io.Writer) error {
	a, e := n.apps.named(dna)
	if e != nil {
		return e
	}
	_, err := a.chain.ExportWith(ctx, w, chain.ExportOptions{Private: o.Private, Receipts: o.Receipts})
	return err
}

// Status tells how the node and its parts are.
func (n *Node) Status(context.Context) (control.Status, error) {
	s := control.Status{
		Agent: n.id.agent, Version: Version, Network: n.cfg.Network, DataDir: n.cfg.DataDir, PID: os.Getpid(),
		Advertised: n.advertised(), Since: n.since(), Sessions: n.sessionStatus(),
		Traffic: control.Traffic{Messages: n.traffic.messages.Load(), MessageBytes: n.traffic.messageBytes.Load(),
			DHTRequests: n.traffic.dhtRequests.Load()},
	}
	n.notices.status(&s)
	n.signals.status(&s)
	if addr := n.Addr(); addr.IsValid() {
		s.Listen = []netip.AddrPort{addr}
	}
	n.handlerStatus(&s)
	n.dhtStatus(&s)
	n.publisher.status(&s)
	if s.Clock == "" {
		s.Clock = clockWarning(s.Sessions)
	}
	for _, d := range n.apps.allDamaged() {
		s.Damaged = append(s.Damaged, control.DamagedChain{DNA: d.DNA, Path: d.Path, Seq: d.Seq, Reason: d.reason()})
	}
	s.Limits = []control.LimitStatus{
		{Name: "payload", Setting: "max-payload", Max: uint64(n.cfg.MaxPayload)},
		{Name: "sessions", Setting: "max-sessions", Used: uint64(len(s.Sessions)), Max: uint64(n.cfg.MaxSessions)},
		{Name: "sessions that others have dialled", Setting: "max-inbound-sessions", Used: inbound(s.Sessions),
			Max: uint64(n.cfg.Limits.inboundSessions(n.cfg.MaxSessions))},
		n.notices.limit(n.cfg.Limits.NotifyBytes),
		{Name: "public entries", Setting: "public-entries", Used: uint64(s.DHT.EntriesPublished + s.DHT.EntriesWaiting), Max: uint64(n.cfg.Limits.PublicEntries)},
		{Name: "searches for public entries", Setting: "public-searches", Used: uint64(len(n.searches)), Max: uint64(n.cfg.Limits.PublicSearches)},
		{Name: "claims", Setting: "max-claims", Used: uint64(n.claims.count()), Max: uint64(n.cfg.Limits.MaxClaims)},
		{Name: "agents in the lists and limits", Setting: "policy-max-agents", Used: uint64(len(n.policy.agents())), Max: uint64(n.cfg.Limits.PolicyMaxAgents)},
	}
	return s, nil
}

func (n *Node) since() time.Time {
	select {
	case <-n.started:
		return n.begun
	default:
		return time.Time{}
	}
}

func inbound(list []control.SessionStatus) (count uint64) {
	for _, s := range list {
		if !s.Dialled {
			count++
		}
	}
	return count
}

func (n *Node) sessionStatus() []control.SessionStatus {
	var list []control.SessionStatus
	for _, i := range n.endpoint.Sessions() {
		list = append(list, control.SessionStatus{
			Agent: sdk.AgentID(i.Peer), Address: i.Addr, Dialled: i.Initiator, Since: i.Opened, LastHeard: i.LastHeard,
			InFlight: i.Outgoing + i.Incoming, BytesIn: i.BytesIn, BytesOut: i.BytesOut, ClockSkew: i.Skew,
		})
	}
	return list
}

// handlerStatus joins what runs with what the plugin manager says of files.
func (n *Node) handlerStatus(s *control.Status) {
	status := map[string]*control.HandlerStatus{}
	for _, a := range n.apps.all() {
		desc := a.described()
		status[a.name] = &control.HandlerStatus{DNA: a.name, Hash: a.hash, Integrity: desc.Integrity,
			Functions: desc.Functions, Receives: desc.Receives, State: "running", Since: n.since()}
	}
	if n.plugins != nil {
		for _, p := range n.plugins.Status() {
			h := status[p.DNA]
			if h == nil || h.File != "" || p.State == plugin.StateRejected || p.State == plugin.StateSkipped {
				reason := p.LastError
				if reason == "" {
					reason = string(p.State)
				}
				s.Rejected = append(s.Rejected, control.RejectedFile{File: p.File, Reason: reason})
				continue
			}
			h.File, h.SHA256, h.State, h.PID, h.Since = p.File, p.SHA256, string(p.State), p.PID, p.Since
			h.Restarts, h.LastError, h.InFlight, h.Queued, h.Calls = p.Restarts, p.LastError, p.InFlight, p.Queued, p.Calls
		}
	}
	for _, a := range n.apps.all() {
		if h := status[a.name]; h != nil {
			s.Handlers = append(s.Handlers, *h)
		}
	}
}

// skewWarning is the difference of clocks that is worth a warning: half of what
// the DHT tolerates in a record.
const skewWarning = 5 * time.Minute

// clockWarning compares this node's clock with those of its peers. One that is
// off by itself says nothing; a majority does.
func clockWarning(sessions []control.SessionStatus) string {
	peers := map[sdk.AgentID]time.Duration{}
	for _, s := range sessions {
		peers[s.Agent] = s.ClockSkew
	}
	off := 0
	var worst time.Duration
	for _, d := range peers {
		if d.Abs() > skewWarning {
			off++
			if d.Abs() > worst.Abs() {
				worst = d
			}
		}
	}
	if off*2 <= len(peers) {
		return ""
	}
	return fmt.Sprintf("the clocks of %d of %d other nodes differ from this one's by up to %s: check this machine's clock", off, len(peers), worst.Abs().Round(time.Second))
}
