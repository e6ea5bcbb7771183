package node

import (
	"context"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/agency"
)

// TestStaleCountsLeaveTheDisk: how often a grant was used is forgotten once it is
// revoked, or has expired for a day: while the node runs, with another count, and at
// the start. One whose grant may come back stays.
func TestStaleCountsLeaveTheDisk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newEntryNode(t, t.TempDir(), newFakeEntries(), func(c *Config) { c.Limits.MaxGrants = 4 })
		a, alice := n.add("raw", nil), sdk.AgentID{1}
		put := func(ctx context.Context, e sdk.Entry) error {
			_, err := n.appendOwn(ctx, a, n.operatorCause(), e)
			return err
		}
		grant := func(function string, expires time.Time) sdk.Hash {
			t.Helper()
			c, err := n.grant(t.Context(), a, sdk.Grant{Kind: sdk.GrantAssigned, Agents: []sdk.AgentID{alice}, Functions: []string{function}, Uses: 9, Expires: expires}, put)
			if err != nil {
				t.Fatal(err)
			}
			return c.Grant
		}
		use := func(function string) {
			t.Helper()
			u, e := n.takeGrant(a, &agency.Ask{Caller: alice, Function: function})
			if e == nil {
				e = n.countUse(u)
			}
			if e != nil {
				t.Fatal(e)
			}
		}
		kept := func(when string, want ...sdk.Hash) {
			t.Helper()
			got, all := map[sdk.Hash]bool{}, map[sdk.Hash]bool{}
			if err := n.agencyDB.each(bucketUses, func(k, _ []byte) error { got[sdk.Hash(k[32:])] = true; return nil }); err != nil {
				t.Fatal(err)
			}
			for _, w := range want {
				all[w] = true
			}
			if !maps.Equal(got, all) {
				t.Errorf("%s: the counts of %v are kept, want %v", when, got, all)
			}
		}
		soon := time.Now().Add(time.Hour)
		one, two, three, four := grant("one", soon), grant("two", soon), grant("three", time.Time{}), grant("four", time.Time{})
		for _, f := range []string{"one", "two", "three", "four"} {
			use(f)
		}
		time.Sleep(2 * time.Hour)
		grant("five", time.Time{}) // in the place of those that have expired
		use("three")
		kept("an hour after their end", one, two, three, four)
		time.Sleep(agency.CountKept)
		kept("without a count", one, two, three, four)
		use("three")
		kept("a day after their end", three, four)
		if _, err := n.revokeGrant(t.Context(), a, four, put); err != nil {
			t.Fatal(err)
		}
		kept("revoked", three)

		later := grant("six", time.Now().Add(time.Hour))
		use("six")
		time.Sleep(2 * time.Hour)
		unknown := sdk.Hash{9} // of a grant that this chain does not have, as one that was put back
		if err := n.agencyDB.update(func(tx *bolt.Tx) error {
			for _, id := range []sdk.Hash{one, four, unknown} {
				if err := putAgency(tx, bucketUses, usesKey(a, id), make([]byte, 8)); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if err := n.loadGrants(a); err != nil {
			t.Fatal(err)
		}
		kept("after the start", three, later, unknown)
		if used, lasts := a.grants.book.Used(three); used != 3 || !lasts {
			t.Errorf("%d uses of one that lasts: %t", used, lasts)
		}
	})
}

// TestRevokedWithoutConfirmation: where nobody knows whether a grant's end is on disk,
// it lets nobody in until the chain is read again.
func TestRevokedWithoutConfirmation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newEntryNode(t, t.TempDir(), newFakeEntries(), nil)
		a, alice := n.add("raw", nil), sdk.AgentID{1}
		put := func(ctx context.Context, e sdk.Entry) error {
			_, err := n.appendOwn(ctx, a, n.operatorCause(), e)
			return err
		}
		g := sdk.Grant{Kind: sdk.GrantAssigned, Agents: []sdk.AgentID{alice}}
		ask := &agency.Ask{Caller: alice, Function: "f"}
		for _, c := range []struct {
			answer *sdk.Error
			over   bool
		}{{&sdk.Error{Code: sdk.HandlerFailed, HandlerCode: sdk.HandlerCodeCommit, Retry: true}, false}, {&sdk.Error{Code: sdk.OutcomeUnknown}, true}} {
			claim, err := n.grant(t.Context(), a, g, put)
			if err != nil {
				t.Fatal(err)
			}
			found, err := n.revokeGrant(t.Context(), a, claim.Grant, func(context.Context, sdk.Entry) error { return c.answer })
			if !found || err != error(c.answer) {
				t.Errorf("got %t, %v", found, err)
			}
			if _, e := n.takeGrant(a, ask); (e != nil) != c.over {
				t.Errorf("after %v: %v", c.answer, e)
			}
			if _, err := n.revokeGrant(t.Context(), a, claim.Grant, put); err != nil {
				t.Fatal(err)
			}
		}
	})
}
