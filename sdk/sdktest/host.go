package sdktest

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/agency"
)

func (r *running) live(what string) *sdk.Error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return &sdk.Error{Code: sdk.HandlerFailed, Side: sdk.SideNode, Delivered: sdk.DeliveredNo,
			HandlerCode: sdk.HandlerCodeContext, Text: what + " after the call had returned"}
	}
	if r.call.Kind == sdk.CallValidate && what != "Log" {
		return &sdk.Error{Code: sdk.HandlerFailed, Side: sdk.SideNode, Delivered: sdk.DeliveredNo,
			HandlerCode: sdk.HandlerCodeContext, Text: what + " in a validate: its verdict rests on the entry alone"}
	}
	return nil
}

// Commit stages an entry, as sdk.Host says.
func (r *running) Commit(_ context.Context, e sdk.Entry) (sdk.Hash, error) {
	if err := r.live("Commit"); err != nil {
		return sdk.Hash{}, err
	}
	e.Content = append([]byte{}, e.Content...)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.stage.Add(&e); err != nil {
		return sdk.Hash{}, err
	}
	r.staged = append(r.staged, e)
	return sdk.EntryHash(e.Content), nil
}

// Query reads the chain, as sdk.Host says.
func (r *running) Query(_ context.Context, q sdk.Query) ([]sdk.Record, error) {
	if err := r.live("Query"); err != nil {
		return nil, err
	}
	return r.node.chain.query(q, r.node.net.options.MaxPayload), nil
}

// Log writes to the test's output.
func (r *running) Log(_ context.Context, level slog.Level, text string, args ...any) {
	if r.live("Log") == nil {
		r.node.log(level, text, args...)
	}
}

// Send carries a message to another node of the Net, as sdk.Host says.
func (r *running) Send(ctx context.Context, m sdk.Message) ([]byte, error) {
	if err := r.live("Send"); err != nil {
		return nil, err
	}
	r.effects.Add(1)
	m.Payload = slices.Clone(m.Payload)
	id := newMessageID()
	var request *sdk.ReceiptRequest
	if m.Receipt {
		signed := sdk.SignReceiptRequest(r.node.chain.key, r.node.dna.Hash(), id, &m, time.Now())
		request = &signed
	}
	out, err := r.node.send(ctx, id, &m, request)
	if err == nil && request != nil {
		out, err = r.accept(request, out)
	}
	if err != nil {
		if err.Retry { // it took no effect
			r.effects.Add(-1)
		}
		return nil, err
	}
	return out, nil
}

func (x *Node) send(ctx context.Context, id sdk.MessageID, m *sdk.Message, request *sdk.ReceiptRequest) ([]byte, *sdk.Error) {
	if ctx.Err() != nil {
		return nil, ctxError(ctx, sdk.DeliveredNo)
	}
	if err := x.net.tooLarge("payload", len(m.Payload)); err != nil {
		return nil, err
	}
	if _, err := x.mayAct(x.id, m, time.Now()); err != nil {
		return nil, err
	}
	y, l, err := x.route(m.To)
	if err != nil {
		return nil, err
	}
	if !l.pause(ctx) {
		if ctx.Err() != nil {
			return nil, ctxError(ctx, sdk.DeliveredNo)
		}
		return nil, x.unknown(y)
	}
	// Of the sender's context only the deadline crosses; await carries its end.
	deadline, ok := ctx.Deadline()
	if limit := time.Now().Add(x.net.options.Timeout); !ok || deadline.After(limit) {
		deadline = limit
	}
	x.net.meet(x, y)
	r, err := y.admit(deadline, x, id, m, request)
	if err != nil {
		return nil, err.Remote()
	}
	return x.await(ctx, r, y, l)
}

// route finds the way to an agent, or the error that is certain without it.
func (x *Node) route(to sdk.AgentID) (*Node, linkState, *sdk.Error) {
	x.net.mu.Lock()
	y := x.net.nodes[to]
	x.net.mu.Unlock()
	if y == nil {
		return nil, linkState{}, &sdk.Error{Code: sdk.UnknownAgent, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true,
			Text: "no node of the test's network is " + to.String()}
	}
	l := x.net.link(x, y)
	cause := ""
	switch {
	case y.isStopped():
		cause = "connection refused: the node is stopped"
	case isClosed(l.cut):
		cause = "the link is cut"
	}
	if cause != "" {
		return nil, l, &sdk.Error{Code: sdk.Unreachable, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true,
			Attempts: []sdk.Attempt{{Address: y.name, Cause: cause}}}
	}
	return y, l, nil
}

// admit is the receiving node's side: it begins the receive, or refuses. Its
// errors are as that node sees them.
func (y *Node) admit(deadline time.Time, from *Node, id sdk.MessageID, m *sdk.Message, request *sdk.ReceiptRequest) (*running, *sdk.Error) {
	end, e := y.begin(from.id, agency.Amount{agency.Requests: 1, agency.Bytes: len(m.Payload)})
	if e != nil {
		return nil, e
	}
	in := &running{call: &sdk.Call{Kind: sdk.CallReceive, ID: id, From: from.id, Behalf: slices.Clone(m.Behalf), Payload: m.Payload}, receipt: request, over: end}
	r, e := y.admitted(deadline, from, m, in)
	if e != nil {
		end()
	}
	return r, e
}

// admitted is admit for a message that is within the limits of its sender.
func (y *Node) admitted(deadline time.Time, from *Node, m *sdk.Message, in *running) (*running, *sdk.Error) {
	if y.dna.Hash() != from.dna.Hash() {
		text := fmt.Sprintf("DNA %q is not running there", from.dna.Name)
		if y.dna.Name == from.dna.Name {
			text = fmt.Sprintf("DNA %q is running there under another hash: its integrity version, network seed or properties differ", y.dna.Name)
		}
		return nil, &sdk.Error{Code: sdk.NoHandler, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Text: text}
	}
	if e := y.errInitializing(); e != nil {
		return nil, e
	}
	who, e := y.authority(from.id, m, in)
	if e != nil {
		return nil, e
	}
	release := func() {}
	if m.Function != "" {
		in.call.Kind, in.call.Function = sdk.CallFunction, m.Function
		if release, e = y.granted(who, from, m); e != nil {
			return nil, e
		}
	}
	giveBack, e := y.counted(in.behalf)
	if e != nil {
		release()
		return nil, e
	}
	r, e := y.startCall(deadline, in)
	if e != nil {
		release()
		giveBack()
	}
	return r, e
}

// await waits for a receive's outcome and carries it back.
func (x *Node) await(ctx context.Context, r *running, y *Node, l linkState) ([]byte, *sdk.Error) {
	select {
	case <-r.done:
	case <-l.cut: // the receive goes on, unheard
		return nil, x.unknown(y)
	case <-ctx.Done(): // the cancellation crosses
		r.cancel(ctx)
		return nil, ctxError(ctx, sdk.DeliveredYes)
	}
	if !l.pause(ctx) {
		if ctx.Err() != nil {
			return nil, ctxError(ctx, sdk.DeliveredYes)
		}
		return nil, x.unknown(y)
	}
	if r.err != nil {
		return nil, r.err.Remote()
	}
	return r.out, nil
}

func (x *Node) unknown(y *Node) *sdk.Error {
	return &sdk.Error{Code: sdk.OutcomeUnknown, Side: sdk.SideNode, Delivered: sdk.DeliveredUnknown,
		Text: "the link to " + y.name + " was cut while the message was under way"}
}
