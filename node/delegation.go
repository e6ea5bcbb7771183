package node

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/agency"
	"github.com/parley-p2p/parley/transport"
)

// Delegate signs a delegation. The handler never sees the key.
func (c *liveCall) Delegate(ctx context.Context, d sdk.Delegation) (sdk.Proof, error) {
	if err := c.open(); err != nil {
		return nil, err
	}
	if err := transport.ValidKey(transport.PeerKey(d.To)); err != nil {
		return nil, sdk.Fail(sdk.HandlerCodeInput, "delegation: To is no agent: %v", err)
	}
	var nonce [16]byte
	rand.Read(nonce[:]) // never fails (crypto/rand)
	p, err := sdk.SignDelegation(&d, c.app.hash, c.node.id.key, nonce, c.node.now())
	if err != nil {
		return nil, sdk.Fail(sdk.HandlerCodeInput, "%v", err)
	}
	if links, err := p.Links(); err == nil {
		if e := c.node.revoker.checkKnown(links); e != nil {
			return nil, e
		}
	}
	if err := c.appendOwn(ctx, sdk.Entry{Type: sdk.TypeDelegation, Content: p}); err != nil {
		return nil, err
	}
	return p, nil
}

// revokeDelegation ends a delegation of this agent's and tells of it; false: there
// is none of that name.
func (n *Node) revokeDelegation(ctx context.Context, a *app, id sdk.Hash, write ownAppend) (found bool, err error) {
	l, found, err := n.ownDelegation(a, id)
	if err != nil || !found {
		return false, err
	}
	select {
	case n.revoker.turn <- struct{}{}:
		defer func() { <-n.revoker.turn }()
	case <-ctx.Done():
		return true, contextError(ctx, sdk.DeliveredNo, "another delegation was revoked")
	}
	now := n.now()
	if !now.Before(l.Expires) || n.revoker.own(id) {
		return true, nil // it is over
	}
	if e := n.roomForRevocation(now); e != nil {
		return true, e
	}
	if err := write(ctx, sdk.Entry{Type: sdk.TypeRevocation, Visibility: sdk.Public, Content: sdk.AppendRevocation(nil, &sdk.Revocation{Delegation: id, Expires: l.Expires})}); err != nil {
		return true, err
	}
	for _, p := range a.chain.Revocations(now) {
		if p.Revoked == id {
			n.revoker.tell(a, p.Seq, append([]sdk.AgentID{l.To}, l.Agents...))
		}
	}
	return true, nil
}

// roomForRevocation keeps those that are published within their bound: none may put
// another one out.
func (n *Node) roomForRevocation(now time.Time) *sdk.Error {
	count, first := 0, time.Time{}
	for _, a := range n.apps.all() {
		for _, p := range a.chain.Revocations(now) {
			if count++; first.IsZero() || p.Expires.Before(first) {
				first = p.Expires
			}
		}
	}
	most := n.cfg.Limits.PublicRevocations
	if count < most {
		return nil
	}
	return &sdk.Error{Code: sdk.Busy, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true,
		Text: "too many revocations are kept published: the delegation stays in force until there is room",
		Limit: &sdk.Limit{Name: "revoked delegations", Setting: "public-revocations", Value: uint64(count) + 1, Max: uint64(most),
			RetryAfter: max(0, first.Sub(now))}}
}

// ownDelegation finds a delegation of this agent's on its chain, the newest first.
func (n *Node) ownDelegation(a *app, id sdk.Hash) (l sdk.Link, found bool, err error) {
	q := sdk.Query{Type: sdk.TypeDelegation, Reverse: true, Limit: 1000}
	for {
		records, err := a.chain.Query(q)
		if err != nil {
			return l, false, err
		}
		for _, r := range records {
			q.To = r.Header.Seq
			links, err := sdk.Proof(r.Content).Links()
			if err != nil {
				continue // of a later version: it is none that anybody here can name
			}
			if l = links[len(links)-1]; l.ID() == id {
				return l, true, nil
			}
		}
		if len(records) == 0 || q.To == 0 {
			return l, false, nil
		}
	}
}

// mayAct holds a proof against what is to be sent under it, so that an error comes
// at once. Whether it was revoked the other node finds out.
func (n *Node) mayAct(a *app, m *sdk.Message) *sdk.Error {
	if len(m.Behalf) == 0 {
		return nil
	}
	b, err := m.Behalf.Verify(n.now(), sdk.Use{Presenter: n.id.agent, DNA: a.hash, To: m.To, Function: m.Function, Payload: len(m.Payload)})
	if err != nil {
		return agency.Refused(err.Error())
	}
	return n.revoker.checkKnown(b.Links)
}

// mayNotify is mayAct for a notification to many: refused are those whom the proof
// does not let it be sent to; nil: there are none.
func (n *Node) mayNotify(now time.Time, a *app, notice *sdk.Notice) (refused []*sdk.Error, e *sdk.Error) {
	if len(notice.Behalf) == 0 {
		return nil, nil
	}
	b, refused, e := agency.MayNotify(now, n.id.agent, a.hash, notice)
	if e == nil {
		e = n.revoker.checkKnown(b.Links)
	}
	return refused, e
}

// authority is the agent whose grants count for a message: its sender, or in whose
// name it is sent. It has found then that it is.
func (n *Node) authority(ctx context.Context, a *app, h *messageHeader, in *admission) (sdk.AgentID, *sdk.Error) {
	call := in.call
	if len(h.Behalf) == 0 {
		return call.From, nil
	}
	in.checked = n.now()
	b, err := sdk.Proof(h.Behalf).Verify(in.checked, sdk.Use{Presenter: call.From, DNA: a.hash, To: n.id.agent, Function: call.Function, Payload: len(call.Payload)})
	if err != nil {
		return sdk.AgentID{}, agency.Refused(err.Error())
	}
	if e := n.revoker.check(ctx, b.Links); e != nil {
		return sdk.AgentID{}, e
	}
	for i := range b.Links { // the last one is given to the sender, who is heard
		if e := n.policy.hears(b.Links[i].From); e != nil {
			return sdk.AgentID{}, e
		}
	}
	call.Behalf, in.behalf = h.Behalf, b
	return b.Principal(), nil
}
