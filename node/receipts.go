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
// each message id.
func (n *Node) askReceipt(m *outgoing) {
	if m.receipt == nil || m.receipt.Message == m.id {
		return
	}
	msg := &sdk.Message{To: m.to, Function: m.header.Function, Payload: m.payload, Behalf: m.header.Behalf}
	*m.receipt = sdk.SignReceiptRequest(n.id.key, m.app.hash, m.id, msg, m.began)
	m.header.Receipt = sdk.AppendReceiptRequest(nil, m.receipt)
}

// accept takes the receiver's signature from before the reply.
func (m *outgoing) accept(answer []byte) ([]byte, *sdk.Receipt, *sdk.Error) {
	receipt, reply, err := m.receipt.Accept(answer)
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
	err := c.appendOwn(ctx, sdk.Entry{Type: sdk.TypeReceipt, Content: sdk.AppendReceipt(nil, r)})
	if err == nil {
		return nil
	}
	e := handlerError(ctx, err)
	e.Delivered, e.Retry = sdk.DeliveredYes, false
	e.Text = fmt.Sprintf("%s has received and answered the message and has the receipt, and this agent's chain could not take it: %s", r.Request.To.Short(), e.Text)
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
