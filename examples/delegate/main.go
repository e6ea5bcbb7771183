// Command delegate is an auction where others may bid in one's name: Alice lets Carol
// bid for her, and the seller sees both, with the proof.
package main

import (
	"time"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/serve"
)

// Letter is what agents of this DNA send to one another: a bid, or the proof of a
// delegation to whom it is for.
type Letter struct {
	Bid   *Bid      `json:"bid"`
	Proof sdk.Proof `json:"proof"`
}

// Bid is an offer for an item, in whole dollars.
type Bid struct {
	Item   string `json:"item"`
	Amount uint64 `json:"amount"`
}

// Taken is a bid on the seller's chain. From sent it, For is who pays.
type Taken struct {
	Bid
	From sdk.AgentID `json:"from"`
	For  sdk.AgentID `json:"for"`
}

// Authorize lets an agent bid in this one's name at one seller's.
type Authorize struct {
	Agent  sdk.AgentID   `json:"agent"`
	Seller sdk.AgentID   `json:"seller"`
	For    time.Duration `json:"for"`
	Bids   int           `json:"bids"` // at most; 0: any number
}

// Held is a delegation that this agent was handed.
type Held struct {
	Proof sdk.Proof   `json:"proof"`
	From  sdk.AgentID `json:"from"`
}

// PlaceBid is a bid and where it goes; For names in whose name, nobody: one's own.
type PlaceBid struct {
	Seller sdk.AgentID `json:"seller"`
	For    sdk.AgentID `json:"for"`
	Bid
}

// authorize signs a delegation that can be used for messages to the seller only, and
// can't be handed on. It answers with its name, for revoke.
func authorize(c *sdk.Context, in Authorize) (sdk.Hash, error) {
	if in.For <= 0 {
		return sdk.Hash{}, sdk.Fail("delegate.for", "say for how long, such as 24h")
	}
	proof, err := c.Delegate(sdk.Delegation{To: in.Agent, Messages: true, Agents: []sdk.AgentID{in.Seller},
		Expires: time.Now().Add(in.For), Uses: in.Bids})
	if err != nil {
		return sdk.Hash{}, err
	}
	if _, err := sdk.Send[struct{}](c, in.Agent, Letter{Proof: proof}); err != nil {
		return sdk.Hash{}, err
	}
	return proof.ID()
}

func revoke(c *sdk.Context, delegation sdk.Hash) (struct{}, error) {
	return struct{}{}, c.Revoke(delegation)
}

func placeBid(c *sdk.Context, in PlaceBid) (Taken, error) {
	letter := Letter{Bid: &in.Bid}
	if in.For.IsZero() || in.For == c.Agent() {
		return sdk.Send[Taken](c, in.Seller, letter)
	}
	for h, err := range sdk.All[Held](c, sdk.Query{Type: "held", Reverse: true}) {
		if err != nil {
			return Taken{}, err
		}
		if h.Value.From == in.For {
			return sdk.Send[Taken](c, in.Seller, letter, sdk.OnBehalf(h.Value.Proof))
		}
	}
	return Taken{}, sdk.Fail("delegate.none", "%s has not authorized this agent", in.For.Short())
}

func receive(c *sdk.Context, l Letter) (Taken, error) {
	if l.Bid == nil { // a delegation: the node checks it when it is used
		_, err := c.Commit("held", Held{Proof: l.Proof, From: c.From()})
		return Taken{}, err
	}
	if l.Bid.Item == "" || l.Bid.Amount == 0 {
		return Taken{}, sdk.Fail("delegate.bid", "a bid names an item and at least a dollar")
	}
	t := Taken{Bid: *l.Bid, From: c.From(), For: c.From()}
	if principal, ok := c.OnBehalfOf(); ok {
		t.For = principal
	}
	_, err := c.Commit("bid", t) // beside it the node commits the proof
	return t, err
}

// bids lists what the seller has taken.
func bids(c *sdk.Context, _ struct{}) ([]Taken, error) {
	list := []Taken{}
	for r, err := range sdk.All[Taken](c, sdk.Query{Type: "bid"}) {
		if err != nil {
			return nil, err
		}
		list = append(list, r.Value)
	}
	return list, nil
}

var dna = sdk.Define("delegate", "1", sdk.Function("authorize", authorize), sdk.Function("revoke", revoke),
	sdk.Function("place_bid", placeBid), sdk.Function("bids", bids), sdk.Receive(receive))

func main() { serve.Main(dna) }
