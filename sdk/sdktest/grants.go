package sdktest

import (
	"context"
	"crypto/rand"
	"slices"
	"time"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/agency"
)

// A node's defaults of max-grants, max-claims and max-claims-per-agent.
const (
	maxGrants       = 4096
	maxClaims       = 4096
	maxClaimsPerOne = 64
)

// appendOwn appends an entry of the node's own for this call: durable at once,
// whatever becomes of the call, and no reason for a strict commit of it to fail.
func (r *running) appendOwn(e sdk.Entry) error {
	cause := sdk.Cause{Kind: r.call.Kind, Message: r.call.ID, From: r.call.From}
	entries := []sdk.Entry{e}
	r.mu.Lock()
	proof := len(r.call.Behalf) > 0 && !r.proven
	r.mu.Unlock()
	if proof { // e stays, whatever becomes of the call: so its proof comes with it
		entries = append(entries, r.proof())
	}
	n, err := r.node.chain.appendOwn(cause, entries...)
	if err != nil {
		return err
	}
	r.effects.Add(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.proven = r.proven || proof
	for i := range entries {
		r.own = append(r.own, n+uint64(i))
	}
	for {
		i := slices.Index(r.own, r.base)
		if i < 0 {
			break
		}
		r.base++
		r.own = slices.Delete(r.own, i, i+1)
	}
	return nil
}

// Grant makes a grant, as sdk.Host says.
func (r *running) Grant(_ context.Context, g sdk.Grant) (sdk.Claim, error) {
	if err := r.live("Grant"); err != nil {
		return sdk.Claim{}, err
	}
	x, now := r.node, time.Now()
	if err := g.Check(); err != nil {
		return sdk.Claim{}, sdk.Fail(sdk.HandlerCodeInput, "%v", err)
	}
	if !g.Expires.IsZero() && !g.Expires.After(now) {
		return sdk.Claim{}, sdk.Fail(sdk.HandlerCodeInput, "grant: it has expired already, at %s", g.Expires.UTC().Format(time.RFC3339))
	}
	g.Agents, g.Functions = slices.Clone(g.Agents), slices.Clone(g.Functions)
	if !g.Expires.IsZero() {
		g.Expires = g.Expires.UTC().Truncate(time.Microsecond)
	}
	e := agency.Entry{Grant: g}
	_, _ = rand.Read(e.Nonce[:]) // never fails
	claim := sdk.Claim{Grantor: x.id, Functions: g.Functions, Expires: g.Expires}
	if g.Kind == sdk.GrantTransferable {
		_, _ = rand.Read(claim.Secret[:])
		e.Secret = agency.SecretHash(claim.Secret)
	}
	content, err := e.Encode()
	if err != nil {
		return sdk.Claim{}, sdk.Fail(sdk.HandlerCodeInput, "%v", err)
	}
	claim.Grant = sdk.EntryHash(content)
	x.mu.Lock()
	full := x.book.Full(now, 0)
	x.mu.Unlock()
	if full != nil {
		return sdk.Claim{}, full
	}
	if err := r.appendOwn(sdk.Entry{Type: agency.TypeGrant, Content: content}); err != nil {
		return sdk.Claim{}, err
	}
	x.mu.Lock()
	x.book.Add(claim.Grant, e, now, 0)
	x.mu.Unlock()
	x.tell(&claim, false, g.Agents)
	x.net.changed()
	return claim, nil
}

// Revoke ends a grant, as sdk.Host says.
func (r *running) Revoke(_ context.Context, id sdk.Hash) error {
	if err := r.live("Revoke"); err != nil {
		return err
	}
	x := r.node
	x.mu.Lock()
	known, lasts := x.book.Known(time.Now(), id)
	x.mu.Unlock()
	switch {
	case !known:
		if found, err := r.revokeDelegation(id); found || err != nil {
			return err
		}
		return &sdk.Error{Code: sdk.HandlerFailed, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true, HandlerCode: sdk.HandlerCodeNotFound,
			Text: "no grant " + id.String() + " lasts: it has expired, or there was none"}
	case !lasts:
		return nil
	}
	content, err := agency.EncodeRevoked(id)
	if err != nil {
		return err
	}
	if err := r.appendOwn(sdk.Entry{Type: agency.TypeRevoked, Content: content}); err != nil {
		return err
	}
	x.mu.Lock()
	holders, _ := x.book.Revoke(time.Now(), id)
	x.mu.Unlock()
	x.tell(&sdk.Claim{Grantor: x.id, Grant: id}, true, holders)
	x.net.changed()
	return nil
}

// Claim keeps a claim, as sdk.Host says.
func (r *running) Claim(_ context.Context, c sdk.Claim) error {
	if err := r.live("Claim"); err != nil {
		return err
	}
	if err := c.Check(); err != nil {
		return sdk.Fail(sdk.HandlerCodeInput, "%v", err)
	}
	x := r.node
	if c.Grantor == x.id {
		return sdk.Fail(sdk.HandlerCodeInput, "claim: the grant is this agent's own; it needs none")
	}
	c.Functions = slices.Clone(c.Functions)
	x.mu.Lock()
	_, e := x.claims.Add(time.Now(), agency.HeldClaim{Claim: c, DNA: x.dna.Hash()})
	x.mu.Unlock()
	if e != nil {
		return e
	}
	r.effects.Add(1)
	return nil
}

// tell has the holders' nodes know of a grant or of its end, at once.
func (x *Node) tell(c *sdk.Claim, over bool, holders []sdk.AgentID) {
	held := agency.HeldClaim{Claim: *c, DNA: x.dna.Hash(), Told: true}
	held.Secret = sdk.Secret{}
	for _, id := range holders {
		x.net.mu.Lock()
		y := x.net.nodes[id]
		x.net.mu.Unlock()
		if y == nil || y == x || y.hears(x.id) != nil || y.dna.Hash() != held.DNA {
			continue
		}
		y.mu.Lock()
		if over {
			y.claims.Remove(held.Key())
		} else {
			_, _ = y.claims.Add(time.Now(), held)
		}
		y.mu.Unlock()
	}
}

// Claims are the claims that the node holds.
func (x *Node) Claims() (list []sdk.Claim) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, c := range x.claims.List(time.Now()) {
		list = append(list, c.Claim)
	}
	return list
}

// claimTries is as many claims as a node tries for one call.
const claimTries = 4

// claimed tries the claims that x has for a call of y's function, the best first,
// and no claim where it has none. who is in whose name it calls.
func (x *Node) claimed(who sdk.AgentID, y *Node, m *sdk.Message) (use *agency.Use, e *sdk.Error) {
	var tried []sdk.Hash
	for {
		now := time.Now()
		ask := &agency.Ask{Caller: who, Function: m.Function, Payload: len(m.Payload)}
		x.mu.Lock()
		c, ok := x.claims.Choose(now, x.dna.Hash(), m.To, m.Function, tried)
		x.mu.Unlock()
		if !ok && len(tried) > 0 || len(tried) == claimTries {
			return nil, e
		}
		if ok {
			ask.Claim = slices.Concat(c.Grant[:], c.Secret[:])
			tried = append(tried, c.Grant)
		}
		y.mu.Lock()
		use, e = y.book.Take(now, ask)
		y.mu.Unlock()
		if !ok || e == nil || e.Code != sdk.Refused {
			return use, e
		}
		x.mu.Lock()
		x.claims.Refuse(agency.ClaimKey{DNA: x.dna.Hash(), Grantor: m.To, Grant: c.Grant}, e.Text)
		x.mu.Unlock()
	}
}

// granted lets another agent's call of a function in, which who has a grant for, or
// says why not. release takes the use back.
func (y *Node) granted(who sdk.AgentID, from *Node, m *sdk.Message) (release func(), e *sdk.Error) {
	release = func() {}
	if who != y.id {
		use, e := from.claimed(who, y, m)
		if e != nil {
			return nil, e
		}
		release = func() {
			y.mu.Lock()
			defer y.mu.Unlock()
			y.book.GiveBack(use)
		}
	}
	if !slices.Contains(y.desc.Functions, m.Function) {
		release()
		return nil, &sdk.Error{Code: sdk.NoHandler, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true,
			Text: "DNA " + y.dna.Name + " has no function \"" + m.Function + "\""}
	}
	return release, nil
}
