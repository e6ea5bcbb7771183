package chain

import bolt "go.etcd.io/bbolt"

// holdCommit runs fn in each transaction before it is committed.
func (c *Chain) holdCommit(fn func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.commitTx = func(tx *bolt.Tx) error {
		if fn != nil {
			fn()
		}
		return tx.Commit()
	}
}
