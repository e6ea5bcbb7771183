package node

import (
	"errors"
	"fmt"
	"slices"

	bolt "go.etcd.io/bbolt"

	"github.com/parley-p2p/parley/sdk"
)

// This file keeps the notes of exchanges in agency.db.

// begin makes an exchange durable before its message leaves. What has ended goes in the
// same transaction, so that it costs no other.
func (f *finisher) begin(x *exchange) *sdk.Error {
	key, v := x.key(), x.encode()
	f.mu.Lock()
	if e := f.exchanges.note(x); e != nil {
		f.mu.Unlock()
		return e
	}
	ended := f.exchanges.takeEnded(endedAtOnce)
	f.mu.Unlock()
	err := f.write(ended, func(tx *bolt.Tx) error { return putAgency(tx, bucketExchanges, key, v) })
	if err == nil {
		return nil
	}
	f.end(x) // the disk may have it
	f.node.cfg.Log.Error("an exchange could not be noted", "message", x.request.Message.String(), "error", err.Error())
	return &sdk.Error{Code: sdk.HandlerFailed, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true, HandlerCode: sdk.HandlerCodeCommit,
		Text: fmt.Sprintf("the message was not sent: what its receipt needs could not be written to %s: %v", agencyFile, err)}
}

// write removes notes that were taken from those that have ended, and does what else
// there is to do.
func (f *finisher) write(ended []string, do func(*bolt.Tx) error) error {
	err := f.node.agencyDB.update(func(tx *bolt.Tx) error {
		for _, key := range ended {
			if err := putAgency(tx, bucketExchanges, []byte(key), nil); err != nil {
				return err
			}
		}
		return do(tx)
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	f.exchanges.removed(ended, err == nil)
	return err
}

// end notes that an exchange is finished, or that there is none.
func (f *finisher) end(x *exchange) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.exchanges.end(string(x.key()))
}

// flush removes from agency.db the exchanges that have ended.
func (f *finisher) flush() error {
	f.mu.Lock()
	ended := f.exchanges.takeEnded(maxExchanges)
	f.mu.Unlock()
	if len(ended) == 0 {
		return nil
	}
	return f.write(ended, func(*bolt.Tx) error { return nil })
}

// dropOld ends the exchanges that are asked for no more, of all DNAs: some may never
// run again.
func (f *finisher) dropOld() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.exchanges.expire(f.node.now())
}

// loadExchanges counts what earlier runs have noted, of all DNAs, and removes what is
// too old, or can't be read.
func (n *Node) loadExchanges() error {
	f := n.finisher
	var unread [][]byte
	err := n.agencyDB.each(bucketExchanges, func(k, v []byte) error {
		x, err := decodeExchange(k, v)
		if err != nil {
			n.cfg.Log.Warn("an exchange can't be read, and is removed", "file", agencyFile, "error", err.Error())
			unread = append(unread, slices.Clone(k))
			return nil
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.exchanges.load(&x)
		return nil
	})
	if err != nil {
		return err
	}
	if len(unread) > 0 {
		err = n.agencyDB.update(func(tx *bolt.Tx) error {
			for _, k := range unread {
				if err := putAgency(tx, bucketExchanges, k, nil); err != nil {
					return err
				}
			}
			return nil
		})
	}
	f.dropOld()
	if err = errors.Join(err, f.flush()); err != nil {
		n.cfg.Log.Warn("exchanges that are over stay for now", "file", agencyFile, "error", err.Error())
	}
	return nil
}
