package node

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/agency"
)

// maxDelegated bounds the delegations whose uses are counted here.
const maxDelegated = 1 << 14

// delegated counts the uses of other agents' delegations, in all DNAs: a
// delegation's name is of one DNA. The numbers of uses are in agency.db.
type delegated struct {
	mu    sync.Mutex // guards table
	table *agency.Delegated
}

func newDelegated() *delegated { return &delegated{table: agency.NewDelegated(maxDelegated)} }

// takeDelegated counts a message under a verified proof, durably, or says why it is
// one too many. Nil: nothing counts.
func (n *Node) takeDelegated(links []sdk.Link) (*agency.DelegatedUse, *sdk.Error) {
	d, known := n.delegated, n.knows(links)
	d.mu.Lock()
	use, e := d.table.Take(n.now(), links, known)
	gone := d.table.Gone()
	d.mu.Unlock()
	if len(gone) > 0 {
		if err := n.forgetDelegated(gone); err != nil {
			n.cfg.Log.Warn("counts of delegations that have ended stay until the next start", "error", err.Error())
		}
	}
	if e != nil || use == nil {
		return nil, e
	}
	if err := n.storeDelegated(use); err != nil {
		n.giveBackDelegated(use)
		n.delegatedUnsure(use)
		n.cfg.Log.Error("the use of a delegation could not be counted", "error", err.Error())
		return nil, &sdk.Error{Code: sdk.HandlerFailed, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true, HandlerCode: sdk.HandlerCodeCommit,
			Text: "the use of the delegation could not be counted; its node's log says why"}
	}
	return use, nil
}

// storeDelegated writes how often the delegations were used, as storeUses does.
func (n *Node) storeDelegated(use *agency.DelegatedUse) error {
	if len(use.Used) == 0 {
		return nil
	}
	return n.agencyDB.update(func(tx *bolt.Tx) error {
		for _, c := range use.Used {
			if err := n.delegated.put(tx, c); err != nil {
				return err
			}
		}
		return nil
	})
}

// put writes how often a delegation was used by the time of the transaction.
func (d *delegated) put(tx *bolt.Tx, c agency.DelegatedCount) error {
	var counted bool
	d.mu.Lock()
	c.Used, counted = d.table.Used(c.ID)
	d.mu.Unlock()
	var v []byte
	if counted {
		v = encodeDelegated(&c)
	}
	return putAgency(tx, bucketDelegated, c.ID[:], v)
}

// delegatedUnsure is usesUnsure for delegations.
func (n *Node) delegatedUnsure(use *agency.DelegatedUse) {
	for _, c := range use.Used {
		n.agencyDB.writeAgain(bucketDelegated+string(c.ID[:]), func(tx *bolt.Tx) error { return n.delegated.put(tx, c) })
	}
}

func (n *Node) giveBackDelegated(use *agency.DelegatedUse) {
	n.delegated.mu.Lock()
	defer n.delegated.mu.Unlock()
	n.delegated.table.GiveBack(use)
}

// delegatedEnded is useEnded for delegations.
func (n *Node) delegatedEnded(ctx context.Context, use *agency.DelegatedUse, e *sdk.Error) {
	if use == nil || !n.leftNoTrace(ctx, e) {
		return
	}
	n.giveBackDelegated(use)
	if err := n.storeDelegated(use); err != nil {
		n.delegatedUnsure(use)
		n.cfg.Log.Warn("a use of a delegation is given back once the disk takes it", "error", err.Error())
	}
}

// A count stands in agency.db under the delegation's name:
//
//	presenter 32 | used 8 | until 8 (unix µs), big-endian
const delegatedSize = 32 + 8 + 8

func encodeDelegated(c *agency.DelegatedCount) []byte {
	b := append(make([]byte, 0, delegatedSize), c.Presenter[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(c.Used))
	return binary.BigEndian.AppendUint64(b, uint64(c.Until.UnixMicro()))
}

func decodeDelegated(k, v []byte) (c agency.DelegatedCount, err error) {
	if len(k) != 32 || len(v) != delegatedSize {
		return c, fmt.Errorf("%s: an element of %d and %d bytes among the uses of delegations", agencyFile, len(k), len(v))
	}
	return agency.DelegatedCount{ID: sdk.Hash(k), Presenter: sdk.AgentID(v[:32]), Used: int(binary.BigEndian.Uint64(v[32:])),
		Until: time.UnixMicro(int64(binary.BigEndian.Uint64(v[40:]))).UTC()}, nil
}

// loadDelegated reads what was counted, and removes what is of delegations that
// have ended.
func (n *Node) loadDelegated() error {
	now := n.now()
	var ended []sdk.Hash
	err := n.agencyDB.each(bucketDelegated, func(k, v []byte) error {
		c, err := decodeDelegated(k, v)
		if err != nil {
			return err
		}
		if now.Before(c.Until) {
			n.delegated.table.Load(c)
		} else {
			ended = append(ended, c.ID)
		}
		return nil
	})
	if err != nil || len(ended) == 0 {
		return err
	}
	return n.forgetDelegated(ended)
}

// forgetDelegated removes the counts of delegations that have ended.
func (n *Node) forgetDelegated(ended []sdk.Hash) error {
	return n.agencyDB.update(func(tx *bolt.Tx) error {
		for _, id := range ended {
			if err := putAgency(tx, bucketDelegated, id[:], nil); err != nil {
				return err
			}
		}
		return nil
	})
}
