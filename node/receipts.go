package node

import (
	"context"
	"fmt"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// keepReceiptLimit bounds the append of a receipt: the answer is there, so that
// the end of the message's deadline is none of the receipt's.
const keepReceiptLimit = 10 * time.Second

// askReceipt puts the sender's part of a receipt into the header, signed once for
// each message id, and notes it on disk, so that the exchange can be finished after a
// crash. One with oneself is on one chain, and needs no note.
func (n *Node) askReceipt(m *outgoing) *sdk.Error {
	x := m.exchange
	if x == nil || x.request.Message == m.id {
		return nil
	}
	msg := &sdk.Message{To: m.to, Function: m.header.Function, Payload: m.payload, Behalf: m.header.Behalf}
	next := &exchange{cause: x.cause, request: sdk.SignReceiptRequest(n.id.key, m.app.hash, m.id, msg, m.began)}
	if !x.request.Message.IsZero() { // the other node has refused that one
		n.finisher.end(x)
	}
	if m.to != n.id.agent {
		if e := n.finisher.begin(next); e != nil {
			return m.doubt(e)
		}
	}
	m.exchange, m.header.Receipt = next, sdk.AppendReceiptRequest(nil, &next.request)
	return nil
}

// accept takes the receiver's signature from before the reply.
func (m *outgoing) accept(answer []byte) ([]byte, *sdk.Receipt, *sdk.Error) {
	receipt, reply, err := m.exchange.request.Accept(answer)
	if err != nil {
		return nil, nil, &sdk.Error{Code: sdk.HandlerFailed, Side: sdk.SideRemoteNode, Delivered: sdk.DeliveredYes, HandlerCode: sdk.HandlerCodeReceipt,
			Text: fmt.Sprintf("%s has answered without a matching receipt: %v", m.to.Short(), err)}
	}
	return reply, &receipt, nil
}

// keepReceipt appends the receipt of a message that this call has sent.
func (c *liveCall) keepReceipt(ctx context.Context, r *sdk.Receipt) *sdk.Error {
	if r.Request.To == c.node.id.agent {
		return nil // it is on the chain: the same one
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keepReceiptLimit)
	defer cancel()
	x := &exchange{request: r.Request, cause: c.cause()}
	err := c.appendOwn(ctx, sdk.Entry{Type: sdk.TypeReceipt, Content: sdk.AppendReceipt(nil, r)})
	if err == nil {
		c.node.finisher.end(x)
		return nil
	}
	c.node.finisher.unfinished(x)
	e := handlerError(ctx, err)
	e.Delivered, e.Retry = sdk.DeliveredYes, false
	e.Text = fmt.Sprintf("%s has received and answered the message and has the receipt, and this agent's chain could not take it yet, which is tried again: %s", r.Request.To.Short(), e.Text)
	return e
}

// receiptAsked is the sender's part of a receipt, if it asks for one. It must be of
// this very message.
func (n *Node) receiptAsked(a *app, key messageKey, h *messageHeader, payload []byte) (*sdk.ReceiptRequest, *sdk.Error) {
	if len(h.Receipt) == 0 {
		return nil, nil
	}
	r, err := sdk.ParseReceiptRequest(h.Receipt)
	if err == nil {
		err = r.CheckMessage(a.hash, key.id, key.from, &sdk.Message{To: n.id.agent, Function: h.Function, Payload: payload, Behalf: h.Behalf})
	}
	if err != nil {
		return nil, &sdk.Error{Code: sdk.HandlerFailed, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true, HandlerCode: sdk.HandlerCodeReceipt,
			Text: "the message asks for a receipt that can't be given: " + err.Error()}
	}
	return &r, nil
}

// seal is what the node itself commits together with a successful call, and the
// answer: the reply, behind this agent's signature where a receipt is asked for.
func (c *liveCall) seal(staged []sdk.Entry, reply []byte) (own []sdk.Entry, answer []byte) {
	answer = reply
	if c.receipt != nil {
		r := c.receipt.Answer(c.node.id.key, reply)
		own = append(own, sdk.Entry{Type: sdk.TypeReceipt, Content: sdk.AppendReceipt(nil, &r)})
		answer = append(append(make([]byte, 0, sdk.ReceiptReplySize+len(reply)), r.ReplySignature[:]...), reply...)
	}
	c.mu.Lock()
	proven := c.proven
	c.mu.Unlock()
	if len(c.call.Behalf) > 0 && !proven && len(staged)+len(own) > 0 {
		own = append(own, c.proof())
	}
	return own, answer
}
