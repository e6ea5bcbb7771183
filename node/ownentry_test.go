package node

import (
	"slices"
	"testing"
	"time"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/agency"
	"github.com/parley-p2p/parley/sdk/sdktest"
)

// TestProofOfWhatACallHasGranted: a call on behalf of another agent that grants and
// then fails leaves the grant, and with it, once, the proof in whose name it was made.
func TestProofOfWhatACallHasGranted(t *testing.T) {
	t.Parallel()
	w := newTestNetwork(t, sdktest.ConformanceDNA)
	alice, carol, bob := w.start("alice"), w.start("carol"), w.start("bob")
	addGrant(t, bob, assignedTo(alice.Agent()))
	r, err := step(t, alice, sdktest.Step{Op: "delegate", Delegate: &sdk.Delegation{To: carol.Agent(), Functions: []string{"do"}, Expires: time.Now().Add(time.Hour)}})
	if err != nil {
		t.Fatal(err)
	}
	grant := sdk.Grant{Kind: sdk.GrantUnrestricted, Functions: []string{"other"}}
	call := func(then *sdktest.Step) (sdktest.Result, error) {
		return step(t, carol, sdktest.Step{Op: "remote", To: bob.Agent(), Proof: r.Proof, Then: &sdktest.Step{Op: "grant", Grant: &grant,
			Then: &sdktest.Step{Op: "grant", Grant: &grant, Then: then}}})
	}
	// of are the types of the records that a call has left, in the chain's order.
	of := func(after int) (types []string, last sdk.MessageID) {
		t.Helper()
		records, err := bob.Records(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records[after:] {
			if !last.IsZero() && r.Header.Cause.Message != last || r.Header.Cause.From != carol.Agent() {
				t.Errorf("record %d has cause %+v", r.Header.Seq, r.Header.Cause)
			}
			types, last = append(types, r.Header.EntryType), r.Header.Cause.Message
		}
		return types, last
	}
	count := func() int {
		records, err := bob.Records(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return len(records)
	}
	before := count()
	_, err = call(&sdktest.Step{Op: "fail", Text: "told"})
	wantError(t, err, sdk.HandlerFailed, sdk.DeliveredYes, false)
	if got, _ := of(before); !slices.Equal(got, []string{agency.TypeGrant, sdk.TypeBehalf, agency.TypeGrant}) {
		t.Errorf("a call that granted twice and failed left %q", got)
	}
	before = count()
	if _, err := call(&sdktest.Step{Op: "commit", Text: "done", Strict: true, Then: &sdktest.Step{Op: "who"}}); err != nil {
		t.Fatal(err) // a strict commit takes no notice of the proof either
	}
	if got, _ := of(before); !slices.Equal(got, []string{agency.TypeGrant, sdk.TypeBehalf, agency.TypeGrant, "note"}) {
		t.Errorf("a call that granted twice and committed left %q", got)
	}
	if v, err := bob.VerifyChain(t.Context(), conformanceDNA); err != nil || !v.Valid {
		t.Errorf("%+v, %v", v, err)
	}
}
