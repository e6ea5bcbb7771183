package chain

import (
	"encoding/binary"
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"github.com/parley-p2p/parley/sdk"
)

// initType is the entry type of the record that says that init has run. Its
// entry is one byte, its format.
const initType = "parley.init"

func initEntry() sdk.Entry { return sdk.Entry{Type: initType, Content: []byte{valueFormat}} }

// Initialized tells whether a batch with Init was appended.
func (c *Chain) Initialized() (bool, error) {
	rs, err := c.Query(sdk.Query{Type: initType, Limit: 1})
	return len(rs) > 0, err
}

// posted is up to where post_commit has confirmed a chain's records.
type posted struct {
	seq   uint64
	known bool // it was begun
	dirty bool // the chain file has another one
}

// value is that of the bucket meta under keyPosted.
func (p *posted) value() []byte {
	b := binary.BigEndian.AppendUint64(nil, p.seq)
	return binary.BigEndian.AppendUint32(b, valueCRC(keyPosted, b))
}

func parsePosted(b []byte) (p posted, err error) {
	if len(b) != 8+crcLen || valueCRC(keyPosted, b[:8]) != binary.BigEndian.Uint32(b[8:]) {
		return p, errors.New("how far post_commit has come is not what was written")
	}
	return posted{seq: binary.BigEndian.Uint64(b), known: true}, nil
}

// Posted is the sequence number up to which post_commit has confirmed the
// records; false where BeginPosted was never called.
func (c *Chain) Posted() (seq uint64, begun bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.posted.seq, c.posted.known
}

// BeginPosted counts the records up to the head as confirmed, durably: from
// here on none is passed over. It does nothing where it was called before.
func (c *Chain) BeginPosted() error {
	c.mu.Lock()
	if c.posted.known {
		c.mu.Unlock()
		return nil
	}
	c.posted = posted{seq: c.head, known: true, dirty: true}
	c.mu.Unlock()
	err := c.checkpoint()
	if err != nil {
		c.mu.Lock()
		c.posted = posted{}
		c.mu.Unlock()
	}
	return err
}

// SetPosted confirms the records up to seq. It is not durable at once: the
// keeper writes it with the records, or when the chain is quiet, and Close does.
func (c *Chain) SetPosted(seq uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.posted.known && seq > c.posted.seq && seq <= c.head {
		c.posted.seq, c.posted.dirty = seq, true
		wake(c.moved)
	}
}

// postedMoved tells that the chain file lacks how far post_commit has come.
func (c *Chain) postedMoved() bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.posted.dirty
}

// putPosted writes p into a transaction.
func putPosted(tx *bolt.Tx, p posted) error {
	return tx.Bucket(bucketMeta).Put(keyPosted, p.value())
}

// checkPosted: what was confirmed was durable before, so it is there.
func (c *Chain) checkPosted(found *contents) error {
	if found.posted.seq < found.link.next {
		return nil
	}
	return &DamagedError{Path: c.opts.Path, Seq: found.link.next, Part: "the end of the chain",
		Reason: fmt.Sprintf("post_commit has confirmed record %d, which is missing", found.posted.seq)}
}

// ReadFrom reads the records from seq on: at most n, and of at most that many
// bytes, but at least one where there is one.
func (c *Chain) ReadFrom(seq uint64, n, bytes int) ([]sdk.Record, error) {
	return c.query(sdk.Query{From: seq, Limit: n}, bytes)
}
