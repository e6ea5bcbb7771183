package node

import (
	"context"
	"fmt"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// admission is the call that a message asks for, and what goes with it.
type admission struct {
	call    *sdk.Call
	checked time.Time           // when the call's Behalf was found to hold
	receipt *sdk.ReceiptRequest // nil: none is asked for
}

// admitted is the call that another agent's message asks for, once it is certain
// that it may.
func (n *Node) admitted(ctx context.Context, a *app, key messageKey, h *messageHeader, payload []byte) (*admission, *sdk.Error) {
	call := &sdk.Call{Kind: sdk.CallReceive, ID: key.id, From: key.from, Payload: payload}
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
	in := &admission{call: call}
	var e *sdk.Error
	if in.receipt, e = n.receiptAsked(a, key, h, payload); e != nil {
		return nil, e
	}
	who, e := n.authority(ctx, a, h, in)
	if e != nil {
		return nil, e
	}
	if h.Function != "" && who != n.id.agent {
		return nil, errRefused("no grant of this agent's allows it")
	}
	return in, nil
}

// errRefused tells another agent no more than that it may not.
func errRefused(why string) *sdk.Error {
	return &sdk.Error{Code: sdk.Refused, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true, Text: why}
}
