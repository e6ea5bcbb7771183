package node

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/parley-p2p/parley/dht"
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

// neighbours are the DHT's contacts with whom sessions are kept open, so that
// lookups begin with a warm hop. Its one owner is Node.keepNeighbours.
type neighbours struct {
	seen map[dht.Key]time.Time // when one was last dialled; zero = not yet
}

// due returns whom to dial now, of those that are pinned and not live. One that is
// pinned no more is forgotten.
func (ns *neighbours) due(now time.Time, pinned []dht.Contact, live func(dht.Key) bool) []dht.Contact {
	seen := make(map[dht.Key]time.Time, len(pinned))
	var due []dht.Contact
	for _, c := range pinned {
		at := ns.seen[c.Key]
		if !live(c.Key) && len(due) < redialsAtOnce && (at.IsZero() || now.Sub(at) >= redialEvery) {
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

// tendNeighbours pins them and dials those that are due.
func (n *Node) tendNeighbours(ctx context.Context, ns *neighbours) {
	pinned := n.dht.Pinned()
	keys := make([]transport.PeerKey, len(pinned))
	for i := range pinned {
		keys[i] = transport.PeerKey(pinned[i].Key)
	}
	n.endpoint.Pin(keys)
	var dials sync.WaitGroup
	for _, c := range ns.due(n.now(), pinned, n.isLive) {
		dials.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, coldDialLimit)
			defer cancel()
			if _, _, err := n.endpoint.Session(ctx, transport.PeerKey(c.Key), c.Addresses()); err != nil {
				n.cfg.Log.Debug("a neighbour was not reached", "agent", c.Key, "error", err)
			}
		})
	}
	dials.Wait()
}

func (n *Node) isLive(k dht.Key) bool {
	_, ok := n.endpoint.Live(transport.PeerKey(k))
	return ok
}
