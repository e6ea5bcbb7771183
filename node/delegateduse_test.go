package node

import (
	"context"
	"testing"
	"time"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/agency"
	"github.com/parley-p2p/parley/sdk/sdktest"
)

// TestEndedDelegationsLeaveTheDisk: who makes delegations that soon end, and uses
// each once, does not fill agency.db.
func TestEndedDelegationsLeaveTheDisk(t *testing.T) {
	t.Parallel()
	n := &Node{cfg: Config{DataDir: t.TempDir()}, delegated: newDelegated(), apps: newApps(), policy: newPolicy()}
	openAgency(t, n)
	n.delegated.table = agency.NewDelegated(4)
	kept := func() (count int) {
		t.Helper()
		if err := n.agencyDB.each(bucketDelegated, func(_, _ []byte) error { count++; return nil }); err != nil {
			t.Fatal(err)
		}
		return count
	}
	link := func(nonce byte, lasts time.Duration) []sdk.Link {
		return []sdk.Link{{To: sdktest.ID("carol"), Nonce: [16]byte{nonce}, Expires: time.Now().Add(lasts), Uses: 5}}
	}
	for i := range byte(4) {
		if _, e := n.takeDelegated(link(i, 0)); e != nil {
			t.Fatal(e)
		}
	}
	if got := kept(); got != 4 {
		t.Fatalf("%d counts are kept, want 4", got)
	}
	use, e := n.takeDelegated(link(9, time.Hour))
	if e != nil {
		t.Fatal(e)
	}
	if got := kept(); got != 1 {
		t.Errorf("%d counts are kept, want 1", got)
	}
	n.delegated.table.Expire(time.Now().Add(2 * time.Hour)) // it ends while its call runs
	n.delegatedEnded(context.Background(), use, &sdk.Error{Code: sdk.Busy, Delivered: sdk.DeliveredNo, Retry: true})
	if got := kept(); got != 0 {
		t.Errorf("%d counts are kept, want none", got)
	}
}

// TestUseOfACallThatHadAnEffect: a handler that has sent, or granted, and then says
// of its call that it was not delivered has used the grant and the delegation.
func TestUseOfACallThatHadAnEffect(t *testing.T) {
	t.Parallel()
	n := &Node{life: context.Background()}
	for _, c := range []struct {
		e    *sdk.Error
		want bool
	}{
		{nil, false},
		{&sdk.Error{Code: sdk.Busy, Delivered: sdk.DeliveredNo, Retry: true}, true},
		{callError(t.Context(), &sdk.Error{Code: sdk.TooLarge, Delivered: sdk.DeliveredNo, Retry: true}, true), false},
		{callError(t.Context(), &sdk.Error{Code: sdk.TooLarge, Delivered: sdk.DeliveredNo}, false), true},
		{callError(t.Context(), sdk.Fail("x", "y"), false), false},
	} {
		if got := n.leftNoTrace(t.Context(), c.e); got != c.want {
			t.Errorf("%v: %t", c.e, got)
		}
	}
}
