package sdktest

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/agency"
)

// delegate has p sign d, for an hour.
func (b *bench) delegate(p Peer, d sdk.Delegation) sdk.Proof {
	b.Helper()
	if d.Expires.IsZero() {
		d.Expires = time.Now().Add(time.Hour)
	}
	r := b.do(p, Step{Op: "delegate", Delegate: &d})
	links, err := r.Proof.Links()
	if err != nil || links[len(links)-1].From != p.ID() || links[len(links)-1].To != d.To {
		b.Fatalf("the proof is %+v, %v", links, err)
	}
	return r.Proof
}

// under is a step that From does to bob under a proof.
func (b *bench) under(op string, p sdk.Proof, s Step) Step {
	return Step{Op: op, To: b.bob.ID(), Then: &s, Proof: p}
}

// ofType are the records of one type, and their contents parse.
func (b *bench) ofType(p Peer, entryType string) (list []sdk.Record) {
	b.Helper()
	for _, r := range b.records(p) {
		if r.Header.EntryType == entryType {
			list = append(list, r)
			if err := sdk.CheckOwn(&r.Header, r.Content); err != nil {
				b.Errorf("record %d: %v", r.Header.Seq, err)
			}
		}
	}
	return list
}

// testDelegate: bob sees both agents and the chain between them, and his record
// keeps the proof iff there is one.
func testDelegate(b *bench) {
	carol := b.net.Start("carol")
	p := b.delegate(b.alice, sdk.Delegation{To: carol.ID(), Messages: true, Agents: []sdk.AgentID{b.bob.ID()}})
	r := b.do(carol, b.under("send", p, Step{Op: "who"}))
	if want := []sdk.AgentID{b.alice.ID(), carol.ID()}; r.From != carol.ID() || !slices.Equal(r.Chain, want) {
		b.Fatalf("bob sees %+v, want the chain %v", r, want)
	}
	if got := b.ofType(b.bob, sdk.TypeBehalf); len(got) != 0 {
		b.Errorf("a call that committed nothing left %d proofs", len(got))
	}
	b.do(carol, b.under("send", p, Step{Op: "commit", Text: "for alice"}))
	b.wantNotes(b.bob, "for alice")
	rs := b.records(b.bob)
	kept := b.ofType(b.bob, sdk.TypeBehalf)
	if len(kept) != 1 || kept[0].Header.Cause != rs[len(rs)-2].Header.Cause || kept[0].Header.Cause.From != carol.ID() || kept[0].Header.Visibility != sdk.Private {
		b.Fatalf("%d proofs are kept: %+v", len(kept), kept)
	}
	if e, err := sdk.ParseBehalf(kept[0].Content); err != nil || !bytes.Equal(e.Proof, p) {
		b.Errorf("the kept proof: %v", err)
	}
	if got := b.ofType(b.alice, sdk.TypeDelegation); len(got) != 1 || !bytes.Equal(got[0].Content, p) || got[0].Header.Visibility != sdk.Private {
		b.Errorf("alice keeps %d delegations", len(got))
	}
	if r := b.do(carol, b.send(Step{Op: "who"})); len(r.Chain) != 0 {
		b.Errorf("in carol's own name: %+v", r)
	}
	// A proof is no use to others, nor for other agents, nor for functions.
	for name, try := range map[string]func() error{
		"stolen": func() error { _, err := b.try(b.ctx, b.bob, b.under("send", p, Step{Op: "who"})); return err },
		"another agent": func() error {
			_, err := b.try(b.ctx, carol, Step{Op: "send", To: b.alice.ID(), Proof: p, Then: &Step{Op: "who"}})
			return err
		},
		"a function": func() error { _, err := b.try(b.ctx, carol, b.under("remote", p, Step{Op: "who"})); return err },
		"no proof":   func() error { _, err := b.try(b.ctx, carol, b.under("send", p[:9], Step{Op: "who"})); return err },
	} {
		if e := b.want(try(), sdk.Refused, "", sdk.SideNode, sdk.DeliveredNo); !strings.Contains(e.Text, "proof") {
			b.Errorf("%s: %v", name, e)
		}
	}
}

// testDelegateOn: handed on, a delegation may only get narrower.
func testDelegateOn(b *bench) {
	carol, dave := b.net.Start("carol"), b.net.Start("dave")
	p := b.delegate(b.alice, sdk.Delegation{To: carol.ID(), Messages: true, MaxPayload: 1000, Depth: 1})
	q := b.delegate(carol, sdk.Delegation{To: dave.ID(), Messages: true, Under: p, Expires: time.Now().Add(time.Minute)})
	r := b.do(dave, b.under("send", q, Step{Op: "who"}))
	if want := []sdk.AgentID{b.alice.ID(), carol.ID(), dave.ID()}; r.From != dave.ID() || !slices.Equal(r.Chain, want) {
		b.Fatalf("bob sees %+v, want the chain %v", r, want)
	}
	_, err := b.try(b.ctx, dave, b.under("send", q, Step{Op: "echo", Text: strings.Repeat("x", 1000)}))
	b.want(err, sdk.Refused, "", sdk.SideNode, sdk.DeliveredNo)
	for name, d := range map[string]sdk.Delegation{
		"deeper":        {To: dave.ID(), Messages: true, Depth: 1},
		"longer":        {To: dave.ID(), Messages: true, Expires: time.Now().Add(2 * time.Hour)},
		"functions too": {To: dave.ID(), Messages: true, All: true},
		"to itself":     {To: carol.ID(), Messages: true},
		"has expired":   {To: dave.ID(), Messages: true, Expires: time.Now().Add(-time.Hour)},
	} {
		d.Under = p
		if d.Expires.IsZero() {
			d.Expires = time.Now().Add(time.Minute)
		}
		if _, err := b.try(b.ctx, carol, Step{Op: "delegate", Delegate: &d}); err == nil {
			b.Errorf("%s: no error", name)
		} else {
			b.want(err, sdk.HandlerFailed, sdk.HandlerCodeInput, 0)
		}
	}
	if got := b.ofType(carol, sdk.TypeDelegation); len(got) != 1 {
		b.Errorf("%d delegations on carol's chain", len(got))
	}
}

// testDelegateGrants: a call on behalf of another agent that grants and then fails
// leaves the grant, and with it, once, the proof in whose name it was made.
func testDelegateGrants(b *bench) {
	carol := b.net.Start("carol")
	b.grant(b.bob, sdk.Grant{Kind: sdk.GrantAssigned, Agents: []sdk.AgentID{b.alice.ID()}})
	p := b.delegate(b.alice, sdk.Delegation{To: carol.ID(), Functions: []string{"do"}})
	grant := sdk.Grant{Kind: sdk.GrantUnrestricted, Functions: []string{"other"}}
	twice := func(then *Step) Step {
		return b.under("remote", p, Step{Op: "grant", Grant: &grant, Then: &Step{Op: "grant", Grant: &grant, Then: then}})
	}
	// left are the types of the records that came after, all by one call of carol's.
	left := func(after int) (types []string) {
		rs := b.records(b.bob)[after:]
		for _, r := range rs {
			if r.Header.Cause != rs[0].Header.Cause || r.Header.Cause.From != carol.ID() {
				b.Errorf("record %d has cause %+v", r.Header.Seq, r.Header.Cause)
			}
			types = append(types, r.Header.EntryType)
		}
		return types
	}
	before := len(b.records(b.bob))
	_, err := b.try(b.ctx, carol, twice(&Step{Op: "fail", Text: "told"}))
	b.want(err, sdk.HandlerFailed, "told", sdk.SideRemoteHandler, sdk.DeliveredYes)
	if got := left(before); !slices.Equal(got, []string{agency.TypeGrant, sdk.TypeBehalf, agency.TypeGrant}) {
		b.Errorf("a call that granted twice and failed left %q", got)
	}
	before = len(b.records(b.bob))
	b.do(carol, twice(&Step{Op: "commit", Text: "done", Strict: true, Then: &Step{Op: "who"}})) // a strict commit takes no notice of the proof either
	if got := left(before); !slices.Equal(got, []string{agency.TypeGrant, sdk.TypeBehalf, agency.TypeGrant, "note"}) {
		b.Errorf("a call that granted twice and committed left %q", got)
	}
}

// testDelegateCall: of a function the grants of the principal count.
func testDelegateCall(b *bench) {
	carol := b.net.Start("carol")
	p := b.delegate(b.alice, sdk.Delegation{To: carol.ID(), Functions: []string{"do"}})
	call := b.under("remote", p, Step{Op: "commit", Text: "granted", Then: &Step{Op: "who"}})
	b.refused(carol, call)
	b.grant(b.bob, sdk.Grant{Kind: sdk.GrantAssigned, Agents: []sdk.AgentID{b.alice.ID()}})
	r := b.do(carol, call)
	if r.From != carol.ID() || len(r.Chain) != 2 || r.Chain[0] != b.alice.ID() {
		b.Errorf("bob sees %+v", r)
	}
	call.Proof = nil
	b.refused(carol, call)
	b.wantNotes(b.bob, "granted")
	if got := b.ofType(b.bob, sdk.TypeBehalf); len(got) != 1 || got[0].Header.Cause.Kind != sdk.CallFunction {
		b.Errorf("kept proofs: %+v", got)
	}
	// What bob's node appends for the call is in alice's name too.
	b.do(carol, b.under("remote", p, Step{Op: "grant", Grant: &sdk.Grant{Kind: sdk.GrantAssigned, Agents: []sdk.AgentID{carol.ID()}, Functions: []string{"other"}}}))
	if got := b.ofType(b.bob, sdk.TypeBehalf); len(got) != 2 {
		b.Errorf("%d proofs are kept of a commit and a grant, want 2", len(got))
	}
}

// testDelegateUses: whoever is called counts.
func testDelegateUses(b *bench) {
	carol := b.net.Start("carol")
	p := b.delegate(b.alice, sdk.Delegation{To: carol.ID(), Messages: true, Uses: 2})
	say := b.under("send", p, Step{Op: "echo", Text: "x"})
	b.do(carol, say)
	b.do(carol, say)
	b.refused(carol, say)
	say.To = b.alice.ID()
	b.do(carol, say) // another agent counts for itself
	q := b.delegate(b.alice, sdk.Delegation{To: carol.ID(), Messages: true, Rate: sdk.Rate{N: 1, Per: time.Hour}})
	say = b.under("send", q, Step{Op: "echo", Text: "x"})
	b.do(carol, say)
	_, err := b.try(b.ctx, carol, say)
	if e := b.want(err, sdk.Busy, "", sdk.SideRemoteNode, sdk.DeliveredNo); e.Limit == nil || e.Limit.RetryAfter == 0 {
		b.Errorf("the rate's error is %v", e)
	}
}

// testRevokeDelegation: who is told refuses at once, whichever link was revoked.
func testRevokeDelegation(b *bench) {
	carol, dave := b.net.Start("carol"), b.net.Start("dave")
	p := b.delegate(b.alice, sdk.Delegation{To: carol.ID(), Messages: true, Agents: []sdk.AgentID{b.bob.ID(), b.alice.ID()}, Depth: 1})
	q := b.delegate(carol, sdk.Delegation{To: dave.ID(), Messages: true, Under: p, Expires: time.Now().Add(time.Minute)})
	id, err := p.ID()
	if err != nil {
		b.Fatal(err)
	}
	toBob, toAlice := b.under("send", q, Step{Op: "who"}), Step{Op: "send", To: b.alice.ID(), Proof: q, Then: &Step{Op: "who"}}
	b.do(dave, toBob)
	b.do(dave, toAlice)
	_, err = b.try(b.ctx, carol, Step{Op: "revoke", Record: id})
	b.want(err, sdk.HandlerFailed, sdk.HandlerCodeNotFound, sdk.SideNode, sdk.DeliveredNo)
	b.do(b.alice, Step{Op: "revoke", Record: id})
	b.do(b.alice, Step{Op: "revoke", Record: id}) // twice is once
	rs := b.ofType(b.alice, sdk.TypeRevocation)
	if len(rs) != 1 || rs[0].Header.Visibility != sdk.Public {
		b.Fatalf("%d revocations on the chain", len(rs))
	}
	_, err = b.try(b.ctx, dave, toAlice) // effective there at once
	if e := b.want(err, sdk.Refused, "", 0, sdk.DeliveredNo); !strings.Contains(e.Text, "revoked") {
		b.Errorf("the error is %v", e)
	}
	for { // bob is told, in the background
		if _, err = b.try(b.ctx, dave, toBob); err != nil {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if e := b.want(err, sdk.Refused, "", 0, sdk.DeliveredNo); !strings.Contains(e.Text, "revoked") {
		b.Errorf("the error is %v", e)
	}
}

// testReceipt: the same bytes on both chains, durable when Send returns, in the
// batch of what the receive committed.
func testReceipt(b *bench) {
	carol := b.net.Start("carol")
	p := b.delegate(b.alice, sdk.Delegation{To: carol.ID(), Messages: true, All: true})
	b.grant(b.bob, sdk.Grant{Kind: sdk.GrantUnrestricted})
	for i, s := range []Step{
		{Op: "send", To: b.bob.ID(), Receipt: true, Then: &Step{Op: "commit", Text: "noted"}},
		{Op: "send", To: b.bob.ID(), Receipt: true, Then: &Step{Op: "echo", Text: "nothing committed"}},
		{Op: "remote", To: b.bob.ID(), Receipt: true, Then: &Step{Op: "echo"}},
		{Op: "send", To: b.bob.ID(), Receipt: true, Proof: p, Then: &Step{Op: "echo"}},
	} {
		r := b.do(carol, s)
		if s.Then.Op == "echo" && r.Text != s.Then.Text {
			b.Errorf("exchange %d: the answer is %+v", i, r)
		}
		ours, theirs := b.ofType(carol, sdk.TypeReceipt), b.ofType(b.bob, sdk.TypeReceipt)
		if len(ours) != i+1 || len(theirs) != i+1 {
			b.Fatalf("exchange %d: %d receipts of the sender, %d of the receiver", i, len(ours), len(theirs))
		}
		a, z := ours[i], theirs[i]
		if !bytes.Equal(a.Content, z.Content) || a.Header.Visibility != sdk.Private || z.Header.Visibility != sdk.Private {
			b.Errorf("exchange %d: the receipts differ", i)
		}
		got, err := sdk.ParseReceipt(a.Content)
		if err != nil || got.Request.From != carol.ID() || got.Request.To != b.bob.ID() || got.Request.Message != z.Header.Cause.Message ||
			(got.Request.Function == "do") != (s.Op == "remote") || got.Request.Behalf.IsZero() != (s.Proof == nil) {
			b.Errorf("exchange %d: %+v, %v", i, got, err)
		}
	}
	b.wantNotes(b.bob, "noted")
	if rs := b.ofType(b.bob, sdk.TypeBehalf); len(rs) != 1 {
		b.Errorf("%d proofs are kept", len(rs))
	}
	b.do(b.alice, Step{Op: "send", To: b.alice.ID(), Receipt: true, Then: &Step{Op: "echo"}})
	if rs := b.ofType(b.alice, sdk.TypeReceipt); len(rs) != 1 {
		b.Errorf("%d receipts of a message to oneself", len(rs))
	}
}

// testReceiptFails: no answer, no receipt; and that of a message stays, whatever
// becomes of the call that sent it.
func testReceiptFails(b *bench) {
	_, err := b.try(b.ctx, b.alice, Step{Op: "send", To: b.bob.ID(), Receipt: true, Then: &Step{Op: "commit", Text: "no", Then: &Step{Op: "fail", Text: "my.code"}}})
	b.want(err, sdk.HandlerFailed, "my.code", sdk.SideRemoteHandler, sdk.DeliveredYes)
	for _, p := range []Peer{b.alice, b.bob} {
		if rs := b.ofType(p, sdk.TypeReceipt); len(rs) != 0 {
			b.Errorf("%d receipts of a message that failed", len(rs))
		}
	}
	_, err = b.try(b.ctx, b.alice, Step{Op: "then", To: b.bob.ID(), Receipt: true, Then: &Step{Op: "echo"}})
	b.want(err, sdk.HandlerFailed, "my.code", sdk.SideHandler)
	for _, p := range []Peer{b.alice, b.bob} {
		if rs := b.ofType(p, sdk.TypeReceipt); len(rs) != 1 {
			b.Errorf("%d receipts where the sender's call failed afterwards", len(rs))
		}
	}
}
