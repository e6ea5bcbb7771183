package chain

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/parley-p2p/parley/sdk"
)

// LongestDeadline is the longest that a message may take from its first send
// to its last repetition. A kept reply younger than this is never dropped: an
// append that would need its room fails with Busy instead, so that at most
// once holds for every deadline that a sender can set.
const LongestDeadline = 60 * time.Second

// Options say where a chain is and what bounds it. Path, DNA and Key are
// required; a zero in any other field means its default.
type Options struct {
	// Path of the chain's file. Its directory must exist.
	Path string
	// DNA whose chain this is. An existing file of another DNA is refused.
	DNA sdk.DNA
	// Key signs the records; its public half is their author.
	Key ed25519.PrivateKey

	// MaxEntries bounds the entries of one batch (setting chain-max-entries; 1,024).
	MaxEntries int
	// MaxEntry bounds one entry's content in bytes (setting chain-max-entry; 4 MiB).
	MaxEntry int
	// MaxBatch bounds the contents and the reply of one batch in bytes
	// (setting chain-max-batch; 32 MiB).
	MaxBatch int
	// MaxQuery bounds the bytes of one Query's answer (setting chain-max-query;
	// 16 MiB). One record always fits.
	MaxQuery int
	// Queue is how many batches may wait for the committer (256). When it is
	// full, Append waits for a place until its context ends.
	Queue int

	// ReplyCount and ReplyBytes bound the kept replies (settings
	// chain-reply-count, 1,048,576, and chain-reply-bytes, 256 MiB); ReplyAge
	// is after how long they may be dropped (10 minutes,
	// at least LongestDeadline; no setting of the node).
	ReplyCount int
	ReplyBytes int64
	ReplyAge   time.Duration

	// LockTimeout is how long Open waits for another process to let go of the
	// file (2 s).
	LockTimeout time.Duration
	// Now is the clock of record times and reply ages (time.Now).
	Now func() time.Time
	// Log gets a line about failed commits; nil discards.
	Log *slog.Logger

	walHalf  int64                 // size of a half of the log; tests make it small
	wrapWAL  func(walFile) walFile // tests fail its steps
	commitTx func(*bolt.Tx) error  // (*bolt.Tx).Commit; tests fail it
}

func orDefault[T int | int64 | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

func (o Options) withDefaults() Options {
	orDefault(&o.MaxEntries, 1024)
	orDefault(&o.MaxEntry, 4<<20)
	orDefault(&o.MaxBatch, 32<<20)
	orDefault(&o.MaxQuery, 16<<20)
	orDefault(&o.Queue, 256)
	orDefault(&o.ReplyCount, 1<<20)
	orDefault(&o.ReplyBytes, 256<<20)
	orDefault(&o.ReplyAge, 10*time.Minute)
	orDefault(&o.LockTimeout, 2*time.Second)
	orDefault(&o.walHalf, defaultHalf)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.wrapWAL == nil {
		o.wrapWAL = func(f walFile) walFile { return f }
	}
	if o.commitTx == nil {
		o.commitTx = (*bolt.Tx).Commit
	}
	return o
}

// maxContent bounds MaxEntry and MaxBatch: a bbolt value must stay below
// 2 GiB, and a whole transaction is held in memory.
const maxContent = 256 << 20

func (o Options) validate() error {
	var errs []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	fault(o.Path == "" || filepath.Base(o.Path) == ".", "no path of a chain file")
	fault(len(o.Key) != ed25519.PrivateKeySize, "the key has %d bytes, %d expected", len(o.Key), ed25519.PrivateKeySize)
	fault(o.DNA.Name == "" || len(o.DNA.Name) > maxGenesisField, "the DNA's name has %d bytes, 1 to %d allowed", len(o.DNA.Name), maxGenesisField)
	fault(len(o.DNA.Integrity) > maxGenesisField, "the DNA's integrity version has %d bytes, at most %d allowed", len(o.DNA.Integrity), maxGenesisField)
	fault(o.MaxEntries < 1 || o.MaxEntries > 1<<16, "chain-max-entries is %d, 1 to 65536 allowed", o.MaxEntries)
	fault(o.MaxEntry < 1 || o.MaxEntry > maxContent, "chain-max-entry is %d, 1 to %d allowed", o.MaxEntry, maxContent)
	fault(o.MaxBatch < 1 || o.MaxBatch > maxContent, "chain-max-batch is %d, 1 to %d allowed", o.MaxBatch, maxContent)
	fault(o.MaxQuery < 1, "chain-max-query is %d, at least 1 needed", o.MaxQuery)
	fault(o.Queue < 1 || o.Queue > 1<<16, "the queue is %d, 1 to 65536 allowed", o.Queue)
	fault(o.ReplyCount < 1, "chain-reply-count is %d, at least 1 needed", o.ReplyCount)
	fault(o.ReplyBytes < 1, "chain-reply-bytes is %d, at least 1 needed", o.ReplyBytes)
	fault(o.ReplyAge < LongestDeadline, "ReplyAge is %s, at least %s, the longest deadline, needed", o.ReplyAge, LongestDeadline)
	fault(o.LockTimeout < 0, "the lock timeout is %s", o.LockTimeout)
	return errors.Join(errs...)
}
