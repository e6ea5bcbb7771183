package node

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/parley-p2p/parley/sdk"
)

// What holders are still to be told stands in agency.db, so that a node that is started
// again goes on:
//
//	DNA hash 32 | holder 32 | grant 32  ->  version 1 | flags 1 (1: of the grant's end) | since 8 (unix µs)
//
// It is there when Grant or Revoke returns, and removed within some 5 s of being told
// or given up: who is told twice loses nothing.
const (
	bucketTells = "tells"
	tellVersion = 1
	tellOver    = 1
	tellSize    = 2 + 8
)

// tellFor is how long after a grant or its end a node that starts still tells of it.
const tellFor = 24 * time.Hour

// tellKey names what a holder is to hear of a grant.
type tellKey struct {
	dna   sdk.DNAHash
	to    sdk.AgentID
	grant sdk.Hash
}

func (t *tell) key() tellKey { return tellKey{t.dna, t.to, t.grant} }

func (k tellKey) bytes() []byte { return slices.Concat(k.dna[:], k.to[:], k.grant[:]) }

func encodeTell(over bool, since time.Time) []byte {
	b := []byte{tellVersion, 0}
	if over {
		b[1] = tellOver
	}
	return binary.BigEndian.AppendUint64(b, uint64(since.UnixMicro()))
}

func decodeTell(k, v []byte) (key tellKey, over bool, since time.Time, err error) {
	if len(k) != 96 || len(v) != tellSize || v[0] != tellVersion || v[1] > tellOver {
		return key, false, since, fmt.Errorf("%s: an element of %d and %d bytes among what is to be told", agencyFile, len(k), len(v))
	}
	return tellKey{sdk.DNAHash(k[:32]), sdk.AgentID(k[32:64]), sdk.Hash(k[64:])}, v[1] == tellOver,
		time.UnixMicro(int64(binary.BigEndian.Uint64(v[2:]))).UTC(), nil
}

// putTells writes what is to be told, before it is queued.
func putTells(tx *bolt.Tx, now time.Time, list []*tell) error {
	for _, m := range list {
		if err := putAgency(tx, bucketTells, m.key().bytes(), encodeTell(m.over, now)); err != nil {
			return err
		}
	}
	return nil
}

// keepTells is putTells in a transaction of its own. Nothing depends on it.
func (n *Node) keepTells(a *app, list []*tell) {
	if len(list) == 0 {
		return
	}
	now := n.now()
	if err := n.agencyDB.update(func(tx *bolt.Tx) error { return putTells(tx, now, list) }); err != nil {
		a.log.Warn("holders are told of a grant only as long as this node runs", "grant", list[0].grant.String(), "error", err.Error())
	}
}

// flush removes from agency.db what was told or given up. An end that is to be told
// stays where only the grant itself was told.
func (t *teller) flush() error {
	t.mu.Lock()
	ended := t.ended
	t.ended = map[tellKey]bool{}
	t.mu.Unlock()
	if len(ended) == 0 {
		return nil
	}
	err := t.node.agencyDB.update(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte(bucketTells))
		for k, over := range ended {
			key := k.bytes()
			if v := b.Get(key); len(v) == tellSize && v[1] == tellOver && !over {
				continue
			}
			if err := b.Delete(key); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, over := range ended {
		t.endKeyLocked(k, over)
	}
	return err
}

// dropTells removes what is too old to be told, of all DNAs: some may never run again.
func (n *Node) dropTells() error {
	now := n.now()
	var old [][]byte
	err := n.agencyDB.each(bucketTells, func(k, v []byte) error {
		_, _, since, err := decodeTell(k, v)
		if err != nil || now.Sub(since) >= tellFor || since.After(now.Add(tellFor)) {
			old = append(old, slices.Clone(k))
		}
		return nil
	})
	if err != nil || len(old) == 0 {
		return err
	}
	return n.agencyDB.update(func(tx *bolt.Tx) error {
		for _, k := range old {
			if err := putAgency(tx, bucketTells, k, nil); err != nil {
				return err
			}
		}
		return nil
	})
}

// resume queues what an earlier run of this node has not told of a DNA's grants, whose
// book is loaded.
func (t *teller) resume(a *app) error {
	now := t.node.now()
	var list []*tell
	err := t.node.agencyDB.each(bucketTells, func(k, v []byte) error {
		key, over, _, err := decodeTell(k, v)
		if err != nil || key.dna != a.hash {
			return nil // what can't be read is removed at the next start
		}
		a.grants.mu.Lock()
		g, lasts := a.grants.book.Lasting(now, key.grant)
		a.grants.mu.Unlock()
		if !over && !lasts {
			t.mu.Lock()
			t.endKeyLocked(key, over)
			t.mu.Unlock()
			return nil
		}
		list = append(list, t.of(a, &sdk.Claim{Grant: key.grant, Functions: g.Functions, Expires: g.Expires}, over, []sdk.AgentID{key.to})...)
		return nil
	})
	t.queue(list)
	return err
}
