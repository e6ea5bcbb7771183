package node

import (
	"context"
	"fmt"
	"time"

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
