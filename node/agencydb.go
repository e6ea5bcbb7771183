package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// agency.db holds what must survive a restart and is on no source chain: claims,
// how often grants were used and by whom, whom the node hears, what it is to tell
// others. It holds secrets: mode 0600.
const agencyFile = "agency.db"

// Its buckets.
const (
	bucketClaims    = "claims"    // claims.go
	bucketUses      = "uses"      // DNA hash 32 | grant 32 -> how often, 8 bytes big-endian
	bucketPolicy    = "policy"    // policy.go
	bucketDelegated = "delegated" // delegateduse.go
	// bucketTells: tellkept.go; bucketUsers: grantusers.go; bucketExchanges: exchange.go
)

var agencyBuckets = []string{bucketClaims, bucketUses, bucketPolicy, bucketDelegated, bucketTells, bucketUsers, bucketExchanges}

// maxUnsure bounds what is to be written again. Only what is counted and what is
// listed gets there, which is bounded; this is for a disk that fails for days.
const maxUnsure = 1 << 15

// agencyDB is the open file. What waits while another transaction is synced
// shares the next one.
type agencyDB struct {
	db   *bolt.DB
	step agencyStep

	writing sync.Mutex // held by whoever runs a transaction

	mu      sync.Mutex // guards what follows
	waiting []*agencyWrite
	unsure  map[string]func(*bolt.Tx) error // see writeAgain
}

// agencyStep is told of each thing that is about to be done with the file, and of a
// transaction that was committed. A test has it fail there; nil: nobody asks.
type agencyStep func(step string) error

const (
	stepOpen      = "open"
	stepRead      = "read"
	stepBegin     = "begin"
	stepPut       = "put" // after one write of a transaction
	stepCommit    = "commit"
	stepCommitted = "committed" // it is on disk; an error means that nobody confirmed it
	stepClose     = "close"
)

func (s agencyStep) at(step string) error {
	if s == nil {
		return nil
	}
	return s(step)
}

type agencyWrite struct {
	do   func(*bolt.Tx) error
	done bool
	err  error
}

// openAgencyDB opens the file, or makes it. One that is damaged is an error: its
// loss would let used-up grants and blocked agents in.
func openAgencyDB(path string, step agencyStep) (*agencyDB, error) {
	info, err := os.Lstat(path)
	if err == nil && info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s: others may read it (mode %04o): it holds secrets; make it 0600", path, info.Mode().Perm())
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = createAgencyDB(path, step)
	}
	var db *bolt.DB
	if err == nil {
		db, err = openBolt(path, step)
	}
	var damaged *damagedFile
	switch {
	case err == nil:
		return &agencyDB{db: db, step: step, unsure: map[string]func(*bolt.Tx) error{}}, nil
	case errors.As(err, &damaged):
		return nil, fmt.Errorf("%s: %w; put it back from a backup, or remove it: claims, counts of uses and the block list are lost with it", path, err)
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("%s: another process holds it: end that one first", path)
	}
	return nil, fmt.Errorf("%s can't be opened: %w; nothing in it was changed: free space or repair the disk, and start the node again", path, err)
}

// createAgencyDB makes the file under another name first: one that was begun on a
// full disk must not be taken for one that is damaged.
func createAgencyDB(path string, step agencyStep) error {
	begun := path + ".new"
	if err := os.Remove(begun); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	db, err := openBolt(begun, step)
	if err == nil {
		err = db.Close()
	}
	if err == nil {
		err = os.Rename(begun, path)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(begun))
	}
	return syncDir(filepath.Dir(path))
}

// damagedFile says that a file is not what was written.
type damagedFile struct{ reason any }

func (e *damagedFile) Error() string { return fmt.Sprint(e.reason) }

func openBolt(path string, step agencyStep) (db *bolt.DB, err error) {
	defer func() {
		if p := recover(); p != nil {
			db, err = nil, &damagedFile{p}
		}
		if errors.Is(err, bolterrors.ErrInvalid) || errors.Is(err, bolterrors.ErrChecksum) || errors.Is(err, bolterrors.ErrVersionMismatch) {
			err = &damagedFile{err}
		}
	}()
	if err := step.at(stepOpen); err != nil {
		return nil, err
	}
	db, err = bolt.Open(path, 0o600, &bolt.Options{Timeout: time.Second})
	if err != nil {
		return nil, err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range agencyBuckets {
			if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
				return err
			}
		}
		return step.at(stepCommit)
	})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// update runs do in a transaction that is on disk when it returns nil, perhaps
// with others'. do must do the same if it runs again. After an error the file may
// hold what do wrote nevertheless, since a disk that fails to confirm a commit may
// have made it: see writeAgain.
func (d *agencyDB) update(do func(*bolt.Tx) error) error {
	if d == nil {
		return errors.New(agencyFile + " is not open: the node does not run")
	}
	w := &agencyWrite{do: do}
	d.mu.Lock()
	d.waiting = append(d.waiting, w)
	d.mu.Unlock()
	d.writing.Lock()
	defer d.writing.Unlock()
	if w.done {
		return w.err
	}
	d.mu.Lock()
	group := d.waiting
	d.waiting = nil
	d.mu.Unlock()
	d.run(group)
	return w.err
}

// run brings a group's outcome about. One that can't be written does not hold up the
// others. The caller holds writing.
func (d *agencyDB) run(group []*agencyWrite) {
	for len(group) > 0 {
		at, err := d.transact(group)
		if at < 0 {
			for _, w := range group {
				w.done, w.err = true, err
			}
			return
		}
		group[at].done, group[at].err = true, err
		group = append(group[:at:at], group[at+1:]...)
	}
}

// transact writes a group in one transaction, behind what is to be written again. An
// error of one write's own comes with its place in the group, other errors with -1.
func (d *agencyDB) transact(group []*agencyWrite) (at int, err error) {
	var tx *bolt.Tx
	var again map[string]func(*bolt.Tx) error
	at = -1
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
		if err == nil {
			return
		}
		d.putBack(again)
		if tx != nil {
			_ = tx.Rollback() // of one whose commit has failed there is nothing left to take back
		}
	}()
	if err = d.step.at(stepBegin); err == nil {
		tx, err = d.db.Begin(true)
	}
	if err != nil {
		return -1, fmt.Errorf("a transaction did not begin: %w", err)
	}
	again = d.takeUnsure()
	for _, do := range again {
		if err := do(tx); err != nil {
			return -1, fmt.Errorf("write again: %w", err)
		}
	}
	for i, w := range group {
		at = i
		if err = w.do(tx); err == nil {
			err = d.step.at(stepPut)
		}
		if err != nil {
			return i, fmt.Errorf("write: %w", err)
		}
	}
	at = -1
	if err = d.step.at(stepCommit); err == nil {
		err = tx.Commit()
	}
	if err == nil {
		err = d.step.at(stepCommitted)
	}
	if err != nil {
		return -1, fmt.Errorf("commit: %w", err)
	}
	return -1, nil
}

// writeAgain has something written with the next transaction, whoever's, since it
// is not known what the file has of it: do writes how it is then. key names it.
func (d *agencyDB) writeAgain(key string, do func(*bolt.Tx) error) {
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.unsure) < maxUnsure || d.unsure[key] != nil {
		d.unsure[key] = do
	}
}

func (d *agencyDB) takeUnsure() map[string]func(*bolt.Tx) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.unsure) == 0 {
		return nil
	}
	again := d.unsure
	d.unsure = map[string]func(*bolt.Tx) error{}
	return again
}

func (d *agencyDB) putBack(again map[string]func(*bolt.Tx) error) {
	for key, do := range again {
		d.mu.Lock()
		newer := d.unsure[key] != nil
		d.mu.Unlock()
		if !newer {
			d.writeAgain(key, do)
		}
	}
}

// repair writes what is to be written again, if there is any.
func (d *agencyDB) repair() error {
	d.mu.Lock()
	sure := len(d.unsure) == 0
	d.mu.Unlock()
	if sure {
		return nil
	}
	return d.update(func(*bolt.Tx) error { return nil })
}

// each calls f with every element of a bucket; both slices are gone afterwards.
func (d *agencyDB) each(bucket string, f func(k, v []byte) error) (err error) {
	if d == nil { // the node does not run
		return nil
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s is damaged: %v", agencyFile, p)
		}
	}()
	if err := d.step.at(stepRead); err != nil {
		return fmt.Errorf("%s could not be read: %w", agencyFile, err)
	}
	return d.db.View(func(tx *bolt.Tx) error { return tx.Bucket([]byte(bucket)).ForEach(f) })
}

// putAgency sets an element, or removes it where v is nil.
func putAgency(tx *bolt.Tx, bucket string, k, v []byte) error {
	b := tx.Bucket([]byte(bucket))
	if v == nil {
		return b.Delete(k)
	}
	return b.Put(k, v)
}

// close closes the file. What was answered as written is on disk already.
func (d *agencyDB) close() error {
	err := d.repair()
	if err != nil {
		err = fmt.Errorf("%s: what the disk has not confirmed could not be written again: %w", agencyFile, err)
	}
	closed := errors.Join(d.db.Close(), d.step.at(stepClose))
	if closed != nil {
		closed = fmt.Errorf("%s was not closed: %w; nothing is lost, since all of it was synced before", agencyFile, closed)
	}
	return errors.Join(err, closed)
}
