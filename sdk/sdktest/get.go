package sdktest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/parley-p2p/parley/sdk"
)

// Get finds a public entry, as sdk.Host says: on the own chain, else with the
// others. Every node of a Net keeps the public entries of all, at once and for
// ever: those of a stopped node are found while another one can be asked.
func (r *running) Get(ctx context.Context, record sdk.Hash) (sdk.Record, error) {
	if err := r.live("Get"); err != nil {
		return sdk.Record{}, err
	}
	x := r.node
	if found, ok := x.chain.published(record); ok {
		return found, nil
	}
	l, ok := x.nearest()
	if !ok {
		return sdk.Record{}, &sdk.Error{Code: sdk.Unreachable, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true,
			Text: "get: no node of the test's network can be reached"}
	}
	for range 2 { // there and back
		if l.pause(ctx) {
			continue
		}
		if ctx.Err() != nil {
			return sdk.Record{}, ctxError(ctx, sdk.DeliveredNo)
		}
		return sdk.Record{}, &sdk.Error{Code: sdk.Unreachable, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true,
			Text: "get: the link was cut while the node was asked"}
	}
	found, ok := x.net.published(x.dna.Hash(), record)
	if !ok {
		return sdk.Record{}, &sdk.Error{Code: sdk.HandlerFailed, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true,
			HandlerCode: sdk.HandlerCodeNotFound, Text: fmt.Sprintf("get: no public entry of DNA %s has the record hash %s", x.dna.Name, record)}
	}
	if x.desc.Validate {
		if _, e := x.run(ctx, &sdk.Call{Kind: sdk.CallValidate, ID: newMessageID(), From: x.id, Records: []sdk.Record{found}}); e != nil {
			return sdk.Record{}, e
		}
	}
	return found, nil
}

// nearest is the link to the node that answers first; false if there is none.
func (x *Node) nearest() (l linkState, ok bool) {
	for _, y := range x.net.all() {
		if y == x || y.isStopped() {
			continue
		}
		if way := x.net.link(x, y); !isClosed(way.cut) && (!ok || way.delay < l.delay) {
			l, ok = way, true
		}
	}
	return l, ok
}

func (n *Net) all() []*Node {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.SortedFunc(maps.Values(n.nodes), func(a, b *Node) int { return strings.Compare(a.name, b.name) })
}

func (n *Net) published(dna sdk.DNAHash, record sdk.Hash) (sdk.Record, bool) {
	for _, y := range n.all() {
		if y.dna.Hash() != dna {
			continue
		}
		if r, ok := y.chain.published(record); ok {
			return r, true
		}
	}
	return sdk.Record{}, false
}
