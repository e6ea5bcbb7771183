package node

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/transport"
)

// The pauses before a message is sent again double from the first to the last.
const (
	resendPause = 50 * time.Millisecond
	resendMax   = time.Second
)

// maxRevocations bounds the cancellations that wait for a session.
const maxRevocations = 1024

// outgoing is one message on its way.
type outgoing struct {
	to       sdk.AgentID
	id       sdk.MessageID
	app      *app
	header   messageHeader // what it says beside its DNA and age
	payload  []byte
	body     []byte // the payload behind a proof that is too large for the header: pack; nil: the payload
	began    time.Time
	left     bool      // some attempt may have reached the other node
	exchange *exchange // of the receipt that is asked for; nil: none is
	claims   *claimTry // of a call of a function; nil: none was looked for
}

// send runs the message cycle of one message from here to the reply. The receipt is
// nil where msg asks for none.
func (n *Node) send(ctx context.Context, a *app, msg *sdk.Message, cause sdk.Cause) ([]byte, *sdk.Receipt, *sdk.Error) {
	if len(msg.Payload) > n.cfg.MaxPayload {
		return nil, nil, tooLarge("payload", len(msg.Payload), n.cfg.MaxPayload, sdk.SideCaller, sdk.DeliveredNo)
	}
	if e := n.mayAct(a, msg); e != nil {
		return nil, nil, e
	}
	ctx, cancel := within(ctx, n.cfg.Deadline)
	defer cancel()
	m := &outgoing{to: msg.To, id: newMessageID(), app: a, payload: msg.Payload, body: pack(msg.Behalf, msg.Payload), began: n.now(),
		header: messageHeader{Function: msg.Function, Behalf: msg.Behalf}}
	if msg.Receipt {
		m.exchange = &exchange{cause: cause}
	}
	reply, e := n.cycle(ctx, m)
	if e != nil && m.exchange != nil && !m.exchange.request.Message.IsZero() && m.to != n.id.agent {
		n.finisher.failed(m.exchange, e)
	}
	if e != nil || m.exchange == nil {
		return reply, nil, e
	}
	reply, receipt, e := m.accept(reply)
	if e != nil && m.to != n.id.agent {
		n.finisher.end(m.exchange)
	}
	return reply, receipt, e
}

func (n *Node) cycle(ctx context.Context, m *outgoing) ([]byte, *sdk.Error) {
	if m.to == n.id.agent {
		return n.sendToSelf(ctx, m)
	}
	if m.header.Function != "" {
		return n.callRemote(ctx, m)
	}
	return n.deliver(ctx, m)
}

// sendToSelf takes the path of any message, minus the network.
func (n *Node) sendToSelf(ctx context.Context, m *outgoing) ([]byte, *sdk.Error) {
	if n.apps.initializes(m.app) {
		return nil, errInitializing(m.app.name).Remote()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if e := n.askReceipt(m); e != nil {
		return nil, e
	}
	reply, err := n.receive(ctx, cancelFunc(cancel), m.app, messageKey{from: m.to, dna: m.app.hash, id: m.id}, &m.header, m.payload, 0)
	if err != nil {
		return nil, err.Remote()
	}
	return reply, nil
}

// deliver sends m until it is answered, an error is certain, or nobody can know.
func (n *Node) deliver(ctx context.Context, m *outgoing) ([]byte, *sdk.Error) {
	reply, err, lost := n.attempt(ctx, m)
	if lost {
		return n.again(ctx, m, err)
	}
	return reply, err
}

// again goes on after an attempt whose session broke with err.
func (n *Node) again(ctx context.Context, m *outgoing, err *sdk.Error) ([]byte, *sdk.Error) {
	var giveUp time.Time // set when m was lost after it may have left
	for pause := resendPause; ; pause = min(2*pause, resendMax) {
		now := n.now()
		if m.left && giveUp.IsZero() {
			giveUp = now.Add(n.cfg.ResendFor)
		}
		if m.left && now.After(giveUp) {
			return nil, &sdk.Error{Code: sdk.OutcomeUnknown, Side: sdk.SideNode, Delivered: sdk.DeliveredUnknown,
				Text: fmt.Sprintf("the session to %s broke after the message had left, and for %s no new one could be opened (%s); ask the other side before sending it anew",
					m.to.Short(), n.cfg.ResendFor, err.Text),
				Limit: &sdk.Limit{Name: "sending again", Setting: "resend-for"}}
		}
		if !sleep(ctx, pause/2+rand.N(pause)) {
			n.revoke(ctx, m)
			return nil, contextError(ctx, m.delivered(), "the session to "+m.to.Short()+" was opened anew")
		}
		var reply []byte
		var lost bool
		if reply, err, lost = n.attempt(ctx, m); !lost {
			return reply, err
		}
	}
}

func (m *outgoing) delivered() sdk.Delivered {
	if m.left {
		return sdk.DeliveredUnknown
	}
	return sdk.DeliveredNo
}

// attempt sends m once. lost tells that the session broke, or, for a message
// that may have left, that no new one could be opened: try again.
func (n *Node) attempt(ctx context.Context, m *outgoing) (reply []byte, e *sdk.Error, lost bool) {
	s, ok := n.endpoint.Live(transport.PeerKey(m.to))
	if !ok {
		c, e := n.connect(ctx, m.to)
		if e != nil {
			if !m.left {
				return nil, e, false
			}
			if ctx.Err() != nil {
				n.revoke(ctx, m)
				return nil, contextError(ctx, sdk.DeliveredUnknown, "the session to "+m.to.Short()+" was opened anew"), false
			}
			return nil, e, true
		}
		s = c.session
	}
	if e := n.askReceipt(m); e != nil {
		return nil, e, false
	}
	header, err := m.encodeHeader(n.now())
	if err != nil {
		return nil, &sdk.Error{Code: sdk.OutcomeUnknown, Side: sdk.SideNode, Text: err.Error()}, false
	}
	reply, err = s.Request(ctx, transport.Outgoing{Kind: kindMessage, ID: m.id, Header: header, Body: m.wireBody()})
	if err == nil {
		return reply, nil, false
	}
	e, lost = m.judge(err)
	return nil, e, lost
}

// encodeHeader is the header for the next attempt.
func (m *outgoing) encodeHeader(now time.Time) ([]byte, error) {
	if !m.left && m.header.plain() {
		return m.app.header, nil
	}
	age := time.Duration(0)
	if m.left {
		age = max(1, now.Sub(m.began))
	}
	h := m.header
	if m.body != nil {
		h = h.packed()
	}
	return h.encode(m.app.hash, m.app.name, age)
}

// wireBody is what is sent with that header.
func (m *outgoing) wireBody() []byte {
	if m.body != nil {
		return m.body
	}
	return m.payload
}

// judge says what the transport's error means for m. lost tells that the session
// broke, so that m is to be sent again.
func (m *outgoing) judge(err error) (e *sdk.Error, lost bool) {
	var peerErr *transport.PeerError
	if errors.As(err, &peerErr) {
		return m.doubt(parsePeerError(peerErr.Body)), false
	}
	var reqErr *transport.RequestError
	if !errors.As(err, &reqErr) {
		return &sdk.Error{Code: sdk.OutcomeUnknown, Side: sdk.SideNode, Text: err.Error()}, false
	}
	e = requestError(reqErr)
	switch {
	case reqErr.Code == transport.Lost:
		// A peer that says so itself stops, and has rolled the receive back.
		m.left = m.left || reqErr.Sent && !reqErr.Remote
		return e, true
	case m.left && reqErr.Code == transport.Busy && !reqErr.Served:
		return e, true
	}
	return m.doubt(e), false
}

// doubt is e for a message that was sent before: that it was not delivered this
// time says nothing of the first.
func (m *outgoing) doubt(e *sdk.Error) *sdk.Error {
	if !m.left || e.Delivered != sdk.DeliveredNo {
		return e
	}
	unsure := *e
	unsure.Delivered, unsure.Retry = sdk.DeliveredUnknown, false
	if e.Code != sdk.Timeout && e.Code != sdk.Canceled {
		unsure.Code, unsure.Limit, unsure.HandlerCode = sdk.OutcomeUnknown, nil, ""
		unsure.Text = fmt.Sprintf("the session to %s broke after the message had left, and when it was sent again there was no answer to it (%s: %s); "+
			"ask the other side before sending it anew", m.to.Short(), e.Code, e.Text)
	}
	return &unsure
}

// revoke cancels the receive of a message whose caller gave up between two
// sessions, when no request was under way to carry the cancellation. A deadline
// needs none: the receive has the same.
func (n *Node) revoke(ctx context.Context, m *outgoing) {
	if !m.left || errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		return
	}
	if n.revocations.Add(1) > maxRevocations { // the receive ends at its deadline
		n.revocations.Add(-1)
		return
	}
	started := n.tasks.start(func(ctx context.Context) {
		defer n.revocations.Add(-1)
		ctx, cancel := context.WithTimeout(ctx, connectLimit)
		defer cancel()
		c, e := n.connect(ctx, m.to)
		if e != nil {
			return // the receive ends at its deadline
		}
		if err := c.session.Notify(ctx, transport.Outgoing{Kind: kindMessage, ID: m.id, Header: m.app.header}); err != nil {
			m.app.log.Debug("cancellation not sent", "message", m.id.String(), "error", err.Error())
		}
	})
	if !started {
		n.revocations.Add(-1)
	}
}

// parsePeerError reads the error that the other node sent. What it says of
// itself is turned to this side's view.
func parsePeerError(body []byte) *sdk.Error {
	e, err := sdk.ParseError(body)
	if err != nil {
		return &sdk.Error{Code: sdk.OutcomeUnknown, Side: sdk.SideRemoteNode, Delivered: sdk.DeliveredUnknown,
			Text: "the other node answered with an error that can't be read: " + err.Error()}
	}
	return e.Remote()
}

// within is context.WithTimeout for a context that may end sooner anyway, as most
// messages' do: it then costs no timer.
func within(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	if d, ok := ctx.Deadline(); ok && time.Until(d) <= limit {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, limit)
}

// sleep waits for d; false if ctx ended before.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
