package sdktest

import (
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// doList answers each element of a list as a text.
func doList(c *sdk.Context, s Step) (r Result, err error) {
	switch s.Text {
	case "grants":
		r.Texts, err = texts(c.Grants(), func(g sdk.GrantStatus) string {
			return fmt.Sprintf("%s kind %d, %d agents, %d functions, used %d of %d, expired %t, dated %t",
				g.ID, g.Kind, len(g.Agents), len(g.Functions), g.Used, g.Uses, g.Expired, !g.Since.IsZero())
		})
	case "claims":
		r.Texts, err = texts(c.Claims(), func(k sdk.ClaimStatus) string {
			return fmt.Sprintf("%s %s %v, secret %t, told %t, refused %q, dated %t", k.Grantor.Short(), k.Grant, k.Functions, k.Secret, k.Told, k.Refused, !k.Since.IsZero())
		})
	case "delegations":
		r.Texts, err = texts(c.Delegations(), func(d sdk.DelegationStatus) string {
			id, err := d.Proof.ID()
			return fmt.Sprintf("%s to %s, revoked %t, the proof's %t, dated %t", d.ID, d.To.Short(), d.Revoked, err == nil && id == d.ID, !d.Since.IsZero())
		})
	}
	return r, err
}

func texts[T any](all iter.Seq2[T, error], text func(T) string) (list []string, err error) {
	for v, err := range all {
		if err != nil {
			return nil, err
		}
		list = append(list, text(v))
	}
	return list, nil
}

func (b *bench) list(p Peer, what string) []string {
	return b.do(p, Step{Op: "list", Text: what}).Texts
}

func (b *bench) wantList(p Peer, what string, want ...string) {
	b.Helper()
	if got := b.list(p, what); !slices.Equal(got, want) {
		b.Fatalf("the %s are\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// testListGrants: the oldest first, with their uses, but for revoked ones.
func testListGrants(b *bench) {
	b.wantList(b.bob, "grants")
	counted := b.grant(b.bob, sdk.Grant{Kind: sdk.GrantAssigned, Agents: []sdk.AgentID{b.alice.ID()}, Functions: []string{"do"}, Uses: 3})
	over := b.grant(b.bob, sdk.Grant{Kind: sdk.GrantUnrestricted, Functions: []string{"other"}})
	secret := b.grant(b.bob, sdk.Grant{Kind: sdk.GrantTransferable})
	b.do(b.bob, Step{Op: "revoke", Record: over.Grant})
	b.do(b.alice, b.remote(Step{Op: "echo"}))
	b.wantList(b.bob, "grants",
		counted.Grant.String()+" kind 1, 1 agents, 1 functions, used 1 of 3, expired false, dated true",
		secret.Grant.String()+" kind 2, 0 agents, 0 functions, used 0 of 0, expired false, dated true")
	b.wantList(b.alice, "grants")
	if _, err := b.try(b.ctx, b.alice, b.remote(Step{Op: "list", Text: "grants"})); err != nil { // whoever may call it
		b.Error(err)
	}
}

// testListPages: more grants than a page takes come once each, in their order.
func testListPages(b *bench) {
	g := sdk.Grant{Kind: sdk.GrantUnrestricted}
	for i := range sdk.MaxGrantFunctions {
		g.Functions = append(g.Functions, strings.Repeat("f", 61)+fmt.Sprintf("%03d", i))
	}
	const n = 2 * sdk.MaxListedBytes / (sdk.MaxGrantFunctions * 64)
	b.do(b.bob, Step{Op: "grant", Grant: &g, N: n - 1})
	var want []string
	for _, r := range b.records(b.bob) {
		if r.Header.EntryType == "parley.grant" {
			want = append(want, r.Header.Entry.String())
		}
	}
	var got []string
	for _, text := range b.list(b.bob, "grants") {
		id, _, _ := strings.Cut(text, " ")
		got = append(got, id)
	}
	if len(got) != n || !slices.Equal(got, want) {
		b.Fatalf("%d grants are listed, %d were made, in the same order: %t", len(got), len(want), slices.Equal(got, want))
	}
}

// testListClaims: what was told and what was added, of which no secret is shown.
func testListClaims(b *bench) {
	told := b.grant(b.bob, sdk.Grant{Kind: sdk.GrantAssigned, Agents: []sdk.AgentID{b.alice.ID()}, Functions: []string{"do"}})
	toldText := fmt.Sprintf("%s %s [do], secret false, told true, refused \"\", dated true", b.bob.ID().Short(), told.Grant)
	for len(b.list(b.alice, "claims")) == 0 { // alice is told in the background
		time.Sleep(5 * time.Millisecond)
	}
	b.wantList(b.alice, "claims", toldText)
	b.do(b.bob, Step{Op: "revoke", Record: told.Grant})
	for len(b.list(b.alice, "claims")) > 0 {
		time.Sleep(5 * time.Millisecond)
	}
	passed := b.grant(b.bob, sdk.Grant{Kind: sdk.GrantTransferable})
	b.do(b.alice, Step{Op: "claim", Claim: &passed})
	b.wantList(b.alice, "claims", fmt.Sprintf("%s %s [], secret true, told false, refused \"\", dated true", b.bob.ID().Short(), passed.Grant))
	b.do(b.bob, Step{Op: "revoke", Record: passed.Grant})
	b.wantList(b.bob, "claims")
}

// testListDelegations: the newest first, with those that were revoked.
func testListDelegations(b *bench) {
	line := func(p sdk.Proof, to Peer, revoked bool) string {
		id, err := p.ID()
		if err != nil {
			b.Fatal(err)
		}
		return fmt.Sprintf("%s to %s, revoked %t, the proof's true, dated true", id, to.ID().Short(), revoked)
	}
	first := b.delegate(b.alice, sdk.Delegation{To: b.bob.ID(), Messages: true, Depth: 1})
	second := b.delegate(b.alice, sdk.Delegation{To: b.bob.ID(), All: true})
	carol := b.net.Start("carol")
	on := b.delegate(b.bob, sdk.Delegation{To: carol.ID(), Messages: true, Under: first, Expires: time.Now().Add(time.Minute)})
	b.wantList(b.bob, "delegations", line(on, carol, false))
	b.wantList(b.alice, "delegations", line(second, b.bob, false), line(first, b.bob, false))
	id, err := first.ID()
	if err != nil {
		b.Fatal(err)
	}
	b.do(b.alice, Step{Op: "revoke", Record: id})
	b.wantList(b.alice, "delegations", line(second, b.bob, false), line(first, b.bob, true))
}
