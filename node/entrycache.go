package node

import (
	"container/list"
	"sync"

	"github.com/parley-p2p/parley/dht"
	"github.com/parley-p2p/parley/sdk"
)

// Bounds of the cache of other agents' entries: 256 KiB at least, since one has
// 4 KiB at most.
const (
	cachedEntries = 1024
	cachedBytes   = 1 << 20
	// cachedOverhead is about what an entry takes beside its content.
	cachedOverhead = 512
)

// entryCache keeps public entries that were found and that this node's own DNA
// found valid. An id stands for one entry of one DNA for ever, so none gets old;
// the one that was asked for the longest ago goes first.
type entryCache struct {
	mu    sync.Mutex // guards what follows
	at    map[dht.ID]*list.Element
	used  list.List // of *cachedEntry, the last used in front
	bytes int
}

type cachedEntry struct {
	id     dht.ID
	record sdk.Record
}

func (e *cachedEntry) size() int { return cachedOverhead + len(e.record.Content) }

func newEntryCache() *entryCache { return &entryCache{at: map[dht.ID]*list.Element{}} }

func (c *entryCache) get(id dht.ID) (sdk.Record, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.at[id]
	if e == nil {
		return sdk.Record{}, false
	}
	c.used.MoveToFront(e)
	r := e.Value.(*cachedEntry).record
	r.Content = append([]byte{}, r.Content...) // a handler in this process may change it
	return r, true
}

func (c *entryCache) add(id dht.ID, r sdk.Record) {
	r.Content = append([]byte{}, r.Content...)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at[id] != nil {
		return
	}
	e := &cachedEntry{id, r}
	c.at[id] = c.used.PushFront(e)
	c.bytes += e.size()
	for c.used.Len() > cachedEntries || c.bytes > cachedBytes {
		old := c.used.Remove(c.used.Back()).(*cachedEntry)
		c.bytes -= old.size()
		delete(c.at, old.id)
	}
}
