package node

import (
	"context"
	"crypto/ed25519"
	"testing"
	"time"

	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/agency"
	"github.com/parley-p2p/parley/transport"
)

// TestRepeatsUnderTheLimits: an id that is known opens nothing. While its message runs a
// few repetitions wait for its outcome beside the limits, and hold no payload; one with
// a larger payload, and one of a message that has ended, is counted as any other.
func TestRepeatsUnderTheLimits(t *testing.T) {
	t.Parallel()
	const first = 60
	h := newGatedNotified()
	cfg := testConfig()
	cfg.DataDir, cfg.Handlers = shortTempDir(t), []sdk.Handler{h}
	n := startNode(t, cfg)
	a, who := n.apps.all()[0], sdk.AgentID(testPrivateKey(9).Public().(ed25519.PublicKey))
	change(t, n, control.PolicyChange{Limits: []control.AgentLimit{{Agent: who, Name: "agent-bytes", Max: 100}, {Agent: who, Name: "agent-requests", Max: 2}}})
	session := newStranger(t, 9).session(n)
	header, err := messageHeader{}.encode(a.hash, a.name, 0)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	answers := make(chan error, 16)
	send := func(id [16]byte, body int) {
		go func() {
			_, err := session.Request(ctx, transport.Outgoing{Kind: kindMessage, ID: id, Header: header, Body: make([]byte, body)})
			answers <- err
		}()
	}
	refused := func(when string, id [16]byte, body int, code sdk.Code, setting string) {
		t.Helper()
		send(id, body)
		if e := refusalOf(t, <-answers, code); e.Limit == nil || e.Limit.Setting != setting {
			t.Errorf("%s: %v", when, e)
		}
	}
	under := func() agency.Amount {
		n.policy.mu.Lock()
		defer n.policy.mu.Unlock()
		return n.policy.load.Of(who)
	}
	id := newMessageID()
	waiting := func() int {
		n.outcomesMu.Lock()
		defer n.outcomesMu.Unlock()
		return n.outcomes.byKey[messageKey{who, a.hash, sdk.MessageID(id)}].repeats
	}
	send(id, first)
	await(t, func() bool { return h.begun() == 1 })
	refused("a larger one", id, first+1, sdk.Busy, "agent-bytes")
	refused("one that never fits", id, 101, sdk.TooLarge, "agent-bytes")
	for range repeatsFree {
		send(id, first)
	}
	await(t, func() bool { return waiting() == repeatsFree })
	if got := under(); got[agency.Requests] != 1 || got[agency.Bytes] != first {
		t.Errorf("counted are %v", got)
	}
	refused("one too many", id, first, sdk.Busy, "agent-bytes")
	close(h.open)
	for range 1 + repeatsFree {
		if err := <-answers; err != nil {
			t.Fatal(err)
		}
	}
	await(t, func() bool { return under() == agency.Amount{} })

	refused("one that never fits, after the end", id, 101, sdk.TooLarge, "agent-bytes")
	others := agency.Amount{agency.Requests: 2}
	if _, e := n.policy.begin(who, others); e != nil { // they are under way
		t.Fatal(e)
	}
	refused("after the end, at the limit", id, first, sdk.Busy, "agent-requests")
	n.policy.end(who, others, true)
	send(id, first)
	if err := <-answers; err != nil || h.begun() != 1 {
		t.Errorf("after the end: %v, it ran %d times", err, h.begun())
	}
}
