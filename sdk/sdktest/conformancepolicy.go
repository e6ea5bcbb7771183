package sdktest

import (
	"slices"
	"strings"

	"github.com/parley-p2p/parley/sdk"
)

// Policed is a Peer whose operator's lists and limits can be changed. TestHost uses
// it where it is there. They hold when a method returns.
type Policed interface {
	Block(agent sdk.AgentID)
	Unblock(agent sdk.AgentID)
	Allow(agent sdk.AgentID)
	Disallow(agent sdk.AgentID)
	Limit(agent sdk.AgentID, l AgentLimits)
}

func (b *bench) policed(p Peer) Policed {
	policed, ok := p.(Policed)
	if !ok {
		b.Skip("its operator can't be played")
	}
	return policed
}

// limited is a step that a limit of bob's forbids.
func (b *bench) limited(p Peer, s Step, code sdk.Code, setting string, most uint64) {
	b.Helper()
	_, err := b.try(b.ctx, p, s)
	e := b.want(err, code, "", sdk.SideRemoteNode, sdk.DeliveredNo)
	b.wantRetry(e)
	if e.Limit == nil || e.Limit.Setting != setting || e.Limit.Max != most || e.Limit.Value <= most || (e.Limit.RetryAfter > 0) != (code == sdk.Busy) {
		b.Errorf("the error does not tell the limit %s: %+v", setting, e.Limit)
	}
}

// testLists: whoever is blocked, or not among those who are allowed, is not heard:
// not with messages, nor calls, nor notifications, nor in another one's name.
func testLists(b *bench) {
	operator, carol := b.policed(b.bob), b.net.Start("carol")
	b.grant(b.bob, sdk.Grant{Kind: sdk.GrantUnrestricted})
	proof := b.delegate(b.alice, sdk.Delegation{To: carol.ID(), Messages: true, All: true})
	bob := []sdk.AgentID{b.bob.ID()}
	notified := func(p Peer, proof sdk.Proof) string {
		b.Helper()
		texts := b.do(p, Step{Op: "results", Agents: bob, Proof: proof, Then: &Step{Op: "echo"}}).Texts
		if len(texts) != 1 {
			b.Fatalf("the results are %q", texts)
		}
		return texts[0]
	}
	heard := func(p Peer, proof sdk.Proof) {
		b.Helper()
		b.do(p, b.under("send", proof, Step{Op: "echo"}))
		b.do(p, b.under("remote", proof, Step{Op: "echo"}))
		if got := notified(p, proof); got != "" {
			b.Errorf("a notification: %s", got)
		}
	}
	unheard := func(p Peer, proof sdk.Proof) {
		b.Helper()
		for _, op := range []string{"send", "remote"} {
			_, err := b.try(b.ctx, p, b.under(op, proof, Step{Op: "echo"}))
			if e := b.want(err, sdk.Refused, "", sdk.SideRemoteNode, sdk.DeliveredNo); !strings.Contains(e.Text, "blocked") {
				b.Errorf("%s: %v", op, e)
			}
		}
		if got := notified(p, proof); got != sdk.Refused.Name()+" no" {
			b.Errorf("a notification: %q", got)
		}
	}
	heard(b.alice, nil)
	heard(carol, proof)
	operator.Block(b.alice.ID())
	unheard(b.alice, nil)
	unheard(carol, proof) // in alice's name
	heard(carol, nil)
	b.do(b.bob, Step{Op: "send", To: b.alice.ID(), Then: &Step{Op: "echo"}}) // the other way
	operator.Unblock(b.alice.ID())
	heard(b.alice, nil)
	operator.Allow(carol.ID())
	unheard(b.alice, nil)
	unheard(carol, proof)
	heard(carol, nil)
	heard(b.bob, nil) // itself
	operator.Allow(b.alice.ID())
	heard(b.alice, nil)
	heard(carol, proof)
	operator.Block(carol.ID()) // on both lists
	unheard(carol, nil)
	operator.Unblock(carol.ID())
	operator.Disallow(carol.ID())
	operator.Disallow(b.alice.ID())
	heard(carol, nil)
}

// testLimitRequests: what runs at once, of one agent.
func testLimitRequests(b *bench) {
	operator, carol := b.policed(b.bob), b.net.Start("carol")
	b.grant(b.bob, sdk.Grant{Kind: sdk.GrantUnrestricted})
	operator.Limit(sdk.AgentID{}, AgentLimits{Requests: 1})
	operator.Limit(carol.ID(), AgentLimits{Requests: Unlimited})
	gate, ended := b.token+"gate", make(chan error, 2)
	for _, p := range []Peer{b.alice, carol} {
		text := gate + p.ID().Short()
		go func() {
			_, err := b.try(b.ctx, p, b.send(Step{Op: "gate", Text: text, Then: &Step{Op: "echo"}}))
			ended <- err
		}()
		b.do(b.bob, Step{Op: "wait", Text: text + ".begun"})
	}
	b.limited(b.alice, b.send(Step{Op: "echo"}), sdk.Busy, "agent-requests", 1)
	b.limited(b.alice, b.remote(Step{Op: "echo"}), sdk.Busy, "agent-requests", 1)
	b.do(carol, b.send(Step{Op: "echo"}))
	if got := b.do(b.alice, Step{Op: "results", Agents: []sdk.AgentID{b.bob.ID()}, Then: &Step{Op: "echo"}}).Texts; !slices.Equal(got, []string{""}) {
		b.Errorf("notifications are none of the requests: %q", got)
	}
	for _, p := range []Peer{b.alice, carol} {
		b.do(b.bob, Step{Op: "raise", Text: gate + p.ID().Short() + ".open"})
		if err := <-ended; err != nil {
			b.Fatal(err)
		}
	}
	b.do(b.alice, b.send(Step{Op: "echo"}))
	_, err := b.try(b.ctx, b.alice, b.remote(Step{Op: "fail", Text: "told"})) // is counted out too
	b.want(err, sdk.HandlerFailed, "told", sdk.SideRemoteHandler, sdk.DeliveredYes)
	b.do(b.alice, b.send(Step{Op: "echo"}))
}

// testLimitBytes: what would never fit is told apart from what does not fit now.
func testLimitBytes(b *bench) {
	operator := b.policed(b.bob)
	operator.Limit(b.alice.ID(), AgentLimits{Bytes: 2000})
	large := Step{Op: "echo", Text: strings.Repeat("x", 2000)}
	b.limited(b.alice, b.send(large), sdk.TooLarge, "agent-bytes", 2000)
	gate, ended := b.token+"gate", make(chan error, 1)
	go func() {
		_, err := b.try(b.ctx, b.alice, b.send(Step{Op: "gate", Text: gate, Then: &Step{Op: "echo", Text: strings.Repeat("x", 1500)}}))
		ended <- err
	}()
	b.do(b.bob, Step{Op: "wait", Text: gate + ".begun"})
	large.Text = large.Text[:1000]
	b.limited(b.alice, b.send(large), sdk.Busy, "agent-bytes", 2000)
	b.do(b.alice, b.send(Step{Op: "echo"}))
	b.do(b.bob, Step{Op: "raise", Text: gate + ".open"})
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
	b.do(b.alice, b.send(large))
	operator.Limit(b.alice.ID(), AgentLimits{})
	large.Text = strings.Repeat("x", 3000)
	b.do(b.alice, b.send(large))
}

// testLimitSignals: one that runs and one that waits are two.
func testLimitSignals(b *bench) {
	operator, bob, gate := b.policed(b.bob), []sdk.AgentID{b.bob.ID()}, b.token+"gate"
	operator.Limit(b.alice.ID(), AgentLimits{Signals: 2})
	b.do(b.alice, Step{Op: "notify", Agents: bob, Then: &Step{Op: "gate", Text: gate, Then: &Step{Op: "commit", Text: "gate"}}})
	b.do(b.bob, Step{Op: "wait", Text: gate + "0.begun"})
	b.do(b.alice, Step{Op: "notify", Agents: bob, Then: &Step{Op: "commit", Text: "second"}})
	results := func(text string) []string {
		return b.do(b.alice, Step{Op: "results", Agents: bob, Then: &Step{Op: "commit", Text: text}}).Texts
	}
	if got := results("third"); !slices.Equal(got, []string{sdk.Busy.Name() + " no"}) {
		b.Errorf("the third one's results are %q", got)
	}
	b.do(b.alice, b.send(Step{Op: "echo"})) // messages are none of the signals
	b.do(b.bob, Step{Op: "raise", Text: gate + "0.open"})
	operator.Limit(b.alice.ID(), AgentLimits{})
	if got := results("fourth"); !slices.Equal(got, []string{""}) {
		b.Errorf("the fourth one's results are %q", got)
	}
	b.wantNotes(b.bob, "gate", "second0", "fourth")
}
