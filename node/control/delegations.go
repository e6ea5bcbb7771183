package control

import (
	"context"
	"time"

	"github.com/parley-p2p/parley/node/control/controlpb"
	"github.com/parley-p2p/parley/sdk"
)

// MaxDelegations bounds a list of delegations.
const MaxDelegations = 1000

// Delegation is one that this agent has signed: the last link of its proof.
type Delegation struct {
	ID      sdk.Hash  `json:"delegation"`
	Proof   sdk.Proof `json:"proof"`
	Since   time.Time `json:"since"`
	Revoked bool      `json:"revoked"`
}

// Link is what the delegation says.
func (d *Delegation) Link() (sdk.Link, error) {
	links, err := d.Proof.Links()
	if err != nil {
		return sdk.Link{}, err
	}
	return links[len(links)-1], nil
}

func (s *service) Delegations(ctx context.Context, r *controlpb.DelegationsRequest) (*controlpb.DelegationsResponse, error) {
	list, err := s.node.Delegations(ctx, r.GetDna())
	if err != nil {
		return nil, errorToWire(err)
	}
	out := &controlpb.DelegationsResponse{}
	for _, d := range list {
		out.Delegations = append(out.Delegations, &controlpb.Delegation{Proof: d.Proof, Since: timestamp(d.Since), Revoked: d.Revoked})
	}
	return out, nil
}

func (s *service) RevokeDelegation(ctx context.Context, r *controlpb.RevokeDelegationRequest) (*controlpb.RevokeDelegationResponse, error) {
	id, err := sdk.ParseHash(r.GetDelegation())
	if err != nil {
		return nil, errorToWire(inputErrorf("delegation: %v", err))
	}
	if err := s.node.RevokeDelegation(ctx, r.GetDna(), id); err != nil {
		return nil, errorToWire(err)
	}
	return &controlpb.RevokeDelegationResponse{}, nil
}

// Delegations implements Node.
func (c *Client) Delegations(ctx context.Context, dna string) ([]Delegation, error) {
	const what = "list delegations"
	m, err := ask(ctx, what, &controlpb.DelegationsRequest{Dna: dna}, c.rpc.Delegations)
	if err != nil {
		return nil, err
	}
	var out []Delegation
	for _, w := range m.GetDelegations() {
		d := Delegation{Proof: w.GetProof(), Since: w.GetSince().AsTime(), Revoked: w.GetRevoked()}
		if d.ID, err = d.Proof.ID(); err != nil {
			return nil, badAnswer(what, err)
		}
		out = append(out, d)
	}
	return out, nil
}

// RevokeDelegation implements Node.
func (c *Client) RevokeDelegation(ctx context.Context, dna string, delegation sdk.Hash) error {
	_, err := ask(ctx, "revoke delegation", &controlpb.RevokeDelegationRequest{Dna: dna, Delegation: delegation.String()}, c.rpc.RevokeDelegation)
	return err
}
