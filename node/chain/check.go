package chain

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"io"

	"github.com/parley-p2p/parley/sdk"
)

// Buckets: see doc.go.
var (
	bucketMeta    = []byte("meta")
	bucketRecords = []byte("records")
	bucketTypes   = []byte("types")
	bucketReplies = []byte("replies")
	keyFormat     = []byte("format")
	keyStored     = []byte("stored")
	keyWAL        = []byte("wal")
	keyPosted     = []byte("posted")
)

// fileFormat is the value of meta/format.
const fileFormat = 1

// contents is what Open learns from reading a whole file.
type contents struct {
	link    linker
	replies replyIndex
	stored  uint64 // number of the last frame of a log that is in the file
	wal     walID  // of the log beside the file; zero if there is none
	posted  posted
	public  publicIndex
}

// checker reads a file from end to end before bbolt maps it.
type checker struct {
	path string
	dna  sdk.DNA
	p    *pages
	contents

	seed      maphash.Seed
	indexed   uint64 // sum of a hash of each (type, sequence)
	formatted bool   // the format mark was there
}

// errOther is wrapped where the file is sound but not this node's chain of
// this DNA, or newer than this program.
var errOther = errors.New("the file was not changed")

func (c *checker) damaged(part, format string, args ...any) error {
	return &DamagedError{Path: c.path, Seq: c.link.next, Part: part, Reason: fmt.Sprintf(format, args...)}
}

// check reads a file of size bytes, which must not change meanwhile (the caller
// holds its lock).
func check(f io.ReaderAt, size int64, path string, dna sdk.DNA, author sdk.AgentID) (contents, error) {
	c := &checker{path: path, dna: dna, seed: maphash.MakeSeed()}
	c.link = linker{dna: dna.Hash(), author: author}
	c.replies = newReplyIndex()
	var err error
	if c.p, err = openPages(f, size); err != nil {
		return contents{}, c.damaged("the file's head", "%v", err)
	}
	if err := c.all(); err != nil {
		return contents{}, err
	}
	return c.contents, nil
}

func (c *checker) all() error {
	found := map[string][]byte{}
	err := c.p.tree(c.p.meta.root, nil, nil, 0, func(flags uint32, key, value []byte) error {
		if flags != leafBucket {
			return fmt.Errorf("the root holds something that is no bucket")
		}
		found[string(key)] = bytes.Clone(value)
		return nil
	})
	if err != nil {
		return c.damaged("the root", "%v", err)
	}
	steps := []struct {
		name, part []byte
		fn         visit
	}{
		{bucketMeta, []byte("the format mark"), c.format},
		{bucketRecords, nil, c.record},
		{bucketTypes, []byte("the type index"), c.index},
		{bucketReplies, []byte("the kept replies"), c.reply},
	}
	for _, s := range steps {
		value, ok := found[string(s.name)]
		if !ok {
			return c.damaged("the root", "the bucket %q is missing, or this is no chain file", s.name)
		}
		if err := c.p.bucket(value, s.fn); err != nil {
			if d := (*DamagedError)(nil); errors.As(err, &d) || errors.Is(err, errOther) {
				return err
			}
			return c.damaged(string(s.part), "%v", err)
		}
		switch {
		case string(s.name) == string(bucketRecords) && c.link.next == 0:
			return c.damaged("", "there is no genesis record")
		case string(s.name) == string(bucketMeta) && !c.formatted:
			return c.damaged(string(s.part), "it is missing")
		}
	}
	if c.indexed != 0 {
		return c.damaged("the type index", "it does not agree with the records")
	}
	if err := c.p.freeList(); err != nil {
		return c.damaged("the list of free pages", "%v", err)
	}
	if c.p.size/c.p.pageSize < int64(c.p.meta.highWater) {
		return c.damaged("the end of the file", "it is cut short at %d of %d bytes", c.p.size, int64(c.p.meta.highWater)*c.p.pageSize)
	}
	return nil
}

func (c *checker) format(_ uint32, key, value []byte) error {
	switch {
	case bytes.Equal(key, keyFormat) && len(value) == 1 && value[0] != fileFormat:
		return fmt.Errorf("chain file %s: format %d, this program knows %d: use a newer one; %w", c.path, value[0], fileFormat, errOther)
	case bytes.Equal(key, keyFormat) && len(value) == 1:
		c.formatted = true
	case bytes.Equal(key, keyStored) && len(value) == 8:
		c.stored = binary.BigEndian.Uint64(value)
	case bytes.Equal(key, keyWAL) && len(value) == len(c.wal):
		copy(c.wal[:], value)
	case bytes.Equal(key, keyPosted):
		var err error
		c.posted, err = parsePosted(value)
		return err
	default:
		return errors.New("it is not what was written")
	}
	return nil
}

func (c *checker) record(flags uint32, key, value []byte) error {
	if flags != 0 || len(key) != 8 {
		return errors.New("its key is not what was written")
	}
	if got := binary.BigEndian.Uint64(key); got != c.link.next {
		return fmt.Errorf("gap: the next one in the file is %d", got)
	}
	header, _, content, err := splitRecord(key, value)
	if err != nil {
		return err
	}
	if c.link.next == 0 {
		if err := c.mine(header); err != nil {
			return err
		}
	}
	h, hash, err := c.link.step(header, content, false)
	if err != nil {
		return err
	}
	c.public.add(appendPublic(nil, &h, hash, content))
	if h.Seq == 0 && (c.link.name != c.dna.Name || c.link.integrity != c.dna.Integrity) {
		c.link.next = 0
		return errors.New("the genesis entry names another DNA than its header")
	}
	c.indexed += maphash.Bytes(c.seed, typeKey(h.EntryType, h.Seq))
	return nil
}

// mine tells whether a sound genesis record is of this agent and DNA.
func (c *checker) mine(header []byte) error {
	h, err := sdk.ParseHeader(header)
	if err != nil {
		return err
	}
	if h.DNA != c.link.dna {
		return fmt.Errorf("chain file %s belongs to DNA %s, not to %s (%q): give each DNA a file of its own; %w",
			c.path, h.DNA, c.link.dna, c.dna.Name, errOther)
	}
	if h.Author != c.link.author {
		return fmt.Errorf("chain file %s belongs to agent %s, this node's key is %s: use the key that it was made with, or another data directory; %w",
			c.path, h.Author, c.link.author, errOther)
	}
	return nil
}

func (c *checker) index(flags uint32, key, value []byte) error {
	if flags != 0 || len(value) != 0 {
		return errors.New("an element is not what was written")
	}
	c.indexed -= maphash.Bytes(c.seed, key)
	return nil
}

func (c *checker) reply(flags uint32, key, value []byte) error {
	r, err := decodeReply(key, value)
	if err != nil || flags != 0 {
		return fmt.Errorf("reply %x: %v", key, err)
	}
	order := binary.BigEndian.Uint64(key)
	if !c.replies.load(order, &r) {
		return fmt.Errorf("reply %x stands out of order", key)
	}
	return nil
}
