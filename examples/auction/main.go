// Command auction is a silent auction: a seller writes sealed bids down and acknowledges them.
package main

import (
	"time"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/serve"
)

// Bid is an offer for an item, in whole dollars.
type Bid struct {
	Item   string `json:"item"`
	Amount uint64 `json:"amount"`
}

// PlaceBid is the input of place_bid: a bid, and the seller that it goes to.
type PlaceBid struct {
	To sdk.AgentID `json:"to"`
	Bid
}

// Entry is what both chains keep: the bid, the other side, the message that carried it.
type Entry struct {
	Bid
	With    sdk.AgentID   `json:"with"`
	Message sdk.MessageID `json:"message"`
}

// Ack is the seller's answer.
type Ack struct {
	Message sdk.MessageID `json:"message"`
}

// Rules are the operator's properties, such as {"deliberate": "5s"}.
type Rules struct {
	Deliberate time.Duration `json:"deliberate"` // how long a seller thinks
}

func placeBid(c *sdk.Context, in PlaceBid) (Entry, error) {
	ack, err := sdk.Send[Ack](c, in.To, in.Bid) // blocks until the seller's commit is durable
	if err != nil {
		return Entry{}, err
	}
	e := Entry{Bid: in.Bid, With: in.To, Message: ack.Message}
	_, err = c.Commit("acknowledged", e)
	return e, err
}

func receive(c *sdk.Context, bid Bid) (Ack, error) {
	var rules Rules
	if err := c.Properties(&rules); err != nil {
		return Ack{}, err
	}
	switch {
	case bid.Item == "" || len(bid.Item) > 200:
		return Ack{}, sdk.Fail("auction.item", "an item has a name of 1 to 200 bytes, not %d", len(bid.Item))
	case bid.Amount == 0:
		return Ack{}, sdk.Fail("auction.amount", "a bid is at least 1 dollar")
	}
	if _, err := c.Commit("bid", Entry{bid, c.From(), c.MessageID()}); err != nil {
		return Ack{}, err
	}
	select {
	case <-time.After(rules.Deliberate):
		return Ack{c.MessageID()}, nil
	case <-c.Done(): // the bidder gave up: nothing is committed
		return Ack{}, c.Err()
	}
}

// bids lists what was received for an item; no name means all items.
func bids(c *sdk.Context, item string) ([]Entry, error) {
	found := []Entry{}
	for r, err := range sdk.All[Entry](c, sdk.Query{Type: "bid"}) {
		if err != nil {
			return nil, err
		}
		if item == "" || item == r.Value.Item {
			found = append(found, r.Value)
		}
	}
	return found, nil
}

func highest(c *sdk.Context, item string) (*Entry, error) {
	found, err := bids(c, item)
	var best *Entry // of equal bids the first
	for _, b := range found {
		if best == nil || b.Amount > best.Amount {
			best = &b
		}
	}
	return best, err
}

var dna = sdk.Define("auction", "1", sdk.Function("place_bid", placeBid),
	sdk.Function("bids", bids), sdk.Function("highest", highest), sdk.Receive(receive))

func main() { serve.Main(dna) }
