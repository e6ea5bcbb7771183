package node

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/agency"
	"github.com/parley-p2p/parley/sdk/sdktest"
)

// holds tells whether n's operator sees a claim of a grant.
func holds(t *testing.T, n *testNode, dna string, grant sdk.Hash) bool {
	t.Helper()
	list, err := n.Claims(t.Context(), dna)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range list {
		if c.Grant == grant {
			return true
		}
	}
	return false
}

// TestToldAfterTheGrantorWasKilled: a holder that was away hears of a grant, and of the
// end of another, from a node that was killed meanwhile.
func TestToldAfterTheGrantorWasKilled(t *testing.T) {
	t.Parallel()
	alice, bob, p := behindProxy(t)
	grant := func() sdk.Hash {
		t.Helper()
		c, err := bob.control.AddGrant(t.Context(), "test", sdk.Grant{Kind: sdk.GrantAssigned, Agents: []sdk.AgentID{alice.Agent()}, Functions: []string{"do"}})
		if err != nil {
			t.Fatal(err)
		}
		return c.Grant
	}
	ends := grant()
	await(t, func() bool { return holds(t, alice, "test", ends) })
	alice.stop()
	if err := bob.control.RevokeGrant(t.Context(), "test", ends); err != nil {
		t.Fatal(err)
	}
	lasts := grant()
	bob.kill()
	bob.start("-advertise", p.addr().String())
	p.forward(netip.MustParseAddrPort(bob.peer.Host))
	cfg := alice.cfg
	cfg.Handlers = []sdk.Handler{testDNA()}
	alice = startNode(t, cfg)
	await(t, func() bool { return holds(t, alice, "test", lasts) && !holds(t, alice, "test", ends) })
}

// TestUsersAreToldAfterARestart: who has used a transferable grant is told of its end by
// a node that was started again since, before and after it ended.
func TestUsersAreToldAfterARestart(t *testing.T) {
	t.Parallel()
	w := newTestNetwork(t, sdktest.ConformanceDNA)
	w.start("carol") // by whom the others find one another
	alice, bob := w.start("alice"), w.start("bob")
	claim := addGrant(t, bob, sdk.Grant{Kind: sdk.GrantTransferable, Functions: []string{"do"}})
	if err := alice.AddClaim(t.Context(), conformanceDNA, claim); err != nil {
		t.Fatal(err)
	}
	if err := whoAt(t, alice, bob); err != nil {
		t.Fatal(err)
	}
	bob = w.again(bob)
	alice.stop()
	if err := bob.RevokeGrant(t.Context(), conformanceDNA, claim.Grant); err != nil {
		t.Fatal(err)
	}
	bob = w.again(bob)
	alice = w.again(alice)
	await(t, func() bool { return !holds(t, alice, conformanceDNA, claim.Grant) })
	await(t, func() bool { // and then nothing is left
		left := 0
		for _, bucket := range []string{bucketTells, bucketUsers} {
			if err := bob.agencyDB.each(bucket, func(_, _ []byte) error { left++; return nil }); err != nil {
				t.Fatal(err)
			}
		}
		return left == 0
	})
}

// TestToldWithoutADisk: where what is to be told can't be written, the grant is made
// and its holder is told.
func TestToldWithoutADisk(t *testing.T) {
	t.Parallel()
	for _, step := range []string{stepBegin, stepPut, stepCommit, stepCommitted} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			p := newFaultyPair(t)
			var claim sdk.Claim
			err := p.fails(step, func() (err error) {
				claim, err = p.bob.AddGrant(t.Context(), conformanceDNA, assignedTo(p.alice.Agent()))
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			await(t, func() bool { return holds(t, p.alice, conformanceDNA, claim.Grant) })
		})
	}
}

// TestTellsOnDisk: what is kept is what waits. What is told, given up, too old or of a
// grant that is over goes; and an end that waits does not go with the grant's own.
func TestTellsOnDisk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newEntryNode(t, t.TempDir(), newFakeEntries(), nil)
		a := n.add("raw", nil)
		kept := func() (keys []tellKey) {
			t.Helper()
			if err := n.agencyDB.each(bucketTells, func(k, v []byte) error {
				key, _, _, err := decodeTell(k, v)
				keys = append(keys, key)
				return err
			}); err != nil {
				t.Fatal(err)
			}
			return keys
		}
		flush := func(want ...tellKey) {
			t.Helper()
			if err := n.teller.flush(); err != nil {
				t.Fatal(err)
			}
			got := kept()
			if len(got) != len(want) || slices.ContainsFunc(want, func(k tellKey) bool { return !slices.Contains(got, k) }) {
				t.Errorf("kept are %v, want %v", got, want)
			}
		}
		end := func(m *tell) { n.teller.mu.Lock(); defer n.teller.mu.Unlock(); n.teller.endLocked(m) }
		put := func(list ...*tell) { n.keepTells(a, list) }
		m := func(to byte, grant sdk.Hash, over bool) *tell {
			return n.teller.of(a, &sdk.Claim{Grant: grant}, over, []sdk.AgentID{{to}})[0]
		}
		grant, over := m(1, sdk.Hash{1}, false), m(1, sdk.Hash{1}, true)
		put(grant)
		end(grant)
		put(over)
		flush(over.key())
		end(grant)
		end(over)
		flush()

		list := make([]*tell, tellQueue+2)
		for i := range list {
			list[i] = m(1, sdk.Hash{2, byte(i), byte(i >> 8)}, true)
		}
		put(list...)
		n.teller.queue(list) // the first two are let go
		flush(func() (want []tellKey) {
			for _, m := range list[2:] {
				want = append(want, m.key())
			}
			return want
		}()...)

		// Another run: it goes on with what is an end, or of a grant that lasts.
		if err := n.agencyDB.update(func(tx *bolt.Tx) error {
			for _, m := range list[12:] {
				if err := putAgency(tx, bucketTells, m.key().bytes(), nil); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		gone := m(2, sdk.Hash{3}, false)
		put(gone)
		n.teller = newTeller(n.Node)
		if err := n.teller.resume(a); err != nil {
			t.Fatal(err)
		}
		if got := len(n.teller.tells.waiting); got != 10 {
			t.Errorf("%d wait, want 10", got)
		}
		time.Sleep(tellFor / 2)
		fresh := m(4, sdk.Hash{4}, true)
		put(fresh)
		if err := n.agencyDB.update(func(tx *bolt.Tx) error { return putAgency(tx, bucketTells, []byte("garbage"), []byte{1}) }); err != nil {
			t.Fatal(err)
		}
		time.Sleep(tellFor / 2)
		if err := n.dropTells(); err != nil {
			t.Fatal(err)
		}
		flush(fresh.key())
	})
}

// TestEndKeptBesideAUse: of the end of a grant that the disk has refused holders are
// still told after a restart, though a call that the grant had let in is given back
// meanwhile, which the disk refuses too.
func TestEndKeptBesideAUse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newEntryNode(t, t.TempDir(), newFakeEntries(), nil)
		a, id, faults := n.add("raw", nil), sdk.Hash{7}, &agencyFaults{}
		n.agencyDB.step = faults.at
		tells := n.teller.of(a, &sdk.Claim{Grant: id}, true, []sdk.AgentID{sdktest.ID("bob")})
		faults.arm(stepCommit, errors.New("the disk fails"))
		n.keepEnd(a, id, tells)
		if !faults.fired() {
			t.Fatal("it was written at once")
		}
		n.usesUnsure(&grantUse{app: a, use: &agency.Use{Grant: id, Used: 1}})
		if err := n.agencyDB.repair(); err != nil {
			t.Fatal(err)
		}
		kept := 0
		if err := n.agencyDB.each(bucketTells, func(_, _ []byte) error { kept++; return nil }); err != nil || kept != 1 {
			t.Errorf("%d tells are kept, %v", kept, err)
		}
	})
}

// TestEndedTellsAreBounded: what the disk does not let go of is bounded, and what is
// known of it stays known.
func TestEndedTellsAreBounded(t *testing.T) {
	t.Parallel()
	q := newTeller(nil)
	of := func(i int, over bool) *tell {
		return &tell{grant: sdk.Hash{byte(i), byte(i >> 8), byte(i >> 16)}, over: over}
	}
	for i := range tellEnded + 2 {
		q.endLocked(of(i, false))
	}
	q.endLocked(of(1, true))
	q.endLocked(of(tellEnded+1, true))
	if len(q.ended) != tellEnded || !q.ended[of(1, true).key()] {
		t.Errorf("%d have ended, want %d; an end: %t", len(q.ended), tellEnded, q.ended[of(1, true).key()])
	}
}

func FuzzStoredTell(f *testing.F) {
	f.Add(make([]byte, 96), encodeTell(true, time.Unix(1_800_000_000, 0)))
	f.Fuzz(func(t *testing.T, k, v []byte) {
		key, over, since, err := decodeTell(k, v)
		if err == nil && (!slices.Equal(key.bytes(), k) || !slices.Equal(encodeTell(over, since), v)) {
			t.Errorf("%x, %x are read as %v, %t, %s", k, v, key, over, since)
		}
	})
}
