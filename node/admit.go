package node

import (
	"context"
	"fmt"

	"github.com/parley-p2p/parley/sdk"
)

// admitted is the call that another agent's message asks for, once it is certain
// that it may.
func (n *Node) admitted(ctx context.Context, a *app, key messageKey, h *messageHeader, payload []byte) (*sdk.Call, *sdk.Error) {
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
	if h.Function != "" && key.from != n.id.agent {
		return nil, errRefused("no grant of this agent's allows it")
	}
	return call, nil
}

// errRefused tells another agent no more than that it may not.
func errRefused(why string) *sdk.Error {
	return &sdk.Error{Code: sdk.Refused, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true, Text: why}
}
