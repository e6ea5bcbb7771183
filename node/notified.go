package node

import (
	"context"
	"sync"
	"time"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/transport"
)

// This file is the way of a notification through the receiving node. It waits in
// its sender's inbox until those before it have run, without a goroutine of its own,
// and runs without one where the handler takes calls so (docs/decisions/0720).

// arrival is a notification that has its place in its sender's order.
type arrival struct {
	liveCall
	sent    sdk.Call
	ctx     context.Context
	header  *messageHeader
	key     messageKey
	payload []byte
	missed  bool // an earlier run of this node may have run it
	counted bool // among its sender's signals: policy
	outcome *outcome
	box     *inbox
	to      answerer
}

// answerer takes a notification's result. It must not block.
type answerer interface{ answer(e *sdk.Error) }

// received are the inboxes of a node.
type received struct {
	mu    sync.Mutex // guards what follows; taken before outcomesMu
	boxes inboxes
}

func newReceived() *received {
	return &received{boxes: inboxes{boxes: map[inboxKey]*inbox{}}}
}

// arrive puts a notification into its sender's inbox, and does not wait: to is told
// how it ends, once. Or it is refused, or it has arrived before: then its outcome is
// that one, known when ended is closed.
func (n *Node) arrive(ctx context.Context, a *app, running canceler, x *arrival) (e *sdk.Error, before *outcome, ended <-chan struct{}) {
	o, err := parseOrder(x.header.Order)
	if err != nil {
		return errHeader(err), nil, nil
	}
	r := n.received
	r.mu.Lock()
	n.outcomesMu.Lock()
	if known := n.outcomes.byKey[x.key]; known != nil {
		ended = n.outcomes.wait(known)
		n.outcomesMu.Unlock()
		r.mu.Unlock()
		return nil, known, ended
	}
	now := n.now()
	b := r.boxes.get(inboxKey{x.key.from, x.key.dna})
	if e = b.admit(o, n.cfg.Limits.NotifyInbox); e == nil && !a.enter() {
		e = errStopping(a.name)
	}
	if e == nil && x.key.from != n.id.agent {
		if x.counted, e = n.policy.beginSignal(x.key.from); e != nil {
			a.leave()
		}
	}
	if e == nil {
		if x.outcome, _ = n.outcomes.begin(now, x.key, running); x.outcome == nil {
			e = errTooManyReceives()
			n.policy.endSignal(x.key.from, x.counted)
			a.leave()
		}
	}
	if e == nil {
		age := x.header.age()
		x.missed = age > 0 && !n.outcomes.complete(now.Add(-age-transit(len(x.payload))))
		x.ctx, x.box, x.node, x.app = ctx, b, n, a
		b.took()
		b.waits = append(b.waits, x)
	}
	begin := e == nil && !b.running
	b.running = b.running || begin
	n.outcomesMu.Unlock()
	r.mu.Unlock()
	if begin {
		n.runNext(b)
	}
	return e, nil, nil
}

// admit says whether a notification may take its place now.
func (b *inbox) admit(o order, max int) *sdk.Error {
	switch b.place(o) {
	case tooSoon:
		return errTooSoon()
	case tooLate:
		return errTooLate()
	}
	if len(b.waits) >= max {
		return errInboxFull(max)
	}
	return nil
}

// runNext begins the next of an inbox, until one runs, or none is left. Whoever calls
// it has the inbox to itself.
func (n *Node) runNext(b *inbox) {
	for {
		n.received.mu.Lock()
		if len(b.waits) == 0 {
			b.running, b.waits = false, nil
			n.received.mu.Unlock()
			return
		}
		x := b.waits[0]
		b.waits[0] = nil
		b.waits = b.waits[1:]
		n.received.mu.Unlock()
		if x.ctx.Err() != nil {
			x.finish(contextError(x.ctx, sdk.DeliveredNo, "the notification waited for those before it"))
			continue
		}
		if !x.plain() {
			go x.lookUp() // the app waits for it: leave
			return
		}
		in, e := n.admitted(x.ctx, x.app, x.key, x.header, x.payload)
		if e != nil {
			x.finish(e)
			continue
		}
		x.start(in)
		return
	}
}

// plain tells that nothing has to be looked up for x that may take long.
func (x *arrival) plain() bool {
	return x.header.Age == 0 && len(x.header.Behalf) == 0 && len(x.header.Claim) == 0
}

// start runs the call that x asks for.
func (x *arrival) start(in *admission) {
	a := x.app
	base, _ := a.chain.Head()
	x.sent, x.checked = *in.call, in.checked
	x.call, x.in, x.base, x.stage = &x.sent, a.handler, base, sdk.Stage{Limits: x.node.cfg.commitLimits()}
	if h, ok := a.handler.(starter); ok && h.Start(x.ctx, x, x.call, x) {
		return
	}
	go func() { x.Done(a.serve(x.ctx, a.handler, &x.liveCall, x.call)) }() // the app waits for it: leave
}

// lookUp runs a notification that is not plain.
func (x *arrival) lookUp() {
	_, e := x.node.receiveOnce(x.ctx, x.app, x.key, x.header, x.payload, x.header.age(), x.missed)
	x.finish(e)
	x.node.runNext(x.box)
}

// Done takes what the handler made of x, where start began it. What it committed has
// to be durable first.
func (x *arrival) Done(_ []byte, err error) {
	staged, effects := x.end()
	if err == nil && len(staged) > 0 {
		go func() { // the app waits for it: leave
			_, err := x.node.settle(x.ctx, x.app, &x.liveCall, staged, nil)
			x.ended(err, effects)
		}()
		return
	}
	x.ended(err, effects)
}

func (x *arrival) ended(err error, effects bool) {
	var e *sdk.Error
	if err != nil {
		e = callError(x.ctx, err, effects)
	}
	x.finish(e)
	x.node.runNext(x.box)
}

// finish tells the result.
func (x *arrival) finish(e *sdk.Error) {
	n, a := x.node, x.app
	n.outcomesMu.Lock()
	n.outcomes.end(n.now(), x.outcome, nil, e)
	n.outcomesMu.Unlock()
	n.policy.endSignal(x.key.from, x.counted)
	x.to.answer(e)
	a.leave()
}

// startNotified takes a notification as StartRequest takes a message.
func (n *Node) startNotified(ctx context.Context, r *transport.Request, a *app, h *messageHeader) bool {
	if d, limited := ctx.Deadline(); !limited || time.Until(d) > maxDeadline {
		return false
	}
	payload, bad := h.unpack(r.Body)
	if bad != nil {
		return false // ServeRequest says so
	}
	x := &arrival{header: h, payload: payload, key: messageKey{from: sdk.AgentID(r.Peer), dna: a.hash, id: sdk.MessageID(r.ID)}}
	x.to = requestAnswer{n, r, ctx}
	e, before, _ := n.arrive(ctx, a, r, x)
	if before != nil {
		return false // it waits for the outcome in ServeRequest
	}
	n.traffic.message(len(r.Body))
	if e != nil {
		r.Reply(nil, n.answerError(ctx, e))
	}
	return true
}

type requestAnswer struct {
	node *Node
	r    *transport.Request
	ctx  context.Context
}

func (a requestAnswer) answer(e *sdk.Error) {
	if e == nil {
		a.r.Reply(nil, nil)
		return
	}
	a.r.Reply(nil, a.node.answerError(a.ctx, e))
}

// serveNotified takes a notification that StartRequest has not taken: a large one, one
// that has arrived before, or one that came before the handlers were up.
func (n *Node) serveNotified(ctx context.Context, a *app, running canceler, key messageKey, h *messageHeader, payload []byte) *sdk.Error {
	w := &waitingAnswer{done: make(chan struct{})}
	e, before, ended := n.arrive(ctx, a, running, &arrival{header: h, payload: payload, key: key, to: w})
	switch {
	case e != nil:
		return e
	case before != nil:
		return n.waitNotified(ctx, a, before, ended)
	}
	<-w.done
	return w.err
}

// waitNotified is the outcome of a notification that has arrived before. It is not
// among the signals; where it has to wait it is a request, beyond the first few.
func (n *Node) waitNotified(ctx context.Context, a *app, before *outcome, ended <-chan struct{}) *sdk.Error {
	if e := n.policy.hears(before.key.from); e != nil {
		return e
	}
	n.outcomesMu.Lock()
	over := !before.ended.IsZero()
	free := !over && n.outcomes.repeat(before)
	n.outcomesMu.Unlock()
	switch {
	case free:
		defer n.repeated(before)
	case !over:
		end, e := n.beginServing(before.key.from, requestAmount(0))
		if e != nil {
			return e
		}
		defer end()
	}
	_, e := n.firstOutcome(ctx, a, before, ended)
	return e
}

// waitingAnswer is an answerer that somebody waits for.
type waitingAnswer struct {
	done chan struct{}
	err  *sdk.Error
}

func (w *waitingAnswer) answer(e *sdk.Error) {
	w.err = e
	close(w.done)
}
