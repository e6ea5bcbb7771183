package node

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/parley-p2p/parley/dht"
	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/transport"
)

const (
	// neighboursEvery is how often the sessions with neighbours are looked at.
	neighboursEvery = 30 * time.Second
	// redialEvery is how often one neighbour is dialled, however its last session
	// ended: one that has no place for us would be dialled without end.
	redialEvery = 10 * time.Minute
	// redialsAtOnce bounds the dials of one look: 52 neighbours take 3 minutes.
	redialsAtOnce = 8
)

// neighbours are the DHT's contacts that are dialled so that there is a session, and
// lookups begin with a warm hop. Its one owner is Node.keepNeighbours.
type neighbours struct {
	seen map[dht.Key]time.Time // when one was last dialled; zero = not yet
}

// due returns whom to dial now, of those that are pinned and not live. One that is
// pinned no more is forgotten. idle tells whether a contact needs no dial, or is
// to be left alone for now.
func (ns *neighbours) due(now time.Time, pinned []dht.Contact, idle func(dht.Contact) bool) []dht.Contact {
	seen := make(map[dht.Key]time.Time, len(pinned))
	var due []dht.Contact
	for _, c := range pinned {
		at := ns.seen[c.Key]
		if !idle(c) && len(due) < redialsAtOnce && (at.IsZero() || now.Sub(at) >= redialEvery) {
			at = now
			due = append(due, c)
		}
		seen[c.Key] = at
	}
	ns.seen = seen
	return due
}

// keepNeighbours keeps them until ctx ends.
func (n *Node) keepNeighbours(ctx context.Context) error {
	var ns neighbours
	for sleep(ctx, neighboursEvery/2+rand.N(neighboursEvery)) { // both sides of a broken session had the same thought else
		n.tendNeighbours(ctx, &ns)
	}
	return nil
}

// tendNeighbours pins them, has the sessions with all other contacts kept, and dials
// the pinned ones that are due.
func (n *Node) tendNeighbours(ctx context.Context, ns *neighbours) {
	d := n.dht.Stats()
	n.endpoint.Dialable(d.Server && d.Proven)
	pinned := n.dht.Pinned()
	pinnedPeers := make([]transport.PeerKey, len(pinned))
	for i := range pinned {
		pinnedPeers[i] = transport.PeerKey(pinned[i].Key)
	}
	var keptPeers []transport.PeerKey
	for _, k := range n.dht.Kept() {
		keptPeers = append(keptPeers, transport.PeerKey(k))
	}
	n.endpoint.Pin(pinnedPeers, keptPeers)
	var dials sync.WaitGroup
	due := ns.due(n.now(), pinned, n.leaveAlone)
	failed := make([]bool, len(due))
	for i, c := range due {
		dials.Go(func() { failed[i] = n.dialNeighbour(ctx, c) })
	}
	dials.Wait()
	for i, c := range due {
		if failed[i] {
			ns.seen[c.Key] = time.Time{} // its addresses' pauses decide
		}
	}
}

// dialNeighbour opens a session. It tells whether nobody answered, so that the
// addresses are left alone for a while.
func (n *Node) dialNeighbour(ctx context.Context, c dht.Contact) (failed bool) {
	ctx, cancel := context.WithTimeout(ctx, coldDialLimit)
	defer cancel()
	_, _, err := n.endpoint.Session(ctx, transport.PeerKey(c.Key), n.backoff.due(n.now(), c.Addresses()))
	if err == nil {
		return false
	}
	n.cfg.Log.Debug("a neighbour was not reached", "agent", c.Key, "error", err)
	n.dialFailed(sdk.AgentID(c.Key), err)
	n.dht.Suspect(c.Key)
	return len(dialAttempts(err)) > 0
}

// leaveAlone tells whether a neighbour has a session, or is not to be dialled now.
func (n *Node) leaveAlone(c dht.Contact) bool {
	_, live := n.endpoint.Live(transport.PeerKey(c.Key))
	return live || len(n.backoff.due(n.now(), c.Addresses())) == 0
}
