package node

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/agency"
)

// TestRevocationByDHT: real nodes. Bob is not told, and Erin was not there when it
// happened; Alice is gone. What they know comes from the DHT.
func TestRevocationByDHT(t *testing.T) {
	t.Parallel()
	w := newTestNetwork(t, testDNA)
	bob := w.start("bob")
	alice, carol := w.start("alice"), w.start("carol")
	p, err := call[sdk.Proof](t, alice, "delegate", sdk.Delegation{To: carol.Agent(), Messages: true, Expires: time.Now().Add(time.Hour), Depth: 1})
	if err != nil {
		t.Fatal(err)
	}
	id, err := p.ID()
	if err != nil {
		t.Fatal(err)
	}
	dave := w.start("dave")
	q, err := call[sdk.Proof](t, carol, "delegate", sdk.Delegation{To: dave.Agent(), Messages: true, Expires: time.Now().Add(time.Hour), Under: p})
	if err == nil {
		t.Fatal("handed on for longer than it lasts")
	}
	links, err := p.Links()
	if err != nil {
		t.Fatal(err)
	}
	if q, err = call[sdk.Proof](t, carol, "delegate", sdk.Delegation{To: dave.Agent(), Messages: true, Expires: links[0].Expires, Under: p}); err != nil {
		t.Fatal(err)
	}
	send := func(to *testNode) error {
		_, err := call[testMessage](t, dave, "send", testSend{To: to.Agent(), Proof: q, Message: testMessage{Do: "commit", Text: "for alice"}})
		return err
	}
	if err := send(bob); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if _, err := call[struct{}](t, alice, "revoke", id); err != nil {
		t.Fatal(err)
	}
	for err = send(bob); err == nil; err = send(bob) {
		sleep(t.Context(), 10*time.Millisecond)
	}
	t.Logf("refused %s after it was revoked", time.Since(began))
	refused := func(err error) {
		t.Helper()
		var e *sdk.Error
		if !errors.As(err, &e) || e.Code != sdk.Refused || e.Side != sdk.SideRemoteNode || e.Delivered != sdk.DeliveredNo || !strings.Contains(e.Text, "delegation 1 of the proof: it was revoked") {
			t.Errorf("got %v", err)
		}
	}
	refused(err)
	await(t, func() bool { // Alice may stop once others hold it
		s, err := alice.Status(t.Context())
		return err == nil && s.DHT.EntriesPublished == 1
	})
	alice.stop()
	erin := w.start("erin")
	refused(send(erin))
	v, err := bob.VerifyChain(t.Context(), "test") // with the proofs that it keeps
	if err != nil || !v.Valid {
		t.Errorf("%+v, %v", v, err)
	}
}

// TestDelegationUsesAcrossARestart: the callee's count is on disk, and whom it
// blocks can't come through another agent.
func TestDelegationUsesAcrossARestart(t *testing.T) {
	t.Parallel()
	w := newTestNetwork(t, testDNA)
	alice, carol := w.start("alice"), w.start("carol")
	bob := w.start("bob")
	p, err := call[sdk.Proof](t, alice, "delegate", sdk.Delegation{To: carol.Agent(), Messages: true, Expires: time.Now().Add(time.Hour), Uses: 2})
	if err != nil {
		t.Fatal(err)
	}
	send := func() error {
		_, err := call[testMessage](t, carol, "send", testSend{To: bob.Agent(), Proof: p, Message: testMessage{Do: "echo"}})
		return err
	}
	if err := send(); err != nil {
		t.Fatal(err)
	}
	bob.stop()
	bob = w.start("bob")
	set := func(r agency.Rule) {
		t.Helper()
		if err := bob.changePolicy(map[sdk.AgentID][]func(*agency.Rule){alice.Agent(): {func(old *agency.Rule) { *old = r }}}); err != nil {
			t.Fatal(err)
		}
	}
	set(agency.Rule{Blocked: true})
	if e := wantError(t, send(), sdk.Refused, sdk.DeliveredNo, true); e.Text != "blocked" {
		t.Errorf("got %v", e)
	}
	set(agency.Rule{})
	if err := send(); err != nil {
		t.Fatal(err)
	}
	if e := wantError(t, send(), sdk.Refused, sdk.DeliveredNo, true); !strings.Contains(e.Text, "used up") {
		t.Errorf("got %v", e)
	}
}
