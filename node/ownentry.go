package node

import (
	"context"
	"slices"

	"github.com/parley-p2p/parley/node/chain"
	"github.com/parley-p2p/parley/sdk"
)

// This file appends what the node itself writes into a source chain for a handler
// or for the operator: grants, delegations, receipts and their ends. Such an entry
// is a batch of its own, durable when the function returns, whatever becomes of the
// call. Its type begins with "parley.", which no handler can commit.

// appendOwn appends one entry with this cause and returns the number of its record.
// Of another agent's call the errors say nothing of this node's disk.
func (n *Node) appendOwn(ctx context.Context, a *app, cause sdk.Cause, e sdk.Entry) (seq uint64, err error) {
	seq, err = a.chain.Append(ctx, chain.Batch{Entries: []sdk.Entry{e}, Cause: cause, Own: true})
	if err != nil {
		return 0, err
	}
	a.grown()
	if e.Visibility == sdk.Public {
		n.publisher.grown()
	}
	return seq, nil
}

// operatorCause is that of what the operator does by the control API.
func (n *Node) operatorCause() sdk.Cause {
	return sdk.Cause{Kind: sdk.CallOperator, Message: newMessageID(), From: n.id.agent}
}

// appendOwn appends one entry because of this call, which from then on has had an
// effect. A strict commit of the call takes no notice of it.
func (c *liveCall) appendOwn(ctx context.Context, e sdk.Entry) error {
	if err := c.open(); err != nil {
		return err
	}
	cause := sdk.Cause{Kind: c.call.Kind, Message: c.call.ID, From: c.call.From}
	seq, err := c.node.appendOwn(ctx, c.app, cause, e)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		err = c.commitError(err)
		c.effects = c.effects || handlerError(ctx, err).Code == sdk.OutcomeUnknown
		return err
	}
	c.effects, c.wrote = true, true
	c.own = append(c.own, seq)
	for {
		i := slices.Index(c.own, c.base+1)
		if i < 0 {
			return nil
		}
		c.base++
		c.own = slices.Delete(c.own, i, i+1)
	}
}
