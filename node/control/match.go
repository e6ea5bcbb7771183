package control

import (
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// MatchResult says which exchanges between two agents stand on both their chains.
type MatchResult struct {
	A VerifyResult `json:"a"`
	B VerifyResult `json:"b"`
	// Reason is why the two can't be held against one another; empty: they were.
	Reason string `json:"reason,omitempty"`
	// Exchanges have a receipt on either chain, and are between the two agents.
	Exchanges []Exchange `json:"exchanges"`
	// Matched, OnlyA, OnlyB and Wrong count them by their state. Others are receipts
	// of exchanges with other agents; Withheld those whose content neither export has.
	Matched  int `json:"matched"`
	OnlyA    int `json:"only_a"`
	OnlyB    int `json:"only_b"`
	Wrong    int `json:"wrong"`
	Others   int `json:"others"`
	Withheld int `json:"withheld"`
}

// States of an Exchange.
const (
	OnBoth  = "both"   // the same receipt stands on both chains: both agents have signed it
	OnlyOnA = "only a" // only the first chain has it
	OnlyOnB = "only b" // only the second
	OnWrong = "wrong"  // both have one of this message, and they differ
)

// Exchange is a message and its answer, by their receipt.
type Exchange struct {
	State    string        `json:"state"`
	Message  sdk.MessageID `json:"message"`
	From     sdk.AgentID   `json:"from"`
	To       sdk.AgentID   `json:"to"`
	Function string        `json:"function,omitempty"`
	Time     time.Time     `json:"time"` // by the sender's clock
	Payload  sdk.Hash      `json:"payload"`
	Reply    sdk.Hash      `json:"reply"`
	Behalf   sdk.Hash      `json:"behalf,omitzero"` // of the proof
	Entry    sdk.Hash      `json:"entry"`           // the receipt's hash on the chain
	// SeqA and SeqB are the numbers of its records; 0: it is not there.
	SeqA uint64 `json:"seq_a,omitempty"`
	SeqB uint64 `json:"seq_b,omitempty"`
}

// Whole tells that both chains are right and hold the same exchanges.
func (m *MatchResult) Whole() bool {
	return m.A.Valid && m.B.Valid && m.Reason == "" && m.OnlyA+m.OnlyB+m.Wrong+m.Withheld == 0
}
