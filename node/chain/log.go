package chain

import (
	"errors"
	"fmt"
	"io/fs"

	bolt "go.etcd.io/bbolt"
)

// startLog makes the log, and the chain file say that there is one: from then on
// a missing log is damage. The caller holds writing.
func (c *Chain) startLog() error {
	if c.leftLog { // it was never in use
		if err := removeWAL(c.opts.Path + walSuffix); err != nil {
			return err
		}
		c.leftLog = false
	}
	w, err := createWAL(c.opts.Path+walSuffix, c.opts.walHalf, c.opts.wrapWAL)
	if err != nil {
		return err
	}
	err = c.transact(func(tx *bolt.Tx) error { return tx.Bucket(bucketMeta).Put(keyWAL, w.id[:]) })
	if err != nil {
		err = errors.Join(err, w.f.Close())
		if !errors.Is(err, errUnsure) {
			errRemove := removeWAL(w.path)
			c.leftLog = errRemove != nil
			err = errors.Join(err, errRemove)
		}
		return err
	}
	c.wal = w
	return nil
}

// endLog leaves everything in the chain file and removes the log. Where that
// fails nothing is lost: Open finds the log.
func (c *Chain) endLog() error {
	if c.wal == nil && !c.postedMoved() {
		return nil
	}
	err := c.checkpoint()
	if c.wal == nil {
		return err
	}
	if err == nil {
		err = c.transact(func(tx *bolt.Tx) error { return tx.Bucket(bucketMeta).Delete(keyWAL) })
	}
	if err := errors.Join(err, c.wal.f.Close()); err != nil {
		return err
	}
	return removeWAL(c.wal.path)
}

// recoverLog reads what the chain file lacks from the log that a killed process
// left, and goes on with it. found is what the file holds; it moves on.
func (c *Chain) recoverLog(found *contents) error {
	path := c.opts.Path + walSuffix
	damaged := func(err error) error {
		return &DamagedError{Path: c.opts.Path, Seq: found.link.next, Part: partLog, Reason: err.Error()}
	}
	id, halves, err := readWAL(path)
	missing := errors.Is(err, fs.ErrNotExist)
	switch {
	case found.wal == walID{}:
		if err := dropLog(path, id, halves, found.stored, err); err != nil {
			return err
		}
		return c.checkPosted(found)
	case missing:
		return damaged(fmt.Errorf("%s is missing, and may hold records that the chain file lacks", path))
	case errors.Is(err, errWALDamaged):
		return damaged(err)
	case err != nil:
		return err
	case id != found.wal:
		return damaged(fmt.Errorf("%s belongs to another chain file, or to another state of this one", path))
	}
	s, broken := id.scan(halves, found.stored)
	for i := range s.frames {
		p, err := s.frames[i].replay(&found.link, &found.replies)
		if err != nil {
			return damaged(err)
		}
		c.tail.add(p)
		found.public.add(p.public)
		c.number = p.number
	}
	if broken != nil {
		return damaged(broken)
	}
	if err := c.checkPosted(found); err != nil {
		return err
	}
	if len(s.frames) > 0 {
		wake(c.moved)
	}
	c.wal, err = resume(path, id, int64(len(halves[0])), &s, c.opts.wrapWAL)
	return err
}

// dropLog removes a log that the chain file does not know of: its maker was
// killed before it told the file, or after it had told that it goes. It then
// holds nothing that the file lacks.
func dropLog(path string, id walID, halves [2][]byte, stored uint64, err error) error {
	if err != nil && !errors.Is(err, errWALDamaged) {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	if err == nil {
		if s, err := id.scan(halves, stored); err != nil || len(s.frames) > 0 {
			return fmt.Errorf("log %s holds records that do not belong to this chain file: put back both files from the same backup, or move the log away; %w", path, errOther)
		}
	}
	return removeWAL(path)
}
