package node

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/transport"
)

const (
	// tellQueue bounds what waits to be told: beyond it the oldest is let go.
	tellQueue = 4096
	// tellEnded bounds what is to be removed from agency.db, 130 bytes each.
	tellEnded = 1 << 14
	// tellAtOnce bounds the nodes that are told at once.
	tellAtOnce = 8
	// tellTries bounds the tries; the pauses between them double from the first to
	// the last, which makes about 20 minutes.
	tellTries    = 12
	tellPause    = time.Second
	tellPauseMax = 5 * time.Minute
	// tellTimeout bounds one try.
	tellTimeout = 10 * time.Second
)

// tell is something that a holder is to hear.
type tell struct {
	dna   sdk.DNAHash
	to    sdk.AgentID
	grant sdk.Hash
	over  bool
	body  []byte
	tries int
	due   time.Time
}

// tells is what waits to be told: a state machine.
type tells struct {
	waiting []*tell // in no order
	lost    int     // let go for room
}

// add has t wait. A grant's end takes the place of what waits of the grant. What is
// let go for room is returned, or nil.
func (q *tells) add(t *tell) (lost *tell) {
	for i, w := range q.waiting {
		if w.to == t.to && w.grant == t.grant {
			if t.over || !w.over {
				q.waiting[i] = t
			}
			return nil
		}
	}
	if len(q.waiting) == tellQueue {
		lost = q.waiting[0]
		copy(q.waiting, q.waiting[1:])
		q.waiting = q.waiting[:tellQueue-1]
		q.lost++
	}
	q.waiting = append(q.waiting, t)
	return lost
}

// next takes what is due, or says when the next one is; zero: nothing waits.
func (q *tells) next(now time.Time) (t *tell, at time.Time) {
	first := -1
	for i, w := range q.waiting {
		if first < 0 || w.due.Before(q.waiting[first].due) {
			first = i
		}
	}
	if first < 0 {
		return nil, time.Time{}
	}
	t = q.waiting[first]
	if t.due.After(now) {
		return nil, t.due
	}
	q.waiting = append(q.waiting[:first], q.waiting[first+1:]...)
	return t, time.Time{}
}

// again has a tell wait that was not taken; false if it was tried often enough, or has
// no room: those that wait are newer.
func (q *tells) again(now time.Time, t *tell) bool {
	if t.tries++; t.tries >= tellTries {
		return false
	}
	t.due = now.Add(min(tellPause<<min(t.tries-1, 16), tellPauseMax))
	for _, w := range q.waiting {
		if w.to == t.to && w.grant == t.grant { // it is newer
			return true
		}
	}
	if len(q.waiting) == tellQueue {
		q.lost++
		return false
	}
	q.add(t)
	return true
}

// teller tells the holders of grants, in the background.
type teller struct {
	node *Node
	wake chan struct{} // capacity 1

	mu    sync.Mutex // guards what follows
	tells tells
	ended map[tellKey]bool // told, or given up, and still in agency.db; whether it is of an end
}

func newTeller(n *Node) *teller {
	return &teller{node: n, wake: make(chan struct{}, 1), ended: map[tellKey]bool{}}
}

// of are what the holders are to hear of a grant, or of its end. They are to be put
// into agency.db, and then to be queued.
func (t *teller) of(a *app, claim *sdk.Claim, over bool, holders []sdk.AgentID) (list []*tell) {
	if len(holders) == 0 {
		return nil
	}
	m := told{DNA: a.hash[:], Grant: claim.Grant[:], Over: over}
	if !over {
		m.Functions = claim.Functions
		if !claim.Expires.IsZero() {
			m.Expires = claim.Expires.UnixMicro()
		}
	}
	body, err := m.encode()
	if err != nil {
		a.log.Error("holders are not told of a grant", "grant", claim.Grant.String(), "error", err.Error())
		return nil
	}
	now := t.node.now()
	for _, to := range holders {
		if to != t.node.id.agent {
			list = append(list, &tell{dna: a.hash, to: to, grant: claim.Grant, over: over, body: body, due: now})
		}
	}
	return list
}

// queue has the holders told. It does not wait.
func (t *teller) queue(list []*tell) {
	t.mu.Lock()
	for _, m := range list {
		if lost := t.tells.add(m); lost != nil {
			t.endLocked(lost)
		}
	}
	t.mu.Unlock()
	t.poke()
}

// endLocked notes that a tell need not be tried again, after a restart either.
func (t *teller) endLocked(m *tell) { t.endKeyLocked(m.key(), m.over) }

// endKeyLocked leaves out what is too much, while the disk fails: it is told once more
// after a start, or removed when it is too old.
func (t *teller) endKeyLocked(k tellKey, over bool) {
	if _, there := t.ended[k]; there || len(t.ended) < tellEnded {
		t.ended[k] = t.ended[k] || over
	}
}

func (t *teller) poke() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

func (t *teller) run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	slots := make(chan struct{}, tellAtOnce)
	for {
		t.mu.Lock()
		next, at := t.tells.next(t.node.now())
		lost := t.tells.lost
		t.tells.lost = 0
		t.mu.Unlock()
		if lost > 0 {
			t.node.cfg.Log.Warn("holders of grants are not told: too many wait", "left out", lost)
		}
		if next != nil {
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return nil
			}
			running.Go(func() {
				t.try(ctx, next)
				<-slots
			})
			continue
		}
		if !waitFor(ctx, t.wake, t.node.now(), at) {
			return nil
		}
	}
}

// waitFor waits until something is due, at a time that is zero for never, or new; false
// if ctx ended.
func waitFor(ctx context.Context, wake <-chan struct{}, now, at time.Time) bool {
	var due <-chan time.Time
	if !at.IsZero() {
		timer := time.NewTimer(at.Sub(now))
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-due:
	case <-wake:
	case <-ctx.Done():
		return false
	}
	return true
}

func (t *teller) try(ctx context.Context, m *tell) {
	stops := ctx
	ctx, cancel := context.WithTimeout(ctx, tellTimeout)
	defer cancel()
	err := t.node.sendTell(ctx, m)
	if err == nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.endLocked(m)
		return
	}
	if stops.Err() != nil {
		return // the next run of this node tells it
	}
	var peer *transport.PeerError
	var request *transport.RequestError
	final := errors.As(err, &request) && request.Remote && (request.Code == transport.Unsupported || request.Code == transport.TooLarge)
	if errors.As(err, &peer) {
		e := parsePeerError(peer.Body)
		final = e.Code != sdk.Busy && e.Code != sdk.NoHandler
	}
	t.mu.Lock()
	waits := !final && t.tells.again(t.node.now(), m)
	if !waits {
		t.endLocked(m)
	}
	t.mu.Unlock()
	if !waits {
		t.node.cfg.Log.Info("a holder was not told of a grant", "holder", m.to.String(), "grant", m.grant.String(), "over", m.over, "error", err.Error())
	}
	t.poke()
}

// sendTell is one try.
func (n *Node) sendTell(ctx context.Context, m *tell) error {
	c, e := n.connect(ctx, m.to)
	if e != nil {
		return e
	}
	_, err := c.session.Request(ctx, transport.Outgoing{Kind: kindTell, ID: newMessageID(), Body: m.body})
	return err
}
