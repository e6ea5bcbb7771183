package node

import (
	"context"
	"slices"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/agency"
)

// claimTries bounds the claims with which one call is tried.
const claimTries = 4

// callRemote runs a function of another agent's. Of the claims with a secret it
// takes the best; one that is refused did nothing, and the next is tried. Without
// any the other node finds the grant by who calls.
func (n *Node) callRemote(ctx context.Context, a *app, m *outgoing) ([]byte, *sdk.Error) {
	var tried []sdk.Hash
	for {
		claim, ok := n.chooseClaim(a, m, tried)
		m.header.Claim = nil
		if ok {
			m.header.Claim = slices.Concat(claim.Grant[:], claim.Secret[:])
			tried = append(tried, claim.Grant)
		}
		reply, e := n.deliver(ctx, m)
		if ok {
			n.claimUsed(a, &claim, e)
		}
		if e == nil || e.Code != sdk.Refused || e.Side != sdk.SideRemoteNode || !ok || len(tried) == claimTries {
			return reply, e
		}
		if _, more := n.chooseClaim(a, m, tried); !more {
			return reply, e
		}
		m.id, m.began, m.left = newMessageID(), n.now(), false
	}
}

func (n *Node) chooseClaim(a *app, m *outgoing, tried []sdk.Hash) (sdk.Claim, bool) {
	n.claims.mu.Lock()
	defer n.claims.mu.Unlock()
	return n.claims.table.Choose(n.now(), a.hash, m.to, m.header.Function, tried)
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
