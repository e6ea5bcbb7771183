package node

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
)

// agency.db holds what must survive a restart and is on no source chain: claims,
// how often grants were used, whom the node hears. It holds secrets: mode 0600.
const agencyFile = "agency.db"

// Its buckets.
const (
	bucketClaims    = "claims"    // claims.go
	bucketUses      = "uses"      // DNA hash 32 | grant 32 -> how often, 8 bytes big-endian
	bucketPolicy    = "policy"    // policy.go
	bucketDelegated = "delegated" // delegateduse.go
)

var agencyBuckets = []string{bucketClaims, bucketUses, bucketPolicy, bucketDelegated}

// agencyDB is the open file. What waits while another transaction is synced
// shares the next one.
type agencyDB struct {
	db *bolt.DB

	writing sync.Mutex // held by whoever runs a transaction

	mu      sync.Mutex // guards waiting
	waiting []*agencyWrite
}

type agencyWrite struct {
	do   func(*bolt.Tx) error
	done bool
	err  error
}

// openAgencyDB opens the file, or makes it. One that is damaged is an error: its
// loss would let used-up grants and blocked agents in.
func openAgencyDB(path string) (d *agencyDB, err error) {
	defer func() {
		if p := recover(); p != nil {
			d, err = nil, fmt.Errorf("%v", p)
		}
		if err != nil {
			err = fmt.Errorf("%s: %w; put it back from a backup, or remove it: claims, counts of uses and the block list are lost with it", path, err)
		}
	}()
	if info, err := os.Lstat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("others may read it (mode %04o): it holds secrets; make it 0600", info.Mode().Perm())
	}
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: time.Second})
	if err != nil {
		return nil, err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range agencyBuckets {
			if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &agencyDB{db: db}, nil
}

// update runs do in a transaction that is on disk when it returns nil, perhaps
// with others'. do must do the same if it runs again.
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
	err := d.db.Update(func(tx *bolt.Tx) error {
		for _, w := range group {
			if err := w.do(tx); err != nil {
				return err
			}
		}
		return nil
	})
	for _, w := range group {
		w.done, w.err = true, err
	}
	return err
}

// each calls f with every element of a bucket; both slices are gone afterwards.
func (d *agencyDB) each(bucket string, f func(k, v []byte) error) error {
	if d == nil { // the node does not run
		return nil
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

func (d *agencyDB) close() error { return d.db.Close() }
