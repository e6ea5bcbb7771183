package serve

import (
	"context"
	"fmt"
	"sync"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/handlerpb"
)

// call is one running call, and the node as that call sees it.
type call struct {
	s    *stream
	id   uint64
	call *sdk.Call
	ctx  handlerpb.Context

	// sending is held for reading by who sends a callback or a log line, for
	// writing by who ends the call: after its result it sends nothing more.
	sending sync.RWMutex

	mu      sync.Mutex
	done    bool                              // it has returned
	gaveUp  bool                              // the node waits for it no more
	slots   chan struct{}                     // one per open callback; made by the first one
	pending map[uint64]chan *handlerpb.Answer // by callback id; each of capacity 1
	lastID  uint64                            // of a callback
	stage   sdk.Stage                         // at least what the node has staged for the call
}

// errExited is the error of a call whose goroutine was ended by runtime.Goexit.
var errExited = &sdk.Error{Code: sdk.HandlerFailed, Side: sdk.SideHandler, Delivered: sdk.DeliveredYes,
	HandlerCode: sdk.HandlerCodePanic, Text: "the call ended its goroutine (runtime.Goexit) instead of returning"}

// Run runs the call and sends its result, however it ends.
func (c *call) Run() {
	var reply []byte
	var err error = errExited
	defer func() { c.finish(reply, err) }()
	reply, err = c.s.v.protect(&c.ctx, c, c.call)
}

func (c *call) finish(reply []byte, err error) {
	r := handlerpb.Result{Reply: reply}
	switch {
	case err != nil:
		r = handlerpb.Result{Err: asError(&c.ctx, err)}
	case len(reply) > c.s.v.maxPayload:
		r = handlerpb.Result{Err: tooLarge("the reply", len(reply), c.s.v.maxPayload, sdk.SideHandler, sdk.DeliveredYes)}
	}
	c.sending.Lock()
	defer c.sending.Unlock()
	c.mu.Lock()
	c.done = true
	c.dropLocked()
	c.mu.Unlock()
	c.ctx.End(context.Canceled, nil)
	_ = c.s.hs.Result(c.id, &r, c.s.ended(c.id)) // a broken stream is seen by its receiver
}

// over tells whether the call has returned.
func (c *call) over() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.done
}

// giveUp is the node's cancel.
func (c *call) giveUp() {
	c.ctx.End(c.reason(), nil)
	c.mu.Lock()
	c.gaveUp = true
	c.dropLocked()
	c.mu.Unlock()
}

// reason is why the node gives the call up: it keeps the same deadline.
func (c *call) reason() error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	return context.Canceled
}

// dropLocked ends the callbacks that wait: there will be no answers.
func (c *call) dropLocked() {
	for id, w := range c.pending {
		delete(c.pending, id)
		w <- nil
	}
}

func (c *call) answered(a *handlerpb.Answer) {
	c.mu.Lock()
	w := c.pending[a.ID] // nil where nobody waits any more
	delete(c.pending, a.ID)
	c.mu.Unlock()
	if w != nil {
		w <- a
	}
}

// waiters are channels of callbacks. One is handed something at most once, by
// who takes it out of pending; so it can be used again.
var waiters = sync.Pool{New: func() any { return make(chan *handlerpb.Answer, 1) }}

// callback sends a callback and waits for its answer. cb.ID stays 0 where it
// was not sent.
func (c *call) callback(ctx context.Context, cb *handlerpb.Callback) (*handlerpb.Answer, error) {
	slots, err := c.slot(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { <-slots }()
	answer := waiters.Get().(chan *handlerpb.Answer)
	ticket, err := c.send(ctx, cb, answer)
	if err != nil {
		c.forget(cb.ID, answer)
		cb.ID = 0
		return nil, err
	}
	// The call's own end comes by its callbacks' channels: dropLocked.
	var ended <-chan struct{}
	if ctx != context.Context(&c.ctx) {
		ended = ctx.Done()
	}
	select {
	case a := <-answer:
		waiters.Put(answer)
		c.s.hs.Release(ticket)
		if a == nil {
			return nil, c.noAnswer()
		}
		return a, nil
	case <-c.s.dead:
		err = fmt.Errorf("the node is gone: %w", c.s.why)
		c.s.hs.Release(ticket)
	case <-ended:
		err = ctx.Err()
	}
	if a := c.forget(cb.ID, answer); a != nil { // it came at the same moment
		c.s.hs.Release(ticket)
		return a, nil
	}
	if ctx.Err() != nil && !c.cancelCallback(cb.ID, ticket) {
		cb.ID = 0
	}
	return nil, err
}

// slot takes one of the slots of the call's callbacks.
func (c *call) slot(ctx context.Context) (chan struct{}, error) {
	c.mu.Lock()
	if c.slots == nil {
		c.slots = make(chan struct{}, handlerpb.MaxCallbacks)
	}
	slots := c.slots
	c.mu.Unlock()
	select {
	case slots <- struct{}{}:
		return slots, nil
	default:
	}
	select {
	case slots <- struct{}{}:
		return slots, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-c.ctx.Done():
		return nil, c.ctx.Err()
	}
}

func (c *call) send(ctx context.Context, cb *handlerpb.Callback, answer chan *handlerpb.Answer) (handlerpb.Ticket, error) {
	c.sending.RLock()
	defer c.sending.RUnlock()
	c.mu.Lock()
	if c.done || c.gaveUp {
		c.mu.Unlock()
		return handlerpb.Ticket{}, c.noAnswer()
	}
	c.lastID++
	cb.ID = c.lastID
	if c.pending == nil {
		c.pending = make(map[uint64]chan *handlerpb.Answer, 1)
	}
	c.pending[cb.ID] = answer
	c.mu.Unlock()
	return c.s.hs.Callback(ctx, c.id, cb, c.s.quiet())
}

// forget gives a waiter back, and what has come for it.
func (c *call) forget(id uint64, answer chan *handlerpb.Answer) (a *handlerpb.Answer) {
	c.mu.Lock()
	waits := c.pending[id] == answer
	if waits {
		delete(c.pending, id)
	}
	c.mu.Unlock()
	if !waits && id != 0 {
		a = <-answer
	}
	waiters.Put(answer)
	return a
}

// noAnswer says why no answer comes any more.
func (c *call) noAnswer() error {
	if c.over() {
		return errEnded
	}
	return c.reason() // by the node
}

// cancelCallback tells the node that nobody waits. It reports whether the
// callback may have reached the node.
func (c *call) cancelCallback(id uint64, t handlerpb.Ticket) bool {
	c.sending.RLock()
	defer c.sending.RUnlock()
	if c.over() {
		c.s.hs.Release(t)
		return true
	}
	onItsWay, err := c.s.hs.Cancel(c.id, id, t)
	if err != nil {
		c.s.hs.Fail(err)
	}
	return onItsWay
}
