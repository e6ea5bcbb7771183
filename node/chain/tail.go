package chain

import (
	"bytes"

	"github.com/parley-p2p/parley/sdk"
)

// tail is the newest part of a chain: what is durable in the log and not yet in
// the chain file. Its slices are only ever appended to and cut at their front,
// so that a copy of the struct stays valid while the tail moves on. It is
// bounded by the two halves of the log.
//
// Invariant: records[i] has sequence first+i, replies[i] order firstReply+i.
type tail struct {
	plans      []*plan // oldest first
	records    []planned
	first      uint64
	replies    []keptReply
	firstReply uint64
}

func (t *tail) add(p *plan) {
	if len(t.records) == 0 {
		t.first = p.head + 1 - uint64(len(p.records))
	}
	if len(t.replies) == 0 {
		t.firstReply = p.nextReply
	}
	t.plans = append(t.plans, p)
	t.records = append(t.records, p.records...)
	t.replies = append(t.replies, p.replies...)
}

// drop forgets the n oldest plans, which are in the chain file.
func (t *tail) drop(n int) {
	records, replies := 0, 0
	for _, p := range t.plans[:n] {
		records, replies = records+len(p.records), replies+len(p.replies)
	}
	if n == len(t.plans) {
		*t = tail{} // lets go of the memory
		return
	}
	t.plans = t.plans[n:]
	t.records, t.first = t.records[records:], t.first+uint64(records)
	t.replies, t.firstReply = t.replies[replies:], t.firstReply+uint64(replies)
}

// base is the sequence number from which on records are in the tail, where end
// is the chain's.
func (t *tail) base(end uint64) uint64 {
	if len(t.records) == 0 {
		return end
	}
	return t.first
}

// record is the record of sequence seq, nil if the tail does not have it.
func (t *tail) record(seq uint64) *planned {
	if i := seq - t.first; seq >= t.first && i < uint64(len(t.records)) {
		return &t.records[i]
	}
	return nil
}

func (t *tail) reply(order uint64) *keptReply {
	if i := order - t.firstReply; order >= t.firstReply && i < uint64(len(t.replies)) {
		return &t.replies[i]
	}
	return nil
}

// scan calls fn with the tail's records that q selects, in its order, until it
// returns false. q.To is set.
func (t *tail) scan(q sdk.Query, fn func(seq uint64, key, value []byte) (bool, error)) (more bool, err error) {
	prefix := append([]byte{byte(len(q.Type))}, q.Type...)
	n := len(t.records)
	for i := range n {
		if q.Reverse {
			i = n - 1 - i
		}
		r := &t.records[i]
		seq := t.first + uint64(i)
		if seq < q.From || seq >= q.To || q.Type != "" && !bytes.Equal(r.typeKey[:len(r.typeKey)-8], prefix) {
			continue
		}
		if more, err := fn(seq, r.key, r.value); err != nil || !more {
			return false, err
		}
	}
	return true, nil
}
