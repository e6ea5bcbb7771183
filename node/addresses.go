package node

import (
	"container/list"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/parley-p2p/parley/dht"
	"github.com/parley-p2p/parley/sdk"
)

// Bounds of the address cache.
const (
	maxAddresses = 4096 // agents
	maxWorked    = 8    // addresses of one that worked
	addressAge   = 24 * time.Hour
)

// addressCache remembers where agents are: what they signed, and where they
// answered. Its loss costs a look-up.
type addressCache struct {
	mu     sync.Mutex // guards what follows
	byID   map[sdk.AgentID]*list.Element
	recent *list.List // of *knownAgent, the last dialled first
}

// knownAgent is what is known of one agent. It is not changed once another
// goroutine may have it.
type knownAgent struct {
	agent  sdk.AgentID
	record *dht.Record  // the newest that is known; nil: none
	worked []workedAddr // the latest first
}

type workedAddr struct {
	addr netip.AddrPort
	at   time.Time
}

func newAddressCache() *addressCache {
	return &addressCache{byID: map[sdk.AgentID]*list.Element{}, recent: list.New()}
}

// get returns where to dial an agent: where it answered, the latest first, then
// the rest of its record. None of an agent that has withdrawn.
func (c *addressCache) get(now time.Time, id sdk.AgentID) []netip.AddrPort {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.byID[id]
	if e == nil {
		return nil
	}
	k := e.Value.(*knownAgent)
	var addrs []netip.AddrPort
	for _, w := range k.worked {
		if now.Sub(w.at) <= addressAge {
			addrs = append(addrs, w.addr)
		}
	}
	if k.record != nil && k.record.Current(now) == nil {
		for _, a := range k.record.Addrs {
			if !slices.Contains(addrs, a) {
				addrs = append(addrs, a)
			}
		}
	}
	return addrs
}

// record returns the newest record that is known of an agent; nil if there is none.
func (c *addressCache) record(id sdk.AgentID) *dht.Record {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.byID[id]; e != nil {
		return e.Value.(*knownAgent).record
	}
	return nil
}

// worked notes that an agent answered at an address that this node dialled.
func (c *addressCache) worked(now time.Time, id sdk.AgentID, addr netip.AddrPort) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.copyLocked(id)
	k.worked = slices.DeleteFunc(k.worked, func(w workedAddr) bool { return w.addr == addr })
	k.worked = slices.Insert(k.worked, 0, workedAddr{addr, now})
	k.worked = k.worked[:min(len(k.worked), maxWorked)]
	c.putLocked(k)
}

// learn takes a verified record over if it is newer than what is known, and tells
// whether it is. It takes the place of all that was known before: an address that
// it does not name is left behind. Who was dialled is kept longer than who only
// told where he is: asked tells that this node looks for the agent.
func (c *addressCache) learn(r *dht.Record, asked bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := sdk.AgentID(r.Key)
	e := c.byID[id]
	if e != nil && e.Value.(*knownAgent).record != nil && e.Value.(*knownAgent).record.Seq >= r.Seq {
		return false
	}
	if e == nil && !asked {
		if c.recent.Len() < maxAddresses {
			c.byID[id] = c.recent.PushBack(&knownAgent{agent: id, record: r})
		}
		return true
	}
	k := c.copyLocked(id)
	k.record = r
	k.worked = slices.DeleteFunc(k.worked, func(w workedAddr) bool { return !slices.Contains(r.Addrs, w.addr) })
	if e != nil && !asked {
		e.Value = k
		return true
	}
	c.putLocked(k)
	return true
}

// failed notes that nobody answered as this agent at addrs. What its record says
// stays, as it is signed; what only worked once goes.
func (c *addressCache) failed(id sdk.AgentID, addrs []netip.AddrPort) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.byID[id]
	if e == nil {
		return
	}
	k := c.copyLocked(id)
	k.worked = slices.DeleteFunc(k.worked, func(w workedAddr) bool { return slices.Contains(addrs, w.addr) })
	if k.record == nil && len(k.worked) == 0 {
		c.removeLocked(e)
		return
	}
	e.Value = k
}

func (c *addressCache) copyLocked(id sdk.AgentID) *knownAgent {
	if e := c.byID[id]; e != nil {
		k := *e.Value.(*knownAgent)
		k.worked = slices.Clone(k.worked)
		return &k
	}
	return &knownAgent{agent: id}
}

func (c *addressCache) putLocked(k *knownAgent) {
	if e := c.byID[k.agent]; e != nil {
		c.removeLocked(e)
	}
	c.byID[k.agent] = c.recent.PushFront(k)
	if c.recent.Len() > maxAddresses {
		c.removeLocked(c.recent.Back())
	}
}

func (c *addressCache) removeLocked(e *list.Element) {
	delete(c.byID, e.Value.(*knownAgent).agent)
	c.recent.Remove(e)
}

// all returns the entries, the oldest first.
func (c *addressCache) all() []*knownAgent {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]*knownAgent, 0, c.recent.Len())
	for e := c.recent.Back(); e != nil; e = e.Prev() {
		out = append(out, e.Value.(*knownAgent))
	}
	return out
}

// restore puts back what all returned in an earlier run.
func (c *addressCache) restore(k *knownAgent) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.putLocked(k)
}
