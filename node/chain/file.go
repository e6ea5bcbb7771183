package chain

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/parley-p2p/parley/sdk"
)

// newSuffix marks a file that is being made. It gets its name only when its
// genesis record is on disk, so a crash leaves a whole chain or none.
const newSuffix = ".new"

// lockPoll is the time between two attempts at a file's lock.
const lockPoll = 20 * time.Millisecond

// lockFile takes the lock that bbolt takes too (flock; the same descriptor
// may take it twice).
func lockFile(f *os.File, path string, timeout time.Duration) error {
	for end := time.Now().Add(timeout); ; time.Sleep(lockPoll) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return fmt.Errorf("lock chain file %s: %w", path, err)
		}
		if !time.Now().Before(end) {
			return fmt.Errorf("lock chain file %s: %w", path, ErrLocked)
		}
	}
}

func unlockFile(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_UN) }

// openBolt opens a file with bbolt. prepare gets the open, locked file before
// bbolt reads a byte of it.
//
// The free list is synced: it is tiny in a file that only grows, and without
// it bbolt scans the whole file after each failed commit, in a goroutine whose
// panic would end the process (docs/decisions/0301). The array kind hands out
// the lowest free pages first, which lie together: a sync of pages that lie
// together is the faster one.
func openBolt(path string, flag int, timeout time.Duration, prepare func(*os.File) error) (db *bolt.DB, file *os.File, err error) {
	open := func(string, int, os.FileMode) (*os.File, error) {
		f, err := os.OpenFile(path, flag|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, err
		}
		if err = lockFile(f, path, timeout); err == nil {
			err = prepare(f)
		}
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		file = f
		return f, nil
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = errors.Join(&DamagedError{Path: path, Reason: fmt.Sprintf("bbolt: %v", r)}, file.Close())
		}
	}()
	db, err = bolt.Open(path, 0o600, &bolt.Options{OpenFile: open, Timeout: timeout, NoStatistics: true,
		FreelistType: bolt.FreelistArrayType})
	if err != nil {
		return nil, nil, err
	}
	return db, file, nil
}

// checkMode refuses a file that others may read, and what is no regular file.
func checkMode(path string, info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("chain file %s is not a regular file but %s", path, info.Mode().Type())
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("chain file %s has mode %04o: others may read or change private entries; check who did, then: chmod 600 %s",
			path, info.Mode().Perm(), path)
	}
	return nil
}

// openExisting checks the file at path from end to end and opens it.
func openExisting(o *Options, author sdk.AgentID) (db *bolt.DB, f *os.File, found contents, err error) {
	db, f, err = openBolt(o.Path, 0, o.LockTimeout, func(f *os.File) error {
		info, err := f.Stat()
		if err != nil {
			return err
		}
		if err := checkMode(o.Path, info); err != nil {
			return err
		}
		found, err = check(f, info.Size(), o.Path, o.DNA, author)
		return err
	})
	if err != nil {
		return nil, nil, found, err
	}
	// Whoever made the file may have been killed before its name was durable.
	if err = syncDir(filepath.Dir(o.Path)); err != nil {
		return nil, nil, found, errors.Join(err, db.Close())
	}
	return db, f, found, nil
}

// create makes the file at path with its genesis record, durably.
func create(o *Options, genesis *plan) (err error) {
	tmp := o.Path + newSuffix
	db, _, err := openBolt(tmp, os.O_CREATE, o.LockTimeout, func(f *os.File) error {
		mine, err := f.Stat()
		if err != nil {
			return err
		}
		now, err := os.Lstat(tmp)
		if err != nil || !os.SameFile(mine, now) {
			return fmt.Errorf("make chain file %s: %w", o.Path, ErrLocked)
		}
		if _, err := os.Lstat(o.Path); err == nil {
			return fmt.Errorf("make chain file %s: %w", o.Path, ErrLocked)
		}
		// What an earlier attempt left is worth nothing: it never had a name.
		return errors.Join(f.Chmod(0o600), f.Truncate(0))
	})
	if err != nil {
		if !errors.Is(err, ErrLocked) {
			_ = os.Remove(tmp)
		}
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(tmp) // still locked: nobody else's
		}
		err = errors.Join(err, db.Close())
	}()
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{bucketMeta, bucketRecords, bucketTypes, bucketReplies} {
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		if err := tx.Bucket(bucketMeta).Put(keyFormat, []byte{fileFormat}); err != nil {
			return err
		}
		return genesis.put(tx)
	})
	if err != nil {
		return err
	}
	return os.Rename(tmp, o.Path) // openExisting makes the name durable
}

// syncDir makes a directory's names durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
