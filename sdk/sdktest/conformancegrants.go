package sdktest

import (
	"time"

	"github.com/parley-p2p/parley/sdk"
)

func (b *bench) remote(s Step) Step { return Step{Op: "remote", To: b.bob.ID(), Then: &s} }

func (b *bench) grant(p Peer, g sdk.Grant) sdk.Claim {
	b.Helper()
	r := b.do(p, Step{Op: "grant", Grant: &g})
	if r.Claim == nil || r.Claim.Grant.IsZero() || r.Claim.Grantor != p.ID() {
		b.Fatalf("the claim is %+v", r.Claim)
	}
	return *r.Claim
}

// refused is a call that no grant lets in: it did nothing, and says so.
func (b *bench) refused(p Peer, s Step) {
	b.Helper()
	_, err := b.try(b.ctx, p, s)
	b.wantRetry(b.want(err, sdk.Refused, "", sdk.SideRemoteNode, sdk.DeliveredNo))
}

// testGrant: from no grant to one, its use, and its end.
func testGrant(b *bench) {
	s := b.remote(Step{Op: "commit", Text: "remote", Then: &Step{Op: "who"}})
	b.refused(b.alice, s)
	claim := b.grant(b.bob, sdk.Grant{Kind: sdk.GrantAssigned, Agents: []sdk.AgentID{b.alice.ID()}, Functions: []string{"do"}})
	if !claim.Secret.IsZero() {
		b.Error("the claim of an assigned grant has a secret")
	}
	r := b.do(b.alice, s)
	if r.Agent != b.bob.ID() || r.From != b.alice.ID() || r.Message.IsZero() {
		b.Fatalf("a remote function sees %+v", r)
	}
	b.wantNotes(b.bob, "remote")
	b.wantNotes(b.alice)
	rs := b.unmarked(b.bob)
	grant, note := rs[1].Header, rs[2].Header
	if grant.EntryType != "parley.grant" || grant.Visibility != sdk.Private || grant.Entry != claim.Grant ||
		grant.Cause.Kind != sdk.CallFunction || grant.Cause.From != b.bob.ID() {
		b.Errorf("the grant's record is %+v", grant)
	}
	if note.Cause != (sdk.Cause{Kind: sdk.CallFunction, Message: r.Message, From: b.alice.ID()}) {
		b.Errorf("the cause of a remote call is %+v, its id was %s", note.Cause, r.Message)
	}
	b.do(b.bob, Step{Op: "revoke", Record: claim.Grant})
	b.refused(b.alice, s)
	b.do(b.bob, Step{Op: "revoke", Record: claim.Grant}) // twice is once
	if rs := b.unmarked(b.bob); len(rs) != 4 || rs[3].Header.EntryType != "parley.revoked" || rs[3].Header.Visibility != sdk.Private {
		b.Errorf("%d records, the last is %+v", len(rs), rs[len(rs)-1].Header)
	}
	_, err := b.try(b.ctx, b.bob, Step{Op: "revoke", Record: sdk.Hash{1}})
	b.want(err, sdk.HandlerFailed, sdk.HandlerCodeNotFound, sdk.SideNode, sdk.DeliveredNo)
}

// testGrantNobody: a grant lets in whom and what it names; one's own functions
// need none. A stranger is not told which functions there are.
func testGrantNobody(b *bench) {
	b.grant(b.bob, sdk.Grant{Kind: sdk.GrantAssigned, Agents: []sdk.AgentID{ID("nobody")}})
	b.grant(b.bob, sdk.Grant{Kind: sdk.GrantAssigned, Agents: []sdk.AgentID{b.alice.ID()}, Functions: []string{"other"}})
	b.refused(b.alice, b.remote(Step{Op: "who"}))
	b.refused(b.alice, Step{Op: "remote", To: b.bob.ID(), Text: "dont", Then: &Step{Op: "who"}})
	_, err := b.try(b.ctx, b.alice, Step{Op: "remote", To: b.bob.ID(), Text: "other", Then: &Step{Op: "who"}})
	b.wantRetry(b.want(err, sdk.NoHandler, "", sdk.SideRemoteNode, sdk.DeliveredNo))
	if r := b.do(b.bob, b.remote(Step{Op: "who"})); r.From != b.bob.ID() {
		b.Errorf("a function of one's own sees %+v", r)
	}
	b.grant(b.bob, sdk.Grant{Kind: sdk.GrantUnrestricted, Functions: []string{"do"}})
	b.do(b.alice, b.remote(Step{Op: "who"}))
}

// testGrantTransferable: the secret lets in whoever has it, and nobody else.
func testGrantTransferable(b *bench) {
	claim := b.grant(b.bob, sdk.Grant{Kind: sdk.GrantTransferable, Functions: []string{"do"}, Expires: time.Now().Add(time.Hour)})
	if claim.Secret.IsZero() || claim.Expires.IsZero() || len(claim.Functions) != 1 {
		b.Fatalf("the claim is %+v", claim)
	}
	s := b.remote(Step{Op: "who"})
	b.refused(b.alice, s)
	wrong := claim
	wrong.Secret[0] ^= 1
	b.do(b.alice, Step{Op: "claim", Claim: &wrong})
	b.refused(b.alice, s)
	b.do(b.alice, Step{Op: "claim", Claim: &claim})
	if r := b.do(b.alice, s); r.From != b.alice.ID() {
		b.Fatalf("got %+v", r)
	}
	// Of several the one that is refused makes room for the next.
	broad := b.grant(b.bob, sdk.Grant{Kind: sdk.GrantTransferable})
	wrong = broad
	wrong.Secret[0] ^= 1
	wrong.Functions = []string{"do"}
	b.do(b.alice, Step{Op: "claim", Claim: &wrong})
	b.do(b.alice, s)
	b.do(b.bob, Step{Op: "revoke", Record: claim.Grant})
	b.refused(b.alice, s)
	_, err := b.try(b.ctx, b.bob, Step{Op: "claim", Claim: &claim})
	b.want(err, sdk.HandlerFailed, sdk.HandlerCodeInput, 0)
}

// testGrantLimits: uses, rate and size; and a grant that can't be.
func testGrantLimits(b *bench) {
	alice, s := []sdk.AgentID{b.alice.ID()}, b.remote(Step{Op: "who"})
	b.grant(b.bob, sdk.Grant{Kind: sdk.GrantAssigned, Agents: alice, Uses: 2})
	b.do(b.alice, s)
	_, err := b.try(b.ctx, b.alice, b.remote(Step{Op: "fail", Text: "told"})) // it ran
	b.wantRetry(b.want(err, sdk.HandlerFailed, "told", sdk.SideRemoteHandler, sdk.DeliveredYes))
	b.refused(b.alice, s)

	rated := b.grant(b.bob, sdk.Grant{Kind: sdk.GrantAssigned, Agents: alice, Rate: sdk.Rate{N: 1, Per: time.Hour}})
	b.do(b.alice, s)
	_, err = b.try(b.ctx, b.alice, s)
	e := b.want(err, sdk.Busy, "", sdk.SideRemoteNode, sdk.DeliveredNo)
	b.wantRetry(e)
	if e.Limit == nil || e.Limit.Max != 1 || e.Limit.RetryAfter <= 0 {
		b.Errorf("the error does not tell the rate: %+v", e.Limit)
	}
	b.do(b.bob, Step{Op: "revoke", Record: rated.Grant})

	b.grant(b.bob, sdk.Grant{Kind: sdk.GrantAssigned, Agents: alice, MaxPayload: 200})
	b.do(b.alice, s)
	_, err = b.try(b.ctx, b.alice, b.remote(Step{Op: "echo", Text: string(make([]byte, 200))}))
	e = b.want(err, sdk.TooLarge, "", sdk.SideRemoteNode, sdk.DeliveredNo)
	if e.Limit == nil || e.Limit.Max != 200 || e.Limit.Value <= 200 {
		b.Errorf("the error does not tell the sizes: %+v", e.Limit)
	}
	for _, g := range []sdk.Grant{{}, {Kind: sdk.GrantAssigned}, {Kind: sdk.GrantUnrestricted, Uses: -1},
		{Kind: sdk.GrantUnrestricted, Expires: time.Now().Add(-time.Hour)}} {
		_, err := b.try(b.ctx, b.bob, Step{Op: "grant", Grant: &g})
		b.want(err, sdk.HandlerFailed, sdk.HandlerCodeInput, 0)
	}
}

// testGrantAndCall: a grant is durable whatever becomes of the call, is no reason
// for a strict commit of the call to fail, and makes a retry unsafe.
func testGrantAndCall(b *bench) {
	g := &sdk.Grant{Kind: sdk.GrantAssigned, Agents: []sdk.AgentID{b.alice.ID()}}
	b.do(b.bob, Step{Op: "grant", Grant: g, Then: &Step{Op: "commit", Text: "strict", Strict: true}})
	b.wantNotes(b.bob, "strict")
	b.do(b.alice, Step{Op: "remote", To: b.bob.ID(), Then: &Step{Op: "grant", Grant: g, Then: &Step{Op: "commit", Text: "by alice", Strict: true}}})
	b.wantNotes(b.bob, "strict", "by alice")
	_, err := b.try(b.ctx, b.alice, Step{Op: "grant", Grant: &sdk.Grant{Kind: sdk.GrantUnrestricted}, Then: &Step{Op: "commit", Text: "no", Then: &Step{Op: "fail", Text: "told"}}})
	if e := b.want(err, sdk.HandlerFailed, "told", sdk.SideHandler); e.Retry {
		b.Error("a call that granted something may be repeated, it says")
	}
	b.wantNotes(b.alice)
	if r := b.do(b.bob, Step{Op: "remote", To: b.alice.ID(), Then: &Step{Op: "who"}}); r.Agent != b.alice.ID() {
		b.Errorf("got %+v", r)
	}
}

// testRemoteErrors: what fails within a remote function is told as of a receive.
func testRemoteErrors(b *bench) {
	b.grant(b.bob, sdk.Grant{Kind: sdk.GrantUnrestricted})
	for _, c := range []struct {
		step Step
		code string
	}{
		{Step{Op: "fail", Text: "my.code"}, "my.code"},
		{Step{Op: "panic"}, sdk.HandlerCodePanic},
		{Step{Op: "leak"}, ""},
	} {
		_, err := b.try(b.ctx, b.alice, b.remote(c.step))
		b.wantRetry(b.want(err, sdk.HandlerFailed, c.code, sdk.SideRemoteHandler, sdk.DeliveredYes))
	}
	nowhere := Step{Op: "send", To: ID("nobody"), Then: &Step{Op: "echo"}}
	_, err := b.try(b.ctx, b.alice, b.remote(nowhere))
	b.want(err, sdk.HandlerFailed, sdk.UnknownAgent.Name(), sdk.SideRemoteHandler, sdk.DeliveredYes)
	b.wantNotes(b.bob)
	_, err = b.try(b.ctx, b.alice, Step{Op: "remote", To: ID("nobody"), Then: &Step{Op: "who"}})
	b.wantRetry(b.want(err, sdk.UnknownAgent, "", sdk.SideNode, sdk.DeliveredNo))
}
