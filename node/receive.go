package node

import (
	"context"
	"fmt"
	"time"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/transport"
)

var _ transport.Handler = (*Node)(nil)

// ServeRequest routes what another node asks. It is called by the transport,
// once per request, with the peer that the handshake proved.
func (n *Node) ServeRequest(ctx context.Context, r *transport.Request) ([]byte, error) {
	switch r.Kind {
	case kindDHT:
		return n.serveDHT(ctx, r)
	case kindMessage:
		reply, err := n.serveMessage(ctx, r)
		if err != nil {
			return nil, &transport.PeerError{Body: sdk.AppendError(nil, err)}
		}
		return reply, nil
	}
	return nil, &transport.RequestError{Code: transport.Unsupported}
}

// ServeNotify takes the one one-way message that there is: of kind 2, it cancels
// the receive of its sender's message of that id.
func (n *Node) ServeNotify(_ context.Context, r *transport.Request) {
	if r.Kind != kindMessage {
		return
	}
	a, _, err := n.route(r.Header)
	if err != nil {
		return
	}
	n.outcomesMu.Lock()
	defer n.outcomesMu.Unlock()
	n.outcomes.revoke(messageKey{from: sdk.AgentID(r.Peer), dna: a.hash, id: sdk.MessageID(r.ID)})
}

func (n *Node) serveMessage(ctx context.Context, r *transport.Request) ([]byte, *sdk.Error) {
	n.traffic.message(len(r.Body))
	ctx, cancel := context.WithTimeout(ctx, maxDeadline)
	defer cancel()
	a, again, err := n.route(r.Header)
	if err != nil && n.awaitHandlers(ctx) {
		a, again, err = n.route(r.Header)
	}
	if err != nil {
		return nil, err
	}
	if len(r.Body) > n.cfg.MaxPayload {
		return nil, tooLarge("payload", len(r.Body), n.cfg.MaxPayload, sdk.SideNode, sdk.DeliveredNo)
	}
	key := messageKey{from: sdk.AgentID(r.Peer), dna: a.hash, id: sdk.MessageID(r.ID)}
	return n.receive(ctx, a, key, r.Body, again)
}

// route finds the app that a message is for. A node's own headers are the
// canonical ones, so that the usual case is one look-up.
func (n *Node) route(header []byte) (a *app, again bool, e *sdk.Error) {
	s := n.apps
	s.mu.RLock()
	defer s.mu.RUnlock()
	if a := s.byHeader[string(header)]; a != nil {
		return a, len(header) == len(a.again), nil
	}
	h, err := parseHeader(header)
	if err != nil {
		return nil, false, &sdk.Error{Code: sdk.NoHandler, Side: sdk.SideNode, Delivered: sdk.DeliveredNo,
			Text: "the message's header can't be read: " + err.Error()}
	}
	hash := sdk.DNAHash(h.DNA)
	if a := s.byHash[hash]; a != nil && a.name == h.Name {
		return a, h.Again, nil
	}
	if a := s.byName[h.Name]; a != nil {
		return nil, false, &sdk.Error{Code: sdk.NoHandler, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true,
			Text: fmt.Sprintf("DNA %s is known here under another hash (%s, not %s): integrity version, network seed and properties must be the same on both sides",
				h.Name, a.hash, hash)}
	}
	return nil, false, s.missingLocked(h.Name, "that agent's operator has to add a handler of it")
}

// receive runs a message's receive once, however often the message arrives,
// and answers every arrival with that one outcome.
func (n *Node) receive(ctx context.Context, a *app, key messageKey, payload []byte, again bool) ([]byte, *sdk.Error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	n.outcomesMu.Lock()
	o, first := n.outcomes.begin(n.now(), key, cancel)
	n.outcomesMu.Unlock()
	if !first {
		return n.firstOutcome(ctx, a, o)
	}
	reply, err := n.receiveOnce(ctx, a, key, payload, again)
	n.outcomesMu.Lock()
	n.outcomes.end(n.now(), o, reply, err)
	n.outcomesMu.Unlock()
	return reply, err
}

func (n *Node) receiveOnce(ctx context.Context, a *app, key messageKey, payload []byte, again bool) ([]byte, *sdk.Error) {
	if again { // before this process began, perhaps
		reply, found, err := a.chain.Reply(key.from, key.id)
		if err != nil {
			return nil, &sdk.Error{Code: sdk.OutcomeUnknown, Side: sdk.SideNode, Text: "the source chain can't tell the message's outcome: " + err.Error()}
		}
		if found {
			return reply, nil
		}
	}
	if !a.desc.Receives {
		return nil, &sdk.Error{Code: sdk.NoHandler, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true,
			Text: fmt.Sprintf("DNA %s has no receive", a.name)}
	}
	return n.run(ctx, a, &sdk.Call{Kind: sdk.CallReceive, ID: key.id, From: key.from, Payload: payload})
}

// firstOutcome waits for the outcome that another arrival of the message brings
// about. A sender that gives up while it waits cancels the receive: the arrival
// that runs it came over a session that is no more.
func (n *Node) firstOutcome(ctx context.Context, a *app, o *outcome) ([]byte, *sdk.Error) {
	select {
	case <-o.done:
	case <-ctx.Done():
		o.cancel(context.Cause(ctx))
		return nil, contextError(ctx, sdk.DeliveredYes, "receive ran")
	}
	if !o.dropped {
		return o.reply, o.err
	}
	reply, found, err := a.chain.Reply(o.key.from, o.key.id)
	if err == nil && found {
		return reply, nil
	}
	return nil, &sdk.Error{Code: sdk.OutcomeUnknown, Side: sdk.SideNode, Delivered: sdk.DeliveredYes,
		Text: "receive has run; its reply was let go of for room"}
}

func (n *Node) now() time.Time { return time.Now() }
