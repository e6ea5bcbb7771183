package node

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// A message that asks for a receipt is noted in agency.db before it leaves, so that
// this node can ask the receiver for its answer again if it ends before the receipt is
// on the chain:
//
//	DNA hash 32 | message 16  ->  version 1 | cause: kind 1, message 16, from 32 | the receipt's request
//
// It is removed with the next one that is noted, or within some 5 s of the end of the
// exchange: asking once more costs nothing but the way. What nobody could say for a day
// goes as well.
const (
	bucketExchanges = "exchanges"
	exchangeVersion = 1
	exchangeFixed   = 1 + 1 + 16 + 32
)

const (
	// maxExchanges bounds the notes, some 400 bytes each, and maxExchangesTo those of
	// one receiver: beyond them no message leaves that asks for a receipt.
	maxExchanges   = 1 << 14
	maxExchangesTo = maxExchanges / 4
	// endedAtOnce bounds the notes that are removed with one that is made.
	endedAtOnce = 16
	// exchangeFor is how long after an exchange began a node still asks for the
	// answer. The receiver keeps it for 15 minutes at least (chain.md).
	exchangeFor = 24 * time.Hour
)

// exchange is a message with a receipt that is not on this agent's chain yet.
type exchange struct {
	request sdk.ReceiptRequest
	cause   sdk.Cause // of the call that sent it
	tries   int
	due     time.Time
}

func (x *exchange) key() []byte { return slices.Concat(x.request.DNA[:], x.request.Message[:]) }

func (x *exchange) encode() []byte {
	b := append(make([]byte, 0, exchangeFixed+sdk.MaxReceiptRequest), exchangeVersion, byte(x.cause.Kind))
	b = append(b, x.cause.Message[:]...)
	b = append(b, x.cause.From[:]...)
	return sdk.AppendReceiptRequest(b, &x.request)
}

func decodeExchange(k, v []byte) (x exchange, err error) {
	if len(k) != 48 || len(v) < exchangeFixed || v[0] != exchangeVersion {
		return x, fmt.Errorf("%s: an element of %d and %d bytes among the exchanges", agencyFile, len(k), len(v))
	}
	x.cause = sdk.Cause{Kind: sdk.CallKind(v[1]), Message: sdk.MessageID(v[2:18]), From: sdk.AgentID(v[18:exchangeFixed])}
	x.request, err = sdk.ParseReceiptRequest(v[exchangeFixed:])
	if err == nil && (!x.cause.Kind.Commits() || !slices.Equal(x.key(), k)) {
		err = errors.New("an exchange under another's name, or of no call")
	}
	return x, err
}

// exchangeNote is what is remembered of a note in agency.db.
type exchangeNote struct {
	to    sdk.AgentID
	began time.Time
	ended bool // it is to be removed
}

// exchanges are the notes in agency.db, and of these the ones that are to be finished:
// a state machine.
type exchanges struct {
	waiting []*exchange
	held    map[string]bool          // by key: those that wait or are tried
	asked   map[sdk.AgentID]bool     // the receivers of those that are tried
	noted   map[string]*exchangeNote // by key: what agency.db has, or may have
	to      map[sdk.AgentID]int      // how many of them are of each receiver
	ended   map[string]bool          // by key: those that nobody removes yet
}

func newExchanges() exchanges {
	return exchanges{held: map[string]bool{}, asked: map[sdk.AgentID]bool{}, noted: map[string]*exchangeNote{}, to: map[sdk.AgentID]int{}, ended: map[string]bool{}}
}

// note makes room for one that is to be noted, or says that there is none.
func (q *exchanges) note(x *exchange) *sdk.Error {
	switch {
	case len(q.noted) >= maxExchanges:
		return errTooManyExchanges("exchanges without a receipt", len(q.noted)+1, maxExchanges)
	case q.to[x.request.To] >= maxExchangesTo:
		return errTooManyExchanges("exchanges with one agent without a receipt", q.to[x.request.To]+1, maxExchangesTo)
	}
	q.load(x)
	return nil
}

func errTooManyExchanges(name string, value, most int) *sdk.Error {
	return &sdk.Error{Code: sdk.Busy, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true,
		Text:  "the message was not sent: of too many messages that asked for a receipt this node has none yet; send it without one, or later",
		Limit: &sdk.Limit{Name: name, Value: uint64(value), Max: uint64(most), RetryAfter: claimsFlush}}
}

// load is note for one that agency.db has.
func (q *exchanges) load(x *exchange) {
	key := string(x.key())
	if q.noted[key] == nil {
		q.noted[key] = &exchangeNote{to: x.request.To, began: x.request.Time}
		q.to[x.request.To]++
	}
}

// add has one wait that is noted.
func (q *exchanges) add(x *exchange) {
	q.waiting = append(q.waiting, x)
	q.held[string(x.key())] = true
}

// end notes that one need not be finished any more.
func (q *exchanges) end(key string) {
	delete(q.held, key)
	if n := q.noted[key]; n != nil && !n.ended {
		n.ended = true
		q.ended[key] = true
	}
}

// expire ends those of which nobody could say anything for too long.
func (q *exchanges) expire(now time.Time) {
	for key, n := range q.noted {
		if !q.held[key] && exchangeIsOld(now, n.began) {
			q.end(key)
		}
	}
}

// exchangeIsOld tells that an exchange is asked for no more; a clock may have been set.
func exchangeIsOld(now, began time.Time) bool {
	return now.Sub(began) >= exchangeFor || began.Sub(now) >= exchangeFor
}

// known tells that one is dealt with, or has been, in this run.
func (q *exchanges) known(key []byte) bool {
	n := q.noted[string(key)]
	return q.held[string(key)] || n != nil && n.ended
}

// next takes what is due, or says when the next one is; zero: nothing waits. A receiver
// is asked for one at a time, until tried says so: one that is silent holds up nobody
// else.
func (q *exchanges) next(now time.Time) (x *exchange, at time.Time) {
	first := -1
	for i, w := range q.waiting {
		if !q.asked[w.request.To] && (first < 0 || w.due.Before(q.waiting[first].due)) {
			first = i
		}
	}
	if first < 0 {
		return nil, time.Time{}
	}
	if x = q.waiting[first]; x.due.After(now) {
		return nil, x.due
	}
	q.waiting = slices.Delete(q.waiting, first, first+1)
	q.asked[x.request.To] = true

	return x, time.Time{}
}

// tried lets the receiver of one that next took be asked again.
func (q *exchanges) tried(x *exchange) { delete(q.asked, x.request.To) }

// again has one wait that could not be finished now; false if that was tried often
// enough in this run. It stays for the next one.
func (q *exchanges) again(now time.Time, x *exchange) bool {
	if x.tries++; x.tries >= tellTries {
		delete(q.held, string(x.key()))
		return false
	}
	x.due = now.Add(min(tellPause<<min(x.tries-1, 16), tellPauseMax))
	q.add(x)
	return true
}

// takeEnded are notes that are to be removed, so many at most. The caller says by
// removed what became of them.
func (q *exchanges) takeEnded(most int) (keys []string) {
	for key := range q.ended {
		if len(keys) == most {
			break
		}
		keys = append(keys, key)
		delete(q.ended, key)
	}
	return keys
}

// removed is told whether agency.db has these no more.
func (q *exchanges) removed(keys []string, gone bool) {
	for _, key := range keys {
		n := q.noted[key]
		switch {
		case !gone:
			q.ended[key] = true
			continue
		case q.to[n.to] == 1:
			delete(q.to, n.to)
		default:
			q.to[n.to]--
		}
		delete(q.noted, key)
	}
}
