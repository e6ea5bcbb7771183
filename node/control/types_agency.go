package control

import (
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// Grant is a grant as its grantor's operator sees it. What is zero does not limit.
type Grant struct {
	ID         sdk.Hash      `json:"grant"`
	Kind       string        `json:"kind"` // assigned, transferable, unrestricted
	Agents     []sdk.AgentID `json:"agents"`
	Functions  []string      `json:"functions"` // none: all
	Expires    time.Time     `json:"expires,omitzero"`
	Uses       int           `json:"uses,omitempty"`
	Used       int           `json:"used"` // counted where Uses are
	Rate       int           `json:"rate,omitempty"`
	Per        time.Duration `json:"per_ns,omitempty"`
	MaxPayload int           `json:"max_payload,omitempty"`
	Since      time.Time     `json:"since"`
	Expired    bool          `json:"expired"`
}

// Claim is another agent's grant as its holder's operator sees it.
type Claim struct {
	Grantor   sdk.AgentID `json:"grantor"`
	Grant     sdk.Hash    `json:"grant"`
	Functions []string    `json:"functions"` // none: all
	Expires   time.Time   `json:"expires,omitzero"`
	Since     time.Time   `json:"since"`
	// Told: by the grantor's node; else the handler or the operator added it.
	Told bool `json:"told"`
	// Secret tells that it has one: the grant is transferable.
	Secret bool `json:"secret"`
	// Refused is why the grantor's node refused it the last time.
	Refused string `json:"refused,omitempty"`
}

// Policy says whom a node hears, and how much of it.
type Policy struct {
	Blocked []sdk.AgentID `json:"blocked"`
	Allowed []sdk.AgentID `json:"allowed"` // where there are any, only these are heard
	Limits  []AgentLimit  `json:"limits"`
}

// AgentLimit bounds what one agent may have under way.
type AgentLimit struct {
	// Agent is zero where the limit is that of each agent of which nothing else is said.
	Agent sdk.AgentID `json:"agent,omitzero"`
	// Name is agent-requests, agent-bytes or agent-signals.
	Name string `json:"name"`
	// Max is -1 for none, and in a change 0 for that of all agents.
	Max int `json:"max"`
}

// PolicyChange is what is to be changed, in this order.
type PolicyChange struct {
	Block, Unblock, Allow, Disallow []sdk.AgentID
	Limits                          []AgentLimit
}
