package node

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/parley-p2p/parley/plugin"
	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/transport"
)

// This file is the usual way of a message through the node, without a goroutine
// that waits for it at either end (docs/decisions/0005). Whatever is not usual,
// a first session, a repeated message, a handler that is busy, takes the other
// way: receive.go and send.go.

var _ transport.Starter = (*Node)(nil)

// starter is a handler that begins calls and does not wait for them.
type starter interface {
	Start(ctx context.Context, host sdk.Host, call *sdk.Call, out plugin.Outcome) bool
}

// started is a receive that runs.
type started struct {
	liveCall
	receive sdk.Call
	ctx     context.Context
	request *transport.Request
	outcome *outcome
	use     *grantUse // of a call of a function
}

var _ plugin.Outcome = (*started)(nil)

// StartRequest takes a message that arrived for the first time. It is called by
// a session's reader.
func (n *Node) StartRequest(ctx context.Context, r *transport.Request) bool {
	if r.Kind != kindMessage || len(r.Body) > n.cfg.MaxPayload || !n.policy.free(sdk.AgentID(r.Peer)) {
		return false
	}
	a, what, e := n.route(r.Header)
	if e == nil && what.Notified {
		return n.startNotified(ctx, r, a, what)
	}
	if e != nil || !(what == &usual && a.described().Receives || what.plainCall()) {
		return false
	}
	h, ok := a.handler.(starter)
	if d, limited := ctx.Deadline(); !ok || !limited || time.Until(d) > maxDeadline || !a.enter() {
		return false
	}
	key := messageKey{from: sdk.AgentID(r.Peer), dna: a.hash, id: sdk.MessageID(r.ID)}
	n.outcomesMu.Lock()
	o, first := n.outcomes.begin(n.now(), key, r)
	if first {
		o.payload = len(r.Body)
	}
	n.outcomesMu.Unlock()
	if !first {
		a.leave()
		return false
	}
	n.traffic.message(len(r.Body))
	base, _ := a.chain.Head()
	s := &started{ctx: ctx, request: r, outcome: o,
		receive: sdk.Call{Kind: sdk.CallReceive, ID: key.id, From: key.from, Payload: r.Body}}
	s.node, s.app, s.call, s.base, s.stage.Limits = n, a, &s.receive, base, n.cfg.commitLimits()
	if what != &usual {
		s.receive.Kind, s.receive.Function = sdk.CallFunction, what.Function
		if s.use, e = n.letIn(a, key.from, what, len(r.Body)); e != nil {
			s.answer(nil, e, false)
			return true
		}
		if s.use != nil && s.use.use.Used > 0 {
			go s.countAndBegin(h) // the app waits for it: leave
			return true
		}
	}
	s.begin(h)
	return true
}

// begin has the handler run the call.
func (s *started) begin(h starter) {
	if !h.Start(s.ctx, s, s.call, s) {
		go func() { s.Done(s.app.serve(s.ctx, s.app.handler, &s.liveCall, s.call)) }() // the app waits for it: leave
	}
}

// countAndBegin is begin for a call by a grant whose uses are counted on disk.
func (s *started) countAndBegin(h starter) {
	if e := s.node.countUse(s.use); e != nil {
		s.use = nil
		s.answer(nil, e, false)
		return
	}
	s.begin(h)
}

// Done takes the handler's outcome. What it committed has to be durable first.
func (s *started) Done(reply []byte, err error) {
	staged, effects := s.end()
	if err != nil || len(staged) == 0 {
		if err == nil {
			reply, err = s.node.settle(s.ctx, s.app, &s.liveCall, nil, reply)
		}
		s.answer(reply, err, effects)
		return
	}
	go func() { // the app waits for it: leave
		reply, err := s.node.settle(s.ctx, s.app, &s.liveCall, staged, reply)
		s.answer(reply, err, effects)
	}()
}

func (s *started) answer(reply []byte, err error, effects bool) {
	var e *sdk.Error
	if err != nil {
		reply, e = nil, callError(s.ctx, err, effects)
	}
	if e != nil && s.use != nil && s.use.use.Used > 0 {
		go s.tell(reply, e) // a use that is given back goes to the disk; the app waits for it: leave
		return
	}
	s.tell(reply, e)
}

func (s *started) tell(reply []byte, e *sdk.Error) {
	n := s.node
	n.useEnded(s.ctx, s.use, e)
	n.outcomesMu.Lock()
	n.outcomes.end(n.now(), s.outcome, reply, e)
	n.outcomesMu.Unlock()
	if e != nil {
		s.request.Reply(nil, n.answerError(s.ctx, e))
	} else {
		s.request.Reply(reply, nil)
	}
	s.app.leave()
}

// ender is a context that calls Ended when it ends.
type ender interface {
	OnEnd(h interface{ Ended() })
}

// startedSend is a send that runs.
type startedSend struct {
	outgoing
	pending transport.Pending
	caller  *liveCall
	ctx     context.Context
	out     interface{ Done([]byte, error) }
	over    atomic.Bool
}

var _ transport.Receiver = (*startedSend)(nil)

// StartSend is Send over a live session, which does not wait: see plugin.sender.
func (c *liveCall) StartSend(ctx context.Context, msg *sdk.Message, out interface{ Done([]byte, error) }) bool {
	n := c.node
	end, ok := ctx.(ender)
	to, payload := msg.To, msg.Payload
	if !ok || len(payload) > n.cfg.MaxPayload || to == n.id.agent || len(msg.Behalf) > 0 || msg.Receipt {
		return false
	}
	now := n.now()
	deadline, limited := ctx.Deadline()
	if !limited || ctx.Err() != nil || deadline.Sub(now) > n.cfg.Deadline {
		return false
	}
	session, ok := n.endpoint.Live(transport.PeerKey(to))
	if !ok {
		return false
	}
	m := &startedSend{outgoing: outgoing{to: to, id: newMessageID(), app: c.app, payload: payload, began: now},
		caller: c, ctx: ctx, out: out}
	if msg.Function != "" {
		m.header.Function = msg.Function
		n.nextClaim(&m.outgoing)
	}
	header, err := m.encodeHeader(now)
	if err != nil || !c.beginSend() {
		return false
	}
	o := transport.Outgoing{Kind: kindMessage, ID: m.id, Header: header, Body: payload}
	if !session.Start(&m.pending, deadline, &o, m) {
		c.cancelSend()
		return false
	}
	end.OnEnd(m)
	return true
}

// cancelSend is endSend for a send that did not begin.
func (c *liveCall) cancelSend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sending--
}

// Answered is told by the session how the request has ended.
func (m *startedSend) Answered(reply []byte, err error) {
	n := m.caller.node
	if err == nil {
		n.claimAfter(&m.outgoing, nil)
		m.finish(reply, nil)
		return
	}
	e, lost := m.judge(err)
	if !lost && !n.claimAfter(&m.outgoing, e) {
		m.finish(nil, e)
		return
	}
	o, ctx := m.outgoing, m.ctx // revoke may keep it beyond finish
	go func() {                 // its callback waits for it
		var reply []byte
		if lost {
			reply, e = n.again(ctx, &o, e)
		} else {
			reply, e = n.deliver(ctx, &o)
		}
		m.finish(n.otherClaims(ctx, &o, reply, e))
	}()
}

// Ended is told when the callback's context ends.
func (m *startedSend) Ended() {
	if m.over.Load() {
		return
	}
	inTime, sent := m.pending.Cancel()
	if !inTime {
		return // Answered comes, or has come
	}
	e := &transport.RequestError{Code: transport.Canceled, Sent: sent, Err: m.ctx.Err()}
	if errors.Is(m.ctx.Err(), context.DeadlineExceeded) {
		e.Code = transport.Timeout
	}
	m.finish(nil, m.doubt(requestError(e)))
}

// finish is called once. The session may keep pending until its peer answers, and
// m with it, so that nothing else is kept by m.
func (m *startedSend) finish(reply []byte, e *sdk.Error) {
	m.over.Store(true)
	caller, out := m.caller, m.out
	m.outgoing, m.caller, m.ctx, m.out = outgoing{}, nil, nil, nil
	caller.endSend(e)
	if e != nil {
		out.Done(nil, e)
		return
	}
	out.Done(reply, nil)
}
