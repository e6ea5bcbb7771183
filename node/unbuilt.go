package node

import (
	"context"

	"github.com/parley-p2p/parley/sdk"
)

func errUnbuilt(what string) *sdk.Error {
	return &sdk.Error{Code: sdk.NoHandler, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Text: what + " is not built yet"}
}

func (*liveCall) Notify(context.Context, sdk.Notice) ([]error, error) {
	return nil, errUnbuilt("Notify")
}
func (*liveCall) Emit(context.Context, []byte) error { return errUnbuilt("Emit") }
func (*liveCall) Online(context.Context, sdk.AgentID) (sdk.Presence, error) {
	return sdk.Presence{}, errUnbuilt("Online")
}
