package chain

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/parley-p2p/parley/sdk"
)

// forge changes record seq of a closed chain on purpose: with right checksums,
// so that only what change did is wrong.
func forge(t *testing.T, path string, seq uint64, change func(r *sdk.Record) (*sdk.Record, bool)) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.Update(func(tx *bolt.Tx) error {
		b, key := tx.Bucket(bucketRecords), seqKey(seq)
		r, err := decodeRecord(key, b.Get(key))
		if err != nil {
			return err
		}
		out, sign := change(&r)
		if out == nil {
			return errors.Join(b.Delete(key), tx.Bucket(bucketTypes).Delete(typeKey(r.Header.EntryType, seq)))
		}
		value, header := newRecordValue(&out.Header, out.Content)
		sig := out.Signature[:]
		if sign {
			sig = ed25519.Sign(alice, sdk.SigningBytes(sha256.Sum256(header)))
		}
		sealRecord(key, value, sig)
		return b.Put(key, value)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestForged(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*sdk.Record) (*sdk.Record, bool)
		seq    uint64 // of the record that is named
		reason string
		verify bool // Verify finds it, Open can't
	}{
		"signature": {func(r *sdk.Record) (*sdk.Record, bool) { r.Signature[7] ^= 1; return r, false }, 5, "bad signature", true},
		"content":   {func(r *sdk.Record) (*sdk.Record, bool) { r.Content[0] ^= 1; return r, true }, 5, "wrong hash", false},
		"header": {func(r *sdk.Record) (*sdk.Record, bool) {
			r.Header.Time = r.Header.Time.Add(1e6)
			return r, true
		}, 6, "broken link", false},
		"link":     {func(r *sdk.Record) (*sdk.Record, bool) { r.Header.Prev[0] ^= 1; return r, true }, 5, "broken link", false},
		"sequence": {func(r *sdk.Record) (*sdk.Record, bool) { r.Header.Seq = 9; return r, true }, 5, "gap", false},
		"author":   {func(r *sdk.Record) (*sdk.Record, bool) { r.Header.Author = agentOf(bob); return r, true }, 5, "wrong author", false},
		"DNA":      {func(r *sdk.Record) (*sdk.Record, bool) { r.Header.DNA[0] ^= 1; return r, true }, 5, "another DNA", false},
		"genesis":  {func(r *sdk.Record) (*sdk.Record, bool) { r.Header.Kind = sdk.KindGenesis; return r, true }, 5, "can't stand here", false},
		"cause":    {func(r *sdk.Record) (*sdk.Record, bool) { r.Header.Cause = sdk.Cause{}; return r, true }, 5, "can't have cause", false},
		"type":     {func(r *sdk.Record) (*sdk.Record, bool) { r.Header.EntryType = ""; return r, true }, 5, "entry type", false},
		"removed":  {func(r *sdk.Record) (*sdk.Record, bool) { return nil, false }, 5, "gap", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := testOptions(t)
			c := mustOpen(t, o)
			mustAppend(t, c, Batch{Entries: entries("bid", 9, 50), Cause: function(1)})
			mustClose(t, c)
			forge(t, o.Path, 5, test.change)
			c, err := Open(o)
			if test.verify {
				if err != nil {
					t.Fatal(err)
				}
				var n uint64
				n, err = c.Verify(context.Background())
				if n != test.seq {
					t.Errorf("%d records are right", n)
				}
				mustClose(t, c)
			}
			var d *DamagedError
			if !errors.As(err, &d) || d.Seq != test.seq || !strings.Contains(d.Reason, test.reason) {
				t.Fatalf("%v; want record %d, %s", err, test.seq, test.reason)
			}
		})
	}
}

// The type index and the kept replies are part of what Open checks.
func TestForgedIndex(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(tx *bolt.Tx) error{
		"a type is lost":     func(tx *bolt.Tx) error { return tx.Bucket(bucketTypes).Delete(typeKey("bid", 2)) },
		"a type too many":    func(tx *bolt.Tx) error { return tx.Bucket(bucketTypes).Put(typeKey("bid", 99), nil) },
		"a type has a value": func(tx *bolt.Tx) error { return tx.Bucket(bucketTypes).Put(typeKey("bid", 2), []byte{1}) },
		"a reply is lost":    func(tx *bolt.Tx) error { return tx.Bucket(bucketReplies).Delete(seqKey(1)) },
		"a reply is changed": func(tx *bolt.Tx) error { return tx.Bucket(bucketReplies).Put(seqKey(1), make([]byte, 70)) },
		"a bucket is lost":   func(tx *bolt.Tx) error { return tx.DeleteBucket(bucketTypes) },
		"no records": func(tx *bolt.Tx) error {
			return errors.Join(tx.DeleteBucket(bucketRecords), ignore(tx.CreateBucket(bucketRecords)))
		},
		"a nested bucket": func(tx *bolt.Tx) error { return ignore(tx.Bucket(bucketRecords).CreateBucket([]byte("12345678"))) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := testOptions(t)
			c := mustOpen(t, o)
			for n := range uint64(3) {
				mustAppend(t, c, kept(n, "ok"))
			}
			mustClose(t, c)
			rewrite(t, o.Path, change)
			before := mustRead(t, o.Path)
			var d *DamagedError
			if _, err := Open(o); !errors.As(err, &d) {
				t.Fatal(err)
			}
			if string(before) != string(mustRead(t, o.Path)) {
				t.Fatal("the file was changed")
			}
		})
	}
}

func TestNewerFormat(t *testing.T) {
	t.Parallel()
	o := testOptions(t)
	mustClose(t, mustOpen(t, o))
	rewrite(t, o.Path, func(tx *bolt.Tx) error { return tx.Bucket(bucketMeta).Put(keyFormat, []byte{2}) })
	var d *DamagedError
	if _, err := Open(o); err == nil || errors.As(err, &d) || !strings.Contains(err.Error(), "format 2") {
		t.Fatal(err)
	}
}

func ignore(_ *bolt.Bucket, err error) error { return err }

func rewrite(t *testing.T, path string, change func(tx *bolt.Tx) error) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(change), db.Close()); err != nil {
		t.Fatal(err)
	}
}
