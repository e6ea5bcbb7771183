package node

import (
	"context"
	"crypto/ed25519"
	"testing"

	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/agency"
	"github.com/parley-p2p/parley/transport"
)

// TestLimitsChangeAtOnce: a limit that is set, raised, lowered or lifted holds for the
// next that comes over a session that was there before. What began without a limit is
// not counted.
func TestLimitsChangeAtOnce(t *testing.T) {
	t.Parallel()
	const size = 100
	for _, c := range []struct {
		limit    string
		one      int // what one of them takes
		low      int // a limit under which one never fits, or 0: there is none
		notified bool
	}{{"agent-requests", 1, 0, false}, {"agent-bytes", size, size / 2, false}, {"agent-signals", 1, 0, true}} {
		t.Run(c.limit, func(t *testing.T) {
			t.Parallel()
			h := newGatedNotified()
			cfg := testConfig()
			cfg.DataDir, cfg.Handlers = shortTempDir(t), []sdk.Handler{h}
			n := startNode(t, cfg)
			a, who := n.apps.all()[0], sdk.AgentID(testPrivateKey(9).Public().(ed25519.PublicKey))
			session := newStranger(t, 9).session(n)
			running := func() int {
				n.outcomesMu.Lock()
				defer n.outcomesMu.Unlock()
				if s := n.outcomes.senders[who]; s != nil {
					return s.running
				}
				return 0
			}
			answers, held := make(chan error, 16), 0
			// comes sends one more, and is how it was refused; nil: it is held.
			comes := func() error {
				t.Helper()
				header := messageHeader{}
				if c.notified {
					header = messageHeader{Notified: true, Order: order{run: 1, seq: uint64(held) + 1, base: 1}.encode()}
				}
				encoded, err := header.encode(a.hash, a.name, 0)
				if err != nil {
					t.Fatal(err)
				}
				go func() {
					_, err := session.Request(context.Background(), transport.Outgoing{Kind: kindMessage, ID: newMessageID(), Header: encoded, Body: make([]byte, size)})
					answers <- err
				}()
				await(t, func() bool { return running() == held+1 || len(answers) > 0 })
				if running() == held+1 {
					held++
					return nil
				}
				return <-answers
			}
			enters := func(when string) {
				t.Helper()
				if err := comes(); err != nil {
					t.Fatalf("%s: %v", when, err)
				}
			}
			full := func(when string, code sdk.Code) {
				t.Helper()
				err := comes()
				if err == nil {
					t.Fatalf("%s: it was let in", when)
				}
				if e := refusalOf(t, err, code); e.Limit == nil || e.Limit.Setting != c.limit || e.Delivered != sdk.DeliveredNo {
					t.Errorf("%s: %v", when, e)
				}
			}
			set := func(agent sdk.AgentID, max int) {
				t.Helper()
				change(t, n, control.PolicyChange{Limits: []control.AgentLimit{{Agent: agent, Name: c.limit, Max: max}}})
			}
			enters("without a limit")
			set(sdk.AgentID{}, c.one)
			enters("the first that is counted")
			full("a limit that was set", sdk.Busy)
			set(sdk.AgentID{}, 2*c.one)
			enters("a limit that was raised")
			full("the raised limit", sdk.Busy)
			set(who, 3*c.one)
			enters("a limit of its own")
			full("its own limit", sdk.Busy)
			set(who, c.one)
			full("a limit that was lowered", sdk.Busy)
			if c.low > 0 {
				set(who, c.low)
				full("a limit under which it never fits", sdk.TooLarge)
			}
			set(who, agency.Unlimited)
			enters("a limit that was lifted for one")
			set(who, agency.Unset)
			full("the limit of all", sdk.Busy)
			set(sdk.AgentID{}, agency.Unlimited)
			enters("a limit that was lifted for all")
			close(h.open)
			for range held {
				if err := <-answers; err != nil {
					t.Error(err)
				}
			}
			await(t, func() bool {
				n.policy.mu.Lock()
				defer n.policy.mu.Unlock()
				return n.policy.load.Of(who) == agency.Amount{}
			})
		})
	}
}
