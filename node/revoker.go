package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/parley-p2p/parley/dht"
	"github.com/parley-p2p/parley/node/chain"
	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/agency"
	"github.com/parley-p2p/parley/transport"
)

const (
	// lookLimit bounds one look for a revocation, lookAtOnce those that run, and
	// lookPerPresenter those that run for the proofs of one agent: nobody can have
	// all. Strangers together have half of them.
	lookLimit        = 5 * time.Second
	lookAtOnce       = 64
	lookPerPresenter = 2 * sdk.MaxDelegations
	// tellRevokedLimit bounds how long agents are told of a revocation directly,
	// tellRevokedAtOnce how many at once.
	tellRevokedLimit  = 30 * time.Second
	tellRevokedAtOnce = 8
)

// revoker finds out which delegations are revoked, and tells others.
type revoker struct {
	node  *Node
	turn  chan struct{} // capacity 1: one revocation at a time
	looks chan struct{} // one for each look that runs

	mu      sync.Mutex // guards what follows
	table   *revocations
	running map[revocationKey]*look
	looking map[sdk.AgentID]int // looks that run, by presenter
	strange int                 // those of strangers
	pace    *toldPace
}

// look is one search, shared by all who wait for it. err is written before done is
// closed.
type look struct {
	done    chan struct{}
	strange bool // begun for a stranger
	err     error
}

func newRevoker(n *Node) *revoker {
	return &revoker{node: n, turn: make(chan struct{}, 1), looks: make(chan struct{}, lookAtOnce), table: newRevocations(), running: map[revocationKey]*look{}, looking: map[sdk.AgentID]int{}, pace: newToldPace()}
}

// check tells whether any link is revoked, and looks in the DHT for those of which
// nobody knows. Where it can't be found out the answer is no: see
// docs/decisions/0742.
func (v *revoker) check(ctx context.Context, links []sdk.Link) *sdk.Error {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	waits := make([]*look, len(links))
	keys := make([]revocationKey, len(links))
	now, presenter, known := v.node.now(), links[len(links)-1].To, v.node.knows(links)
	for i := range links {
		keys[i] = revocationKey{links[i].From, links[i].ID()}
	}
	v.mu.Lock()
	v.table.expire(now)
	for i, k := range keys {
		switch v.table.of(now, k) {
		case isRevoked:
			v.mu.Unlock()
			return agency.Revoked(i)
		case unknown:
			waits[i] = v.lookLocked(presenter, known, k, links[i].Expires)
		case inForceAsk:
			v.lookLocked(presenter, known, k, links[i].Expires)
		}
	}
	v.mu.Unlock()
	for i, w := range waits {
		if w == nil {
			continue
		}
		select {
		case <-w.done:
		case <-ctx.Done():
			return errNobodyKnows(i)
		}
		if w.err != nil {
			return v.nobodyKnows(i, w.err)
		}
		if v.known(keys[i]) {
			return agency.Revoked(i)
		}
	}
	return nil
}

// checkKnown is check that asks nobody.
func (v *revoker) checkKnown(links []sdk.Link) *sdk.Error {
	for i := range links {
		if v.known(revocationKey{links[i].From, links[i].ID()}) {
			return agency.Revoked(i)
		}
	}
	return nil
}

func (v *revoker) known(k revocationKey) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.table.of(v.node.now(), k) == isRevoked
}

// nobodyKnows logs why, which is not the sender's to know.
func (v *revoker) nobodyKnows(link int, err error) *sdk.Error {
	v.node.cfg.Log.Debug("revocations could not be looked up", "error", err.Error())
	return errNobodyKnows(link)
}

// errNobodyKnows is of a proof that may be as good as ever: it may be shown again.
func errNobodyKnows(link int) *sdk.Error {
	return &sdk.Error{Code: sdk.Busy, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true,
		Text:  fmt.Sprintf("delegation %d of the proof: nobody could be asked now whether it was revoked, and without that it does not count", link+1),
		Limit: &sdk.Limit{Name: "searches for revocations", RetryAfter: time.Second}}
}

// lookLocked looks for a revocation, or joins who does.
func (v *revoker) lookLocked(presenter sdk.AgentID, known bool, k revocationKey, until time.Time) *look {
	if l := v.running[k]; l != nil {
		return l
	}
	l := &look{done: make(chan struct{})}
	fail := func(err error) *look {
		l.err = err
		close(l.done)
		return l
	}
	if !known && v.strange >= lookAtOnce/2 {
		return fail(fmt.Errorf("%d revocations are looked for already for strangers", lookAtOnce/2))
	}
	if v.looking[presenter] >= lookPerPresenter {
		return fail(fmt.Errorf("%d revocations are looked for already for this sender", lookPerPresenter))
	}
	select {
	case v.looks <- struct{}{}:
	default:
		return fail(fmt.Errorf("%d revocations are looked for already", lookAtOnce))
	}
	v.running[k] = l
	v.looking[presenter]++
	if l.strange = !known; l.strange {
		v.strange++
	}
	if v.node.tasks.start(func(ctx context.Context) { v.run(ctx, presenter, k, l, until) }) {
		return l
	}
	<-v.looks
	v.endLocked(presenter, k, l)
	return fail(errors.New("this node is stopping"))
}

func (v *revoker) endLocked(presenter sdk.AgentID, k revocationKey, l *look) {
	delete(v.running, k)
	if l.strange {
		v.strange--
	}
	if v.looking[presenter]--; v.looking[presenter] == 0 {
		delete(v.looking, presenter)
	}
}

func (v *revoker) run(ctx context.Context, presenter sdk.AgentID, k revocationKey, l *look, until time.Time) {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	began := v.node.now()
	revoked, err := v.find(ctx, k)
	<-v.looks
	v.mu.Lock()
	defer v.mu.Unlock()
	v.endLocked(presenter, k, l)
	if err == nil {
		v.table.looked(began, k, revoked, until)
		v.table.shown(k)
	}
	l.err = err
	close(l.done)
}

// find asks the own chains and the DHT.
func (v *revoker) find(ctx context.Context, k revocationKey) (revoked bool, err error) {
	if k.author == v.node.id.agent && v.own(k.id) {
		return true, nil
	}
	v.node.traffic.entrySearches.Add(1)
	_, _, err = v.node.entries.GetEntry(ctx, revocationID(k.author, k.id))
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, dht.ErrNotFound):
		return false, nil
	}
	return false, err
}

// own tells whether this agent has revoked a delegation of its own.
func (v *revoker) own(id sdk.Hash) bool {
	for _, a := range v.node.apps.all() {
		for _, p := range a.chain.Revocations(v.node.now()) {
			if p.Revoked == id {
				return true
			}
		}
	}
	return false
}

// seen notes a revocation that came in for any reason. Of agents with whose
// delegations this node has nothing to do it keeps none.
func (v *revoker) seen(r *sdk.Record, always bool) {
	revoked, err := sdk.ParseRevocation(r.Content)
	now := v.node.now()
	if err != nil || !now.Before(revoked.Expires) {
		return
	}
	k := revocationKey{r.Header.Author, revoked.Delegation}
	v.mu.Lock()
	defer v.mu.Unlock()
	if always || v.table.uses(k) {
		v.table.looked(now, k, true, revoked.Expires)
	}
}

// told takes the body of a notification of kindRevoked: a revocation as it is
// published, from its author, if it comes at a pace at which it is looked at.
func (v *revoker) told(from sdk.AgentID, body []byte) {
	who := tellerStranger
	if v.node.knowsAgent(from) {
		who = tellerKnown
	}
	v.mu.Lock()
	if who == tellerStranger && v.table.hasShown(from) {
		who = tellerInUse
	}
	taken := v.pace.take(v.node.now(), from, who)
	v.mu.Unlock()
	if !taken {
		return
	}
	r, err := chain.ParsePublic(body)
	if err == nil && r.Header.EntryType == sdk.TypeRevocation && r.Header.Author == from {
		v.seen(r, true)
	}
}

// tell sends a revocation to agents, as far as they can be reached.
func (v *revoker) tell(a *app, seq uint64, to []sdk.AgentID) {
	r, err := a.chain.Record(seq)
	if err != nil {
		a.log.Error("a revocation can't be read", "record", seq, "error", err.Error())
		return
	}
	body, err := chain.AppendPublic(nil, &r)
	if err != nil {
		a.log.Error("a revocation can't be published", "record", seq, "error", err.Error())
		return
	}
	v.seen(&r, true)
	v.node.tasks.start(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, tellRevokedLimit)
		defer cancel()
		agents := make(chan sdk.AgentID)
		var workers sync.WaitGroup
		for range min(tellRevokedAtOnce, len(to)) {
			workers.Go(func() {
				for agent := range agents {
					v.tellOne(ctx, a, agent, body)
				}
			})
		}
		for _, agent := range to {
			if agent != v.node.id.agent {
				agents <- agent
			}
		}
		close(agents)
		workers.Wait()
	})
}

func (v *revoker) tellOne(ctx context.Context, a *app, agent sdk.AgentID, body []byte) {
	c, e := v.node.connect(ctx, agent)
	var err error
	if e != nil {
		err = e
	} else {
		err = c.session.Notify(ctx, transport.Outgoing{Kind: kindRevoked, ID: newMessageID(), Body: body})
	}
	if err != nil {
		a.log.Debug("an agent was not told of a revocation; it finds it in the DHT", "agent", agent.String(), "error", err.Error())
	}
}

// checkEntry is the DHT's: it is handed what this node keeps for others.
func (n *Node) checkEntry(body []byte) (id dht.ID, of dht.Key, err error) {
	id, of, r, err := readEntry(body)
	if err == nil && r.Header.EntryType == sdk.TypeRevocation {
		n.revoker.seen(r, false)
	}
	return id, of, err
}
