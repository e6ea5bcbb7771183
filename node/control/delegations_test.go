package control

import (
	"context"
	"crypto/ed25519"
	"reflect"
	"testing"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// agentKey is a key whose public half has sign bit 0.
func agentKey(n byte) ed25519.PrivateKey {
	for i := byte(0); ; i++ {
		if key := ed25519.NewKeyFromSeed(append(make([]byte, 30), n, i)); key[63]&0x80 == 0 {
			return key
		}
	}
}

func TestDelegationsOverTheSocket(t *testing.T) {
	t.Parallel()
	bob := sdk.AgentID(agentKey(2).Public().(ed25519.PublicKey))
	p, err := sdk.SignDelegation(&sdk.Delegation{To: bob, All: true, Expires: time.Now().Add(time.Hour)}, sdk.DNAHash{1}, agentKey(1), [16]byte{1}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	id, err := p.ID()
	if err != nil {
		t.Fatal(err)
	}
	list := []Delegation{{ID: id, Proof: p, Since: time.UnixMicro(1_800_000_000_000_000).UTC(), Revoked: true}}
	gone := &sdk.Error{Code: sdk.HandlerFailed, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, HandlerCode: sdk.HandlerCodeNotFound}
	n := &fakeNode{
		delegations: func(_ context.Context, dna string) ([]Delegation, error) {
			if dna == "broken" {
				return []Delegation{{Proof: p[1:]}}, nil
			}
			return list, nil
		},
		revokeDelegation: func(_ context.Context, dna string, got sdk.Hash) error {
			if dna == "auction" && got == id {
				return nil
			}
			return gone
		},
	}
	c, _ := start(t, n)
	if got, err := c.Delegations(t.Context(), "auction"); err != nil || !reflect.DeepEqual(got, list) {
		t.Errorf("list: %+v, %v", got, err)
	}
	if l, err := list[0].Link(); err != nil || l.To != bob {
		t.Errorf("%+v, %v", l, err)
	}
	if _, err := c.Delegations(t.Context(), "broken"); err == nil {
		t.Error("a proof that can't be read is taken")
	}
	if err := c.RevokeDelegation(t.Context(), "auction", id); err != nil {
		t.Error(err)
	}
	if err := c.RevokeDelegation(t.Context(), "auction", sdk.Hash{1}); !sdk.IsNotFound(err) {
		t.Errorf("revoke what is not there: %v", err)
	}
}
