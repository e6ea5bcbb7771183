package chain

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/parley-p2p/parley/sdk"
)

// Chain is one agent's source chain in one DNA, open in this process alone.
// All methods may be called concurrently.
type Chain struct {
	// Static.
	opts      Options
	dna       sdk.DNAHash
	author    sdk.AgentID
	db        *bolt.DB
	queue     chan *request
	closing   chan struct{} // closed by Close
	ended     chan struct{} // closed by the committer
	kept      chan struct{} // closed by the keeper
	moved     chan struct{} // capacity 1: the tail is no longer empty
	full      chan struct{} // capacity 1: a half of the log is full
	closeOnce sync.Once
	closeErr  error
	opened    time.Time   // by opts.Now, with its monotonic part
	file      *os.File    // bbolt's
	gone      atomic.Bool // Close has got as far as the file: nothing is read any more

	// writing is held by the one goroutine that commits: the committer or an
	// Append that found nobody ahead of it. It guards wal.
	writing sync.Mutex
	wal     *wal // nil until the first record is appended
	leftLog bool // a log that was never in use is there

	// storing is held by who takes the tail over into the chain file. It may be
	// taken under writing, not the other way round.
	storing sync.Mutex

	// beginning is held while bbolt begins a transaction. Where that panics, its
	// locks stay held: broken is set then, and bbolt is not called again.
	beginning sync.Mutex
	broken    atomic.Pointer[DamagedError]

	// mu guards what follows. Only who holds writing changes head, hash, replies,
	// number and unsure, after a plan is durable, and so reads them without mu.
	mu      sync.RWMutex
	head    uint64
	hash    sdk.Hash // of record head
	replies replyIndex
	tail    tail
	number  uint64 // of the last durable frame
	stored  uint64 // of the last frame that is in the chain file
	posted  posted
	public  publicIndex
	stopped error                // why no more records are taken, or nil
	unsure  map[replyID]struct{} // receives of the plan that the disk did not confirm
}

// Open opens the chain at o.Path and starts its committer; Close ends it. A
// missing file is made, with its genesis record. Of an existing one every
// record's link, hashes and checksum are checked, and everything around them
// that a lookup depends on: about 3 µs a record. What the file lacks because
// the process was killed comes from the log beside it.
//
// Errors: *DamagedError for a file that is not what was written (it is left as
// it is), ErrLocked where another process holds it, and plain ones for a file
// that others may read, that belongs to another agent or DNA, or that has a
// newer format.
func Open(o Options) (*Chain, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("open chain: %w", err)
	}
	c := &Chain{opts: o, dna: o.DNA.Hash(),
		queue: make(chan *request, o.Queue), closing: make(chan struct{}), ended: make(chan struct{}),
		kept: make(chan struct{}), moved: make(chan struct{}, 1), full: make(chan struct{}, 1)}
	copy(c.author[:], o.Key.Public().(ed25519.PublicKey))
	info, err := os.Lstat(o.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := create(&o, c.genesis()); err != nil {
			return nil, fmt.Errorf("make chain: %w", err)
		}
	case err != nil:
		return nil, fmt.Errorf("open chain: %w", err)
	default:
		if err := checkMode(o.Path, info); err != nil {
			return nil, fmt.Errorf("open chain: %w", err)
		}
	}
	db, file, found, err := openExisting(&o, c.author)
	if err != nil {
		return nil, fmt.Errorf("open chain: %w", err)
	}
	c.db, c.file, c.stored, c.number = db, file, found.stored, found.stored
	if err := c.recoverLog(&found); err != nil {
		return nil, fmt.Errorf("open chain: %w", errors.Join(err, db.Close()))
	}
	c.opened, c.posted, c.public = o.Now(), found.posted, found.public
	found.replies.loaded(c.opened.UnixMicro())
	c.head, c.hash, c.replies = found.link.next-1, found.link.prev, found.replies
	go c.run()
	go c.keep()
	return c, nil
}

// Head is the sequence number and the hash of the newest durable record.
func (c *Chain) Head() (seq uint64, hash sdk.Hash) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.head, c.hash
}

// Len is the number of records, the genesis record included.
func (c *Chain) Len() uint64 {
	seq, _ := c.Head()
	return seq + 1
}

// DNA is the hash of the chain's DNA, Author the agent that signs it.
func (c *Chain) DNA() sdk.DNAHash    { return c.dna }
func (c *Chain) Author() sdk.AgentID { return c.author }

// Close ends the committer and closes the file, which then holds the whole
// chain. Batches that it has not taken yet fail with ErrClosed. It waits for
// reads that are under way.
func (c *Chain) Close() error {
	c.closeOnce.Do(func() {
		close(c.closing)
		<-c.ended
		<-c.kept
		c.writing.Lock() // an Append may still be committing
		defer c.writing.Unlock()
		if err := c.endLog(); err != nil {
			c.opts.Log.Warn("chain file lacks what its log has; the log stays for the next start", "file", c.opts.Path, "error", err)
		}
		c.gone.Store(true)
		if d := c.broken.Load(); d != nil { // db.Close would wait for ever
			// The mapping stays and would keep the lock.
			c.closeErr = errors.Join(d, unlockFile(c.file), c.file.Close())
			return
		}
		c.closeErr = c.db.Close()
	})
	return c.closeErr
}

func (c *Chain) alive() error {
	select {
	case <-c.closing:
		return ErrClosed
	default:
		return nil
	}
}

// readable is alive for reads, which Close waits for.
func (c *Chain) readable() error {
	if c.gone.Load() {
		return ErrClosed
	}
	return nil
}

func (c *Chain) damagedAt(seq uint64, reason string) error {
	return &DamagedError{Path: c.opts.Path, Seq: seq, Reason: reason}
}

// partPage is DamagedError.Part where nobody knows which record a page holds.
const partPage = "a page of the open file"

// partLog is DamagedError.Part for the log beside the file.
const partLog = "the write-ahead log"

func (c *Chain) changed(panicked any) *DamagedError {
	return &DamagedError{Path: c.opts.Path, Part: partPage,
		Reason: fmt.Sprintf("the file changed while it was open: %v; run verify after a restart", panicked)}
}

// view runs fn in a read transaction. A page that went bad since Open makes
// bbolt panic, or fault where the file was cut short: both become errors.
// Transactions are short, because one that is open holds up the file's growth.
func (c *Chain) view(fn func(*bolt.Tx) error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	tx, err := c.begin(false)
	if err != nil {
		return err
	}
	defer func() {
		if r := recover(); r != nil {
			err = c.changed(r)
		}
		if c.broken.Load() == nil {
			_ = tx.Rollback() // the end of a read; it can't fail
		}
	}()
	return fn(tx)
}

// begin begins a transaction. The caller has set SetPanicOnFault.
func (c *Chain) begin(writable bool) (tx *bolt.Tx, err error) {
	c.beginning.Lock()
	defer c.beginning.Unlock()
	if d := c.broken.Load(); d != nil {
		return nil, d
	}
	defer func() {
		if r := recover(); r != nil { // the meta pages are gone
			d := c.changed(r)
			c.broken.Store(d)
			tx, err = nil, d
		}
	}()
	tx, err = c.db.Begin(writable)
	if errors.Is(err, berrors.ErrDatabaseNotOpen) {
		return nil, ErrClosed
	}
	return tx, err
}
