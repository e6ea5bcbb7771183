package agency

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// pages reads a list to its end. between is called behind each page.
func pages[T any](t *testing.T, page func(after []byte) (sdk.Page, error), of func(*sdk.Page) []T, between func()) (all []T, count int) {
	t.Helper()
	var after []byte
	for {
		p, err := page(after)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(p.Grants) + len(p.Claims) + len(p.Delegations); n > sdk.MaxListed || len(of(&p)) != n || len(p.Next) > sdk.MaxListAfter {
			t.Fatalf("a page of %d elements, %d of them of its kind; its next has %d bytes", n, len(of(&p)), len(p.Next))
		}
		all, count = append(all, of(&p)...), count+1
		if after = p.Next; after == nil {
			return all, count
		}
		between()
	}
}

// Those that come and go while a list is read disturb none of the others, each of
// which comes once. Also where many are of one age.
func TestBookPages(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	b := NewBook(4096)
	name := func(i int) sdk.Hash { return sdk.Hash{byte(i >> 8), byte(i)} }
	e := Entry{Grant: sdk.Grant{Kind: sdk.GrantUnrestricted}}
	for i := range 600 {
		b.Add(name(i), e, now.Add(time.Duration(i/100)), 0)
	}
	e.Grant.Expires = now.Add(time.Hour)
	b.Add(name(600), e, now.Add(time.Second), 0)
	b.Revoke(now, name(1))
	ended := 0
	list, count := pages(t, func(after []byte) (sdk.Page, error) { return b.Page(now.Add(2*time.Hour), after) },
		func(p *sdk.Page) []sdk.GrantStatus { return p.Grants }, func() {
			ended++
			b.Revoke(now, name(255)) // with the page before, whose last one it may be
			b.Revoke(now, name(256))
			b.Revoke(now, name(599))
			b.Add(name(1000+ended), Entry{Grant: sdk.Grant{Kind: sdk.GrantUnrestricted}}, now.Add(-time.Second), 0)
		})
	var got []int
	for _, g := range list {
		got = append(got, int(g.ID[0])<<8+int(g.ID[1]))
	}
	var want []int
	for i := range 601 {
		if i != 1 && i != 599 {
			want = append(want, i)
		}
	}
	if i := slices.Index(got, 256); i >= 0 { // the first page ends with it: 1 was left out
		got = slices.Delete(got, i, i+1)
	}
	want = slices.DeleteFunc(want, func(i int) bool { return i == 256 })
	if count != 3 || !slices.Equal(got, want) {
		t.Errorf("%d pages list %v", count, got)
	}
	if last := list[len(list)-1]; !last.Expired || last.ID != name(600) {
		t.Errorf("the last one is %+v", last)
	}
}

// A page is bounded by its bytes too, and one element always fits.
func TestPageBytes(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	b := NewBook(4096)
	g := sdk.Grant{Kind: sdk.GrantAssigned, Agents: make([]sdk.AgentID, sdk.MaxGrantAgents)}
	for i := range sdk.MaxGrantFunctions {
		g.Functions = append(g.Functions, strings.Repeat("f", 61)+fmt.Sprintf("%03d", i))
	}
	for i := range 100 {
		b.Add(sdk.Hash{byte(i)}, Entry{Grant: g}, now, 0)
	}
	list, count := pages(t, func(after []byte) (sdk.Page, error) { return b.Page(now, after) },
		func(p *sdk.Page) []sdk.GrantStatus { return p.Grants }, func() {})
	if len(list) != 100 || count != 6 { // of 12.9 KiB each
		t.Errorf("%d grants in %d pages", len(list), count)
	}
	var fill pageFill
	if !fill.takes(sdk.MaxListedBytes+1) || fill.takes(1) {
		t.Error("the first element has to fit, the next one must not")
	}
}

func TestClaimPages(t *testing.T) {
	t.Parallel()
	now, dna, other := time.Unix(1_700_000_000, 0), sdk.DNAHash{1}, sdk.DNAHash{2}
	c := NewClaims(4096, 4096)
	for i := range 300 {
		for _, d := range []sdk.DNAHash{dna, other} {
			claim := HeldClaim{DNA: d, Told: i%2 == 0, Claim: sdk.Claim{Grantor: sdk.AgentID{byte(i)}, Grant: sdk.Hash{byte(i >> 8)}, Secret: sdk.Secret{7}}}
			if _, err := c.Add(now, claim); err != nil {
				t.Fatal(err)
			}
		}
	}
	list, count := pages(t, func(after []byte) (sdk.Page, error) { return c.Page(now, dna, after) },
		func(p *sdk.Page) []sdk.ClaimStatus { return p.Claims }, func() {})
	if len(list) != 300 || count != 2 {
		t.Fatalf("%d claims in %d pages", len(list), count)
	}
	for i, k := range list {
		if !k.Secret || i > 0 && bytes.Compare(list[i-1].Grantor[:], k.Grantor[:]) > 0 {
			t.Errorf("claim %d is %+v", i, k)
		}
	}
}

// Of a chain with many that have ended a page reads a part only.
func TestDelegationPages(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	to := sdk.AgentID(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32)).Public().(ed25519.PublicKey))
	var chain []sdk.Record
	add := func(n byte, ends time.Time) {
		p, err := sdk.SignDelegation(&sdk.Delegation{To: to, All: true, Expires: ends}, sdk.DNAHash{}, key, [16]byte{n}, now.Add(-2*time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, sdk.Record{Header: sdk.Header{Seq: uint64(len(chain)), EntryType: sdk.TypeDelegation}, Content: p})
	}
	for i := range 3 {
		add(byte(i), now.Add(time.Hour))
	}
	chain = append(chain, sdk.Record{Header: sdk.Header{Seq: uint64(len(chain)), EntryType: sdk.TypeDelegation}, Content: []byte{0xff}}) // of a later version
	add(3, now.Add(-time.Hour))
	for range 2500 {
		r := chain[4]
		r.Header.Seq = uint64(len(chain))
		chain = append(chain, r)
	}
	add(4, now.Add(time.Hour))
	most, unread := 0, 0
	query := func(q sdk.Query) (page []sdk.Record, err error) {
		for i := len(chain) - 1; i >= 0 && len(page) < q.Limit; i-- {
			if q.To == 0 || chain[i].Header.Seq < q.To {
				page = append(page, chain[i])
			}
		}
		most += len(page)
		return page, nil
	}
	list, count := pages(t, func(after []byte) (sdk.Page, error) {
		most = 0
		p, err := DelegationPage(now, query, func(id sdk.Hash) bool { return false }, func(r *sdk.Record, err error) {
			if unread++; err == nil || r.Header.Seq != 3 {
				t.Errorf("record %d is not read: %v", r.Header.Seq, err)
			}
		}, after)
		if most > delegationsRead+sdk.MaxListed {
			t.Errorf("%d records were read for one page", most)
		}
		return p, err
	}, func(p *sdk.Page) []sdk.DelegationStatus { return p.Delegations }, func() {})
	var nonces []byte
	for _, d := range list {
		nonces = append(nonces, d.Nonce[0])
	}
	if !slices.Equal(nonces, []byte{4, 2, 1, 0}) || count != 3 || unread != 1 {
		t.Errorf("%v in %d pages, %d were not read", nonces, count, unread)
	}
}

func TestBadAfter(t *testing.T) {
	t.Parallel()
	now, after := time.Unix(1_700_000_000, 0), []byte("elsewhere")
	none := func(sdk.Query) ([]sdk.Record, error) { return nil, nil }
	for name, page := range map[string]func() (sdk.Page, error){
		"grants":      func() (sdk.Page, error) { return NewBook(1).Page(now, after) },
		"claims":      func() (sdk.Page, error) { return NewClaims(1, 1).Page(now, sdk.DNAHash{}, after) },
		"delegations": func() (sdk.Page, error) { return DelegationPage(now, none, nil, nil, after) },
		"sequence 0":  func() (sdk.Page, error) { return DelegationPage(now, none, nil, nil, make([]byte, 8)) },
	} {
		if _, err := page(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
