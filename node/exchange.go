package node

import (
	"errors"
	"fmt"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/parley-p2p/parley/sdk"
)

// A message that asks for a receipt is noted in agency.db before it leaves, so that
// this node can ask the receiver for its answer again if it ends before the receipt is
// on the chain:
//
//	DNA hash 32 | message 16  ->  version 1 | cause: kind 1, message 16, from 32 | the receipt's request
//
// It is removed within some 5 s of the end of the exchange: asking once more costs
// nothing but the way.
const (
	bucketExchanges = "exchanges"
	exchangeVersion = 1
	exchangeFixed   = 1 + 1 + 16 + 32
)

const (
	// maxExchanges bounds the exchanges that wait to be finished: beyond it the
	// oldest is let go.
	maxExchanges = 4096
	// exchangeFor is how long after an exchange began a node that starts still asks
	// for the answer. The receiver keeps it for 15 minutes at least (chain.md).
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

// exchanges are those that are to be finished: a state machine.
type exchanges struct {
	waiting []*exchange
	held    map[string]bool // by key: those that wait or are tried
	ended   map[string]bool // by key: still in agency.db
}

func newExchanges() exchanges { return exchanges{held: map[string]bool{}, ended: map[string]bool{}} }

// add has one wait.
func (q *exchanges) add(x *exchange) {
	if len(q.waiting) == maxExchanges {
		q.end(q.waiting[0])
		q.waiting = q.waiting[1:]
	}
	q.waiting = append(q.waiting, x)
	q.held[string(x.key())] = true
}

// end notes that one need not be finished any more.
func (q *exchanges) end(x *exchange) {
	key := string(x.key())
	delete(q.held, key)
	q.ended[key] = true
}

// known tells that one is dealt with, or has been, in this run.
func (q *exchanges) known(key []byte) bool { return q.held[string(key)] || q.ended[string(key)] }

// next takes what is due, or says when the next one is; zero: nothing waits.
func (q *exchanges) next(now time.Time) (x *exchange, at time.Time) {
	first := -1
	for i, w := range q.waiting {
		if first < 0 || w.due.Before(q.waiting[first].due) {
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
	return x, time.Time{}
}

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

// takeEnded are the keys that are to be removed.
func (q *exchanges) takeEnded() map[string]bool {
	ended := q.ended
	q.ended = map[string]bool{}
	return ended
}

// begin makes an exchange durable before its message leaves.
func (f *finisher) begin(x *exchange) *sdk.Error {
	key := x.key()
	err := f.node.agencyDB.update(func(tx *bolt.Tx) error { return putAgency(tx, bucketExchanges, key, x.encode()) })
	if err == nil {
		return nil
	}
	f.end(x) // the disk may have it
	f.node.cfg.Log.Error("an exchange could not be noted", "message", x.request.Message.String(), "error", err.Error())
	return &sdk.Error{Code: sdk.HandlerFailed, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true, HandlerCode: sdk.HandlerCodeCommit,
		Text: fmt.Sprintf("the message was not sent: what its receipt needs could not be written to %s: %v", agencyFile, err)}
}

// end notes that an exchange is finished, or that there is none.
func (f *finisher) end(x *exchange) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.exchanges.end(x)
}

// flush removes from agency.db the exchanges that have ended.
func (f *finisher) flush() error {
	f.mu.Lock()
	ended := f.exchanges.takeEnded()
	f.mu.Unlock()
	if len(ended) == 0 {
		return nil
	}
	err := f.node.agencyDB.update(func(tx *bolt.Tx) error {
		for key := range ended {
			if err := putAgency(tx, bucketExchanges, []byte(key), nil); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		for key := range ended {
			f.exchanges.ended[key] = true
		}
	}
	return err
}
