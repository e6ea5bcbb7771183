package node

import (
	"context"
	"slices"

	"github.com/parley-p2p/parley/node/chain"
	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/agency"
)

// List implements sdk.Host.
func (c *liveCall) List(_ context.Context, l sdk.List) (sdk.Page, error) {
	if err := c.open(); err != nil {
		return sdk.Page{}, err
	}
	n, a := c.node, c.app
	now := n.now()
	switch l.Kind {
	case sdk.ListGrants:
		a.grants.mu.Lock()
		defer a.grants.mu.Unlock()
		return a.grants.book.Page(now, l.After)
	case sdk.ListClaims:
		n.claims.mu.Lock()
		defer n.claims.mu.Unlock()
		return n.claims.table.Page(now, a.hash, l.After)
	case sdk.ListDelegations:
		ended := a.chain.Revocations(now)
		revoked := func(id sdk.Hash) bool {
			return slices.ContainsFunc(ended, func(p chain.Public) bool { return p.Revoked == id })
		}
		return agency.DelegationPage(now, a.chain.Query, revoked, a.unreadDelegation, l.After)
	}
	return sdk.Page{}, sdk.Fail(sdk.HandlerCodeInput, "list of kind %d", l.Kind)
}

// unreadDelegation is told of a delegation on the chain that is of a later version.
func (a *app) unreadDelegation(r *sdk.Record, err error) {
	a.log.Warn("a delegation can't be read and is left out", "record", r.Header.Seq, "error", err.Error())
}
