package node

import (
	"context"
	"crypto/sha256"
	"errors"
	"sync"
	"time"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/transport"
)

// finishAtOnce bounds the receivers that are asked at once, each for one exchange.
const finishAtOnce = 32

// finisher completes receipts of which only the receiver has its part: this node ended,
// or its call gave up, or its chain took nothing, before the receipt was on the chain.
// It sends the message's id again; the receiver answers with the outcome that it keeps.
type finisher struct {
	node *Node
	wake chan struct{} // capacity 1

	mu        sync.Mutex // guards exchanges
	exchanges exchanges
}

func newFinisher(n *Node) *finisher {
	return &finisher{node: n, wake: make(chan struct{}, 1), exchanges: newExchanges()}
}

// unfinished has an exchange finished in the background.
func (f *finisher) unfinished(x *exchange) {
	f.mu.Lock()
	x.due = f.node.now()
	f.exchanges.add(x)
	f.mu.Unlock()
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// failed is told how a message with a receipt has failed. The receiver may have the
// receipt unless it said that it has not run, or that it ran and failed.
func (f *finisher) failed(x *exchange, e *sdk.Error) {
	if e.Delivered == sdk.DeliveredNo || e.Code == sdk.HandlerFailed {
		f.end(x)
		return
	}
	f.unfinished(x)
}

func (f *finisher) run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	slots := make(chan struct{}, finishAtOnce)
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		f.mu.Lock()
		x, at := f.exchanges.next(f.node.now())
		f.mu.Unlock()
		if x == nil {
			<-slots
			if !waitFor(ctx, f.wake, f.node.now(), at) {
				return nil
			}
			continue
		}
		running.Go(func() {
			f.try(ctx, x)
			<-slots
		})
	}
}

func (f *finisher) try(ctx context.Context, x *exchange) {
	again, err := f.finish(ctx, x)
	if ctx.Err() != nil {
		return // the next run of this node finishes it
	}
	log := f.node.cfg.Log.With("message", x.request.Message.String(), "agent", x.request.To.String())
	f.mu.Lock()
	f.exchanges.tried(x)
	waits := again && f.exchanges.again(f.node.now(), x)
	if !again {
		f.exchanges.end(string(x.key()))
	}
	f.mu.Unlock()
	switch {
	case err == nil:
		log.Info("a receipt was completed that only the receiver had")
	case !again:
		log.Info("a message has no receipt", "reason", err.Error())
	case !waits:
		log.Warn("nobody could say whether a message has a receipt; this is asked again at the next start", "error", err.Error())
	}
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// finish asks for the answer and appends the receipt. again tells that an error may
// pass.
func (f *finisher) finish(ctx context.Context, x *exchange) (again bool, err error) {
	n := f.node
	a := n.apps.running(x.request.DNA)
	if a == nil || !a.enter() {
		return true, errors.New("the DNA does not run on this node")
	}
	defer a.leave()
	// As long as the message itself may take: a shorter one would end a receive that runs.
	asked, cancel := context.WithTimeout(ctx, n.cfg.Deadline)
	defer cancel()
	answer, again, err := n.askAgain(asked, a, &x.request)
	if err != nil {
		return again, err
	}
	receipt, _, err := x.request.Accept(answer)
	if err != nil {
		return false, err
	}
	kept, cancel := context.WithTimeout(context.WithoutCancel(ctx), keepReceiptLimit)
	defer cancel()
	if _, err := n.appendOwn(kept, a, x.cause, sdk.Entry{Type: sdk.TypeReceipt, Content: sdk.AppendReceipt(nil, &receipt)}); err != nil {
		return true, err
	}
	return false, nil
}

// askAgain sends the id of a message again, for the outcome that its receiver keeps.
// The payload is gone, and in its place goes another one: a receiver that has no outcome
// finds that the receipt is not of it, and does not run it.
func (n *Node) askAgain(ctx context.Context, a *app, r *sdk.ReceiptRequest) (answer []byte, again bool, err error) {
	c, e := n.connect(ctx, r.To)
	if e != nil {
		return nil, true, e
	}
	header, err := messageHeader{Receipt: sdk.AppendReceiptRequest(nil, r)}.encode(a.hash, a.name, max(time.Millisecond, n.now().Sub(r.Time)))
	if err != nil {
		return nil, false, err
	}
	answer, err = c.session.Request(ctx, transport.Outgoing{Kind: kindMessage, ID: r.Message, Header: header, Body: otherPayload(r.Payload)})
	if err == nil {
		return answer, false, nil
	}
	var peer *transport.PeerError
	if !errors.As(err, &peer) {
		return nil, true, err
	}
	e = parsePeerError(peer.Body)
	switch e.Code {
	case sdk.Busy, sdk.NoHandler, sdk.Timeout, sdk.Canceled, sdk.OutcomeUnknown:
		return nil, true, e
	}
	return nil, false, e
}

// otherPayload is a payload that does not have this hash.
func otherPayload(hash sdk.Hash) []byte {
	if hash == sha256.Sum256(nil) {
		return []byte{0}
	}
	return nil
}

// resume has what an earlier run of this node has not finished of a DNA's exchanges be
// finished, but for those whose receipt the chain has.
func (f *finisher) resume(a *app) error {
	open, first := map[sdk.MessageID]*exchange{}, time.Time{}
	now := f.node.now()
	err := f.node.agencyDB.each(bucketExchanges, func(k, v []byte) error {
		x, err := decodeExchange(k, v)
		if err != nil {
			return nil // what can't be read is removed at the next start
		}
		if x.request.DNA != a.hash {
			return nil
		}
		f.mu.Lock()
		known := f.exchanges.known(k)
		f.exchanges.load(&x)
		f.mu.Unlock()
		if known {
			return nil
		}
		if exchangeIsOld(now, x.request.Time) {
			f.end(&x)
			return nil
		}
		open[x.request.Message] = &x
		if first.IsZero() || x.request.Time.Before(first) {
			first = x.request.Time
		}
		return nil
	})
	if err != nil || len(open) == 0 {
		return err
	}
	receipts := entriesBack{app: a, kind: sdk.TypeReceipt}
	for {
		r, err := receipts.next()
		if err != nil {
			return err
		}
		if r == nil || r.Header.Time.Before(first.Add(-exchangeFor)) { // a clock may have been set
			break
		}
		receipt, err := sdk.ParseReceipt(r.Content)
		if err != nil {
			continue // of a later version
		}
		if x := open[receipt.Request.Message]; x != nil && receipt.Request == x.request {
			f.end(x)
			delete(open, receipt.Request.Message)
		}
	}
	for _, x := range open {
		f.unfinished(x)
	}
	return nil
}
