package node

import (
	"cmp"
	"fmt"
	"io"
	"slices"

	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
)

// maxReceipts bounds the receipts of one export that are held against another's:
// they are in memory, 1 KiB each at most.
const maxReceipts = 1 << 20

// receiptRecord is a receipt on one of the two chains.
type receiptRecord struct {
	seq     uint64
	entry   sdk.Hash
	receipt *sdk.Receipt // nil where its content is withheld
}

// MatchExports checks two exported chains of one DNA, and which of the exchanges
// between their agents, of which there are matching receipts, stand on both. It
// needs no node. What is wrong with a chain, or on one alone, is a result; the error
// is one of reading.
func MatchExports(a, b io.Reader) (m control.MatchResult, err error) {
	ofA, err := readReceipts(a, &m.A)
	if err != nil {
		return m, fmt.Errorf("first chain: %w", err)
	}
	ofB, err := readReceipts(b, &m.B)
	if err != nil {
		return m, fmt.Errorf("second chain: %w", err)
	}
	switch {
	case !m.A.Valid || !m.B.Valid:
		return m, nil
	case m.A.Hash != m.B.Hash:
		m.Reason = "the two chains are of different DNAs"
	case m.A.Author == m.B.Author:
		m.Reason = "the two chains are of the same agent"
	}
	if m.Reason == "" {
		matchReceipts(&m, ofA, ofB)
	}
	return m, nil
}

func readReceipts(r io.Reader, v *control.VerifyResult) (list []receiptRecord, err error) {
	*v, err = verifyExport(r, func(r *sdk.Record) error {
		if r.Header.EntryType != sdk.TypeReceipt {
			return nil
		}
		if len(list) == maxReceipts {
			return fmt.Errorf("more than %d receipts", maxReceipts)
		}
		record := receiptRecord{seq: r.Header.Seq, entry: r.Header.Entry}
		if r.Content != nil { // VerifyExport has checked it
			receipt, err := sdk.ParseReceipt(r.Content)
			if err != nil {
				return err
			}
			record.receipt = &receipt
		}
		list = append(list, record)
		return nil
	})
	return list, err
}

// exchangeKey names a message.
type exchangeKey struct {
	from sdk.AgentID
	id   sdk.MessageID
}

// matchReceipts pairs the receipts of two chains by their entries' hashes: the same
// hash is the same bytes, and those were checked where either export has them.
func matchReceipts(m *control.MatchResult, ofA, ofB []receiptRecord) {
	onB := make(map[sdk.Hash]receiptRecord, len(ofB))
	messagesB := make(map[exchangeKey]sdk.Hash, len(ofB))
	for _, b := range ofB {
		onB[b.entry] = b
		if b.receipt != nil {
			messagesB[exchangeKey{b.receipt.Request.From, b.receipt.Request.Message}] = b.entry
		}
	}
	paired, seen := map[sdk.Hash]bool{}, map[sdk.Hash]bool{}
	add := func(state string, r *sdk.Receipt, a, b receiptRecord) {
		q, entry := &r.Request, a.entry
		if entry.IsZero() {
			entry = b.entry
		}
		if q.From != m.A.Author && q.To != m.A.Author || q.From != m.B.Author && q.To != m.B.Author {
			m.Others++
			return
		}
		m.Exchanges = append(m.Exchanges, control.Exchange{State: state, Message: q.Message, From: q.From, To: q.To, Function: q.Function, Time: q.Time,
			Payload: q.Payload, Reply: r.Reply, Behalf: q.Behalf, Entry: entry, SeqA: a.seq, SeqB: b.seq})
	}
	for _, a := range ofA {
		if seen[a.entry] {
			continue // it stands there twice, and is of one exchange
		}
		seen[a.entry] = true
		b, both := onB[a.entry]
		receipt := cmp.Or(a.receipt, b.receipt)
		switch {
		case receipt == nil:
			m.Withheld++
		case both:
			add(control.OnBoth, receipt, a, b)
		default:
			other, ok := messagesB[exchangeKey{receipt.Request.From, receipt.Request.Message}]
			if ok {
				paired[other] = true
				add(control.OnWrong, receipt, a, onB[other])
			} else {
				add(control.OnlyOnA, receipt, a, receiptRecord{})
			}
		}
		paired[a.entry] = true
	}
	for _, b := range ofB {
		switch {
		case paired[b.entry]:
		case b.receipt == nil:
			m.Withheld++
		default:
			add(control.OnlyOnB, b.receipt, receiptRecord{}, b)
		}
		paired[b.entry] = true
	}
	slices.SortStableFunc(m.Exchanges, func(x, y control.Exchange) int { return x.Time.Compare(y.Time) })
	for _, x := range m.Exchanges {
		switch x.State {
		case control.OnBoth:
			m.Matched++
		case control.OnlyOnA:
			m.OnlyA++
		case control.OnlyOnB:
			m.OnlyB++
		case control.OnWrong:
			m.Wrong++
		}
	}
}
