package node

import (
	"fmt"
	"slices"

	bolt "go.etcd.io/bbolt"

	"github.com/parley-p2p/parley/sdk"
)

// The last users of a transferable grant stand in agency.db, so that they can be told
// of its end after a restart:
//
//	DNA hash 32 | grant 32  ->  the users, each 32, the latest last
//
// They are written with what else waits, within 5 s: none costs a call a sync.
const bucketUsers = "users"

// keepUsers writes who has used grants since it was called last.
func (n *Node) keepUsers() error {
	for _, a := range n.apps.all() {
		a.grants.mu.Lock()
		touched := a.grants.book.Touched()
		a.grants.mu.Unlock()
		if len(touched) == 0 {
			continue
		}
		err := n.agencyDB.update(func(tx *bolt.Tx) error {
			for _, id := range touched {
				a.grants.mu.Lock()
				users := a.grants.book.Users(id)
				a.grants.mu.Unlock()
				var v []byte
				for _, u := range users {
					v = append(v, u[:]...)
				}
				if err := putAgency(tx, bucketUsers, usesKey(a, id), v); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			a.grants.mu.Lock()
			for _, id := range touched {
				a.grants.book.Touch(id)
			}
			a.grants.mu.Unlock()
			return err
		}
	}
	return nil
}

// loadUsers reads who has used an app's grants. Of those that are over they are removed
// with the next write.
func (n *Node) loadUsers(a *app) error {
	return n.agencyDB.each(bucketUsers, func(k, v []byte) error {
		if len(k) != 64 || len(v) == 0 || len(v)%32 != 0 {
			return fmt.Errorf("%s: an element of %d and %d bytes among the users of grants", agencyFile, len(k), len(v))
		}
		if sdk.DNAHash(k[:32]) != a.hash {
			return nil
		}
		var users []sdk.AgentID
		for u := range slices.Chunk(v, 32) {
			users = append(users, sdk.AgentID(u))
		}
		id := sdk.Hash(k[32:])
		a.grants.book.SetUsers(id, users)
		if _, lasts := a.grants.book.Lasting(n.now(), id); !lasts {
			a.grants.book.Touch(id)
		}
		return nil
	})
}
