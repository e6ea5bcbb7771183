package node

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-p2p/parley/dht"
	"github.com/parley-p2p/parley/node/chain"
	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/agency"
	"github.com/parley-p2p/parley/sdk/sdktest"
)

func TestRevocationsTable(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	at := func(d time.Duration) time.Time { return now.Add(d) }
	k := revocationKey{sdk.AgentID{1}, sdk.Hash{1}}
	table := newRevocations()
	if v := table.of(now, k); v != unknown {
		t.Errorf("verdict %d of what nobody has looked for", v)
	}
	table.looked(now, k, false, at(time.Hour))
	for d, want := range map[time.Duration]verdict{0: inForce, revocationAgain - 1: inForce, revocationAgain: inForceAsk,
		revocationHolds - 1: inForceAsk, revocationHolds: unknown, -1: unknown} {
		if v := table.of(at(d), k); v != want {
			t.Errorf("%s later: verdict %d, want %d", d, v, want)
		}
	}
	table.looked(at(time.Second), k, true, at(time.Hour))
	table.looked(at(2*time.Second), k, false, at(time.Hour)) // a look that had begun before
	if v := table.of(at(50*time.Minute), k); v != isRevoked {
		t.Errorf("verdict %d of what was revoked", v)
	}
	for i := range 2 * revokedPerAuthor { // of one author
		table.looked(now, revocationKey{sdk.AgentID{2}, sdk.Hash{byte(i), byte(i >> 8)}}, false, at(time.Hour))
	}
	if table.byAuthor[sdk.AgentID{2}] != revokedPerAuthor || !table.uses(k) {
		t.Errorf("%d of one author; another's is there: %t", table.byAuthor[sdk.AgentID{2}], table.uses(k))
	}
	for i := range 2 * revokedKnown { // of everybody
		table.looked(now, revocationKey{sdk.AgentID{3, byte(i), byte(i >> 8), byte(i >> 16)}, sdk.Hash{}}, false, at(time.Hour))
	}
	if len(table.known) != revokedKnown || table.used.Len() != revokedKnown {
		t.Errorf("%d are known", len(table.known))
	}
	inUse := revocationKey{sdk.AgentID{4}, sdk.Hash{4}}
	table.looked(now, inUse, true, at(time.Hour))
	if table.hasShown(inUse.author) {
		t.Error("who has told of a revocation counts as one whose delegation was used")
	}
	table.shown(inUse)
	table.shown(inUse)
	table.shown(revocationKey{sdk.AgentID{5}, sdk.Hash{}}) // it is not known
	if !table.hasShown(inUse.author) || len(table.authors) != 1 {
		t.Errorf("delegations of %d agents were used", len(table.authors))
	}
	for range revokedKnown {
		table.expire(at(2 * time.Hour))
	}
	if len(table.authors)+len(table.known)+len(table.byAuthor)+table.used.Len() != 0 {
		t.Errorf("%d stay when all have ended", len(table.known))
	}
}

// signedRevocation is that of a delegation of alice's, as it is published.
func signedRevocation(t *testing.T, id sdk.Hash, expires time.Time) []byte {
	t.Helper()
	r := foreignRecord(t, sdk.DNAHash{1}, "")
	r.Header.EntryType, r.Header.Author = sdk.TypeRevocation, sdktest.ID("alice")
	r.Content = sdk.AppendRevocation(nil, &sdk.Revocation{Delegation: id, Expires: expires})
	r.Header.Entry = sdk.EntryHash(r.Content)
	copy(r.Signature[:], ed25519.Sign(sdktest.Key("alice"), sdk.SigningBytes(r.Hash())))
	body, err := chain.AppendPublic(nil, &r)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// proofToBob is alice's delegation to bob.
func proofToBob(t *testing.T, nonce byte) []sdk.Link {
	t.Helper()
	p, err := sdk.SignDelegation(&sdk.Delegation{To: sdktest.ID("bob"), All: true, Expires: time.Now().Add(time.Hour)}, sdk.DNAHash{1}, sdktest.Key("alice"), [16]byte{nonce}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	links, err := p.Links()
	if err != nil {
		t.Fatal(err)
	}
	return links
}

// TestRevokerLooks: what the DHT says holds for 30 s, is refreshed while it is in
// use, and where nobody answers it does not count.
func TestRevokerLooks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fake := newFakeEntries()
		n := newEntryNode(t, t.TempDir(), fake, nil)
		links := proofToBob(t, 1)
		id := links[0].ID()
		gets := func() int {
			synctest.Wait()
			fake.mu.Lock()
			defer fake.mu.Unlock()
			return fake.gets
		}
		check := func(what, refusal string, looks int) {
			t.Helper()
			before := gets()
			e := n.revoker.check(t.Context(), links)
			code := sdk.Refused
			if refusal == "nobody could be asked" {
				code = sdk.Busy
			}
			if (e == nil) != (refusal == "") || e != nil && (e.Code != code || !e.Retry || e.Delivered != sdk.DeliveredNo || !strings.Contains(e.Text, refusal)) {
				t.Errorf("%s: %v", what, e)
			}
			if got := gets() - before; got != looks {
				t.Errorf("%s: looked for %d times, want %d", what, got, looks)
			}
		}
		fake.set(func(f *fakeEntries) { f.fail = fmt.Errorf("dht: %w", dht.ErrNoAnswer) })
		check("nobody answers", "nobody could be asked", 1)
		fake.set(func(f *fakeEntries) { f.fail = nil })
		check("the first time", "", 1)
		check("at once again", "", 0)
		time.Sleep(revocationAgain)
		check("a while later", "", 1) // meanwhile
		time.Sleep(revocationAgain)
		fake.set(func(f *fakeEntries) { f.fail = fmt.Errorf("dht: %w", dht.ErrNoAnswer) })
		check("nobody answers, and it was looked for a moment ago", "", 1)
		time.Sleep(revocationHolds - revocationAgain - time.Nanosecond)
		check("to the end of 30 s", "", 1)
		time.Sleep(time.Nanosecond)
		check("and no longer", "nobody could be asked", 1)
		fake.set(func(f *fakeEntries) { f.fail = nil })
		check("it answers again", "", 1)
		body := signedRevocation(t, id, links[0].Expires)
		if _, err := fake.PutEntry(t.Context(), revocationID(links[0].From, id), body); err != nil {
			t.Fatal(err)
		}
		time.Sleep(revocationAgain)
		check("published: the look meanwhile finds it", "", 1)
		check("and it counts at once", "was revoked", 0)
		fake.set(func(f *fakeEntries) { f.fail = dht.ErrNoAnswer })
		time.Sleep(50 * time.Minute)
		check("for as long as the delegation lasts", "was revoked", 0)
	})
}

// TestRevocationWithinAMinute: with a delegation in use all the time, and a
// publication that takes its time, in the worst moment.
func TestRevocationWithinAMinute(t *testing.T) {
	t.Parallel()
	for _, every := range []time.Duration{100 * time.Millisecond, 7 * time.Second, 29 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			fake := newFakeEntries()
			n := newEntryNode(t, t.TempDir(), fake, nil)
			links := proofToBob(t, 1)
			id := links[0].ID()
			if e := n.revoker.check(t.Context(), links); e != nil {
				t.Fatal(e)
			}
			revoked := time.Now()
			time.AfterFunc(5*time.Second, func() {
				_, _ = fake.PutEntry(context.Background(), revocationID(links[0].From, id), signedRevocation(t, id, links[0].Expires))
			})
			for n.revoker.check(t.Context(), links) == nil {
				time.Sleep(every)
			}
			if took := time.Since(revoked); took > time.Minute {
				t.Errorf("used every %s: it was still taken %s after it was revoked", every, took)
			}
		})
	}
}

// TestRevocationTold: the author's own word counts at once, nobody else's does, and
// what a holder keeps it knows where it is in use.
func TestRevocationTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newEntryNode(t, t.TempDir(), newFakeEntries(), nil)
		for i, told := range []struct {
			by   func(body []byte)
			uses bool // the delegation is in use
			want bool
		}{
			{func(b []byte) { n.revoker.told(sdktest.ID("alice"), b) }, false, true},
			{func(b []byte) { n.revoker.told(sdktest.ID("mallory"), b) }, false, false},
			{func(b []byte) { b[len(b)-1] ^= 1; n.revoker.told(sdktest.ID("alice"), b) }, false, false},
			{func(b []byte) { _, _, _ = n.checkEntry(b) }, false, false},
			{func(b []byte) { _, _, _ = n.checkEntry(b) }, true, true},
		} {
			links := proofToBob(t, byte(i))
			if told.uses && n.revoker.check(t.Context(), links) != nil {
				t.Fatal("in force")
			}
			told.by(signedRevocation(t, links[0].ID(), links[0].Expires))
			if e := n.revoker.checkKnown(links); (e != nil) != told.want {
				t.Errorf("%d: %v", i, e)
			}
		}
	})
}

// TestRevocationsPublished: they have room of their own, beside any number of other
// entries; one too many can't be made; and they end with their delegation.
func TestRevocationsPublished(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fake, dir := newFakeEntries(), t.TempDir()
		change := func(c *Config) { c.Limits.PublicEntries, c.Limits.PublicRevocations = 2, 2 }
		n := newEntryNode(t, dir, fake, change)
		a := n.add("raw", nil)
		time.Sleep(publishStart)
		var ids []sdk.Hash
		revoke := func(expires time.Time) error {
			t.Helper()
			lc := &liveCall{node: n.Node, app: a, call: &sdk.Call{Kind: sdk.CallFunction, From: n.id.agent, ID: newMessageID()}}
			lc.base, _ = a.chain.Head()
			p, err := lc.Delegate(t.Context(), sdk.Delegation{To: sdktest.ID("bob"), All: true, Expires: expires})
			if err != nil {
				t.Fatal(err)
			}
			id, err := p.ID()
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, id)
			return lc.Revoke(t.Context(), id)
		}
		for _, d := range []time.Duration{time.Hour, 48 * time.Hour} {
			if err := revoke(time.Now().Add(d)); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 10 {
			n.commit(a, publicNote(fmt.Sprint(i)))
		}
		synctest.Wait()
		puts := fake.putsSoFar()
		for _, id := range ids {
			if !slices.Contains(puts, revocationID(n.id.agent, id)) {
				t.Errorf("revocation %s was not published", id)
			}
		}
		e, ok := revoke(time.Now().Add(time.Hour)).(*sdk.Error)
		if !ok || e.Code != sdk.Busy || e.Limit == nil || e.Limit.Setting != "public-revocations" || e.Limit.RetryAfter != time.Hour {
			t.Errorf("one too many: %v", e)
		}
		time.Sleep(time.Hour + time.Second)
		if err := revoke(time.Now().Add(time.Hour)); err != nil {
			t.Errorf("with room again: %v", err)
		}
		// The next run of the node knows and publishes what still lasts.
		n.stop()
		before := len(fake.putsSoFar())
		n = newEntryNode(t, dir, fake, change)
		a = n.add("raw", nil)
		if !n.revoker.own(ids[1]) || n.revoker.own(ids[0]) {
			t.Error("after a restart the own revocations are not those that last")
		}
		time.Sleep(publishStart)
		synctest.Wait()
		puts = fake.putsSoFar()[before:]
		if !slices.Contains(puts, revocationID(n.id.agent, ids[1])) || slices.Contains(puts, revocationID(n.id.agent, ids[0])) {
			t.Error("after a restart the published ones are not those that last")
		}
	})
}

// TestRevokerLooksOfStrangers: strangers, however many, leave half of the looks to
// those whom this agent knows.
func TestRevokerLooksOfStrangers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fake := newFakeEntries()
		wait := make(chan struct{})
		fake.set(func(f *fakeEntries) { f.wait = wait })
		n := newEntryNode(t, t.TempDir(), fake, nil)
		ended := make(chan *sdk.Error, lookAtOnce)
		from := func(i byte) []sdk.Link {
			links := proofToBob(t, i)
			links[0].To = sdk.AgentID{i}
			return links
		}
		for i := range byte(lookAtOnce / 2) {
			go func() { ended <- n.revoker.check(t.Context(), from(i)) }()
		}
		synctest.Wait()
		if e := n.revoker.check(t.Context(), from(200)); e == nil || e.Code != sdk.Busy {
			t.Errorf("one more stranger: %v", e)
		}
		n.policy.rules.Store((*agency.Rules)(nil).With(sdk.AgentID{201}, agency.Rule{Allowed: true}))
		go func() { ended <- n.revoker.check(t.Context(), from(201)) }()
		synctest.Wait()
		close(wait)
		for range lookAtOnce/2 + 1 {
			if e := <-ended; e != nil {
				t.Error(e)
			}
		}
		synctest.Wait()
	})
}

// TestToldOfADelegationInUse: however much strangers tell, whose delegation was used here
// is heard with its revocation, and who has only told of one stays a stranger.
func TestToldOfADelegationInUse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newEntryNode(t, t.TempDir(), newFakeEntries(), nil)
		l := proofToBob(t, 1)
		tell := func() { n.revoker.told(sdktest.ID("alice"), signedRevocation(t, l[0].ID(), l[0].Expires)) }
		junk := func() {
			for i := range toldByStrangers.N {
				n.revoker.told(sdk.AgentID{byte(i), byte(i >> 8), 1}, []byte("junk"))
			}
		}
		junk()
		tell()
		if n.revoker.checkKnown(l) != nil {
			t.Error("a stranger beyond the pace was heard")
		}
		if e := n.revoker.check(t.Context(), l); e != nil { // a proof with it comes
			t.Fatal(e)
		}
		tell()
		if n.revoker.checkKnown(l) == nil {
			t.Error("whose delegation is in use was not heard")
		}
	})
}

// TestRevokerLooksAreBounded: one sender's proofs can't take all looks.
func TestRevokerLooksAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fake := newFakeEntries()
		wait := make(chan struct{})
		fake.set(func(f *fakeEntries) { f.wait = wait })
		n := newEntryNode(t, t.TempDir(), fake, nil)
		ended := make(chan *sdk.Error, lookPerPresenter)
		for i := range lookPerPresenter {
			links := proofToBob(t, byte(i))
			go func() { ended <- n.revoker.check(t.Context(), links) }()
		}
		synctest.Wait()
		if e := n.revoker.check(t.Context(), proofToBob(t, 200)); e == nil || e.Code != sdk.Busy {
			t.Errorf("one more of the same: %v", e)
		}
		other := proofToBob(t, 201)
		other[0].To = sdktest.ID("carol")
		go func() { ended <- n.revoker.check(t.Context(), other) }()
		synctest.Wait()
		close(wait)
		for range lookPerPresenter + 1 {
			if e := <-ended; e != nil {
				t.Error(e)
			}
		}
		synctest.Wait()
		if len(n.revoker.looking)+len(n.revoker.running)+len(n.revoker.looks)+n.revoker.strange != 0 {
			t.Error("looks that have ended are counted")
		}
	})
}
