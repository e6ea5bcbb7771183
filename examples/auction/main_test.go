package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/sdktest"
)

const clown = "the black velvet painting of a clown"

func place(bidder, seller *sdktest.Node, amount uint64) (Entry, error) {
	return sdktest.Call[Entry](bidder, "place_bid", PlaceBid{To: seller.ID(), Bid: Bid{Item: clown, Amount: amount}})
}

func TestBidReachesBothChains(t *testing.T) {
	t.Parallel()
	net := sdktest.New(t)
	alice, bob := net.Node("alice", dna), net.Node("bob", dna)

	ack, err := place(alice, bob, 50)
	if err != nil {
		t.Fatal(err)
	}
	want := Entry{Bid{clown, 50}, bob.ID(), ack.Message}
	if got := sdktest.Entries[Entry](alice, "acknowledged"); len(got) != 1 || got[0] != want || ack != want {
		t.Errorf("alice: chain %+v, answer %+v, want %+v", got, ack, want)
	}
	want.With = alice.ID()
	if got := sdktest.Entries[Entry](bob, "bid"); len(got) != 1 || got[0] != want {
		t.Errorf("bob's chain holds %+v, want %+v", got, want)
	}
}

func TestHighest(t *testing.T) {
	t.Parallel()
	net := sdktest.New(t)
	alice, bob, carol := net.Node("alice", dna), net.Node("bob", dna), net.Node("carol", dna)
	if best, err := sdktest.Call[*Entry](bob, "highest", clown); err != nil || best != nil {
		t.Fatalf("without a bid: %+v, %v", best, err)
	}
	for _, bid := range []struct {
		by     *sdktest.Node
		amount uint64
	}{{alice, 50}, {carol, 70}, {alice, 70}} {
		if _, err := place(bid.by, bob, bid.amount); err != nil {
			t.Fatal(err)
		}
	}
	best, err := sdktest.Call[*Entry](bob, "highest", clown)
	if err != nil || best == nil || best.Amount != 70 || best.With != carol.ID() {
		t.Errorf("the highest bid is %+v, %v; want the first of 70", best, err)
	}
	for item, want := range map[string]int{"": 3, clown: 3, "a lamp": 0} {
		if got, err := sdktest.Call[[]Entry](bob, "bids", item); err != nil || len(got) != want {
			t.Errorf("bids on %q: %d, %v, want %d", item, len(got), err, want)
		}
	}
}

func TestBadBids(t *testing.T) {
	t.Parallel()
	net := sdktest.New(t)
	alice, bob := net.Node("alice", dna), net.Node("bob", dna)
	for _, c := range []struct {
		bid  Bid
		code string
	}{
		{Bid{clown, 0}, "auction.amount"},
		{Bid{"", 5}, "auction.item"},
		{Bid{strings.Repeat("x", 201), 5}, "auction.item"},
	} {
		_, err := sdktest.Call[Entry](alice, "place_bid", PlaceBid{To: bob.ID(), Bid: c.bid})
		if e, ok := errors.AsType[*sdk.Error](err); !ok || e.HandlerCode != c.code || e.Side != sdk.SideRemoteHandler {
			t.Errorf("%+v: got %v, want code %s", c.bid, err, c.code)
		}
	}
	if n := len(alice.Chain()) + len(bob.Chain()); n != 2 {
		t.Errorf("%d records on both chains, want the two genesis records", n)
	}
}

// thinking is a seller's node that takes ten seconds for each bid.
func thinking(net *sdktest.Net, name string) *sdktest.Node {
	return net.Node(name, dna, sdktest.NodeOptions{Properties: []byte(`{"deliberate": "10s"}`)})
}

func TestSellerCrashesWhileItThinks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		net := sdktest.New(t)
		alice, bob := thinking(net, "alice"), thinking(net, "bob")
		done := make(chan error)
		go func() {
			_, err := place(alice, bob, 50)
			done <- err
		}()
		synctest.Wait()
		net.Crash(bob)
		if err := <-done; !errors.Is(err, sdk.HandlerCrashed) {
			t.Fatalf("got %v, want %v", err, sdk.HandlerCrashed)
		}
		if n := len(alice.Chain()) + len(bob.Chain()); n != 2 {
			t.Fatalf("%d records on both chains, want the two genesis records", n)
		}
		began := time.Now()
		if _, err := place(alice, bob, 50); err != nil {
			t.Fatalf("the retry: %v", err)
		}
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("the seller thought for %s", took)
		}
	})
}

func TestBidderGivesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		net := sdktest.New(t)
		alice, bob := thinking(net, "alice"), thinking(net, "bob")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := sdktest.CallContext[Entry](ctx, alice, "place_bid", PlaceBid{To: bob.ID(), Bid: Bid{clown, 50}})
		if !errors.Is(err, sdk.Timeout) {
			t.Fatalf("got %v, want %v", err, sdk.Timeout)
		}
		if n := len(bob.Chain()); n != 1 {
			t.Errorf("%d records on bob's chain, want the genesis record", n)
		}
	})
}

func TestBadProperties(t *testing.T) {
	t.Parallel()
	net := sdktest.New(t)
	properties := sdktest.NodeOptions{Properties: []byte(`{"delibrate": "5s"}`)}
	alice, bob := net.Node("alice", dna, properties), net.Node("bob", dna, properties)
	if _, err := place(alice, bob, 50); !errors.Is(err, sdk.HandlerFailed) || !strings.Contains(err.Error(), `"delibrate"`) {
		t.Fatalf("got %v, want an error that names the field", err)
	}
}
