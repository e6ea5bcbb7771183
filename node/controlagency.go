package node

import (
	"bytes"
	"context"
	"maps"
	"slices"

	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/agency"
)

// This file is what the operator does with grants, claims, lists and limits.

// operated runs f with a DNA's app, which does not end meanwhile. put appends for
// the operator.
func (n *Node) operated(dna string, f func(a *app, put ownAppend) error) error {
	a, e := n.apps.named(dna)
	if e != nil {
		return e
	}
	if !a.enter() {
		return errStopping(a.name)
	}
	defer a.leave()
	cause := n.operatorCause()
	return f(a, func(ctx context.Context, e sdk.Entry) error {
		_, err := n.appendOwn(ctx, a, cause, e)
		return err
	})
}

// Grants implements control.Node.
func (n *Node) Grants(_ context.Context, dna string) (list []control.Grant, err error) {
	err = n.operated(dna, func(a *app, _ ownAppend) error {
		a.grants.mu.Lock()
		defer a.grants.mu.Unlock()
		for _, g := range a.grants.book.List(n.now()) {
			list = append(list, control.Grant{ID: g.ID, Kind: agency.KindName(g.Kind), Agents: g.Agents, Functions: g.Functions, Expires: g.Expires,
				Uses: g.Uses, Used: g.Used, Rate: g.Rate.N, Per: g.Rate.Per, MaxPayload: g.MaxPayload, Since: g.Since, Expired: g.Expired})
		}
		return nil
	})
	return list, err
}

// AddGrant implements control.Node.
func (n *Node) AddGrant(ctx context.Context, dna string, g sdk.Grant) (claim sdk.Claim, err error) {
	err = n.operated(dna, func(a *app, put ownAppend) error {
		claim, err = n.grant(ctx, a, g, put)
		return err
	})
	return claim, err
}

// RevokeGrant implements control.Node.
func (n *Node) RevokeGrant(ctx context.Context, dna string, grant sdk.Hash) error {
	return n.operated(dna, func(a *app, put ownAppend) error {
		found, err := n.revokeGrant(ctx, a, grant, put)
		if err == nil && !found {
			return errNoGrant(grant)
		}
		return err
	})
}

// Claims implements control.Node.
func (n *Node) Claims(_ context.Context, dna string) (list []control.Claim, err error) {
	err = n.operated(dna, func(a *app, _ ownAppend) error {
		for _, c := range n.heldClaims(a) {
			list = append(list, control.Claim{Grantor: c.Grantor, Grant: c.Grant, Functions: c.Functions, Expires: c.Expires, Since: c.Since,
				Told: c.Told, Secret: !c.Secret.IsZero(), Refused: c.Refused})
		}
		return nil
	})
	return list, err
}

// AddClaim implements control.Node.
func (n *Node) AddClaim(_ context.Context, dna string, c sdk.Claim) error {
	return n.operated(dna, func(a *app, _ ownAppend) error { return n.addClaim(a, c) })
}

// RemoveClaim implements control.Node.
func (n *Node) RemoveClaim(_ context.Context, dna string, grant sdk.Hash) error {
	return n.operated(dna, func(a *app, _ ownAppend) error {
		found, err := n.removeClaim(a, grant)
		if err == nil && !found {
			return &sdk.Error{Code: sdk.HandlerFailed, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true, HandlerCode: sdk.HandlerCodeNotFound,
				Text: "no claim of grant " + grant.String() + " is held"}
		}
		return err
	})
}

// Policy implements control.Node.
func (n *Node) Policy(context.Context) (p control.Policy, _ error) {
	rules := n.policy.rules.Load()
	if rules == nil {
		return p, nil
	}
	add := func(agent sdk.AgentID, r agency.Rule) {
		if r.Blocked {
			p.Blocked = append(p.Blocked, agent)
		}
		if r.Allowed {
			p.Allowed = append(p.Allowed, agent)
		}
		for i, most := range r.Limits {
			if most != agency.Unset {
				p.Limits = append(p.Limits, control.AgentLimit{Agent: agent, Name: agency.LimitNames[i], Max: most})
			}
		}
	}
	add(sdk.AgentID{}, rules.All)
	for _, agent := range slices.SortedFunc(maps.Keys(rules.Agents), func(x, y sdk.AgentID) int { return bytes.Compare(x[:], y[:]) }) {
		add(agent, rules.Agents[agent])
	}
	return p, nil
}

// ChangePolicy implements control.Node.
func (n *Node) ChangePolicy(ctx context.Context, c control.PolicyChange) (control.Policy, error) {
	changes := map[sdk.AgentID][]func(*agency.Rule){}
	each := func(agents []sdk.AgentID, change func(*agency.Rule)) {
		for _, a := range agents {
			changes[a] = append(changes[a], change)
		}
	}
	each(c.Block, func(r *agency.Rule) { r.Blocked = true })
	each(c.Unblock, func(r *agency.Rule) { r.Blocked = false })
	each(c.Allow, func(r *agency.Rule) { r.Allowed = true })
	each(c.Disallow, func(r *agency.Rule) { r.Allowed = false })
	for agent := range changes {
		if agent.IsZero() || agent == n.id.agent {
			return control.Policy{}, &control.InputError{Text: "lists are of other agents"}
		}
	}
	for _, l := range c.Limits {
		i, err := agency.ParseLimit(l.Name)
		if err != nil {
			return control.Policy{}, &control.InputError{Text: err.Error()}
		}
		most := l.Max
		if l.Agent.IsZero() && most == agency.Unlimited {
			most = agency.Unset
		}
		each([]sdk.AgentID{l.Agent}, func(r *agency.Rule) { r.Limits[i] = most })
	}
	if err := n.changePolicy(changes); err != nil {
		return control.Policy{}, err
	}
	return n.Policy(ctx)
}
