package node

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// order is what a notification says of its place among its sender's.
type order struct {
	// run is of the sender's process: numbers of two runs have nothing to do with
	// one another.
	run uint64
	// seq is the notification's number, base that of the oldest one whose result
	// the sender did not know when it sent this.
	seq, base uint64
}

// orderSize is the length of an encoded order: three big-endian numbers.
const orderSize = 24

// encode is an order as a header has it.
func (o order) encode() []byte {
	b := make([]byte, 0, orderSize)
	b = binary.BigEndian.AppendUint64(b, o.run)
	b = binary.BigEndian.AppendUint64(b, o.seq)
	return binary.BigEndian.AppendUint64(b, o.base)
}

// parseOrder reads what encode wrote.
func parseOrder(b []byte) (o order, err error) {
	if len(b) != orderSize {
		return o, fmt.Errorf("order of %d bytes, not %d", len(b), orderSize)
	}
	o = order{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint64(b[16:])}
	if o.base == 0 || o.base > o.seq || o.seq == math.MaxUint64 {
		return o, fmt.Errorf("order of number %d behind %d", o.seq, o.base)
	}
	return o, nil
}

// sequence is how far one sender's notifications of one DNA have come.
type sequence struct {
	known   bool
	run     uint64
	next    uint64 // the number of the one that may come
	retired [4]uint64
}

// placing says what becomes of a notification that arrives.
type placing uint8

const (
	inOrder placing = iota // it is the next one
	tooSoon                // one before it is missing: it has to come again, behind that
	tooLate                // it has run, or may not any more
)

// place says where a notification stands. It counts nothing: see took.
func (s *sequence) place(o order) placing {
	switch {
	case !s.known:
		s.known, s.run, s.next = true, o.run, o.base
	case o.run != s.run:
		for _, r := range s.retired {
			if r == o.run {
				return tooLate
			}
		}
		copy(s.retired[1:], s.retired[:])
		s.retired[0] = s.run
		s.run, s.next = o.run, o.base
	}
	s.next = max(s.next, o.base)
	switch {
	case o.seq < s.next:
		return tooLate
	case o.seq > s.next:
		return tooSoon
	}
	return inOrder
}

// took counts the one that may come as come.
func (s *sequence) took() { s.next++ }

// notifyInboxSetting is what a sender knows the errors by for which it sends a
// notification again, and those behind it.
const notifyInboxSetting = "notify-inbox"

func errTooSoon() *sdk.Error {
	return &sdk.Error{Code: sdk.Busy, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true,
		Text: "a notification before this one has not come", Limit: &sdk.Limit{Name: "order of notifications", Setting: notifyInboxSetting}}
}

func errInboxFull(max int) *sdk.Error {
	return &sdk.Error{Code: sdk.Busy, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true,
		Text: "too many notifications of this sender wait for notified",
		Limit: &sdk.Limit{Name: "notifications that wait", Setting: notifyInboxSetting, Value: uint64(max) + 1, Max: uint64(max),
			RetryAfter: notifyRetry}}
}

// notifyRetry is when a sender tries again that has filled the inbox.
const notifyRetry = 20 * time.Millisecond

func errTooLate() *sdk.Error {
	return &sdk.Error{Code: sdk.OutcomeUnknown, Side: sdk.SideNode,
		Text: "later notifications of this sender have come before; whether this one has run is not known any more"}
}

// inbox is what has arrived of one sender for one DNA and has not run. One runs at
// a time.
type inbox struct {
	sequence
	waits   []*arrival
	running bool
}

// inboxes are those of all senders. Its owner serializes the calls.
type inboxes struct {
	boxes map[inboxKey]*inbox
	ages  []inboxKey // their keys, the oldest box first
}

type inboxKey struct {
	from sdk.AgentID
	dna  sdk.DNAHash
}

// maxInboxes bounds the senders whose place in their order is remembered. One that
// is forgotten begins anew with the base of its next notification.
const maxInboxes = 1 << 14

// get is a sender's inbox.
func (t *inboxes) get(k inboxKey) *inbox {
	b := t.boxes[k]
	if b == nil {
		b = &inbox{}
		t.boxes[k] = b
		t.ages = append(t.ages, k)
		t.trim()
	}
	return b
}

// trim forgets the oldest where there are too many, but for those that run.
func (t *inboxes) trim() {
	for looks := len(t.ages) - 1; len(t.boxes) > maxInboxes && looks > 0; looks-- {
		k := t.ages[0]
		t.ages = t.ages[1:]
		if t.boxes[k].running {
			t.ages = append(t.ages, k)
			continue
		}
		delete(t.boxes, k)
	}
}
