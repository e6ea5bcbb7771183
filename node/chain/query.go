package chain

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"github.com/parley-p2p/parley/sdk"
)

const (
	defaultLimit = 100
	maxLimit     = 1000
)

// durable is the end of what is on disk, and the part of it that is in the log.
func (c *Chain) durable() (end uint64, recent tail) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.head + 1, c.tail
}

// Record is the durable record of sequence number seq, or ErrNotFound.
func (c *Chain) Record(seq uint64) (r sdk.Record, err error) {
	end, recent := c.durable()
	if err := c.readable(); err != nil {
		return r, err
	}
	if seq >= end {
		return r, ErrNotFound
	}
	if p := recent.record(seq); p != nil {
		return decodeRecord(p.key, p.value)
	}
	err = c.view(func(tx *bolt.Tx) error {
		key := seqKey(seq)
		value := tx.Bucket(bucketRecords).Get(key)
		if value == nil {
			return c.damagedAt(seq, "it is missing")
		}
		if r, err = decodeRecord(key, value); err != nil {
			return c.damagedAt(seq, err.Error())
		}
		return nil
	})
	return r, err
}

// Query returns the durable records that q selects. Where they are more than
// Limit, or their bytes more than MaxQuery, the first of them come: ask again
// from behind the last. A query of one type reads the type index and those
// records alone.
func (c *Chain) Query(q sdk.Query) ([]sdk.Record, error) { return c.query(q, c.opts.MaxQuery) }

func (c *Chain) query(q sdk.Query, most int) ([]sdk.Record, error) {
	limit := q.Limit
	if limit <= 0 {
		limit = defaultLimit
	}
	limit = min(limit, maxLimit)
	// bbolt may hold more by now, and shows a transaction to readers before its
	// last sync. Nobody may act on that.
	end, recent := c.durable()
	if q.To == 0 || q.To > end {
		q.To = end
	}
	if err := c.readable(); err != nil || len(q.Type) > sdk.MaxEntryType || q.From >= q.To {
		return nil, err
	}
	var out []sdk.Record
	total := 0
	take := func(seq uint64, key, value []byte) (bool, error) {
		if total += len(value); total > most && len(out) > 0 {
			return false, nil
		}
		r, err := decodeRecord(key, value)
		if err != nil {
			return false, c.damagedAt(seq, err.Error())
		}
		out = append(out, r)
		return len(out) < limit, nil
	}
	more, err := true, error(nil)
	if q.Reverse {
		more, err = recent.scan(q, take)
	}
	if old := q; more && err == nil {
		if old.To = min(old.To, recent.base(end)); old.From < old.To {
			err = c.view(func(tx *bolt.Tx) error { more, err = c.scan(tx, old, take); return err })
		}
	}
	if !q.Reverse && more && err == nil {
		_, err = recent.scan(q, take)
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

// scan calls fn with the records that q selects, in its order, until it
// returns false. q.To is set.
func (c *Chain) scan(tx *bolt.Tx, q sdk.Query, fn func(seq uint64, key, value []byte) (bool, error)) (more bool, err error) {
	records := tx.Bucket(bucketRecords)
	bucket, prefix := records, []byte(nil)
	if q.Type != "" {
		bucket, prefix = tx.Bucket(bucketTypes), append([]byte{byte(len(q.Type))}, q.Type...)
	}
	cur := bucket.Cursor()
	k, v := seek(cur, prefix, q)
	for ; len(k) == len(prefix)+8 && bytes.HasPrefix(k, prefix); k, v = step(cur, q.Reverse) {
		key := k[len(prefix):]
		seq := binary.BigEndian.Uint64(key)
		if seq < q.From || seq >= q.To {
			return true, nil
		}
		value := v
		if q.Type != "" {
			if value = records.Get(key); value == nil {
				return false, c.damagedAt(seq, "the type index names it, but it is not there")
			}
		}
		if more, err := fn(seq, key, value); err != nil || !more {
			return false, err
		}
	}
	return true, nil
}

// seek puts the cursor on the first element of q under prefix, in q's order.
func seek(cur *bolt.Cursor, prefix []byte, q sdk.Query) (k, v []byte) {
	at := func(seq uint64) []byte { return binary.BigEndian.AppendUint64(bytes.Clone(prefix), seq) }
	if !q.Reverse {
		return cur.Seek(at(q.From))
	}
	if k, _ = cur.Seek(at(q.To)); k == nil {
		return cur.Last()
	}
	return cur.Prev()
}

func step(cur *bolt.Cursor, reverse bool) (k, v []byte) {
	if reverse {
		return cur.Prev()
	}
	return cur.Next()
}

// stored is one record as it is in the file, in memory of its own.
type stored struct {
	seq                        uint64
	header, signature, content []byte
}

// A chunk is what a walk reads in one transaction: enough to be fast, little
// enough not to hold up a commit.
const (
	chunkRecords = 512
	chunkBytes   = 4 << 20
)

// chunk reads records from seq on, below end.
func (c *Chain) chunk(seq, end uint64) (out []stored, err error) {
	_, recent := c.durable()
	total := 0
	take := func(key, value []byte) error {
		header, sig, content, err := splitRecord(key, value)
		if err != nil {
			return c.damagedAt(seq, err.Error())
		}
		out = append(out, stored{seq, header, sig, content})
		total += len(value)
		seq++
		return nil
	}
	room := func() bool { return seq < end && len(out) < chunkRecords && total < chunkBytes }
	if base := recent.base(end); seq < base {
		end = min(end, base)
		err = c.view(func(tx *bolt.Tx) error {
			cur := tx.Bucket(bucketRecords).Cursor()
			for k, v := cur.Seek(seqKey(seq)); room(); k, v = cur.Next() {
				if len(k) != 8 || binary.BigEndian.Uint64(k) != seq {
					return c.damagedAt(seq, "it is missing")
				}
				if err := take(k, bytes.Clone(v)); err != nil {
					return err
				}
			}
			return nil
		})
	} else if err = c.readable(); err == nil {
		for p := recent.record(seq); err == nil && room(); p = recent.record(seq) {
			err = take(p.key, p.value)
		}
	}
	// What was read before the damage is handed over first, so that a walk
	// names the first wrong record even where an earlier one is wrong too.
	if d := (*DamagedError)(nil); errors.As(err, &d) {
		if len(out) > 0 {
			return out, nil
		}
		if d.Part == partPage { // seq is the record that it belongs to
			return nil, c.damagedAt(seq, d.Reason)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read chain: %w", err)
	}
	return out, nil
}
