package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/parley-p2p/parley/dht"
	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/transport"
)

const (
	// connectLimit bounds one search for an agent and the dialling of what it found.
	connectLimit = 15 * time.Second
	// maxFlights bounds the searches at once: whom to send to may be what another
	// agent's message says.
	maxFlights = 1024
)

// source says where an agent's address came from.
type source string

const (
	sourceSession  source = "session"  // a live session
	sourceSettings source = "settings" // the bootstrap list
	sourceCache    source = "cache"    // an address that worked before
	sourceDHT      source = "dht"
)

// connection is a session and how it was come by.
type connection struct {
	session *transport.Session
	reused  bool
	source  source
	lookup  *dht.Result // with sourceDHT
}

// flight is one search for an agent, shared by all who wait for it. Its result
// is written once, before done is closed.
type flight struct {
	done chan struct{}
	conn *connection
	err  *sdk.Error
}

// connect returns a session to an agent: the live one, or a new one to an
// address from the settings, the cache or the DHT.
func (n *Node) connect(ctx context.Context, to sdk.AgentID) (*connection, *sdk.Error) {
	if s, ok := n.endpoint.Live(transport.PeerKey(to)); ok {
		return &connection{session: s, reused: true, source: sourceSession}, nil
	}
	// Checked here alone: whoever has a session has proven its key.
	if to.IsZero() {
		return nil, &sdk.Error{Code: sdk.UnknownAgent, Side: sdk.SideCaller, Delivered: sdk.DeliveredNo,
			Text: "no agent was given: the AgentID is the zero value"}
	}
	if err := transport.ValidKey(transport.PeerKey(to)); err != nil {
		return nil, &sdk.Error{Code: sdk.UnknownAgent, Side: sdk.SideNode, Delivered: sdk.DeliveredNo,
			Text: fmt.Sprintf("%s is no agent's key: %v", to, err)}
	}
	n.flightsMu.Lock()
	f := n.flights[to]
	if f == nil && len(n.flights) >= maxFlights {
		n.flightsMu.Unlock()
		return nil, errTooManyFlights()
	}
	if f == nil {
		f = &flight{done: make(chan struct{})}
		if !n.tasks.start(func(taskCtx context.Context) { n.fly(taskCtx, to, f) }) {
			n.flightsMu.Unlock()
			return nil, errNodeStopping()
		}
		n.flights[to] = f
	}
	n.flightsMu.Unlock()
	select {
	case <-f.done:
		return f.conn, f.err
	case <-ctx.Done():
		return nil, contextError(ctx, sdk.DeliveredNo, to.Short()+" was being connected to")
	}
}

func errTooManyFlights() *sdk.Error {
	return &sdk.Error{Code: sdk.Busy, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true,
		Text:  "this node is looking for too many agents at once",
		Limit: &sdk.Limit{Name: "agents that are looked for", Value: maxFlights + 1, Max: maxFlights, RetryAfter: time.Second}}
}

func errNodeStopping() *sdk.Error {
	return &sdk.Error{Code: sdk.Canceled, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true, Text: "this node is stopping"}
}

func (n *Node) fly(ctx context.Context, to sdk.AgentID, f *flight) {
	ctx, cancel := context.WithTimeout(ctx, connectLimit)
	defer cancel()
	f.conn, f.err = n.open(ctx, to)
	n.flightsMu.Lock()
	delete(n.flights, to)
	n.flightsMu.Unlock()
	close(f.done)
}

// found is the DHT's answer.
type found struct {
	result *dht.Result
	err    error
}

// open asks the DHT and meanwhile dials the addresses that are known.
func (n *Node) open(ctx context.Context, to sdk.AgentID) (*connection, *sdk.Error) {
	ctx, cancel := context.WithCancel(ctx)
	answer := make(chan found, 1)
	asked := make(chan struct{})
	defer func() { cancel(); <-asked }()
	go func() {
		defer close(asked)
		r, err := n.dht.Lookup(ctx, dht.Key(to))
		answer <- found{r, err}
	}()
	known, src := n.known(ctx, to)
	if len(known) == 0 {
		return n.openFound(ctx, to, <-answer, dialled{})
	}
	dialCtx, stopDial := context.WithCancel(ctx)
	defer stopDial()
	dials := make(chan dialled, 1)
	go func() {
		s, reused, err := n.endpoint.Session(dialCtx, transport.PeerKey(to), known)
		dials <- dialled{&connection{session: s, reused: reused, source: src}, known, err}
	}()
	var late found
	for {
		select {
		case d := <-dials:
			if d.err == nil {
				n.addresses.worked(n.now(), to, d.conn.session.RemoteAddr())
				return d.conn, nil
			}
			n.addresses.failed(to)
			if late.result == nil && late.err == nil {
				late = <-answer
			}
			return n.openFound(ctx, to, late, d)
		case late = <-answer:
			answer = nil
			if late.err == nil && !subset(late.result.Addrs(), known) {
				stopDial() // the agent is elsewhere by now: don't wait for where it was
			}
		}
	}
}

// dialled is what came of dialling addresses that needed no search.
type dialled struct {
	conn  *connection
	tried []netip.AddrPort // none: there were no such addresses
	err   error
}

// openFound dials what the DHT found, and what the settings say, after d failed.
func (n *Node) openFound(ctx context.Context, to sdk.AgentID, f found, d dialled) (*connection, *sdk.Error) {
	var addrs []netip.AddrPort
	src := sourceDHT
	if f.err == nil {
		addrs = f.result.Addrs()
	}
	if len(d.tried) > 0 && d.conn.source == sourceCache { // the cache had come before the settings
		if set := n.configured(ctx, to); len(set) > 0 {
			if f.err != nil {
				src = sourceSettings
			}
			addrs = slices.Concat(addrs, set)
		}
	}
	switch {
	case f.err != nil && len(d.tried) == 0:
		return nil, lookupError(ctx, to, f.err)
	case len(d.tried) > 0 && subset(addrs, d.tried) && (f.err != nil || ctx.Err() == nil):
		return nil, dialError(to, d.err)
	}
	s, reused, err := n.endpoint.Session(ctx, transport.PeerKey(to), addrs)
	if err != nil {
		return nil, dialError(to, errors.Join(d.err, err))
	}
	n.addresses.worked(n.now(), to, s.RemoteAddr())
	return &connection{session: s, reused: reused, source: src, lookup: f.result}, nil
}

func subset(part, whole []netip.AddrPort) bool {
	return !slices.ContainsFunc(part, func(a netip.AddrPort) bool { return !slices.Contains(whole, a) })
}

// known returns the addresses that need no search.
func (n *Node) known(ctx context.Context, to sdk.AgentID) ([]netip.AddrPort, source) {
	if addrs := n.addresses.get(n.now(), to); len(addrs) > 0 {
		return addrs, sourceCache
	}
	return n.configured(ctx, to), sourceSettings
}

// configured are the addresses that the settings have of an agent.
func (n *Node) configured(ctx context.Context, to sdk.AgentID) (addrs []netip.AddrPort) {
	for _, p := range n.cfg.Bootstrap {
		if p.Agent == to {
			addrs = append(addrs, resolveHost(ctx, p.Host)...)
		}
	}
	return addrs
}

func lookupError(ctx context.Context, to sdk.AgentID, err error) *sdk.Error {
	e := &sdk.Error{Code: sdk.UnknownAgent, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true}
	switch {
	case errors.Is(err, dht.ErrNotFound):
		e.Text = fmt.Sprintf("no node of this network has an address record of %s; is its node running, with the same --network?", to)
	case ctx.Err() != nil:
		e.Text = fmt.Sprintf("no address record of %s was found in %s", to, connectLimit)
	default:
		e.Text = fmt.Sprintf("the DHT could not be asked for %s: %v; check this node's --bootstrap", to, err)
	}
	return e
}

func dialError(to sdk.AgentID, err error) *sdk.Error {
	e := &sdk.Error{Code: sdk.Unreachable, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true,
		Text: fmt.Sprintf("no address of %s answered", to.Short())}
	for _, d := range dialErrors(err) {
		for _, a := range d.Attempts {
			if len(e.Attempts) < sdk.MaxAttempts {
				e.Attempts = append(e.Attempts, sdk.Attempt{Address: a.Addr.String(), Cause: a.Err.Error()})
			}
		}
	}
	if len(e.Attempts) == 0 && err != nil {
		e.Text += ": " + err.Error()
	}
	return e
}

// dialErrors are the DialErrors in err's tree.
func dialErrors(err error) []*transport.DialError {
	if d, ok := err.(*transport.DialError); ok {
		return []*transport.DialError{d}
	}
	var list []*transport.DialError
	switch e := err.(type) {
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			list = append(list, dialErrors(inner)...)
		}
	case interface{ Unwrap() error }:
		list = dialErrors(e.Unwrap())
	}
	return list
}
