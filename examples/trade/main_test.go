package main

import (
	"errors"
	"testing"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/sdktest"
)

// market is a buyer and a seller who asks 100 for a lamp and takes 80.
func market(t *testing.T) (buyer, seller *sdktest.Node) {
	net := sdktest.New(t)
	buyer, seller = net.Node("buyer", dna), net.Node("seller", dna)
	if _, err := sdktest.Call[struct{}](seller, "put", Item{Name: "lamp", Least: 80, Asked: 100}); err != nil {
		t.Fatal(err)
	}
	return buyer, seller
}

func buyLamp(buyer, seller *sdktest.Node, first, most uint64) (Outcome, error) {
	return sdktest.Call[Outcome](buyer, "buy", Buy{From: seller.ID(), Item: "lamp", First: first, Most: most})
}

func receipts(n *sdktest.Node) (hashes []sdk.Hash) {
	for _, r := range n.Chain() {
		if r.Header.EntryType == "parley.receipt" {
			hashes = append(hashes, r.Header.Entry)
		}
	}
	return hashes
}

func TestADealStandsOnBothChains(t *testing.T) {
	t.Parallel()
	buyer, seller := market(t)
	got, err := buyLamp(buyer, seller, 40, 90)
	if err != nil || got.Price < 80 || got.Price > 90 || got.Rounds < 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	mine, theirs := sdktest.Entries[Deal](buyer, "deal"), sdktest.Entries[Deal](seller, "deal")
	if len(mine) != 1 || len(theirs) != 1 || mine[0] != got.Deal || theirs[0] != (Deal{"lamp", got.Price, buyer.ID()}) {
		t.Errorf("buyer %+v, seller %+v", mine, theirs)
	}
	if a, b := receipts(buyer), receipts(seller); len(a) != 1 || len(b) != 1 || a[0] != b[0] {
		t.Errorf("receipts %v and %v do not match", a, b)
	}
}

func TestWithoutADealNothingStands(t *testing.T) {
	t.Parallel()
	buyer, seller := market(t)
	sold := func() (n int) { return len(buyer.Chain()) + len(seller.Chain()) }
	before := sold()
	declines := func(what string, err error) {
		t.Helper()
		if e, ok := errors.AsType[*sdk.Error](err); !ok || e.HandlerCode != "trade.declined" {
			t.Errorf("%s: %v", what, err)
		}
		if n := sold(); n != before {
			t.Errorf("%s: %d records, %d before", what, n, before)
		}
	}
	_, err := buyLamp(buyer, seller, 40, 60)
	declines("the buyer has too little", err)
	_, err = sdktest.Call[Outcome](buyer, "buy", Buy{From: seller.ID(), Item: "chair", First: 1, Most: 2})
	declines("no such item", err)

	if _, err := buyLamp(buyer, seller, 80, 80); err != nil {
		t.Fatal(err)
	}
	before = sold()
	_, err = buyLamp(buyer, seller, 100, 100)
	declines("it is sold", err)
}
