package chain

import (
	"encoding/binary"
	"errors"
	"runtime/debug"
	"time"

	bolt "go.etcd.io/bbolt"
)

const (
	// quiet is for how long nothing must have been committed before the tail goes
	// into the chain file: under load it goes there in large transactions, and a
	// chain that rests needs no log.
	quiet = 100 * time.Millisecond
	// storeRetry is when the keeper tries again after it failed.
	storeRetry = time.Second
)

// keep is the keeper: it takes the tail over into the chain file when a half of
// the log is full, and when the chain has been quiet.
func (c *Chain) keep() {
	defer close(c.kept)
	timer := time.NewTimer(quiet)
	defer timer.Stop()
	for {
		select {
		case <-c.closing:
			return
		case <-c.moved:
		}
		pause, failing := quiet, false
		for {
			before := c.unstored()
			if before == 0 && !c.postedMoved() {
				break
			}
			timer.Reset(pause)
			select {
			case <-c.closing:
				return
			case <-c.full:
			case <-timer.C:
				if c.unstored() != before {
					continue // not quiet
				}
			}
			err := c.checkpoint()
			if err != nil && !failing {
				c.opts.Log.Warn("chain file can't be written: what was committed is safe in its log, but when that is full nothing more can be",
					"file", c.opts.Path, "error", err)
			}
			if pause, failing = quiet, err != nil; failing {
				pause = storeRetry
			}
		}
	}
}

func (c *Chain) storedNumber() uint64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.stored
}

func (c *Chain) stopReason() error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.stopped
}

// unstored is how many frames the chain file lacks.
func (c *Chain) unstored() uint64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return max(c.number, c.stored) - c.stored
}

// checkpoint takes the tail over into the chain file, and how far post_commit
// has come.
func (c *Chain) checkpoint() error {
	c.storing.Lock()
	defer c.storing.Unlock()
	return c.checkpointLocked(nil)
}

// checkpointLocked is checkpoint with one more plan, which is in no log.
func (c *Chain) checkpointLocked(more *plan) error {
	c.mu.RLock()
	stopped, old, posted := c.stopped, c.tail.plans, c.posted
	c.mu.RUnlock()
	plans := old
	if more != nil {
		plans = append(plans[:len(plans):len(plans)], more)
	}
	if stopped != nil || len(plans) == 0 && !posted.dirty {
		return stopped
	}
	number := c.storedNumber()
	if len(plans) > 0 {
		number = plans[len(plans)-1].number
	}
	err := c.transact(func(tx *bolt.Tx) error {
		for _, p := range plans {
			if err := p.put(tx); err != nil {
				return err
			}
		}
		if posted.dirty {
			if err := putPosted(tx, posted); err != nil {
				return err
			}
		}
		if len(plans) == 0 {
			return nil
		}
		return tx.Bucket(bucketMeta).Put(keyStored, binary.BigEndian.AppendUint64(nil, number))
	})
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tail.drop(len(old))
	c.stored = number
	c.posted.dirty = c.posted.seq != posted.seq
	return nil
}

// errUnsure is wrapped by transact where the transaction may be in the file.
var errUnsure = errors.New("the disk did not confirm it")

// transact runs fn in a write transaction of the chain file. Where it fails the
// file usually is as it was. If only bbolt's last sync failed, the transaction
// can be read but may not be on disk: then, and where bbolt panics, the chain
// stops, since a crash could take away what later records were built upon.
func (c *Chain) transact(fn func(tx *bolt.Tx) error) (err error) {
	var tx *bolt.Tx
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true)) // see view
	defer func() {
		if r := recover(); r != nil {
			err = c.changed(r)
			c.stop(err)
			if tx != nil {
				_ = tx.Rollback()
			}
		}
	}()
	if tx, err = c.begin(true); err != nil {
		if !errors.Is(err, ErrClosed) {
			c.stop(err)
		}
		return err
	}
	id := tx.ID()
	if err := fn(tx); err != nil {
		_ = tx.Rollback()
		return err
	}
	if err = c.opts.commitTx(tx); err == nil {
		return nil
	}
	var last int
	if errView := c.view(func(tx *bolt.Tx) error { last = tx.ID(); return nil }); errView == nil && last < id {
		return err
	}
	err = errors.Join(errUnsure, err)
	c.stop(err)
	return err
}

// stop refuses all further records until a restart. The first reason stays. The
// log may be slow, and is not written under the lock that every read takes.
func (c *Chain) stop(err error) {
	c.mu.Lock()
	first := c.stopped == nil
	if first {
		c.stopped = err
	}
	c.mu.Unlock()
	if first {
		c.opts.Log.Error("chain takes no more records until a restart", "file", c.opts.Path, "error", err)
	}
}
