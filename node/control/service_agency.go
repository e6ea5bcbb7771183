package control

import (
	"context"

	"github.com/parley-p2p/parley/node/control/controlpb"
	"github.com/parley-p2p/parley/sdk"
)

func (s *service) Grants(ctx context.Context, r *controlpb.GrantsRequest) (*controlpb.GrantsResponse, error) {
	list, err := s.node.Grants(ctx, r.GetDna())
	if err != nil {
		return nil, errorToWire(err)
	}
	out := &controlpb.GrantsResponse{}
	for i := range list {
		out.Grants = append(out.Grants, grantToWire(&list[i]))
	}
	return out, nil
}

func (s *service) AddGrant(ctx context.Context, r *controlpb.AddGrantRequest) (*controlpb.AddGrantResponse, error) {
	g, err := newGrant(r.GetGrant())
	if err != nil {
		return nil, errorToWire(err)
	}
	claim, err := s.node.AddGrant(ctx, r.GetDna(), g)
	if err != nil {
		return nil, errorToWire(err)
	}
	return &controlpb.AddGrantResponse{Grant: claim.Grant.String(), Claim: claim.Text()}, nil
}

func (s *service) RevokeGrant(ctx context.Context, r *controlpb.RevokeGrantRequest) (*controlpb.RevokeGrantResponse, error) {
	id, err := parseGrantName(r.GetGrant())
	if err == nil {
		err = s.node.RevokeGrant(ctx, r.GetDna(), id)
	}
	if err != nil {
		return nil, errorToWire(err)
	}
	return &controlpb.RevokeGrantResponse{}, nil
}

func parseGrantName(text string) (sdk.Hash, error) {
	id, err := sdk.ParseHash(text)
	if err != nil {
		return id, inputErrorf("grant: %v", err)
	}
	return id, nil
}

func (s *service) Claims(ctx context.Context, r *controlpb.ClaimsRequest) (*controlpb.ClaimsResponse, error) {
	list, err := s.node.Claims(ctx, r.GetDna())
	if err != nil {
		return nil, errorToWire(err)
	}
	out := &controlpb.ClaimsResponse{}
	for i := range list {
		out.Claims = append(out.Claims, claimToWire(&list[i]))
	}
	return out, nil
}

func (s *service) AddClaim(ctx context.Context, r *controlpb.AddClaimRequest) (*controlpb.AddClaimResponse, error) {
	c, err := sdk.ParseClaim(r.GetClaim())
	if err != nil {
		return nil, errorToWire(inputErrorf("%v", err))
	}
	if err := s.node.AddClaim(ctx, r.GetDna(), c); err != nil {
		return nil, errorToWire(err)
	}
	return &controlpb.AddClaimResponse{}, nil
}

func (s *service) RemoveClaim(ctx context.Context, r *controlpb.RemoveClaimRequest) (*controlpb.RemoveClaimResponse, error) {
	id, err := parseGrantName(r.GetGrant())
	if err == nil {
		err = s.node.RemoveClaim(ctx, r.GetDna(), id)
	}
	if err != nil {
		return nil, errorToWire(err)
	}
	return &controlpb.RemoveClaimResponse{}, nil
}

func (s *service) Policy(ctx context.Context, _ *controlpb.PolicyRequest) (*controlpb.PolicyResponse, error) {
	p, err := s.node.Policy(ctx)
	if err != nil {
		return nil, errorToWire(err)
	}
	return policyToWire(&p), nil
}

func (s *service) ChangePolicy(ctx context.Context, r *controlpb.ChangePolicyRequest) (*controlpb.PolicyResponse, error) {
	c, err := changeFromWire(r)
	if err != nil {
		return nil, errorToWire(err)
	}
	p, err := s.node.ChangePolicy(ctx, c)
	if err != nil {
		return nil, errorToWire(err)
	}
	return policyToWire(&p), nil
}
