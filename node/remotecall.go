package node

import (
	"context"
	"slices"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/agency"
)

// claimTries bounds the claims with which one call is tried.
const claimTries = 4

// claimTry is the way of a call through the claims that may let it in.
type claimTry struct {
	now   sdk.Claim // whose secret goes with the call; zero: none
	tried []sdk.Hash
}

// callRemote runs a function of another agent's. Of the claims with a secret it
// takes the best; one that is refused did nothing, and the next is tried. Without
// any the other node finds the grant by who calls.
func (n *Node) callRemote(ctx context.Context, m *outgoing) ([]byte, *sdk.Error) {
	n.nextClaim(m)
	reply, e := n.deliver(ctx, m)
	return n.otherClaims(ctx, m, reply, e)
}

// otherClaims goes on with a call that has ended so.
func (n *Node) otherClaims(ctx context.Context, m *outgoing, reply []byte, e *sdk.Error) ([]byte, *sdk.Error) {
	for n.claimAfter(m, e) {
		reply, e = n.deliver(ctx, m)
	}
	return reply, e
}

// nextClaim has a call go with the best claim that was not tried, if there is one.
func (n *Node) nextClaim(m *outgoing) bool {
	if m.claims == nil {
		m.claims = &claimTry{}
	}
	claim, ok := n.chooseClaim(m, m.claims.tried)
	m.claims.now, m.header.Claim = claim, nil
	if ok {
		m.header.Claim = slices.Concat(claim.Grant[:], claim.Secret[:])
		m.claims.tried = append(m.claims.tried, claim.Grant)
	}
	return ok
}

// claimAfter notes whether the grantor's node took the claim of a call that has ended
// with e. If it did not, and there is another one, it makes a new message of the call.
func (n *Node) claimAfter(m *outgoing, e *sdk.Error) bool {
	if m.claims == nil || m.claims.now.Grant.IsZero() {
		return false
	}
	n.claimUsed(m.app, &m.claims.now, e)
	if e == nil || e.Code != sdk.Refused || e.Side != sdk.SideRemoteNode || len(m.claims.tried) == claimTries || !n.nextClaim(m) {
		return false
	}
	m.id, m.began, m.left = newMessageID(), n.now(), false
	return true
}

func (n *Node) chooseClaim(m *outgoing, tried []sdk.Hash) (sdk.Claim, bool) {
	n.claims.mu.Lock()
	defer n.claims.mu.Unlock()
	return n.claims.table.Choose(n.now(), m.app.hash, m.to, m.header.Function, tried)
}

// claimUsed notes whether the grantor's node took a claim.
func (n *Node) claimUsed(a *app, c *sdk.Claim, e *sdk.Error) {
	why := ""
	if e != nil && e.Code == sdk.Refused && e.Side == sdk.SideRemoteNode {
		why = e.Text
	} else if e != nil && e.Delivered != sdk.DeliveredYes {
		return // nobody knows
	}
	n.claims.mu.Lock()
	defer n.claims.mu.Unlock()
	n.claims.table.Refuse(agency.ClaimKey{DNA: a.hash, Grantor: c.Grantor, Grant: c.Grant}, why)
}
