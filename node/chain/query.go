package chain

import (
	"bytes"
	"cmp"
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

// Record is the durable record of sequence number seq, or ErrNotFound.
func (c *Chain) Record(seq uint64) (r sdk.Record, err error) {
	if seq >= c.Len() {
		return r, cmp.Or(c.alive(), ErrNotFound)
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
func (c *Chain) Query(q sdk.Query) ([]sdk.Record, error) {
	limit := q.Limit
	if limit <= 0 {
		limit = defaultLimit
	}
	limit = min(limit, maxLimit)
	// bbolt shows a transaction to readers before its last sync, and one whose
	// last sync failed for as long as the file is open. Nobody may act on those.
	if end := c.Len(); q.To == 0 || q.To > end {
		q.To = end
	}
	if len(q.Type) > sdk.MaxEntryType || q.From >= q.To {
		return nil, c.alive()
	}
	var out []sdk.Record
	err := c.view(func(tx *bolt.Tx) error {
		out = nil
		total := 0
		return c.scan(tx, q, func(seq uint64, key, value []byte) (bool, error) {
			if total += len(value); total > c.opts.MaxQuery && len(out) > 0 {
				return false, nil
			}
			r, err := decodeRecord(key, value)
			if err != nil {
				return false, c.damagedAt(seq, err.Error())
			}
			out = append(out, r)
			return len(out) < limit, nil
		})
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// scan calls fn with the records that q selects, in its order, until it
// returns false. q.To is set.
func (c *Chain) scan(tx *bolt.Tx, q sdk.Query, fn func(seq uint64, key, value []byte) (bool, error)) error {
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
			return nil
		}
		value := v
		if q.Type != "" {
			if value = records.Get(key); value == nil {
				return c.damagedAt(seq, "the type index names it, but it is not there")
			}
		}
		more, err := fn(seq, key, value)
		if err != nil || !more {
			return err
		}
	}
	return nil
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
	err = c.view(func(tx *bolt.Tx) error {
		out = nil
		cur, total := tx.Bucket(bucketRecords).Cursor(), 0
		for k, v := cur.Seek(seqKey(seq)); seq < end && len(out) < chunkRecords && total < chunkBytes; k, v = cur.Next() {
			if len(k) != 8 || binary.BigEndian.Uint64(k) != seq {
				return c.damagedAt(seq, "it is missing")
			}
			header, sig, content, err := splitRecord(k, bytes.Clone(v))
			if err != nil {
				return c.damagedAt(seq, err.Error())
			}
			out = append(out, stored{seq, header, sig, content})
			total += len(v)
			seq++
		}
		return nil
	})
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
