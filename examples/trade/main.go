// Command trade is a negotiation: offer, counter-offer, deal. A deal stands on both
// chains with matching receipts; where one side declines it stands on neither.
package main

import (
	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/serve"
)

// Item is what a seller has, and the least that is taken for it, in whole dollars.
type Item struct {
	Name  string `json:"name"`
	Least uint64 `json:"least"`
	Asked uint64 `json:"asked"`
}

// Buy is what a buyer wants: to begin with First, and never to pay more than Most.
type Buy struct {
	From  sdk.AgentID `json:"from"`
	Item  string      `json:"item"`
	First uint64      `json:"first"`
	Most  uint64      `json:"most"`
}

// Offer is what a buyer says. Final offers are taken or declined, and bind both.
type Offer struct {
	Item  string `json:"item"`
	Price uint64 `json:"price"`
	Final bool   `json:"final"`
}

// Answer is the seller's counter-offer; Price is that of the offer where it is taken.
type Answer struct {
	Price uint64 `json:"price"`
}

// Deal is what both chains keep, one with the buyer's and one with the seller's name
// as the other side.
type Deal struct {
	Item  string      `json:"item"`
	Price uint64      `json:"price"`
	With  sdk.AgentID `json:"with"`
}

// Outcome is what came of a negotiation.
type Outcome struct {
	Deal
	Rounds int `json:"rounds"`
}

func declined(format string, args ...any) error { return sdk.Fail("trade.declined", format, args...) }

// put offers an item; a later one of that name takes its place.
func put(c *sdk.Context, i Item) (struct{}, error) {
	if i.Name == "" || i.Asked < i.Least {
		return struct{}{}, sdk.Fail("trade.item", "an item has a name, and is not asked for less than the least")
	}
	_, err := c.Commit("item", i)
	return struct{}{}, err
}

const maxRounds = 20

// buy negotiates until there is a deal, or the price is above Most. Each round is one
// message cycle: both sides are there the whole time.
func buy(c *sdk.Context, in Buy) (Outcome, error) {
	price := in.First
	for round := 1; round <= maxRounds; round++ {
		if price > in.Most {
			return Outcome{}, declined("%d dollars are asked for, %d are there", price, in.Most)
		}
		answer, err := sdk.Send[Answer](c, in.From, Offer{Item: in.Item, Price: price})
		if err != nil {
			return Outcome{}, err
		}
		if answer.Price > price { // meet half-way, and come a dollar nearer at least
			price += (answer.Price - price + 1) / 2
			continue
		}
		// The seller commits its deal and a receipt before this returns, or nothing.
		offer := Offer{Item: in.Item, Price: price, Final: true}
		if _, err := sdk.Send[Answer](c, in.From, offer, sdk.WithReceipt()); err != nil {
			return Outcome{}, err
		}
		d := Deal{Item: in.Item, Price: price, With: in.From}
		_, err = c.Commit("deal", d)
		return Outcome{d, round}, err
	}
	return Outcome{}, declined("no deal in %d rounds", maxRounds)
}

// receive is the seller's side. An offer changes nothing; a final one that is taken
// is a deal.
func receive(c *sdk.Context, o Offer) (Answer, error) {
	item, err := stocked(c, o.Item)
	switch {
	case err != nil:
		return Answer{}, err
	case !o.Final && o.Price < item.Least: // come down a little for each offer that is higher
		return Answer{max(item.Least, item.Asked-min(item.Asked, o.Price)/2)}, nil
	case o.Price < item.Least:
		return Answer{}, declined("%s is not sold for %d dollars", o.Item, o.Price)
	case !o.Final:
		return Answer{o.Price}, nil
	}
	_, err = c.Commit("deal", Deal{Item: o.Item, Price: o.Price, With: c.From()}, sdk.AsStrict)
	return Answer{o.Price}, err
}

// stocked finds an item that was put up and is not sold.
func stocked(c *sdk.Context, name string) (Item, error) {
	items, err := sdk.QueryAs[Item](c, sdk.Query{Type: "item", Reverse: true, Limit: 1000})
	if err != nil {
		return Item{}, err
	}
	for _, i := range items {
		if i.Value.Name != name {
			continue
		}
		later, err := sdk.QueryAs[Deal](c, sdk.Query{Type: "deal", From: i.Header.Seq, Limit: 1000})
		if err != nil {
			return Item{}, err
		}
		for _, d := range later {
			if d.Value.Item == name {
				return Item{}, declined("%s is sold", name)
			}
		}
		return i.Value, nil
	}
	return Item{}, declined("there is no %s", name)
}

// deals lists what stands on this chain.
func deals(c *sdk.Context, _ struct{}) ([]Deal, error) {
	list := []Deal{}
	for r, err := range sdk.All[Deal](c, sdk.Query{Type: "deal"}) {
		if err != nil {
			return nil, err
		}
		list = append(list, r.Value)
	}
	return list, nil
}

var dna = sdk.Define("trade", "1", sdk.Function("put", put), sdk.Function("buy", buy),
	sdk.Function("deals", deals), sdk.Receive(receive))

func main() { serve.Main(dna) }
