package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/parley-p2p/parley/node/chain"
	"github.com/parley-p2p/parley/node/control"
)

const (
	// publishLimit bounds one publication of one entry.
	publishLimit = 30 * time.Second
	// publishStart is how long the first one waits for the node to be found.
	publishStart = 10 * time.Second
	// leftOutEvery bounds how often the log tells of entries over the bound.
	leftOutEvery = 10 * time.Minute
)

// publisher keeps the newest public entries of all chains published. It reads what
// is durable, and only that; whoever commits does not wait for it.
type publisher struct {
	node *Node
	wake chan struct{} // capacity 1: a chain has grown, or a DNA has come or gone
	plan *publishPlan  // owned by run
	// revocations publishes those, which have room of their own and wait for nothing
	// else; nil in itself.
	revocations *publisher

	// Owned by run.
	failing     bool // told in the log
	toldLeftOut time.Time

	mu    sync.Mutex // guards what follows
	state publishState
}

// publishState is what the operator sees.
type publishState struct {
	published, waiting int
	leftOut            uint64
	err                error // of the last publication
}

func newPublisher(n *Node) *publisher {
	one := func(max int) *publisher {
		return &publisher{node: n, wake: make(chan struct{}, 1), plan: newPublishPlan(max)}
	}
	p := one(n.cfg.Limits.PublicEntries)
	p.revocations = one(n.cfg.Limits.PublicRevocations)
	return p
}

// grown is told when records are durable. It does not block.
func (p *publisher) grown() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
	if p.revocations != nil {
		p.revocations.grown()
	}
}

// run publishes until ctx ends, one entry at a time.
func (p *publisher) run(ctx context.Context) error {
	found, cancel := context.WithTimeout(ctx, publishStart)
	_ = p.node.dht.WaitReady(found) // it is tried anyway
	cancel()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		p.look()
		e, wait := p.plan.next(p.node.now())
		if e != nil {
			p.publish(ctx, e)
			continue
		}
		p.tell(nil)
		if wait == 0 {
			wait = publishAgain
		}
		timer.Reset(wait)
		select {
		case <-p.wake:
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	return nil
}

// look reads what is durable on the chains.
func (p *publisher) look() {
	var newest []publicEntry
	var total uint64
	now := p.node.now()
	for _, a := range p.node.apps.all() {
		list, n := p.durable(now, a)
		total += n
		for i := range list {
			newest = append(newest, publicEntry{list[i], a})
		}
	}
	if dropped := p.plan.set(now, newest, total); dropped > 0 && (p.toldLeftOut.IsZero() || now.Sub(p.toldLeftOut) > leftOutEvery) {
		p.toldLeftOut = now
		setting := "public-entries"
		if p.revocations == nil {
			setting = "public-revocations"
		}
		p.node.cfg.Log.Warn("older public entries are no longer published: newer ones take their place; on the chain they stay",
			"setting", setting, "max", p.plan.max, "left_out", p.plan.leftOut)
	}
}

// durable is what of one chain this publisher publishes, and how much there is.
func (p *publisher) durable(now time.Time, a *app) (list []chain.Public, total uint64) {
	if p.revocations != nil {
		return a.chain.NewestPublic(p.plan.max)
	}
	list = a.chain.Revocations(now)
	return list, uint64(len(list))
}

// publish publishes an entry once.
func (p *publisher) publish(ctx context.Context, e *publishing) {
	limited, cancel := context.WithTimeout(ctx, publishLimit)
	defer cancel()
	holders, err := p.put(limited, e)
	if ctx.Err() != nil {
		return // nobody's fault
	}
	if err == nil && holders == 0 {
		err = errors.New("no node took it")
	}
	p.plan.published(p.node.now(), e, holders, err, rand.Float64())
	p.tell(&err)
	log := e.app.log.With("record", e.Hash.String(), "seq", e.Seq)
	switch {
	case err == nil:
		log.Debug("public entry published", "holders", holders)
		p.failing = false
	case !p.failing:
		log.Warn("a public entry could not be published; it is tried again, and so are others", "error", err.Error())
		p.failing = true
	default:
		log.Debug("public entry not published", "error", err.Error())
	}
}

// put reads the entry from its chain and hands it over: the one way on which an
// entry leaves this node for the DHT. It is held against what each holder checks.
func (p *publisher) put(ctx context.Context, e *publishing) (holders int, err error) {
	r, err := e.app.chain.Record(e.Seq)
	if err != nil {
		return 0, fmt.Errorf("read the source chain: %w", err)
	}
	body, err := chain.AppendPublic(nil, &r)
	if err != nil {
		return 0, err
	}
	id, of, err := checkEntry(body)
	want := entryID(e.app.hash, e.Hash)
	if !e.Revoked.IsZero() {
		want = revocationID(p.node.id.agent, e.Revoked)
	}
	switch {
	case err != nil:
		return 0, err
	case id != want || of != share(p.node.id.agent, !e.Revoked.IsZero()):
		return 0, errors.New("the source chain has another record there")
	}
	return p.node.entries.PutEntry(ctx, id, body)
}

// tell updates what the operator sees. err is nil where nothing was tried.
func (p *publisher) tell(err *error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state.published, p.state.waiting = p.plan.count()
	p.state.leftOut = p.plan.leftOut
	if err != nil {
		p.state.err = *err
	}
}

func (p *publisher) status(s *control.Status) {
	all := p.now()
	also := p.revocations.now()
	s.DHT.EntriesPublished, s.DHT.EntriesWaiting = all.published+also.published, all.waiting+also.waiting
	s.DHT.EntriesLeftOut = all.leftOut + also.leftOut
	s.DHT.EntrySearches = p.node.traffic.entrySearches.Load()
	if err := cmp.Or(also.err, all.err); err != nil {
		s.DHT.LastEntryError = err.Error()
	}
}

func (p *publisher) now() publishState {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}
