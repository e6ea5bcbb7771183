package sdktest

import (
	"context"

	"github.com/parley-p2p/parley/sdk"
)

func errUnbuilt(what string) *sdk.Error {
	return &sdk.Error{Code: sdk.NoHandler, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Text: what + " is not built yet"}
}

func (*running) Grant(context.Context, sdk.Grant) (sdk.Claim, error) {
	return sdk.Claim{}, errUnbuilt("Grant")
}
func (*running) Revoke(context.Context, sdk.Hash) error { return errUnbuilt("Revoke") }
func (*running) Claim(context.Context, sdk.Claim) error { return errUnbuilt("Claim") }
func (*running) Delegate(context.Context, sdk.Delegation) (sdk.Proof, error) {
	return nil, errUnbuilt("Delegate")
}
