package sdktest

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// testDelegateLarge: a proof of any size that a delegation may have goes with
// messages, calls, receipts and notifications.
func testDelegateLarge(b *bench) {
	carol := b.net.Start("carol")
	b.grant(b.bob, sdk.Grant{Kind: sdk.GrantUnrestricted})
	for _, agents := range []int{4, 5, sdk.MaxGrantAgents} { // up to, above and far above what goes with little ado
		d := sdk.Delegation{To: carol.ID(), Messages: true, All: true, Agents: []sdk.AgentID{b.bob.ID()}}
		for i := range agents - 1 {
			d.Agents = append(d.Agents, ID(fmt.Sprint("nobody ", i)))
		}
		p := b.delegate(b.alice, d)
		for _, op := range []string{"send", "remote"} {
			s := b.under(op, p, Step{Op: "who"})
			s.Receipt = true
			if r := b.do(carol, s); r.From != carol.ID() || len(r.Chain) != 2 || r.Chain[0] != b.alice.ID() {
				b.Errorf("%s under a proof of %d bytes: bob sees %+v", op, len(p), r)
			}
		}
		note := fmt.Sprint(len(p))
		if got := b.do(carol, Step{Op: "results", Proof: p, Agents: []sdk.AgentID{b.bob.ID()}, Then: &Step{Op: "commit", Text: note}}).Texts; !slices.Equal(got, []string{""}) {
			b.Fatalf("a notification under a proof of %d bytes: %q", len(p), got)
		}
		kept := b.ofType(b.bob, sdk.TypeBehalf)
		if e, err := sdk.ParseBehalf(kept[len(kept)-1].Content); err != nil || !bytes.Equal(e.Proof, p) {
			b.Errorf("bob keeps another proof: %v", err)
		}
		if texts := b.notes(b.bob); texts[len(texts)-1] != note {
			b.Errorf("bob's notes are %q", texts)
		}
	}
	if rs := b.ofType(carol, sdk.TypeReceipt); len(rs) != 6 {
		b.Errorf("%d receipts", len(rs))
	}
}

// testDelegateNotify: who is notified sees both agents and the chain between them,
// in the order of all other notifications, and keeps the proof of what it commits.
func testDelegateNotify(b *bench) {
	carol, bob := b.net.Start("carol"), []sdk.AgentID{b.bob.ID()}
	p := b.delegate(b.alice, sdk.Delegation{To: carol.ID(), Messages: true, Agents: bob, MaxPayload: 1000})
	note := func(text string) *Step { return &Step{Op: "commit", Text: text} }
	results := func(p sdk.Proof, s *Step, to ...sdk.AgentID) []string {
		b.Helper()
		return b.do(carol, Step{Op: "results", Proof: p, Agents: to, Then: s}).Texts
	}
	b.do(carol, Step{Op: "notify", Proof: p, Agents: bob, N: 4, Then: note("for")})
	b.do(carol, Step{Op: "notify", Agents: bob, N: 4, Then: note("own")})
	if got := results(p, note("for5"), bob...); !slices.Equal(got, []string{""}) {
		b.Fatalf("the results are %q", got)
	}
	b.wantNotes(b.bob, "for0", "for1", "for2", "for3", "for4", "own0", "own1", "own2", "own3", "own4", "for5")
	kept := b.ofType(b.bob, sdk.TypeBehalf)
	if len(kept) != 6 || kept[0].Header.Cause.Kind != sdk.CallNotified || kept[0].Header.Cause.From != carol.ID() {
		b.Fatalf("%d proofs are kept", len(kept))
	}
	b.do(carol, Step{Op: "notify", Proof: p, Agents: bob, Then: &Step{Op: "for", Text: b.token}})
	b.do(b.bob, Step{Op: "wait", Text: b.token + "0" + carol.ID().Short() + b.alice.ID().Short() + carol.ID().Short()})

	refused := sdk.Refused.Name() + " no"
	// One whom the proof does not name costs the others nothing.
	if got := results(p, note("both"), b.alice.ID(), b.bob.ID()); !slices.Equal(got, []string{refused, ""}) {
		b.Errorf("the results of one who is not named, and one who is, are %q", got)
	}
	b.do(carol, Step{Op: "notify", Proof: p, Agents: []sdk.AgentID{b.alice.ID(), b.bob.ID()}, Then: note("again")})
	// What it does not allow at all is no notification.
	functions := b.delegate(b.alice, sdk.Delegation{To: carol.ID(), All: true})
	for name, s := range map[string]Step{
		"stolen":       {Op: "notify", Proof: b.delegate(b.alice, sdk.Delegation{To: b.bob.ID(), Messages: true}), Agents: bob, Then: note("no")},
		"functions":    {Op: "results", Proof: functions, Agents: bob, Then: note("no")},
		"nobody named": {Op: "notify", Proof: p, Agents: []sdk.AgentID{b.alice.ID()}, Then: note("no")},
		"too large":    {Op: "notify", Proof: p, Agents: bob, Then: note(strings.Repeat("x", 1000))},
		"no proof":     {Op: "notify", Proof: p[:9], Agents: bob, Then: note("no")},
	} {
		_, err := b.try(b.ctx, carol, s)
		if e := b.want(err, sdk.Refused, "", sdk.SideNode, sdk.DeliveredNo); !strings.Contains(e.Text, "proof") {
			b.Errorf("%s: %v", name, e)
		}
	}
	// Uses count; and the end of a delegation is one here too.
	few := b.delegate(b.alice, sdk.Delegation{To: carol.ID(), Messages: true, Uses: 2})
	if got := slices.Concat(results(few, note("few0"), bob...), results(few, note("few1"), bob...), results(few, note("few2"), bob...)); !slices.Equal(got, []string{"", "", refused}) {
		b.Errorf("the results under a delegation of two uses are %q", got)
	}
	id, err := p.ID()
	if err != nil {
		b.Fatal(err)
	}
	b.do(b.alice, Step{Op: "revoke", Record: id})
	for { // bob and carol are told, in the background
		got, err := b.try(b.ctx, carol, Step{Op: "results", Proof: p, Agents: bob, Then: &Step{Op: "echo"}})
		if err != nil {
			b.want(err, sdk.Refused, "", sdk.SideNode, sdk.DeliveredNo)
			break
		}
		if slices.Equal(got.Texts, []string{refused}) {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	notes := b.notes(b.bob)
	if want := []string{"both", "again0", "few0", "few1"}; !slices.Equal(notes[11:], want) {
		b.Errorf("bob's notes go on with %q, want %q", notes[11:], want)
	}
}
