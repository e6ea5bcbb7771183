package node

import (
	"context"
	"fmt"
	"time"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/agency"
)

// admission is the call that a message asks for, and what goes with it.
type admission struct {
	call    *sdk.Call
	use     *grantUse            // of a grant; nil: it needs none
	behalf  *sdk.Behalf          // nil: the sender acts in its own name
	counted *agency.DelegatedUse // of behalf's delegations; nil: they bound no uses
	checked time.Time            // when the call's Behalf was found to hold
	receipt *sdk.ReceiptRequest  // nil: none is asked for
}

// admitted is the call that another agent's message asks for, once it is certain
// that it may.
func (n *Node) admitted(ctx context.Context, a *app, key messageKey, h *messageHeader, payload []byte) (*admission, *sdk.Error) {
	if key.from != n.id.agent {
		if e := n.policy.hears(key.from); e != nil { // since it came: it may have waited
			return nil, e
		}
	}
	call := &sdk.Call{Kind: sdk.CallReceive, ID: key.id, From: key.from, Payload: payload}
	in := &admission{call: call}
	var e *sdk.Error
	// Before it is asked what the DNA has: who asks again for an outcome that nobody has
	// (askAgain) names no function, and is to hear that it has none.
	if in.receipt, e = n.receiptAsked(a, key, h, payload); e != nil {
		return nil, e
	}
	desc := a.described()
	missing := ""
	switch {
	case h.Notified:
		call.Kind = sdk.CallNotified
		if !desc.Notified {
			missing = fmt.Sprintf("DNA %s has no notified", a.name)
		}
	case h.Function != "":
		call.Kind, call.Function = sdk.CallFunction, h.Function
	case !desc.Receives:
		missing = fmt.Sprintf("DNA %s has no receive", a.name)
	}
	if missing != "" {
		return nil, &sdk.Error{Code: sdk.NoHandler, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true, Text: missing}
	}
	who, e := n.authority(ctx, a, h, in)
	if e != nil {
		return nil, e
	}
	if h.Function != "" {
		if in.use, e = n.granted(a, who, h, len(payload)); e != nil {
			return nil, e
		}
	}
	if in.behalf == nil {
		return in, nil
	}
	if in.counted, e = n.takeDelegated(in.behalf.Links); e != nil {
		n.useEnded(ctx, in.use, e)
		return nil, e
	}
	return in, nil
}

// granted lets a call of a function in whose caller, or in whose name it calls,
// has a grant; this agent itself needs none.
func (n *Node) granted(a *app, who sdk.AgentID, h *messageHeader, payload int) (*grantUse, *sdk.Error) {
	use, e := n.letIn(a, who, h, payload)
	if e == nil {
		e = n.countUse(use)
	}
	if e != nil {
		return nil, e
	}
	return use, nil
}

// letIn is granted before the use is on the disk. Who has no grant is not told whether
// there is such a function.
func (n *Node) letIn(a *app, who sdk.AgentID, h *messageHeader, payload int) (use *grantUse, e *sdk.Error) {
	if who != n.id.agent {
		if use, e = n.takeGrant(a, &agency.Ask{Caller: who, Function: h.Function, Payload: payload, Claim: h.Claim}); e != nil {
			return nil, e
		}
	}
	if !a.hasFunction(h.Function) {
		if use != nil {
			n.giveBack(use)
		}
		return nil, errMissing("DNA %s has no function %q", a.name, h.Function)
	}
	return use, nil
}
