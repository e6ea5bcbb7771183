package agency

import (
	"fmt"
	"maps"

	"github.com/parley-p2p/parley/sdk"
)

// What a node bounds of each other agent, at once.
const (
	Requests = iota // messages, of any kind, that are being served
	Bytes           // their payloads
	Signals         // notifications that wait for their handler
	limits
)

// LimitNames are the limits' names, as settings.
var LimitNames = [limits]string{"agent-requests", "agent-bytes", "agent-signals"}

// ParseLimit reads one of LimitNames.
func ParseLimit(name string) (int, error) {
	for i, n := range LimitNames {
		if n == name {
			return i, nil
		}
	}
	return 0, fmt.Errorf("limit %q: agent-requests, agent-bytes or agent-signals", name)
}

// Unset is a limit that says nothing: an agent's is then that of all agents, and
// that of all agents is none.
const Unset = 0

// Unlimited is an agent's limit that lifts that of all agents.
const Unlimited = -1

// Rule is what holds for one agent, or, but for the lists, for all.
type Rule struct {
	Blocked bool // it is not heard
	Allowed bool // where any agent has this, only those that have it are heard
	Limits  [limits]int
}

// IsZero tells that the rule says nothing.
func (r Rule) IsZero() bool { return r == Rule{} }

// Check tells what is wrong with a rule.
func (r Rule) Check() error {
	for i, n := range r.Limits {
		if n < Unlimited {
			return fmt.Errorf("%s: %d, more than 0", LimitNames[i], n)
		}
	}
	return nil
}

// Rules say whom a node hears, and how much of it. They don't change: With makes
// others.
type Rules struct {
	// All holds for agents of which Agents says nothing; it is in no list.
	All     Rule
	Agents  map[sdk.AgentID]Rule
	allowed int // of Agents
}

// With is r with another rule for an agent; the zero agent stands for all.
func (r *Rules) With(agent sdk.AgentID, rule Rule) *Rules {
	out := &Rules{}
	if r != nil {
		*out = *r
	}
	if agent.IsZero() {
		rule.Blocked, rule.Allowed = false, false
		out.All = rule
		return out
	}
	out.Agents = maps.Clone(out.Agents)
	if out.Agents == nil {
		out.Agents = map[sdk.AgentID]Rule{}
	}
	if out.Agents[agent].Allowed {
		out.allowed--
	}
	if rule.Allowed {
		out.allowed++
	}
	if out.Agents[agent] = rule; rule.IsZero() {
		delete(out.Agents, agent)
	}
	return out
}

// Rule is what was said of an agent; the zero agent stands for all.
func (r *Rules) Rule(agent sdk.AgentID) Rule {
	switch {
	case r == nil:
		return Rule{}
	case agent.IsZero():
		return r.All
	}
	return r.Agents[agent]
}

// IsZero tells that there are no rules.
func (r *Rules) IsZero() bool { return r == nil || r.All.IsZero() && len(r.Agents) == 0 }

// AllowedOnly tells that only those are heard who are allowed.
func (r *Rules) AllowedOnly() bool { return r != nil && r.allowed > 0 }

// Hears tells whether an agent is heard; else why not.
func (r *Rules) Hears(agent sdk.AgentID) *sdk.Error {
	if r == nil {
		return nil
	}
	rule := r.Agents[agent]
	if rule.Blocked || r.allowed > 0 && !rule.Allowed {
		return Refused("blocked")
	}
	return nil
}

// Limit is an agent's limit; 0: none.
func (r *Rules) Limit(agent sdk.AgentID, limit int) int {
	if r == nil {
		return 0
	}
	n := r.Agents[agent].Limits[limit]
	if n == Unset {
		n = r.All.Limits[limit]
	}
	return max(0, n)
}

// Free tells that an agent is heard and has no limits: nothing need be counted.
func (r *Rules) Free(agent sdk.AgentID) bool {
	if r == nil {
		return true
	}
	if r.Hears(agent) != nil {
		return false
	}
	for i := range limits {
		if r.Limit(agent, i) > 0 {
			return false
		}
	}
	return true
}
