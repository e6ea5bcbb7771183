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

// appendOwn appends entries with this cause, one behind another, and returns the
// number of the first one's record.
func (n *Node) appendOwn(ctx context.Context, a *app, cause sdk.Cause, entries ...sdk.Entry) (seq uint64, err error) {
	seq, err = a.chain.Append(ctx, chain.Batch{Entries: entries, Cause: cause, Own: true})
	if err != nil {
		return 0, err
	}
	a.grown()
	if entries[0].Visibility == sdk.Public {
		n.publisher.grown()
	}
	return seq, nil
}

// operatorCause is that of what the operator does by the control API.
func (n *Node) operatorCause() sdk.Cause {
	return sdk.Cause{Kind: sdk.CallOperator, Message: newMessageID(), From: n.id.agent}
}

// appendOwn appends one entry because of this call, which from then on has had an
// effect. A strict commit of the call takes no notice of it. Of another agent's call
// the errors say nothing of this node's disk.
func (c *liveCall) appendOwn(ctx context.Context, e sdk.Entry) error {
	if err := c.open(); err != nil {
		return err
	}
	entries := []sdk.Entry{e}
	c.mu.Lock()
	proof := len(c.call.Behalf) > 0 && !c.proven
	c.mu.Unlock()
	if proof { // e stays, whatever becomes of the call: so its proof comes with it
		entries = append(entries, c.proof())
	}
	seq, err := c.node.appendOwn(ctx, c.app, c.cause(), entries...)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		err = c.commitError(err)
		c.effects = c.effects || handlerError(ctx, err).Code == sdk.OutcomeUnknown
		return err
	}
	c.effects, c.proven = true, c.proven || proof
	for i := range entries {
		c.own = append(c.own, seq+uint64(i))
	}
	for {
		i := slices.Index(c.own, c.base+1)
		if i < 0 {
			return nil
		}
		c.base++
		c.own = slices.Delete(c.own, i, i+1)
	}
}

func (c *liveCall) cause() sdk.Cause {
	return sdk.Cause{Kind: c.call.Kind, Message: c.call.ID, From: c.call.From}
}

// proof is the entry that keeps the proof under which this call runs.
func (c *liveCall) proof() sdk.Entry {
	e := sdk.BehalfEntry{Time: c.checked, Function: c.call.Function, Proof: c.call.Behalf}
	return sdk.Entry{Type: sdk.TypeBehalf, Content: sdk.AppendBehalf(nil, &e)}
}
