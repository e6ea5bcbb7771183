package node

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"reflect"
	"testing"

	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/agency"
	"github.com/parley-p2p/parley/sdk/sdktest"
)

func change(t testing.TB, n *testNode, c control.PolicyChange) {
	t.Helper()
	if _, err := n.ChangePolicy(t.Context(), c); err != nil {
		t.Fatal(err)
	}
}

// TestBlocked: nothing of a blocked agent's runs, and it still finds others by this
// node's DHT. The lists hold at once, in both ways of a message.
func TestBlocked(t *testing.T) {
	t.Parallel()
	w := newTestNetwork(t, sdktest.ConformanceDNA)
	bob, alice, carol := w.start("bob"), w.start("alice"), w.start("carol")
	addGrant(t, bob, sdk.Grant{Kind: sdk.GrantUnrestricted})
	send := func(n *testNode) error {
		_, err := step(t, n, sdktest.Step{Op: "send", To: bob.Agent(), Then: &sdktest.Step{Op: "who"}})
		return err
	}
	heard := func(n *testNode, want bool) {
		t.Helper()
		for _, err := range []error{send(n), whoAt(t, n, bob)} {
			switch {
			case want && err != nil:
				t.Fatal(err)
			case !want:
				refusedWith(t, err, "blocked")
			}
		}
	}
	a, c := []sdk.AgentID{alice.Agent()}, []sdk.AgentID{carol.Agent()}
	heard(alice, true)
	change(t, bob, control.PolicyChange{Block: a})
	heard(alice, false)
	heard(carol, true)
	if _, err := alice.DHTLookup(t.Context(), carol.Agent(), control.DHTSearch{}); err != nil {
		t.Errorf("the DHT is closed to who is blocked: %v", err)
	}
	if err := func() error {
		_, err := step(t, bob, sdktest.Step{Op: "send", To: alice.Agent(), Then: &sdktest.Step{Op: "who"}})
		return err
	}(); err != nil {
		t.Errorf("who blocks can't send: %v", err)
	}
	change(t, bob, control.PolicyChange{Unblock: a, Allow: c})
	heard(alice, false)
	heard(carol, true)
	if err := whoAt(t, bob, bob); err != nil {
		t.Errorf("an allow list shuts oneself out: %v", err)
	}
	change(t, bob, control.PolicyChange{Disallow: c})
	heard(alice, true)
	if p, err := bob.Policy(t.Context()); err != nil || len(p.Blocked)+len(p.Allowed)+len(p.Limits) != 0 || bob.policy.rules.Load() != nil {
		t.Errorf("rules are left: %+v, %v", p, err)
	}
	for _, bad := range []control.PolicyChange{{Block: []sdk.AgentID{bob.Agent()}}, {Allow: []sdk.AgentID{{}}}, {Limits: []control.AgentLimit{{Name: "other", Max: 1}}}} {
		if _, err := bob.ChangePolicy(t.Context(), bad); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}

// TestAgentLimits: what is under way of one agent is bounded, and told with its
// setting; others are not affected, and a limit that is lifted is lifted at once.
func TestAgentLimits(t *testing.T) {
	t.Parallel()
	w := newTestNetwork(t, sdktest.ConformanceDNA)
	bob, alice, carol := w.start("bob"), w.start("alice"), w.start("carol")
	change(t, bob, control.PolicyChange{Limits: []control.AgentLimit{{Name: "agent-requests", Max: 2}, {Agent: alice.Agent(), Name: "agent-bytes", Max: 10_000}}})
	to := func(s sdktest.Step) sdktest.Step { return sdktest.Step{Op: "send", To: bob.Agent(), Then: &s} }
	ended, run := make(chan error, 2), rand.Text() // signals are the process's
	for i := range 2 {
		token := fmt.Sprint(run, i)
		go func() {
			_, err := step(t, alice, to(sdktest.Step{Op: "gate", Text: token, Then: &sdktest.Step{Op: "who"}}))
			ended <- err
		}()
		if _, err := step(t, bob, sdktest.Step{Op: "wait", Text: token + ".begun"}); err != nil {
			t.Fatal(err)
		}
	}
	_, err := step(t, alice, to(sdktest.Step{Op: "who"}))
	if e := wantError(t, err, sdk.Busy, sdk.DeliveredNo, true); e.Side != sdk.SideRemoteNode || e.Limit == nil || e.Limit.Setting != "agent-requests" || e.Limit.Max != 2 || e.Limit.RetryAfter <= 0 {
		t.Errorf("got %v", e)
	}
	if _, err := step(t, carol, to(sdktest.Step{Op: "who"})); err != nil {
		t.Errorf("another agent: %v", err)
	}
	change(t, bob, control.PolicyChange{Limits: []control.AgentLimit{{Agent: alice.Agent(), Name: "agent-requests", Max: agency.Unlimited}}})
	if _, err := step(t, alice, to(sdktest.Step{Op: "who"})); err != nil {
		t.Errorf("a limit that was lifted: %v", err)
	}
	_, err = step(t, alice, to(sdktest.Step{Op: "echo", Text: string(make([]byte, 10_000))}))
	if e := wantError(t, err, sdk.TooLarge, sdk.DeliveredNo, true); e.Limit == nil || e.Limit.Setting != "agent-bytes" || e.Limit.Max != 10_000 {
		t.Errorf("got %v", e)
	}
	for i := range 2 {
		if _, err := step(t, bob, sdktest.Step{Op: "raise", Text: fmt.Sprint(run, i, ".open")}); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	await(t, func() bool {
		bob.policy.mu.Lock()
		defer bob.policy.mu.Unlock()
		return bob.policy.load.Of(alice.Agent()) == agency.Amount{}
	})
}

func TestPolicySignals(t *testing.T) {
	t.Parallel()
	p, who := newPolicy(), sdk.AgentID{1}
	if counted, e := p.beginSignal(who); counted || e != nil {
		t.Errorf("without rules: %t, %v", counted, e)
	}
	p.set((*agency.Rules)(nil).With(sdk.AgentID{}, agency.Rule{Limits: [3]int{0, 0, 1}}))
	counted, e := p.beginSignal(who)
	if !counted || e != nil {
		t.Fatal(counted, e)
	}
	if _, e := p.beginSignal(who); e == nil || e.Limit.Setting != "agent-signals" {
		t.Errorf("a second one: %v", e)
	}
	p.endSignal(who, counted)
	if _, e := p.beginSignal(who); e != nil {
		t.Errorf("after the first has ended: %v", e)
	}
}

func TestStoredRules(t *testing.T) {
	t.Parallel()
	for _, r := range []agency.Rule{{Blocked: true}, {Allowed: true, Limits: [3]int{1, -1, 1 << 40}}} {
		if back, err := decodeRule(encodeRule(r)); err != nil || back != r {
			t.Errorf("%+v comes back as %+v, %v", r, back, err)
		}
	}
	if encodeRule(agency.Rule{}) != nil {
		t.Error("a rule that says nothing is kept")
	}
	for name, b := range map[string][]byte{"empty": nil, "nothing": make([]byte, ruleSize), "version": append([]byte{2, 1}, make([]byte, 24)...),
		"flags": append([]byte{1, 4}, make([]byte, 24)...), "limit": binary.BigEndian.AppendUint64(append([]byte{1, 1}, make([]byte, 16)...), 1<<63)} {
		if r, err := decodeRule(b); err == nil {
			t.Errorf("%s: read as %+v", name, r)
		}
	}
}

func FuzzStoredRule(f *testing.F) {
	f.Add(encodeRule(agency.Rule{Blocked: true, Limits: [3]int{1, 2, 3}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := decodeRule(b); err == nil && !reflect.DeepEqual(encodeRule(r), b) {
			t.Errorf("%x is read as %+v", b, r)
		}
	})
}
