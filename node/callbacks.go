package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/parley-p2p/parley/plugin"
	"github.com/parley-p2p/parley/sdk"
)

// This file is what a node calls a handler for by itself, but for post_commit
// (postcommit.go). Neither a client nor another agent can cause such a call:
// Call makes functions and receive.go receives.

// ready is called by the plugin manager with a process that is set up and that
// nobody calls yet.
func (n *Node) ready(ctx context.Context, p *plugin.Starting) error {
	if a := n.apps.runningBy(p.Handler); a != nil {
		return n.prepare(ctx, a, p, &p.Description)
	}
	a := n.apps.startingBy(p.Handler)
	if a == nil {
		return errors.New("the node does not know it")
	}
	select {
	case <-n.serving:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return n.admit(ctx, a, p, &p.Description)
}

// admit prepares an app and lets it be called.
func (n *Node) admit(ctx context.Context, a *app, first server, desc *sdk.Description) error {
	n.apps.initializing(a, true)
	defer n.apps.initializing(a, false)
	if err := n.prepare(ctx, a, first, desc); err != nil {
		return err
	}
	n.apps.add(a)
	n.publisher.grown()
	return nil
}

// prepare runs an app's init in first where it has to, and sees to it that it is
// told of commits where it wants to be. The app may be running: then first takes
// the place of its handler's process, which goes on until then. Of two processes
// that start at once the second waits, and finds the init done.
func (n *Node) prepare(ctx context.Context, a *app, first server, desc *sdk.Description) error {
	select {
	case a.prepare <- struct{}{}:
		defer func() { <-a.prepare }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if desc.PostCommit {
		if err := a.chain.BeginPosted(); err != nil {
			return fmt.Errorf("source chain of DNA %s: %w", a.name, err)
		}
	}
	if desc.Init {
		if err := n.initialize(ctx, a, first); err != nil {
			return err
		}
	}
	if desc.PostCommit && a.poster.Load() == nil {
		a.poster.Store(startPoster(n, a))
	}
	return nil
}

// initialize runs init, unless the chain says that it has run. What it commits
// and the mark are one batch: after a crash there are both or neither.
func (n *Node) initialize(ctx context.Context, a *app, first server) error {
	done, err := a.chain.Initialized()
	if err != nil {
		return fmt.Errorf("source chain of DNA %s: %w", a.name, err)
	}
	if done {
		return nil
	}
	limit := n.cfg.Limits.HandlerInitTimeout
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	_, _, e := n.runIn(ctx, first, a, &sdk.Call{Kind: sdk.CallInit, ID: newMessageID(), From: n.id.agent})
	switch {
	case e == nil:
		return nil
	case e.Code == sdk.Timeout:
		return fmt.Errorf("init of DNA %s did not end within %s (setting handler-init-timeout); it is tried again at the next start: %w", a.name, limit, e)
	}
	return fmt.Errorf("init of DNA %s; it is tried again at the next start: %w", a.name, e)
}

// errInitializing is what messages get meanwhile: one that waited for the end of
// an init that waits for it would hold up both until the deadline.
func errInitializing(name string) *sdk.Error {
	return &sdk.Error{Code: sdk.Busy, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true,
		Text:  fmt.Sprintf("the init of DNA %s has not ended there", name),
		Limit: &sdk.Limit{Name: "init of the DNA", RetryAfter: time.Second}}
}

// validateForeign judges a public entry that comes from another agent, before
// anything is done with it. An error with HandlerCodeValidate says that it is
// not valid; with any other one nobody knows, and it may be tried again. The
// own entries are judged by the handler, in its Commit (docs/decisions/0007); one
// of this agent's that its chain does not have, because that was made anew, is
// judged like another's. h is the handler, or its process that is being started.
func (n *Node) validateForeign(ctx context.Context, a *app, h server, r *sdk.Record) error {
	if err := n.foreign(a, r); err != nil {
		return &sdk.Error{Code: sdk.HandlerFailed, Side: sdk.SideNode, Delivered: sdk.DeliveredNo,
			HandlerCode: sdk.HandlerCodeValidate, Text: fmt.Sprintf("record %d of %s: %v", r.Header.Seq, r.Header.Author.Short(), err)}
	}
	desc := a.described()
	if p, starting := h.(*plugin.Starting); starting {
		desc = p.Description
	}
	if !desc.Validate {
		return nil
	}
	if size := len(r.Content); size > n.cfg.MaxPayload {
		return tooLarge("entry", size, n.cfg.MaxPayload, sdk.SideNode, sdk.DeliveredNo)
	}
	if !a.enter() {
		return errStopping(a.name)
	}
	defer a.leave()
	ctx, cancel := within(ctx, n.cfg.Deadline)
	defer cancel()
	call := &sdk.Call{Kind: sdk.CallValidate, ID: newMessageID(), From: n.id.agent, Records: []sdk.Record{*r}}
	if _, err := a.serve(ctx, h, &pureHost{a, call}, call); err != nil {
		return callError(ctx, err, false)
	}
	return nil
}

// foreign is what a node can say of a record without its DNA's rules.
func (n *Node) foreign(a *app, r *sdk.Record) error {
	switch h := &r.Header; {
	case h.DNA != a.hash:
		return errors.New("it belongs to another DNA")
	case h.Kind != sdk.KindEntry || h.Visibility != sdk.Public:
		return errors.New("it is no public entry")
	case r.Content == nil:
		return errors.New("its entry is withheld")
	}
	return r.Verify()
}

// pureHost is a validate's: it has nothing that another agent's verdict could
// not rest upon.
type pureHost struct {
	app  *app
	call *sdk.Call
}

var _ sdk.Host = (*pureHost)(nil)

func errPure(what string) error {
	return &sdk.Error{Code: sdk.HandlerFailed, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, HandlerCode: sdk.HandlerCodeContext,
		Text: "a validate can't " + what + ": its verdict rests on the entry alone"}
}

func (*pureHost) Send(context.Context, sdk.Message) ([]byte, error) {
	return nil, errPure("send")
}
func (*pureHost) Commit(context.Context, sdk.Entry) (sdk.Hash, error) {
	return sdk.Hash{}, errPure("commit")
}
func (*pureHost) Query(context.Context, sdk.Query) ([]sdk.Record, error) {
	return nil, errPure("query")
}
func (*pureHost) Get(context.Context, sdk.Hash) (sdk.Record, error) {
	return sdk.Record{}, errPure("get entries")
}

func (*pureHost) Notify(context.Context, sdk.Notice) ([]error, error) { return nil, errPure("notify") }
func (*pureHost) Emit(context.Context, []byte) error                  { return errPure("emit signals") }
func (*pureHost) Online(context.Context, sdk.AgentID) (sdk.Presence, error) {
	return sdk.Presence{}, errPure("see who is online")
}
func (*pureHost) Grant(context.Context, sdk.Grant) (sdk.Claim, error) {
	return sdk.Claim{}, errPure("grant")
}
func (*pureHost) Revoke(context.Context, sdk.Hash) error { return errPure("revoke") }
func (*pureHost) Claim(context.Context, sdk.Claim) error { return errPure("claim") }
func (*pureHost) Delegate(context.Context, sdk.Delegation) (sdk.Proof, error) {
	return nil, errPure("delegate")
}
func (*pureHost) List(context.Context, sdk.List) (sdk.Page, error) {
	return sdk.Page{}, errPure("list grants, claims and delegations")
}

func (h *pureHost) Log(ctx context.Context, level slog.Level, text string, args ...any) {
	h.app.log.With("message", h.call.ID.String()).Log(ctx, level, text, args...)
}
