package sdktest

import (
	"context"
	"crypto/rand"
	"slices"
	"time"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/agency"
)

// maxDelegated is a node's bound of delegations whose uses it counts.
const maxDelegated = 1 << 14

// Delegate signs a delegation, as sdk.Host says.
func (r *running) Delegate(_ context.Context, d sdk.Delegation) (sdk.Proof, error) {
	if err := r.live("Delegate"); err != nil {
		return nil, err
	}
	var nonce [16]byte
	_, _ = rand.Read(nonce[:]) // never fails
	x := r.node
	p, err := sdk.SignDelegation(&d, x.dna.Hash(), x.chain.key, nonce, time.Now())
	if err != nil {
		return nil, sdk.Fail(sdk.HandlerCodeInput, "%v", err)
	}
	if err := r.appendOwn(sdk.Entry{Type: sdk.TypeDelegation, Content: p}); err != nil {
		return nil, err
	}
	x.net.changed()
	return slices.Clone(p), nil
}

// revokeDelegation ends a delegation of this agent's; false: there is none of that
// name. Every node of the Net hears of it at once.
func (r *running) revokeDelegation(id sdk.Hash) (found bool, err error) {
	x := r.node
	l, found := x.chain.delegation(id)
	if !found || !time.Now().Before(l.Expires) || x.net.revoked(x.id, id) {
		return found, nil
	}
	e := sdk.Revocation{Delegation: id, Expires: l.Expires}
	if err := r.appendOwn(sdk.Entry{Type: sdk.TypeRevocation, Visibility: sdk.Public, Content: sdk.AppendRevocation(nil, &e)}); err != nil {
		return true, err
	}
	x.net.mu.Lock()
	x.net.revocations[revocation{x.id, id}] = true
	x.net.mu.Unlock()
	x.net.changed()
	return true, nil
}

type revocation struct {
	author sdk.AgentID
	id     sdk.Hash
}

func (n *Net) revoked(author sdk.AgentID, id sdk.Hash) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.revocations[revocation{author, id}]
}

// delegation finds a delegation that this chain's agent has signed.
func (c *chain) delegation(id sdk.Hash) (sdk.Link, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.records {
		if r.Header.EntryType != sdk.TypeDelegation {
			continue
		}
		links, err := sdk.Proof(r.Content).Links()
		if err == nil && links[len(links)-1].ID() == id {
			return links[len(links)-1], true
		}
	}
	return sdk.Link{}, false
}

// mayAct holds the proof of a message against what is done, at either end; nil:
// the sender acts in its own name.
func (x *Node) mayAct(from sdk.AgentID, m *sdk.Message, at time.Time) (*sdk.Behalf, *sdk.Error) {
	if len(m.Behalf) == 0 {
		return nil, nil
	}
	b, err := m.Behalf.Verify(at, sdk.Use{Presenter: from, DNA: x.dna.Hash(), To: m.To, Function: m.Function, Payload: len(m.Payload)})
	if err != nil {
		return nil, agency.Refused(err.Error())
	}
	return b, x.inForce(b)
}

// mayNotify is mayAct for a notification to many: refused are those whom the proof does
// not let it be sent to; nil: there are none.
func (x *Node) mayNotify(now time.Time, n *sdk.Notice) (refused []*sdk.Error, e *sdk.Error) {
	if len(n.Behalf) == 0 {
		return nil, nil
	}
	b, refused, e := agency.MayNotify(now, x.id, x.dna.Hash(), n)
	if e != nil {
		return nil, e
	}
	return refused, x.inForce(b)
}

// inForce tells whether no link of a proof was revoked.
func (x *Node) inForce(b *sdk.Behalf) *sdk.Error {
	for i := range b.Links {
		if x.net.revoked(b.Links[i].From, b.Links[i].ID()) {
			return agency.Revoked(i)
		}
	}
	return nil
}

// authority is the agent whose grants count for a message that arrived.
func (y *Node) authority(from sdk.AgentID, m *sdk.Message, in *running) (sdk.AgentID, *sdk.Error) {
	in.checked = time.Now()
	b, e := y.mayAct(from, m, in.checked)
	if e != nil || b == nil {
		return from, e
	}
	for i := range b.Links {
		if e := y.hears(b.Links[i].From); e != nil {
			return from, e
		}
	}
	in.behalf = b
	return b.Principal(), nil
}

// counted counts the message's delegations, or says why it is one too many.
func (y *Node) counted(b *sdk.Behalf) (release func(), e *sdk.Error) {
	release = func() {}
	if b == nil {
		return release, nil
	}
	y.mu.Lock()
	defer y.mu.Unlock()
	use, e := y.delegated.Take(time.Now(), b.Links, y.knowsLocked(b.Principal()) || y.knowsLocked(b.Links[len(b.Links)-1].To))
	if use != nil {
		release = func() {
			y.mu.Lock()
			defer y.mu.Unlock()
			y.delegated.GiveBack(use)
		}
	}
	return release, e
}

// seal is what the node itself commits with a successful call, and the answer.
func (r *running) seal(staged []sdk.Entry, out []byte) (own []sdk.Entry, answer []byte) {
	answer = out
	if r.receipt != nil {
		receipt := r.receipt.Answer(r.node.chain.key, out)
		own = append(own, sdk.Entry{Type: sdk.TypeReceipt, Content: sdk.AppendReceipt(nil, &receipt)})
		answer = append(receipt.ReplySignature[:], out...)
	}
	r.mu.Lock()
	proven := r.proven
	r.mu.Unlock()
	if len(r.call.Behalf) > 0 && !proven && len(staged)+len(own) > 0 {
		own = append(own, r.proof())
	}
	return own, answer
}

// proof is the entry that keeps the proof under which this call runs.
func (r *running) proof() sdk.Entry {
	e := sdk.BehalfEntry{Time: r.checked, Function: r.call.Function, Proof: r.call.Behalf}
	return sdk.Entry{Type: sdk.TypeBehalf, Content: sdk.AppendBehalf(nil, &e)}
}

// accept takes the receipt from an answer, and keeps it.
func (r *running) accept(request *sdk.ReceiptRequest, answer []byte) ([]byte, *sdk.Error) {
	receipt, reply, err := request.Accept(answer)
	if err != nil {
		return nil, &sdk.Error{Code: sdk.HandlerFailed, Side: sdk.SideRemoteNode, Delivered: sdk.DeliveredYes, HandlerCode: sdk.HandlerCodeReceipt, Text: err.Error()}
	}
	if request.To == r.node.id {
		return reply, nil
	}
	if err := r.appendOwn(sdk.Entry{Type: sdk.TypeReceipt, Content: sdk.AppendReceipt(nil, &receipt)}); err != nil {
		e := *handlerError(err)
		e.Delivered, e.Retry = sdk.DeliveredYes, false
		return nil, &e
	}
	r.node.net.changed()
	return reply, nil
}
