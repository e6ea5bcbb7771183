package main

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/sdktest"
)

func bid(by, seller *sdktest.Node, principal sdk.AgentID) (Taken, error) {
	return sdktest.Call[Taken](by, "place_bid", PlaceBid{Seller: seller.ID(), For: principal, Bid: Bid{Item: "lamp", Amount: 50}})
}

func TestCarolBidsForAlice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		net := sdktest.New(t)
		alice, bob, carol, dave := net.Node("alice", dna), net.Node("bob", dna), net.Node("carol", dna), net.Node("dave", dna)
		if _, err := bid(carol, bob, alice.ID()); err == nil {
			t.Error("carol bids for alice without being asked to")
		}
		id, err := sdktest.Call[sdk.Hash](alice, "authorize", Authorize{Agent: carol.ID(), Seller: bob.ID(), For: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		taken, err := bid(carol, bob, alice.ID())
		want := Taken{Bid{"lamp", 50}, carol.ID(), alice.ID()}
		if err != nil || taken != want {
			t.Errorf("%+v, %v, want %+v", taken, err, want)
		}
		if got := sdktest.Entries[Taken](bob, "bid"); len(got) != 1 || got[0] != want {
			t.Errorf("bob's chain: %+v", got)
		}
		proofs := 0
		for _, r := range bob.Chain() {
			if r.Header.EntryType == "parley.behalf" {
				proofs++
			}
		}
		if proofs != 1 {
			t.Errorf("%d proofs on bob's chain", proofs)
		}
		if _, err := bid(carol, dave, alice.ID()); !errors.Is(err, sdk.Refused) {
			t.Errorf("at another seller's: %v", err)
		}
		if own, err := bid(carol, bob, sdk.AgentID{}); err != nil || own.For != carol.ID() {
			t.Errorf("carol's own bid: %+v, %v", own, err)
		}
		if _, err := sdktest.Call[struct{}](alice, "revoke", id); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if _, err := bid(carol, bob, alice.ID()); !errors.Is(err, sdk.Refused) {
			t.Errorf("a minute after it was revoked: %v", err)
		}
	})
}

func TestItEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		net := sdktest.New(t)
		alice, bob, carol := net.Node("alice", dna), net.Node("bob", dna), net.Node("carol", dna)
		for _, in := range []Authorize{
			{Agent: carol.ID(), Seller: bob.ID(), For: time.Hour},
			{Agent: carol.ID(), Seller: bob.ID(), For: 24 * time.Hour, Bids: 2},
		} {
			if _, err := sdktest.Call[sdk.Hash](alice, "authorize", in); err != nil {
				t.Fatal(err)
			}
			for i := range 2 {
				if _, err := bid(carol, bob, alice.ID()); err != nil {
					t.Errorf("%+v: bid %d: %v", in, i, err)
				}
			}
			if in.Bids == 0 {
				time.Sleep(2 * time.Hour)
			}
			if _, err := bid(carol, bob, alice.ID()); !errors.Is(err, sdk.Refused) {
				t.Errorf("%+v: one more: %v", in, err)
			}
		}
	})
}
