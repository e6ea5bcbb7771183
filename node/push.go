package node

import (
	"context"
	"sync"
	"time"

	"github.com/parley-p2p/parley/dht"
	"github.com/parley-p2p/parley/transport"
)

const (
	pushAtOnce    = 16
	pushLimit     = time.Minute     // of one push to all sessions
	pushOneLimit  = 2 * time.Second // of one session
	withdrawLimit = time.Second
)

// pusher sends the own record over the sessions (docs/wire.md, section 6.5), so that
// whoever talks to this agent knows where it is before the DHT is asked: over all when
// it says something else, over those that have carried messages when it is renewed.
// To who has a session for the DHT alone a renewed record tells nothing: a contact
// asks for it when the old one ends, and holders are given it.
type pusher struct {
	turn   chan struct{} // capacity 1: one push at a time
	pushed *dht.Record   // the last one; owned by who has the turn
}

func newPusher() *pusher { return &pusher{turn: make(chan struct{}, 1)} }

// keepPushing pushes what is new until ctx ends.
func (n *Node) keepPushing(ctx context.Context) error {
	for {
		select {
		case <-n.dht.Renewed():
			n.push(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}

// push sends the own record over the live sessions that it concerns, if it is another
// than the last time.
func (n *Node) push(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, pushLimit)
	defer cancel()
	select {
	case n.pusher.turn <- struct{}{}:
		defer func() { <-n.pusher.turn }()
	case <-ctx.Done():
		return
	}
	rec := n.dht.OwnRecord()
	whom := n.pusher.due(rec, n.endpoint.Sessions())
	if len(whom) == 0 {
		return
	}
	peers := make(chan transport.PeerKey)
	var workers sync.WaitGroup
	for range pushAtOnce {
		workers.Go(func() {
			for p := range peers {
				n.pushTo(ctx, p, rec)
			}
		})
	}
	for _, p := range whom {
		if ctx.Err() != nil {
			break
		}
		peers <- p
	}
	close(peers)
	workers.Wait()
}

// due returns whom to push rec to, of those with sessions, and takes it for pushed.
func (p *pusher) due(rec *dht.Record, sessions []transport.SessionInfo) (whom []transport.PeerKey) {
	if rec == nil || rec == p.pushed {
		return nil
	}
	renewed := p.pushed != nil && rec.SameAs(p.pushed)
	p.pushed = rec
	seen := make(map[transport.PeerKey]bool, len(sessions))
	for _, s := range sessions {
		if !(renewed && s.Background) && !seen[s.Peer] {
			seen[s.Peer] = true
			whom = append(whom, s.Peer)
		}
	}
	return whom
}

func (n *Node) pushTo(ctx context.Context, p transport.PeerKey, rec *dht.Record) {
	s, ok := n.endpoint.Live(p)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, pushOneLimit)
	defer cancel()
	if err := s.Notify(ctx, transport.Outgoing{Kind: kindDHT, ID: newMessageID(), Body: rec.Bytes()}); err != nil {
		n.cfg.Log.Debug("the own record was not pushed", "agent", dht.Key(p), "error", err)
	}
}

// pushedTo takes the record that a peer sent of itself.
func (n *Node) pushedTo(r *transport.Request) {
	n.traffic.dhtRequests.Add(1)
	rec, err := dht.ParseRecord(r.Body)
	newest := false
	if err == nil {
		newest, err = n.dht.Learn(dht.Key(r.Peer), rec)
	}
	if err != nil {
		n.cfg.Log.Debug("a pushed record was not taken", "agent", dht.Key(r.Peer), "error", err)
	}
	if newest { // else it was not verified
		n.learned(rec, false)
	}
}

// withdraw tells the DHT, and who has a session, that this node is going. It is
// best effort: a node that is killed does not, and its record ends by itself.
func (n *Node) withdraw() {
	ctx, cancel := context.WithTimeout(context.Background(), withdrawLimit)
	defer cancel()
	if holders, err := n.dht.Withdraw(ctx); err != nil {
		n.cfg.Log.Debug("the address record was not withdrawn everywhere", "holders", holders, "error", err)
	}
	n.push(ctx)
}
