package control

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/parley-p2p/parley/node/control/controlpb"
	"github.com/parley-p2p/parley/sdk"
)

// Identifiers travel in their text form and zero values as absent ones. What
// comes from the wire is collected by a reader, so that one conversion tells of
// all that is wrong.

type reader struct{ errs []error }

func (r *reader) fail(field string, err error) {
	if err != nil {
		r.errs = append(r.errs, fmt.Errorf("%s: %w", field, err))
	}
}

func (r *reader) err() error { return errors.Join(r.errs...) }

func (r *reader) agent(field, s string) (id sdk.AgentID) {
	if s != "" {
		var err error
		id, err = sdk.ParseAgentID(s)
		r.fail(field, err)
	}
	return id
}

func (r *reader) hash(field, s string) (h sdk.Hash) {
	if s != "" {
		var err error
		h, err = sdk.ParseHash(s)
		r.fail(field, err)
	}
	return h
}

func (r *reader) dna(field, s string) (h sdk.DNAHash) {
	if s != "" {
		var err error
		h, err = sdk.ParseDNAHash(s)
		r.fail(field, err)
	}
	return h
}

func (r *reader) message(field, s string) (id sdk.MessageID) {
	if s != "" {
		var err error
		id, err = sdk.ParseMessageID(s)
		r.fail(field, err)
	}
	return id
}

func (r *reader) addr(field, s string) (a netip.AddrPort) {
	if s != "" {
		var err error
		a, err = netip.ParseAddrPort(s)
		r.fail(field, err)
	}
	return a
}

func (r *reader) addrs(field string, list []string) (out []netip.AddrPort) {
	for _, s := range list {
		out = append(out, r.addr(field, s))
	}
	return out
}

func (r *reader) time(field string, t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	r.fail(field, t.CheckValid())
	return t.AsTime()
}

func (r *reader) duration(field string, d *durationpb.Duration) time.Duration {
	if d == nil {
		return 0
	}
	r.fail(field, d.CheckValid())
	return d.AsDuration()
}

func (r *reader) count(field string, n int32) int {
	if n < 0 {
		r.fail(field, fmt.Errorf("%d is negative", n))
	}
	return int(n)
}

func (r *reader) size(field string, n int64) int {
	if n < 0 || n > math.MaxInt {
		r.fail(field, fmt.Errorf("%d is out of range", n))
	}
	return int(n)
}

func agentText(a sdk.AgentID) string { return textUnlessZero(a, a.IsZero()) }

func hashText(h sdk.Hash) string { return textUnlessZero(h, h.IsZero()) }

func dnaText(h sdk.DNAHash) string { return textUnlessZero(h, h.IsZero()) }

func messageText(m sdk.MessageID) string { return textUnlessZero(m, m.IsZero()) }

func textUnlessZero(v fmt.Stringer, zero bool) string {
	if zero {
		return ""
	}
	return v.String()
}

func addrText(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

func addrTexts(list []netip.AddrPort) []string {
	var out []string
	for _, a := range list {
		out = append(out, addrText(a))
	}
	return out
}

func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func count(n int) int32 { return int32(max(0, min(n, math.MaxInt32))) }

// text makes s valid UTF-8, which protobuf's strings must be.
func text(s string) string { return strings.ToValidUTF8(s, "\ufffd") }

func texts(list []string) []string {
	var out []string
	for _, s := range list {
		out = append(out, text(s))
	}
	return out
}

func pingToWire(p *PingResult) *controlpb.PingResponse {
	return &controlpb.PingResponse{Time: durationpb.New(p.Time), Address: addrText(p.Address), Reused: p.Reused, Source: string(p.Source)}
}

func pingFromWire(agent sdk.AgentID, m *controlpb.PingResponse) (PingResult, error) {
	var r reader
	p := PingResult{Agent: agent, Time: r.duration("time", m.GetTime()), Address: r.addr("address", m.GetAddress()),
		Reused: m.GetReused(), Source: Source(m.GetSource())}
	return p, r.err()
}

func lookupToWire(l *LookupResult) *controlpb.LookupResponse {
	m := &controlpb.LookupResponse{Addresses: addrTexts(l.Addresses), Source: string(l.Source), Seq: l.Seq, Expires: timestamp(l.Expires)}
	for i := range l.Route {
		s := &l.Route[i]
		m.Route = append(m.Route, &controlpb.RouteStep{Agent: agentText(s.Agent), Address: addrText(s.Address),
			Hop: count(s.Hop), Answer: text(s.Answer), Time: durationpb.New(s.Time)})
	}
	return m
}

func lookupFromWire(agent sdk.AgentID, m *controlpb.LookupResponse) (LookupResult, error) {
	var r reader
	l := LookupResult{Agent: agent, Addresses: r.addrs("addresses", m.GetAddresses()), Source: Source(m.GetSource()),
		Seq: m.GetSeq(), Expires: r.time("expires", m.GetExpires())}
	for _, s := range m.GetRoute() {
		l.Route = append(l.Route, RouteStep{Agent: r.agent("route agent", s.GetAgent()), Address: r.addr("route address", s.GetAddress()),
			Hop: r.count("hop", s.GetHop()), Answer: s.GetAnswer(), Time: r.duration("route time", s.GetTime())})
	}
	return l, r.err()
}
