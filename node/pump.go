package node

import (
	"context"
	"time"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/transport"
)

// stalledPause is when a session is looked at again that takes nothing more now, if
// no answer comes before.
const stalledPause = 50 * time.Millisecond

// pump empties an outbox. It is a task of the node's, and the only one that sends
// for this agent and DNA.
func (n *Node) pump(ctx context.Context, r *outboxRun) {
	s := n.notices
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		s.mu.Lock()
		if ctx.Err() != nil {
			n.abandonLocked(r)
		}
		l, wait := n.nextLocked(r)
		if r.failed > 0 {
			failed, e, log := r.failed, r.failure, r.log
			r.failed = 0
			s.mu.Unlock()
			log.Debug("notifications failed", "agent", r.key.to.String(), "times", failed, "last error", e.Error())
			s.mu.Lock()
			if l != nil && l.state != letterWaits { // it was recalled
				s.mu.Unlock()
				continue
			}
		}
		if l == nil && len(r.letters) == 0 {
			delete(s.boxes, r.key)
			s.bytes -= outboxOverhead
			s.seq = max(s.seq, r.seq)
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		if l != nil {
			if n.launch(ctx, r, l) {
				continue
			}
			wait = stalledPause
		}
		timer.Reset(wait)
		select {
		case <-r.wake:
		case <-timer.C:
		case <-ctx.Done():
		}
	}
}

// nextLocked is the letter to be sent now; else, when to look again if nothing
// happens before.
func (n *Node) nextLocked(r *outboxRun) (*letter, time.Duration) {
	now := n.now()
	if !r.lostAt.IsZero() && now.Sub(r.lostAt) > n.cfg.ResendFor {
		r.lostAt = time.Time{}
		for _, l := range r.waiting() {
			if l.left {
				n.settleLocked(r, l, n.errLost(l))
			}
		}
	}
	for {
		l := r.pick(now)
		if l == nil {
			break
		}
		if now.Before(l.deadline) {
			return l, 0
		}
		n.settleLocked(r, l, l.expired())
	}
	wait := time.Hour
	if r.back && r.flying == 0 {
		wait = r.notBefore.Sub(now)
	}
	for l := r.oldest(); l != nil; l = r.oldest() {
		over := l.deadline.Add(notifyGrace).Sub(now)
		if over > 0 {
			wait = min(wait, over)
			break
		}
		f := l.flight
		e := &sdk.Error{Code: sdk.Timeout, Side: sdk.SideNode, Text: "the deadline passed, and " + l.to.Short() + " did not tell the notification's result",
			Limit: &sdk.Limit{Name: "deadline", Setting: "deadline"}}
		n.settleLocked(r, l, e)
		f.giveUp()
		wait = 0
	}
	return nil, max(wait, 0)
}

// giveUp cancels what was sent. The notifier's lock may be held: of a letter that is
// settled landed is told nothing any more.
func (f *noticeFlight) giveUp() {
	if f.cancel != nil {
		f.cancel(context.DeadlineExceeded)
		return
	}
	f.pending.Cancel()
}

// abandonLocked ends all letters: the node stops.
func (n *Node) abandonLocked(r *outboxRun) {
	for _, l := range append([]*letter(nil), r.letters...) {
		switch {
		case l.state == letterSettled:
			continue
		case l.state == letterWaits && !l.left:
			n.settleLocked(r, l, errNodeStopping())
			continue
		}
		e := errNodeStopping()
		e.Delivered, e.Retry = sdk.DeliveredUnknown, false
		n.settleLocked(r, l, e)
	}
}

// launch sends a letter. It returns false where that has to wait for an answer to
// another one.
func (n *Node) launch(ctx context.Context, r *outboxRun, l *letter) bool {
	if l.to == n.id.agent {
		n.launchToSelf(ctx, r, l)
		return true
	}
	session, ok := n.endpoint.Live(transport.PeerKey(l.to))
	if !ok {
		c, e := n.connect(ctx, l.to)
		if e != nil {
			n.unconnected(r, e)
			return true
		}
		session = c.session
	}
	f, o := n.takeOff(r, l)
	if f == nil {
		return true
	}
	if session.Start(&f.pending, f.deadline, o, f) {
		return true
	}
	s := n.notices
	s.mu.Lock()
	if r.flying > 1 {
		r.land(l)
		s.mu.Unlock()
		return false
	}
	s.mu.Unlock()
	ctx, cancel := context.WithDeadline(ctx, f.deadline)
	defer cancel()
	_, err := session.Request(ctx, *o)
	n.landed(f, err)
	return true
}

// takeOff makes a letter ready to be sent; nil if it was recalled.
func (n *Node) takeOff(r *outboxRun, l *letter) (*noticeFlight, *transport.Outgoing) {
	s := n.notices
	s.mu.Lock()
	defer s.mu.Unlock()
	now := n.now()
	if r.pick(now) != l {
		return nil, nil
	}
	if !l.left { // what it waited here says nothing of when it may first have arrived
		l.began = now
	}
	l.header.Order = order{run: s.run, seq: l.seq, base: r.base()}.encode()
	header, err := l.encodeHeader(now)
	if err != nil {
		n.settleLocked(r, l, &sdk.Error{Code: sdk.OutcomeUnknown, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Text: err.Error()})
		return nil, nil
	}
	f := &noticeFlight{node: n, run: r, letter: l, deadline: l.deadline}
	l.flight = f
	r.fly(l)
	return f, &transport.Outgoing{Kind: kindMessage, ID: l.id, Header: header, Body: l.wireBody()}
}

var _ transport.Receiver = (*noticeFlight)(nil)

// Answered is told by the session how the request has ended.
func (f *noticeFlight) Answered(_ []byte, err error) { f.node.landed(f, err) }

// answer is told by this node's own inbox.
func (f *noticeFlight) answer(e *sdk.Error) {
	f.cancel(context.Canceled)
	var err error
	if e != nil {
		err = &transport.PeerError{Body: sdk.AppendError(nil, e)}
	}
	f.node.landed(f, err)
}

// launchToSelf takes the path of any notification, minus the network.
func (n *Node) launchToSelf(ctx context.Context, r *outboxRun, l *letter) {
	f, _ := n.takeOff(r, l)
	if f == nil {
		return
	}
	ctx, stop := context.WithDeadline(ctx, f.deadline)
	ctx, cancel := context.WithCancelCause(ctx)
	f.cancel = func(cause error) { cancel(cause); stop() }
	if n.apps.initializes(l.app) {
		f.answer(errInitializing(l.app.name))
		return
	}
	header := l.header
	x := &arrival{header: &header, payload: l.payload, to: f, key: messageKey{from: l.to, dna: l.app.hash, id: l.id}}
	if e, _, _ := n.arrive(ctx, l.app, cancelFunc(cancel), x); e != nil {
		f.answer(e)
	}
}

// unconnected is told why there is no session. What may have left before is sent
// again for a while.
func (n *Node) unconnected(r *outboxRun, e *sdk.Error) {
	s := n.notices
	s.mu.Lock()
	defer s.mu.Unlock()
	now := n.now()
	if e.Code == sdk.Busy { // this node's own searches: they come to an end
		r.goBack(now, connectAgain)
		return
	}
	for _, l := range r.waiting() {
		if !l.left {
			n.settleLocked(r, l, e)
		}
	}
	if len(r.letters) > 0 {
		r.goBack(now, 0)
	}
}
