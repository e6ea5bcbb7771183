package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/parley-p2p/parley/dht"
	"github.com/parley-p2p/parley/node/chain"
	"github.com/parley-p2p/parley/sdk"
)

// GetEntry finds a public entry of a DNA for one of the agent's own clients, as
// sdk.Host's Get does for a handler. dna is its name or the text form of its hash.
func (n *Node) GetEntry(ctx context.Context, dna string, record sdk.Hash) (sdk.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Deadline)
	defer cancel()
	a, e := n.apps.named(dna)
	if e != nil && n.awaitHandlers(ctx) {
		a, e = n.apps.named(dna)
	}
	if e != nil {
		return sdk.Record{}, e
	}
	r, e := n.get(ctx, a, a.handler, record)
	if e != nil {
		return sdk.Record{}, e
	}
	return r, nil
}

// get finds the public entry of an app's DNA whose record has this hash: on the
// own chain, among those found before, in the DHT. h judges what comes from there.
func (n *Node) get(ctx context.Context, a *app, h server, record sdk.Hash) (sdk.Record, *sdk.Error) {
	r, err := a.chain.PublicByHash(record)
	switch {
	case err == nil:
		return r, nil
	case !errors.Is(err, chain.ErrNotFound):
		return sdk.Record{}, getError(a, record, err.Error())
	}
	id := entryID(a.hash, record)
	if r, ok := n.found.get(id); ok {
		return r, nil
	}
	select {
	case n.searches <- struct{}{}:
		defer func() { <-n.searches }()
	default:
		return sdk.Record{}, errSearches(cap(n.searches))
	}
	ctx, cancel := within(ctx, n.cfg.Deadline)
	defer cancel()
	ctx, give := context.WithCancelCause(ctx)
	defer give(nil)
	defer context.AfterFunc(n.life, func() { give(context.Cause(n.life)) })()
	n.traffic.entrySearches.Add(1)
	body, _, err := n.entries.GetEntry(ctx, id)
	if err != nil {
		return sdk.Record{}, searchError(ctx, a, record, err)
	}
	found, err := chain.ParsePublic(body)
	if err == nil && entryID(found.Header.DNA, found.Hash()) != id {
		err = errors.New("it is another entry")
	}
	if err != nil { // the DHT has checked it: a fault of this node
		return sdk.Record{}, getError(a, record, "what the DHT has found is not it: "+err.Error())
	}
	if err := n.validateForeign(ctx, a, h, found); err != nil {
		e := handlerError(ctx, err)
		e.Delivered, e.Retry = sdk.DeliveredNo, true // nothing was sent
		return sdk.Record{}, e
	}
	n.found.add(id, *found)
	return *found, nil
}

// getError is a search that failed for a reason that a repetition may not meet.
func getError(a *app, record sdk.Hash, why string) *sdk.Error {
	return &sdk.Error{Code: sdk.HandlerFailed, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true,
		Text: fmt.Sprintf("get of record %s of DNA %s: %s", record, a.name, why)}
}

// errSearches is of one more search than may run at once.
func errSearches(max int) *sdk.Error {
	return &sdk.Error{Code: sdk.Busy, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true,
		Text: "too many searches for public entries run at once",
		Limit: &sdk.Limit{Name: "searches for public entries", Setting: "public-searches", Value: uint64(max) + 1, Max: uint64(max),
			RetryAfter: time.Second}}
}

// searchError is the sdk's error for a search of the DHT that found nothing.
func searchError(ctx context.Context, a *app, record sdk.Hash, err error) *sdk.Error {
	if ctx.Err() != nil {
		return contextError(ctx, sdk.DeliveredNo, "the public entry was searched for")
	}
	e := getError(a, record, err.Error())
	switch {
	case errors.Is(err, dht.ErrNotFound):
		e.HandlerCode = sdk.HandlerCodeNotFound
		e.Text = fmt.Sprintf("DNA %s has no public entry of the record hash %s: no node that would keep it has it", a.name, record)
	case errors.Is(err, dht.ErrNoAnswer), errors.Is(err, dht.ErrClosed):
		e.Code = sdk.Unreachable
	case errors.Is(err, dht.ErrBusy):
		e.Code, e.Limit = sdk.Busy, dhtSearches()
	}
	return e
}
