package node

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/sdktest"
)

// TestDelegationsOfALaterVersion: one that can't be read hides none of the others, from
// the handler or the operator, who can revoke them.
func TestDelegationsOfALaterVersion(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newEntryNode(t, t.TempDir(), newFakeEntries(), nil)
		a := n.add("raw", nil)
		ids := map[sdk.Hash]bool{}
		for i := range byte(3) {
			p := sdk.Proof{0xff}
			if i != 1 {
				var err error
				d := &sdk.Delegation{To: sdktest.ID("bob"), All: true, Expires: time.Now().Add(time.Hour)}
				if p, err = sdk.SignDelegation(d, a.hash, n.id.key, [16]byte{i}, time.Now()); err != nil {
					t.Fatal(err)
				}
				id, err := p.ID()
				if err != nil {
					t.Fatal(err)
				}
				ids[id] = true
			}
			if _, err := n.appendOwn(t.Context(), a, n.operatorCause(), sdk.Entry{Type: sdk.TypeDelegation, Content: p}); err != nil {
				t.Fatal(err)
			}
		}
		c := &liveCall{node: n.Node, app: a, call: &sdk.Call{Kind: sdk.CallFunction}}
		page, err := c.List(t.Context(), sdk.List{Kind: sdk.ListDelegations})
		if err != nil || len(page.Delegations) != 2 || page.Next != nil {
			t.Errorf("the handler sees %d, %v", len(page.Delegations), err)
		}
		list, err := n.Delegations(t.Context(), a.name)
		if err != nil || len(list) != 2 {
			t.Errorf("the operator sees %d, %v", len(list), err)
		}
		for id := range ids {
			if _, found, err := n.ownDelegation(a, id); err != nil || !found {
				t.Errorf("%s: %t, %v", id, found, err)
			}
		}
	})
}
