package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/parley-p2p/parley/node/chain"
	"github.com/parley-p2p/parley/sdk"
)

// liveCall is one call while its handler runs: the host that the handler sees,
// and the entries that it staged. No lock of it is held while anything blocks.
type liveCall struct {
	node *Node
	app  *app
	in   server // where it runs
	call *sdk.Call
	// Of another agent's message: see admission.
	checked time.Time
	receipt *sdk.ReceiptRequest

	mu      sync.Mutex // guards what follows
	base    uint64     // the chain's head when the call began, or the last of own behind it
	own     []uint64   // the node's entries for this call that stand behind another's: ownentry.go
	stage   sdk.Stage  // of staged
	staged  []sdk.Entry
	proven  bool // the proof under which it runs is on the chain: ownentry.go
	effects bool // a send took effect elsewhere, or may have
	sending int  // sends under way
	ended   bool
}

var _ sdk.Host = (*liveCall)(nil)

// run runs one call of an app's handler and appends what it staged. When it
// returns nil, all of that is durable; when it returns an error, nothing of it
// exists, but for a commit whose outcome the chain itself can't tell.
func (n *Node) run(ctx context.Context, a *app, call *sdk.Call) ([]byte, *sdk.Error) {
	reply, _, e := n.runIn(ctx, a.handler, a, call)
	return reply, e
}

// runIn is run in a handler that is told, and says how many entries were committed.
func (n *Node) runIn(ctx context.Context, h server, a *app, call *sdk.Call) ([]byte, int, *sdk.Error) {
	return n.runLive(ctx, &liveCall{node: n, app: a, in: h, call: call})
}

// runAdmitted is run for another agent's message.
func (n *Node) runAdmitted(ctx context.Context, a *app, in *admission) ([]byte, *sdk.Error) {
	reply, _, e := n.runLive(ctx, &liveCall{node: n, app: a, in: a.handler, call: in.call, checked: in.checked, receipt: in.receipt})
	return reply, e
}

func (n *Node) runLive(ctx context.Context, lc *liveCall) ([]byte, int, *sdk.Error) {
	a := lc.app
	if !a.enter() {
		return nil, 0, errStopping(a.name)
	}
	defer a.leave()
	lc.base, _ = a.chain.Head()
	lc.stage.Limits = n.cfg.commitLimits()
	reply, err := a.serve(ctx, lc.in, lc, lc.call)
	staged, effects := lc.end()
	if err == nil {
		reply, err = n.settle(ctx, a, lc, staged, reply)
	}
	if err != nil {
		return nil, 0, callError(ctx, err, effects)
	}
	return reply, len(staged), nil
}

// callError is what a call is answered that failed with err.
func callError(ctx context.Context, err error, effects bool) *sdk.Error {
	e := handlerError(ctx, err)
	// Everything that the call staged is gone, unless the chain itself can't
	// tell. So only what it sent can have taken effect, and a call without such
	// a send may be repeated.
	e.Retry = !effects && e.Code != sdk.OutcomeUnknown
	return e
}

// serve runs a handler. One in this process may panic: what waits for the
// call's outcome must hear of it.
func (a *app) serve(ctx context.Context, h server, host sdk.Host, call *sdk.Call) (reply []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			a.log.Error("the handler panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			reply, err = nil, sdk.Fail(sdk.HandlerCodePanic, "the handler panicked; the stack is in its node's log")
		}
	}()
	return h.Serve(ctx, host, call)
}

// settle makes a successful call's outcome durable and returns its reply.
func (n *Node) settle(ctx context.Context, a *app, lc *liveCall, staged []sdk.Entry, reply []byte) ([]byte, error) {
	own, reply := lc.seal(staged, reply)
	if len(reply) > n.cfg.MaxPayload {
		return nil, tooLarge("reply", len(reply), n.cfg.MaxPayload, sdk.SideHandler, sdk.DeliveredYes)
	}
	init := lc.call.Kind == sdk.CallInit
	if len(staged) == 0 && len(own) == 0 && !init {
		return reply, nil
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	batch := chain.Batch{
		Entries: staged,
		Also:    own,
		Cause:   sdk.Cause{Kind: lc.call.Kind, Message: lc.call.ID, From: lc.call.From},
		Base:    lc.began(),
		Init:    init,
	}
	if lc.foreign() {
		batch.Reply, batch.KeepReply = reply, true
	}
	_, err := a.chain.Append(ctx, batch)
	var twice *chain.DuplicateError
	if errors.As(err, &twice) { // the message ran before; its first outcome stands
		return twice.Reply, nil
	}
	if err == nil {
		a.grown()
		if slices.ContainsFunc(staged, func(e sdk.Entry) bool { return e.Visibility == sdk.Public }) {
			n.publisher.grown()
		}
	}
	return reply, lc.commitError(err)
}

// commitError keeps from another agent what the disk said, and the path in it.
// The chain has logged both.
func (c *liveCall) commitError(err error) error {
	var e *sdk.Error
	if !c.foreign() || !errors.As(err, &e) {
		return err
	}
	kept := *e
	switch {
	case e.Code == sdk.OutcomeUnknown:
		kept.Text = "the disk did not confirm what the call committed; its node's log says why"
	case e.HandlerCode == sdk.HandlerCodeCommit:
		kept.Text = "the source chain did not take what the call committed, and nothing of it exists; its node's log says why"
	}
	return &kept
}

// foreign tells that another agent caused the call, so that the answer, and its
// errors, are for that one.
func (c *liveCall) foreign() bool {
	switch c.call.Kind {
	case sdk.CallReceive, sdk.CallNotified:
		return true
	case sdk.CallFunction:
		return c.call.From != c.node.id.agent
	}
	return false
}

// end closes the call: its host fails from now on.
func (c *liveCall) end() (staged []sdk.Entry, effects bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	return c.staged, c.effects || c.sending > 0
}

// began is the chain's head that a strict commit of the call rests upon.
func (c *liveCall) began() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.base
}

// open fails once the call has returned, as a handler's goroutine that outlives
// its call must not act in its name.
func (c *liveCall) open() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return errCallOver()
	}
	return nil
}

func errCallOver() *sdk.Error {
	return &sdk.Error{Code: sdk.HandlerFailed, Side: sdk.SideHandler, Delivered: sdk.DeliveredNo, HandlerCode: sdk.HandlerCodeContext,
		Text: "the call has returned: its context sends, commits and queries no more"}
}

func (c *liveCall) Send(ctx context.Context, m sdk.Message) ([]byte, error) {
	if !c.beginSend() {
		return nil, errCallOver()
	}
	reply, receipt, err := c.node.send(ctx, c.app, &m, c.cause())
	if receipt != nil {
		err = c.keepReceipt(ctx, receipt)
	}
	c.endSend(err)
	if err != nil {
		return nil, err
	}
	return reply, nil
}

func (c *liveCall) beginSend() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended {
		c.sending++
	}
	return !c.ended
}

func (c *liveCall) endSend(err *sdk.Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sending--
	c.effects = c.effects || err == nil || !err.Retry && err.Delivered != sdk.DeliveredNo
}

func (c *liveCall) Commit(_ context.Context, e sdk.Entry) (sdk.Hash, error) {
	if err := c.keep(e); err != nil {
		return sdk.Hash{}, err
	}
	return sdk.EntryHash(e.Content), nil
}

// keep holds an entry until the call has returned. It is refused before
// anything of it waits in memory for the chain, which has limits of its own.
func (c *liveCall) keep(e sdk.Entry) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return errCallOver()
	}
	if err := c.stage.Add(&e); err != nil {
		return err
	}
	c.staged = append(c.staged, e)
	return nil
}

func (c *liveCall) Query(_ context.Context, q sdk.Query) ([]sdk.Record, error) {
	if err := c.open(); err != nil {
		return nil, err
	}
	return c.app.chain.Query(q)
}

func (c *liveCall) Get(ctx context.Context, record sdk.Hash) (sdk.Record, error) {
	if err := c.open(); err != nil {
		return sdk.Record{}, err
	}
	r, err := c.node.get(ctx, c.app, c.in, record)
	if err != nil {
		return sdk.Record{}, err
	}
	return r, nil
}

func (c *liveCall) Log(ctx context.Context, level slog.Level, text string, args ...any) {
	c.app.log.With("message", c.call.ID.String()).Log(ctx, level, text, args...)
}

func newMessageID() (id sdk.MessageID) {
	rand.Read(id[:]) // never fails (crypto/rand)
	return id
}

// Call runs a function of a DNA for one of the agent's own clients. dna is the
// DNA's name, or the text form of its hash. Its errors are of type *sdk.Error.
func (n *Node) Call(ctx context.Context, dna, function string, payload []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Deadline)
	defer cancel()
	defer context.AfterFunc(n.life, cancel)()
	a, e := n.apps.named(dna)
	if e != nil && n.awaitHandlers(ctx) {
		a, e = n.apps.named(dna)
	}
	if e != nil {
		return nil, e
	}
	if len(payload) > n.cfg.MaxPayload {
		return nil, tooLarge("payload", len(payload), n.cfg.MaxPayload, sdk.SideCaller, sdk.DeliveredNo)
	}
	if !a.hasFunction(function) {
		return nil, &sdk.Error{Code: sdk.NoHandler, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true,
			Text: fmt.Sprintf("DNA %s has no function %q; it has %s", a.name, function, a.functionList())}
	}
	reply, e := n.run(ctx, a, &sdk.Call{Kind: sdk.CallFunction, Function: function, ID: newMessageID(), From: n.id.agent, Payload: payload})
	if e != nil {
		return nil, e
	}
	return reply, nil
}

// handlerError is the error of the closed set for whatever a handler's Serve,
// or the append after it, returned.
func handlerError(ctx context.Context, err error) *sdk.Error {
	var e *sdk.Error
	if errors.As(err, &e) {
		kept := *e
		return &kept
	}
	code := sdk.HandlerFailed
	if ctx.Err() != nil {
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			code = sdk.Timeout
		case errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(ctx)):
			code = sdk.Canceled
		}
	}
	return &sdk.Error{Code: code, Side: sdk.SideHandler, Delivered: sdk.DeliveredYes, Text: err.Error()}
}
