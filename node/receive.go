package node

import (
	"context"
	"time"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/agency"
	"github.com/parley-p2p/parley/transport"
)

var _ transport.Handler = (*Node)(nil)

// ServeRequest routes what another node asks. It is called by the transport,
// once per request, with the peer that the handshake proved.
func (n *Node) ServeRequest(ctx context.Context, r *transport.Request) ([]byte, error) {
	switch r.Kind {
	case kindDHT:
		return n.serveDHT(ctx, r)
	case kindMessage, kindTell:
		reply, err := n.serveAgent(ctx, r)
		if err != nil {
			return nil, n.answerError(ctx, err)
		}
		return reply, nil
	}
	return nil, &transport.RequestError{Code: transport.Unsupported}
}

// serveAgent serves what another agent asks, if this one hears it.
func (n *Node) serveAgent(ctx context.Context, r *transport.Request) ([]byte, *sdk.Error) {
	agent, amount := sdk.AgentID(r.Peer), requestAmount(len(r.Body))
	if e := n.policy.hears(agent); e != nil {
		return nil, e
	}
	if r.Kind == kindMessage && !n.policy.free(agent) {
		a, what, e := n.route(r.Header)
		switch {
		case e != nil:
		case what.Notified:
			amount[agency.Requests] = 0 // it is among the signals: arrive
		default:
			key := messageKey{from: agent, dna: a.hash, id: sdk.MessageID(r.ID)}
			if o, ended := n.repeats(key, what, r.Body); o != nil {
				defer n.repeated(o)
				n.traffic.message(len(r.Body))
				r.Body = nil // nobody reads it: the first one's is counted
				ctx, cancel := within(ctx, maxDeadline)
				defer cancel()
				return n.firstOutcome(ctx, a, o, ended)
			}
		}
	}
	end, e := n.beginServing(agent, amount)
	if e != nil {
		return nil, e
	}
	defer end()
	if r.Kind == kindTell {
		return nil, n.serveTell(ctx, r)
	}
	return n.serveMessage(ctx, r)
}

// beginServing lets something of an agent in, or says which limit forbids it. end is to
// be called when it is served.
func (n *Node) beginServing(agent sdk.AgentID, amount agency.Amount) (end func(), e *sdk.Error) {
	counted, e := n.policy.begin(agent, amount)
	return func() { n.policy.end(agent, amount, counted) }, e
}

// repeats is the outcome of a message that runs, and has arrived once more without
// being counted; nil: it is counted. ended is closed when the outcome is known;
// repeated is to be called when nobody waits for it any more. A payload larger than
// the first one's is no repetition, whatever the id says.
func (n *Node) repeats(key messageKey, h *messageHeader, body []byte) (o *outcome, ended <-chan struct{}) {
	what := *h // unpack changes it
	payload, e := what.unpack(body)
	if e != nil {
		return nil, nil
	}
	n.outcomesMu.Lock()
	defer n.outcomesMu.Unlock()
	o = n.outcomes.byKey[key]
	if o == nil || len(payload) > o.payload || !n.outcomes.repeat(o) {
		return nil, nil
	}
	return o, n.outcomes.wait(o)
}

func (n *Node) repeated(o *outcome) {
	n.outcomesMu.Lock()
	defer n.outcomesMu.Unlock()
	n.outcomes.repeated(o)
}

// answerError is how the transport is told of a message's error.
func (n *Node) answerError(ctx context.Context, err *sdk.Error) error {
	if n.interrupted(ctx, err) {
		return ctx.Err()
	}
	return &transport.PeerError{Body: sdk.AppendError(nil, err)}
}

// interrupted tells that a receive ended because this node stops, and that it
// left no trace. Its sender did not give up: the transport tells it that the
// session is lost, so that it sends the message again, to the node's next run.
func (n *Node) interrupted(ctx context.Context, err *sdk.Error) bool {
	return n.life.Err() != nil && ctx.Err() != nil && err.Code == sdk.Canceled && err.Retry
}

// ServeNotify takes the one-way messages that there are: of kind 1, its sender's
// new address record; of kind 2, it cancels the receive of its sender's message of
// that id; of kind 4, its sender's revocation of a delegation. What an agent can make
// this node do by them is bounded, though none has an answer and none is counted: they
// take the session's slots (max-requests); a record comes at the pace of pushedTo; a
// cancellation is a look into a table; a revocation, which has to be verified, comes at
// that of toldPace. An agent that is not heard has only the first, which is the DHT's.
func (n *Node) ServeNotify(_ context.Context, r *transport.Request) {
	from := sdk.AgentID(r.Peer)
	if r.Kind == kindDHT {
		n.pushedTo(r)
		return
	}
	if n.policy.hears(from) != nil {
		return
	}
	switch r.Kind {
	case kindMessage:
		if a, _, err := n.route(r.Header); err == nil {
			n.revokeHere(messageKey{from: from, dna: a.hash, id: sdk.MessageID(r.ID)}, context.Canceled)
		}
	case kindRevoked:
		n.revoker.told(from, r.Body)
	}
}

// revokeHere cancels a message's receive if it still runs.
func (n *Node) revokeHere(key messageKey, cause error) {
	n.outcomesMu.Lock()
	running := n.outcomes.running(key)
	n.outcomesMu.Unlock()
	if running != nil {
		running.Cancel(cause)
	}
}

func (n *Node) serveMessage(ctx context.Context, r *transport.Request) ([]byte, *sdk.Error) {
	n.traffic.message(len(r.Body))
	ctx, cancel := within(ctx, maxDeadline)
	defer cancel()
	a, h, err := n.route(r.Header)
	if err != nil && err.Code == sdk.NoHandler && n.awaitHandlers(ctx) {
		a, h, err = n.route(r.Header)
	}
	if err != nil {
		return nil, err
	}
	if len(r.Body) > n.cfg.MaxPayload {
		return nil, tooLarge("payload", len(r.Body), n.cfg.MaxPayload, sdk.SideNode, sdk.DeliveredNo)
	}
	payload, err := h.unpack(r.Body)
	if err != nil {
		return nil, err
	}
	key := messageKey{from: sdk.AgentID(r.Peer), dna: a.hash, id: sdk.MessageID(r.ID)}
	if h.Notified {
		return nil, n.serveNotified(ctx, a, r, key, h, payload)
	}
	return n.receive(ctx, r, a, key, h, payload, h.age())
}

// usual is the header of most messages.
var usual messageHeader

// route finds the app that a message is for, and what its header says beside
// that. A node's own headers are the canonical ones, so that the usual case is one
// look-up.
func (n *Node) route(header []byte) (a *app, what *messageHeader, e *sdk.Error) {
	s := n.apps
	s.mu.RLock()
	defer s.mu.RUnlock()
	if a := s.byHeader[string(header)]; a != nil {
		return a, &usual, nil
	}
	h, err := parseHeader(header)
	if err != nil {
		return nil, nil, errHeader(err)
	}
	hash := sdk.DNAHash(h.DNA)
	if a := s.byHash[hash]; a != nil && a.name == h.Name {
		return a, &h, nil
	}
	if a := s.inits[hash]; a != nil && a.name == h.Name {
		return nil, nil, errInitializing(a.name)
	}
	if a := s.byName[h.Name]; a != nil {
		return nil, nil, errMissing("DNA %s is known here under another hash (%s…, not %s…): integrity version, network seed and properties must be the same on both sides",
			h.Name, shortHash(a.hash), shortHash(hash))
	}
	return nil, nil, s.missingLocked(h.Name)
}

// shortHash is enough of a DNA hash to tell it from another. Who knows all of it
// can message the agents that run it, so a stranger is not told.
func shortHash(h sdk.DNAHash) string { return h.String()[:14] }

// receive runs a message's receive once, however often the message arrives,
// and answers every arrival with that one outcome. running ends ctx, which its
// owner ends when receive has returned. age is as in route.
func (n *Node) receive(ctx context.Context, running canceler, a *app, key messageKey, h *messageHeader, payload []byte, age time.Duration) ([]byte, *sdk.Error) {
	n.outcomesMu.Lock()
	now := n.now()
	o, first := n.outcomes.begin(now, key, running)
	missed := age > 0 && !n.outcomes.complete(now.Add(-age-transit(len(payload))))
	var ended <-chan struct{}
	switch {
	case first:
		o.payload = len(payload)
	case o != nil:
		ended = n.outcomes.wait(o)
	}
	n.outcomesMu.Unlock()
	if o == nil {
		return nil, errTooManyReceives()
	}
	if !first {
		return n.firstOutcome(ctx, a, o, ended)
	}
	reply, err := n.receiveOnce(ctx, a, key, h, payload, age, missed)
	n.outcomesMu.Lock()
	n.outcomes.end(n.now(), o, reply, err)
	n.outcomesMu.Unlock()
	return reply, err
}

func errTooManyReceives() *sdk.Error {
	return &sdk.Error{Code: sdk.Busy, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true, Text: "too many receives run for this sender",
		Limit: &sdk.Limit{Name: "receives of one sender", Value: runningPerSender + 1, Max: runningPerSender, RetryAfter: time.Second}}
}

// transit is how long a message is taken to have been under way, while its age
// stood still: a microsecond for each byte.
func transit(payload int) time.Duration { return time.Duration(payload) * time.Microsecond }

// receiveOnce runs the receive of a message that outcomes does not know. missed
// tells that they might not know of its having run.
func (n *Node) receiveOnce(ctx context.Context, a *app, key messageKey, h *messageHeader, payload []byte, age time.Duration, missed bool) ([]byte, *sdk.Error) {
	if age > 0 {
		reply, found, err := a.chain.Reply(key.from, key.id)
		if err != nil {
			a.log.Error("the source chain can't tell a message's outcome", "message", key.id.String(), "error", err.Error())
			return nil, &sdk.Error{Code: sdk.OutcomeUnknown, Side: sdk.SideNode, Text: "the source chain can't tell the message's outcome; its node's log says why"}
		}
		if found {
			return reply, nil
		}
	}
	if missed {
		return nil, &sdk.Error{Code: sdk.OutcomeUnknown, Side: sdk.SideNode,
			Text: "the message was first sent before this node began to run, or so many ago that its outcome is forgotten: it committed nothing, but nobody knows whether receive ran; ask that agent before sending it anew"}
	}
	in, e := n.admitted(ctx, a, key, h, payload)
	if e != nil {
		return nil, e
	}
	reply, e := n.runAdmitted(ctx, a, in)
	n.useEnded(ctx, in.use, e)
	n.delegatedEnded(ctx, in.counted, e)
	return reply, e
}

// firstOutcome waits for the outcome that another arrival of the message brings
// about. A sender that gives up while it waits cancels the receive: the arrival
// that runs it came over a session that is no more.
func (n *Node) firstOutcome(ctx context.Context, a *app, o *outcome, ended <-chan struct{}) ([]byte, *sdk.Error) {
	select {
	case <-ended:
	case <-ctx.Done():
		n.revokeHere(o.key, context.Cause(ctx))
		return nil, contextError(ctx, sdk.DeliveredYes, "receive ran")
	}
	if !o.dropped {
		return o.reply, o.err
	}
	reply, found, err := a.chain.Reply(o.key.from, o.key.id)
	if err == nil && found {
		return reply, nil
	}
	return nil, &sdk.Error{Code: sdk.OutcomeUnknown, Side: sdk.SideNode, Delivered: sdk.DeliveredYes,
		Text: "receive has run; its reply was let go of for room"}
}

func (n *Node) now() time.Time { return time.Now() }
