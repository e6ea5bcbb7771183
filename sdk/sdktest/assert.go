package sdktest

import (
	"fmt"

	"github.com/parley-p2p/parley/sdk"
)

// Chain is a copy of the node's source chain, the genesis record first. It ends
// the test if the chain does not verify.
func (x *Node) Chain() []sdk.Record {
	x.net.t.Helper()
	var out []sdk.Record
	for from := uint64(0); ; {
		page := x.chain.query(sdk.Query{From: from, Limit: 1000}, x.net.options.MaxPayload)
		if len(page) == 0 {
			break
		}
		out = append(out, page...)
		from += uint64(len(page))
	}
	if err := VerifyChain(out); err != nil {
		x.net.t.Fatalf("chain of %s: %v", x.name, err)
	}
	return out
}

// Entries are the values of the entries of one type on the node's chain, oldest
// first. It ends the test if one does not decode.
func Entries[T any](x *Node, entryType string) []T {
	x.net.t.Helper()
	var out []T
	for _, r := range x.Chain() {
		if r.Header.EntryType != entryType {
			continue
		}
		var v T
		if err := sdk.Unmarshal(r.Content, &v); err != nil {
			x.net.t.Fatalf("chain of %s, record %d: %v", x.name, r.Header.Seq, err)
		}
		out = append(out, v)
	}
	return out
}

// VerifyChain holds records, the genesis first, against one another: numbers
// without a gap, links, one author, one DNA, hashes and signatures. Its error
// names the first record that is wrong.
func VerifyChain(records []sdk.Record) error {
	var prev sdk.Hash
	for i, r := range records {
		h := r.Header
		var err error
		switch first := records[0].Header; {
		case h.Seq != uint64(i):
			err = fmt.Errorf("its number is %d", h.Seq)
		case h.Prev != prev:
			err = fmt.Errorf("it is not linked to the record before it")
		case (i == 0) != (h.Kind == sdk.KindGenesis):
			err = fmt.Errorf("its kind is %d", h.Kind)
		case h.Author != first.Author:
			err = fmt.Errorf("its author is %s", h.Author)
		case h.DNA != first.DNA:
			err = fmt.Errorf("its DNA is %s", h.DNA)
		default:
			err = r.Verify()
		}
		if err != nil {
			return fmt.Errorf("record %d: %w", i, err)
		}
		prev = r.Hash()
	}
	return nil
}
