package serve

import (
	"context"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/handlerpb"
)

func (c *call) Notify(ctx context.Context, n sdk.Notice) ([]error, error) {
	if len(n.Payload) > c.s.v.maxPayload {
		return nil, tooLarge("the notification", len(n.Payload), c.s.v.maxPayload, sdk.SideCaller, sdk.DeliveredNo)
	}
	if !n.Wait && len(n.Behalf) == 0 {
		if queued, err := c.queueNotice(ctx, &n); queued || err != nil {
			return nil, err
		}
	}
	a, err := c.ask(ctx, &handlerpb.Callback{Op: handlerpb.OpNotify, Notice: n, Remaining: c.remaining(ctx)})
	if err != nil {
		return nil, err
	}
	return a.Results, nil
}

// queueNotice sends a small notification without waiting for the node: it tells
// nothing of it anyway. A node that refuses it ends the call with its error, as for
// a commit; what it would refuse was checked here.
func (c *call) queueNotice(ctx context.Context, n *sdk.Notice) (queued bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, c.failed(handlerpb.OpNotify, err, false)
	}
	c.sending.RLock()
	defer c.sending.RUnlock()
	c.mu.Lock()
	over := c.done || c.gaveUp
	c.mu.Unlock()
	if over {
		err = c.noAnswer()
	} else {
		queued, err = c.s.hs.Notify(ctx, c.id, n)
	}
	if err != nil {
		return false, c.failed(handlerpb.OpNotify, err, false)
	}
	return queued, nil
}

func (c *call) Emit(ctx context.Context, payload []byte) error {
	if len(payload) > c.s.v.maxPayload {
		return tooLarge("the signal", len(payload), c.s.v.maxPayload, sdk.SideCaller, sdk.DeliveredNo)
	}
	_, err := c.ask(ctx, &handlerpb.Callback{Op: handlerpb.OpEmit, Payload: payload})
	return err
}

func (c *call) Online(ctx context.Context, agent sdk.AgentID) (sdk.Presence, error) {
	a, err := c.ask(ctx, &handlerpb.Callback{Op: handlerpb.OpOnline, Agent: agent})
	if err != nil {
		return sdk.Presence{}, err
	}
	return a.Presence, nil
}

func (c *call) Grant(ctx context.Context, g sdk.Grant) (sdk.Claim, error) {
	a, err := c.ask(ctx, &handlerpb.Callback{Op: handlerpb.OpGrant, Grant: g})
	if err != nil {
		return sdk.Claim{}, err
	}
	return a.Claim, nil
}

func (c *call) Revoke(ctx context.Context, id sdk.Hash) error {
	_, err := c.ask(ctx, &handlerpb.Callback{Op: handlerpb.OpRevoke, Revoke: id})
	return err
}

func (c *call) Claim(ctx context.Context, claim sdk.Claim) error {
	_, err := c.ask(ctx, &handlerpb.Callback{Op: handlerpb.OpClaim, Claim: claim})
	return err
}

func (c *call) Delegate(ctx context.Context, d sdk.Delegation) (sdk.Proof, error) {
	a, err := c.ask(ctx, &handlerpb.Callback{Op: handlerpb.OpDelegate, Delegate: d})
	if err != nil {
		return nil, err
	}
	return a.Proof, nil
}

func (c *call) List(ctx context.Context, l sdk.List) (sdk.Page, error) {
	a, err := c.ask(ctx, &handlerpb.Callback{Op: handlerpb.OpList, List: l})
	if err != nil {
		return sdk.Page{}, err
	}
	return a.Page, nil
}
