package node

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/agency"
)

// grantPage is how many entries are read from a chain at once.
const grantPage = 512

// loadGrants reads an app's grants from its chain, newest first, so that the end
// of a grant comes before it: what has to be remembered of ends is few. Where more
// last than max-grants, as it may have been more before, the newest are taken.
func (n *Node) loadGrants(a *app) error {
	used, err := n.loadUses(a)
	if err != nil {
		return err
	}
	now := n.now()
	a.grants.book = agency.NewBook(n.cfg.Limits.MaxGrants)
	type found struct {
		id    sdk.Hash
		entry agency.Entry
		since time.Time
	}
	var last []found
	var stale []sdk.Hash // whose uses need not be known any more
	ended, left := map[sdk.Hash]bool{}, 0
	ends := entriesBack{app: a, kind: agency.TypeRevoked}
	made := entriesBack{app: a, kind: agency.TypeGrant}
	for {
		r, err := made.next()
		if err != nil {
			return fmt.Errorf("grants: %w", err)
		}
		if r == nil {
			break
		}
		for end, err := ends.after(r.Header.Seq); end != nil || err != nil; end, err = ends.after(r.Header.Seq) {
			if err != nil {
				return fmt.Errorf("ends of grants: %w", err)
			}
			id, err := agency.ParseRevoked(end.Content)
			if err != nil {
				return fmt.Errorf("record %d: %w", end.Header.Seq, err) // a grant that is over must not let anybody in
			}
			ended[id] = true
		}
		e, err := agency.ParseGrant(r.Content)
		if err != nil { // of a later version: it lets nobody in
			a.log.Warn("a grant can't be read and is left out", "record", r.Header.Seq, "error", err.Error())
			continue
		}
		id := r.Header.Entry
		if _, counted := used[id]; counted && (ended[id] || !e.Grant.Expires.IsZero() && !now.Before(e.Grant.Expires.Add(agency.CountKept))) {
			stale = append(stale, id)
		}
		switch {
		case ended[id]:
			delete(ended, id)
		case !e.Grant.Expires.IsZero() && !now.Before(e.Grant.Expires):
		case len(last) == n.cfg.Limits.MaxGrants:
			left++
		default:
			last = append(last, found{id, e, r.Header.Time})
		}
	}
	for _, f := range last {
		a.grants.book.Add(f.id, f.entry, f.since, used[f.id])
	}
	if err := errors.Join(n.loadUsers(a), n.teller.resume(a), n.finisher.resume(a)); err != nil {
		return err
	}
	if len(stale) > 0 {
		if err := n.agencyDB.update(func(tx *bolt.Tx) error { return forgetUses(tx, a, stale) }); err != nil {
			a.log.Warn("the counts of grants that are over stay until the next start", "grants", len(stale), "error", err.Error())
		}
	}
	if left > 0 {
		a.log.Warn("grants left out: more last than max-grants", "left", left, "max", n.cfg.Limits.MaxGrants)
	}
	return nil
}

// loadUses reads how often the app's grants were used.
func (n *Node) loadUses(a *app) (map[sdk.Hash]int, error) {
	used := map[sdk.Hash]int{}
	err := n.agencyDB.each(bucketUses, func(k, v []byte) error {
		if len(k) != 64 || len(v) != 8 {
			return fmt.Errorf("%s: an element of %d and %d bytes among the uses of grants", agencyFile, len(k), len(v))
		}
		if sdk.DNAHash(k[:32]) == a.hash {
			used[sdk.Hash(k[32:])] = int(binary.BigEndian.Uint64(v))
		}
		return nil
	})
	return used, err
}

// entriesBack reads the entries of one type, newest first.
type entriesBack struct {
	app  *app
	kind string
	page []sdk.Record
	to   uint64 // what is still to be read ends here; 0: at the chain's head
	over bool
}

// peek is the next record; nil where there is none.
func (b *entriesBack) peek() (*sdk.Record, error) {
	if len(b.page) == 0 && !b.over {
		page, err := b.app.chain.Query(sdk.Query{Type: b.kind, To: b.to, Reverse: true, Limit: grantPage})
		if err != nil {
			return nil, err
		}
		b.page, b.over = page, len(page) == 0
		if !b.over {
			b.to = page[len(page)-1].Header.Seq
			b.over = b.to == 0
		}
	}
	if len(b.page) == 0 {
		return nil, nil
	}
	return &b.page[0], nil
}

func (b *entriesBack) next() (*sdk.Record, error) {
	r, err := b.peek()
	if r != nil {
		b.page = b.page[1:]
	}
	return r, err
}

// after is the next record if its number is greater than seq.
func (b *entriesBack) after(seq uint64) (*sdk.Record, error) {
	r, err := b.peek()
	if r == nil || r.Header.Seq < seq {
		return nil, err
	}
	return b.next()
}
