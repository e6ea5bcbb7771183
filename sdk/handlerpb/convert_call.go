package handlerpb

import (
	"math"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// remainingToWire gives the time left in milliseconds, rounded up so that
// what is left is never "no deadline"; 0 stands for none.
func remainingToWire(d time.Duration) uint64 {
	if d <= 0 {
		return 0
	}
	ms := uint64(d / time.Millisecond)
	if d%time.Millisecond != 0 {
		ms++
	}
	return min(ms, maxRemainingMS)
}

func remainingFromWire(ms uint64) (time.Duration, error) {
	if ms > maxRemainingMS {
		return 0, malformed("%d ms left, at most %d allowed", ms, uint64(maxRemainingMS))
	}
	return min(time.Duration(ms)*time.Millisecond, math.MaxInt64), nil
}

// CheckCall tells whether c may cross the contract.
func CheckCall(c *sdk.Call) error {
	function, records, payload := 0, [2]int{}, false // what it may have
	switch c.Kind {
	case sdk.CallFunction:
		if err := checkText("function name", c.Function, 1, maxFunction); err != nil {
			return err
		}
		function, payload = maxFunction, true
	case sdk.CallReceive, sdk.CallNotified:
		payload = true
	case sdk.CallInit:
	case sdk.CallValidate:
		records = [2]int{1, 1}
	case sdk.CallPostCommit:
		records = [2]int{1, sdk.MaxPostCommitRecords}
	default:
		return malformed("call kind %d", c.Kind)
	}
	switch n := len(c.Records); {
	case len(c.Function) > function:
		return malformed("a call of kind %d names a function", c.Kind)
	case len(c.Payload) > 0 && !payload:
		return malformed("a call of kind %d has a payload", c.Kind)
	case len(c.Behalf) > 0 && !payload:
		return malformed("a call of kind %d is on behalf of somebody", c.Kind)
	case n < records[0] || n > records[1]:
		return malformed("a call of kind %d has %d records, %d to %d allowed", c.Kind, n, records[0], records[1])
	case c.Kind == sdk.CallValidate && c.Records[0].Content == nil:
		return malformed("a validate without the entry's content")
	}
	return checkProof(c.Behalf)
}

// checkMessage tells whether m may cross the contract.
func checkMessage(m *sdk.Message) error {
	if err := checkText("function name", m.Function, 0, maxFunction); err != nil {
		return err
	}
	return checkProof(m.Behalf)
}

// CheckEntry tells whether e may cross the contract.
func CheckEntry(e *sdk.Entry) error {
	if e.Visibility > sdk.Public {
		return malformed("visibility %d", e.Visibility)
	}
	if e.Ordering > sdk.Strict {
		return malformed("ordering %d", e.Ordering)
	}
	return checkText("entry type", e.Type, 1, maxEntryType)
}

func entryFromWire(w *Entry) (e sdk.Entry, err error) {
	if w.Visibility < 0 || w.Visibility > 0xff || w.Ordering < 0 || w.Ordering > 0xff {
		return e, malformed("visibility %d, ordering %d", w.Visibility, w.Ordering)
	}
	e = sdk.Entry{Type: w.Type, Visibility: sdk.Visibility(w.Visibility), Ordering: sdk.Ordering(w.Ordering), Content: w.Content}
	return e, CheckEntry(&e)
}

// CheckQuery tells whether q may cross the contract.
func CheckQuery(q *sdk.Query) error {
	if q.Limit < 0 || q.Limit > maxQueryLimit {
		return malformed("query limit %d, 0 to %d allowed", q.Limit, maxQueryLimit)
	}
	return checkText("entry type", q.Type, 0, maxEntryType)
}

func queryToWire(q *sdk.Query) (*Query, error) {
	if err := CheckQuery(q); err != nil {
		return nil, err
	}
	return &Query{Type: q.Type, From: q.From, To: q.To, Reverse: q.Reverse, Limit: uint32(q.Limit)}, nil
}

func queryFromWire(w *Query) (q sdk.Query, err error) {
	if w.Limit > maxQueryLimit {
		return q, malformed("query limit %d, 0 to %d allowed", w.Limit, maxQueryLimit)
	}
	q = sdk.Query{Type: w.Type, From: w.From, To: w.To, Reverse: w.Reverse, Limit: int(w.Limit)}
	return q, CheckQuery(&q)
}

func recordsToWire(rs []sdk.Record) (*Records, error) {
	if len(rs) > maxQueryLimit {
		return nil, malformed("%d records, at most %d allowed", len(rs), maxQueryLimit)
	}
	w := &Records{Records: make([]*Record, len(rs))}
	for i := range rs {
		var err error
		if w.Records[i], err = recordToWire(&rs[i]); err != nil {
			return nil, err
		}
	}
	return w, nil
}

func recordToWire(r *sdk.Record) (*Record, error) {
	if err := checkLen("entry type", len(r.Header.EntryType), 1, maxEntryType); err != nil {
		return nil, err
	}
	return &Record{Header: sdk.AppendHeader(nil, &r.Header), Signature: r.Signature[:], Content: r.Content}, nil
}

func recordsFromWire(w *Records) ([]sdk.Record, error) {
	if len(w.GetRecords()) > maxQueryLimit {
		return nil, malformed("%d records, at most %d allowed", len(w.Records), maxQueryLimit)
	}
	rs := make([]sdk.Record, len(w.GetRecords()))
	for i, r := range w.GetRecords() {
		var err error
		if rs[i], err = recordFromWire(r); err != nil {
			return nil, malformed("record %d: %v", i, err)
		}
	}
	return rs, nil
}

func recordFromWire(w *Record) (sdk.Record, error) {
	h, err := sdk.ParseHeader(w.GetHeader())
	if err != nil {
		return sdk.Record{}, malformed("%v", err)
	}
	sig, err := fixed[[64]byte]("signature", w.GetSignature())
	if err != nil {
		return sdk.Record{}, err
	}
	return sdk.Record{Header: h, Signature: sig, Content: w.Content}, nil
}

// foundToWire and foundFromWire are of the record that a Get has found: a public
// entry with its content.
func foundToWire(r *sdk.Record) (*Record, error) {
	if err := checkFound(r); err != nil {
		return nil, err
	}
	return recordToWire(r)
}

func foundFromWire(w *Record) (r sdk.Record, err error) {
	if r, err = recordFromWire(w); err != nil {
		return r, err
	}
	return r, checkFound(&r)
}

func checkFound(r *sdk.Record) error {
	if r.Content == nil || r.Header.Visibility != sdk.Public || r.Header.Kind != sdk.KindEntry {
		return malformed("what was found is no public entry with its content")
	}
	return nil
}
