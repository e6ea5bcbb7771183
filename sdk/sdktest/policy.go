package sdktest

import (
	"time"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/agency"
)

// AgentLimits are what one agent may have under way at a node at once, as "parley
// limits" sets them. 0 says nothing; Unlimited lifts what is said of all agents.
type AgentLimits struct {
	Requests int // messages and calls that are being served
	Bytes    int // their payloads, and those of notifications, together
	Signals  int // notifications that wait for their handler
}

// Unlimited is one of an agent's AgentLimits.
const Unlimited = agency.Unlimited

// Block has the node hear nothing of an agent.
func (x *Node) Block(agent sdk.AgentID) {
	x.change(agent, func(r *agency.Rule) { r.Blocked = true })
}

// Unblock takes Block back.
func (x *Node) Unblock(agent sdk.AgentID) {
	x.change(agent, func(r *agency.Rule) { r.Blocked = false })
}

// Allow has the node hear only those for whom it was called, and of these nobody who
// is blocked.
func (x *Node) Allow(agent sdk.AgentID) {
	x.change(agent, func(r *agency.Rule) { r.Allowed = true })
}

// Disallow takes Allow back.
func (x *Node) Disallow(agent sdk.AgentID) {
	x.change(agent, func(r *agency.Rule) { r.Allowed = false })
}

// Limit bounds what an agent may have under way at the node; the zero agent stands
// for each of whom nothing is said.
func (x *Node) Limit(agent sdk.AgentID, l AgentLimits) {
	x.change(agent, func(r *agency.Rule) {
		r.Limits[agency.Requests], r.Limits[agency.Bytes], r.Limits[agency.Signals] = l.Requests, l.Bytes, l.Signals
	})
}

func (x *Node) change(agent sdk.AgentID, change func(*agency.Rule)) {
	x.mu.Lock()
	defer x.mu.Unlock()
	rule := x.rules.Rule(agent)
	change(&rule)
	x.rules = x.rules.With(agent, rule)
}

// hears tells whether the node hears an agent; else why not. A node hears itself.
func (x *Node) hears(agent sdk.AgentID) *sdk.Error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if agent == x.id {
		return nil
	}
	return x.rules.Hears(agent)
}

// begin lets something of an agent in, or says why not. end is to be called once,
// when it is no longer under way.
func (x *Node) begin(agent sdk.AgentID, amount agency.Amount) (end func(), e *sdk.Error) {
	if e := x.hears(agent); e != nil {
		return nil, e
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if agent == x.id || x.rules.Free(agent) {
		return func() {}, nil
	}
	if e := x.load.Begin(x.rules, agent, amount); e != nil {
		return nil, e
	}
	return func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.load.End(agent, amount)
	}, nil
}

// knowsLocked tells whether an agent is more than a stranger.
func (x *Node) knowsLocked(agent sdk.AgentID) bool {
	return agent == x.id || x.rules.Rule(agent).Allowed || x.book.Names(time.Now(), agent)
}
