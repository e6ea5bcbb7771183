package sdktest

import (
	"context"
	"time"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/agency"
)

// List reads a page of the node's grants, claims or delegations, as sdk.Host says.
func (r *running) List(_ context.Context, l sdk.List) (sdk.Page, error) {
	if err := r.live("List"); err != nil {
		return sdk.Page{}, err
	}
	x, now := r.node, time.Now()
	switch l.Kind {
	case sdk.ListGrants:
		x.mu.Lock()
		defer x.mu.Unlock()
		return x.book.Page(now, l.After)
	case sdk.ListClaims:
		x.mu.Lock()
		defer x.mu.Unlock()
		return x.claims.Page(now, x.dna.Hash(), l.After)
	case sdk.ListDelegations:
		query := func(q sdk.Query) ([]sdk.Record, error) {
			return x.chain.query(q, x.net.options.MaxPayload), nil
		}
		return agency.DelegationPage(now, query, func(id sdk.Hash) bool { return x.net.revoked(x.id, id) }, func(*sdk.Record, error) {}, l.After)
	}
	return sdk.Page{}, sdk.Fail(sdk.HandlerCodeInput, "list of kind %d", l.Kind)
}
