package node

import (
	"context"

	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
)

// Delegations implements control.Node.
func (n *Node) Delegations(_ context.Context, dna string) (list []control.Delegation, err error) {
	err = n.operated(dna, func(a *app, _ ownAppend) error {
		now := n.now()
		ended := a.chain.Revocations(now)
		back := entriesBack{app: a, kind: sdk.TypeDelegation}
		for len(list) < control.MaxDelegations {
			r, err := back.peek()
			if err != nil || r == nil {
				return err
			}
			back.page = back.page[1:]
			d := control.Delegation{Proof: r.Content, Since: r.Header.Time}
			l, err := d.Link()
			if err != nil {
				a.unreadDelegation(r, err)
				continue
			}
			d.ID = l.ID()
			for i := range ended {
				d.Revoked = d.Revoked || ended[i].Revoked == d.ID
			}
			if now.Before(l.Expires) {
				list = append(list, d)
			}
		}
		return nil
	})
	return list, err
}

// RevokeDelegation implements control.Node.
func (n *Node) RevokeDelegation(ctx context.Context, dna string, id sdk.Hash) error {
	return n.operated(dna, func(a *app, put ownAppend) error {
		found, err := n.revokeDelegation(ctx, a, id, put)
		if err == nil && !found {
			err = &sdk.Error{Code: sdk.HandlerFailed, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true, HandlerCode: sdk.HandlerCodeNotFound,
				Text: "this agent has signed no delegation " + id.String() + " in DNA " + a.name}
		}
		return err
	})
}
