package control

import (
	"context"

	"github.com/parley-p2p/parley/node/control/controlpb"
	"github.com/parley-p2p/parley/sdk"
)

// Grants implements Node.
func (c *Client) Grants(ctx context.Context, dna string) ([]Grant, error) {
	const what = "list grants"
	m, err := ask(ctx, what, &controlpb.GrantsRequest{Dna: dna}, c.rpc.Grants)
	if err != nil {
		return nil, err
	}
	var out []Grant
	for _, w := range m.GetGrants() {
		g, err := grantFromWire(w)
		if err != nil {
			return nil, badAnswer(what, err)
		}
		out = append(out, g)
	}
	return out, nil
}

// AddGrant implements Node.
func (c *Client) AddGrant(ctx context.Context, dna string, g sdk.Grant) (sdk.Claim, error) {
	const what = "add grant"
	m, err := ask(ctx, what, &controlpb.AddGrantRequest{Dna: dna, Grant: newGrantToWire(&g)}, c.rpc.AddGrant)
	if err != nil {
		return sdk.Claim{}, err
	}
	claim, err := sdk.ParseClaim(m.GetClaim())
	if err != nil {
		return sdk.Claim{}, badAnswer(what, err)
	}
	return claim, nil
}

// RevokeGrant implements Node.
func (c *Client) RevokeGrant(ctx context.Context, dna string, grant sdk.Hash) error {
	_, err := ask(ctx, "revoke grant", &controlpb.RevokeGrantRequest{Dna: dna, Grant: grant.String()}, c.rpc.RevokeGrant)
	return err
}

// Claims implements Node.
func (c *Client) Claims(ctx context.Context, dna string) ([]Claim, error) {
	const what = "list claims"
	m, err := ask(ctx, what, &controlpb.ClaimsRequest{Dna: dna}, c.rpc.Claims)
	if err != nil {
		return nil, err
	}
	var out []Claim
	for _, w := range m.GetClaims() {
		k, err := claimFromWire(w)
		if err != nil {
			return nil, badAnswer(what, err)
		}
		out = append(out, k)
	}
	return out, nil
}

// AddClaim implements Node.
func (c *Client) AddClaim(ctx context.Context, dna string, claim sdk.Claim) error {
	_, err := ask(ctx, "add claim", &controlpb.AddClaimRequest{Dna: dna, Claim: claim.Text()}, c.rpc.AddClaim)
	return err
}

// RemoveClaim implements Node.
func (c *Client) RemoveClaim(ctx context.Context, dna string, grant sdk.Hash) error {
	_, err := ask(ctx, "remove claim", &controlpb.RemoveClaimRequest{Dna: dna, Grant: grant.String()}, c.rpc.RemoveClaim)
	return err
}

// Policy implements Node.
func (c *Client) Policy(ctx context.Context) (Policy, error) {
	const what = "lists and limits"
	m, err := ask(ctx, what, &controlpb.PolicyRequest{}, c.rpc.Policy)
	if err != nil {
		return Policy{}, err
	}
	p, err := policyFromWire(m)
	if err != nil {
		return Policy{}, badAnswer(what, err)
	}
	return p, nil
}

// ChangePolicy implements Node.
func (c *Client) ChangePolicy(ctx context.Context, change PolicyChange) (Policy, error) {
	const what = "change lists and limits"
	m, err := ask(ctx, what, changeToWire(&change), c.rpc.ChangePolicy)
	if err != nil {
		return Policy{}, err
	}
	p, err := policyFromWire(m)
	if err != nil {
		return Policy{}, badAnswer(what, err)
	}
	return p, nil
}
