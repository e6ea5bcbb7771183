package sdk

import (
	"errors"
	"fmt"
	"time"
)

// Bounds of grants and delegations.
const (
	MaxGrantAgents    = 256      // Grant.Agents, Delegation.Agents
	MaxGrantFunctions = 64       // Grant.Functions, Delegation.Functions
	MaxProof          = 16 << 10 // a Proof, in bytes
	MaxDelegations    = 8        // links of a Proof
	MaxNotified       = 1024     // Notice.To
)

// Message is what a Send carries.
type Message struct {
	To AgentID
	// Function is the function of To's DNA that is called, for which a grant of To's
	// is needed. Empty: To's receive gets the message.
	Function string
	Payload  []byte
	// Behalf is in whose name, proven; nil: the agent's own.
	Behalf Proof
	// Receipt asks for a matching receipt on both chains before Send returns.
	Receipt bool
}

// Notice is what a Notify carries: one payload to many agents.
type Notice struct {
	To      []AgentID // at most MaxNotified
	Payload []byte
	// Wait has Notify wait until each agent's result is certain.
	Wait bool
	// Behalf is in whose name, proven; nil: the agent's own.
	Behalf Proof
}

// Presence is what this agent's node knows of another agent without asking.
type Presence struct {
	Online bool // there is a session, and it is not silent
	// LastHeard is when a byte of that agent last arrived; zero if never since the
	// node's start.
	LastHeard time.Time
}

// Proof is a chain of delegations, encoded: docs/delegation.md. A Call's Behalf was
// verified by the node.
type Proof []byte

// Secret is what a transferable grant is used with. It prints as a placeholder, so
// that it reaches no log.
type Secret [32]byte

func (s Secret) String() string   { return "[secret]" }
func (s Secret) GoString() string { return "[secret]" }

// MarshalJSON is the placeholder too: logs are often JSON. Claim.Text passes one on.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"[secret]"`), nil }

// IsZero tells that there is none.
func (s Secret) IsZero() bool { return s == Secret{} }

// GrantKind says who may use a grant.
type GrantKind uint8

const (
	GrantAssigned     GrantKind = iota + 1 // those of Grant.Agents
	GrantTransferable                      // whoever has its secret
	GrantUnrestricted                      // everybody
)

// Rate bounds how often something may happen: N times within each Per. The zero
// Rate is no bound.
type Rate struct {
	N   int
	Per time.Duration
}

// Grant lets other agents call functions of this one's DNA. What is zero does not
// limit.
type Grant struct {
	Kind       GrantKind
	Agents     []AgentID // of an assigned one: 1 to MaxGrantAgents
	Functions  []string  // at most MaxGrantFunctions; none: all
	Expires    time.Time
	Uses       int  // how many calls in all
	Rate       Rate // of the calls of all its users
	MaxPayload int  // of a call's input, in bytes
}

// Claim is a grant as its holder knows it.
type Claim struct {
	Grantor AgentID
	Grant   Hash // of the grant's entry: its name
	// Secret is that of a transferable grant: whoever has it may use the grant.
	Secret Secret
	// Functions and Expires are those of the grant.
	Functions []string
	Expires   time.Time
}

// Delegation lets another agent act in this agent's name. What is zero does not
// limit, but for Functions, Messages and Expires.
type Delegation struct {
	To        AgentID
	Functions []string  // that may be called; at most MaxGrantFunctions
	All       bool      // every function may be called
	Messages  bool      // messages may be sent
	Agents    []AgentID // to whom; at most MaxGrantAgents; none: anybody
	NotBefore time.Time
	Expires   time.Time // required
	// Uses, Rate and MaxPayload bound the calls and messages that each agent takes
	// who is called.
	Uses       int
	Rate       Rate
	MaxPayload int
	// Depth is how many more times it may be handed on.
	Depth int
	// Under is the proof of what this agent was given and hands on; nil: it gives
	// away what is its own.
	Under Proof
}

// CheckRate tells what is wrong with a rate.
func CheckRate(r Rate) error {
	if r.N < 0 || r.Per < 0 || (r.N == 0) != (r.Per == 0) {
		return fmt.Errorf("rate of %d in %s: both positive, or none", r.N, r.Per)
	}
	return nil
}

func checkScope(functions []string, agents int, uses, payload int, r Rate) error {
	if len(functions) > MaxGrantFunctions {
		return fmt.Errorf("%d functions, at most %d", len(functions), MaxGrantFunctions)
	}
	for i, f := range functions {
		if err := CheckName(f); err != nil {
			return fmt.Errorf("function %q: %w", f, err)
		}
		for _, g := range functions[:i] {
			if f == g {
				return fmt.Errorf("function %q is there twice", f)
			}
		}
	}
	switch {
	case agents > MaxGrantAgents:
		return fmt.Errorf("%d agents, at most %d", agents, MaxGrantAgents)
	case uses < 0:
		return fmt.Errorf("%d uses", uses)
	case payload < 0:
		return fmt.Errorf("payload of %d bytes", payload)
	}
	return CheckRate(r)
}

// Check tells what is wrong with a grant, whenever it is.
func (g *Grant) Check() error {
	switch {
	case g.Kind < GrantAssigned || g.Kind > GrantUnrestricted:
		return fmt.Errorf("grant of kind %d", g.Kind)
	case g.Kind == GrantAssigned && len(g.Agents) == 0:
		return errors.New("an assigned grant without an agent")
	case g.Kind != GrantAssigned && len(g.Agents) > 0:
		return errors.New("a grant that names agents and is not assigned")
	}
	if err := checkScope(g.Functions, len(g.Agents), g.Uses, g.MaxPayload, g.Rate); err != nil {
		return fmt.Errorf("grant: %w", err)
	}
	return nil
}

// Check tells what is wrong with a delegation, whenever it is and whatever it is
// under.
func (d *Delegation) Check() error {
	switch {
	case d.Expires.IsZero():
		return errors.New("a delegation needs an end: Expires")
	case !d.NotBefore.IsZero() && !d.NotBefore.Before(d.Expires):
		return errors.New("a delegation that ends before it begins")
	case !d.All && len(d.Functions) == 0 && !d.Messages:
		return errors.New("a delegation that allows nothing: name functions, or All, or Messages")
	case d.All && len(d.Functions) > 0:
		return errors.New("a delegation of all functions that names some")
	case d.Depth < 0 || d.Depth >= MaxDelegations:
		return fmt.Errorf("depth %d, 0 to %d", d.Depth, MaxDelegations-1)
	case len(d.Under) > MaxProof:
		return fmt.Errorf("a proof of %d bytes, at most %d", len(d.Under), MaxProof)
	}
	if err := checkScope(d.Functions, len(d.Agents), d.Uses, d.MaxPayload, d.Rate); err != nil {
		return fmt.Errorf("delegation: %w", err)
	}
	return nil
}

// Check tells what is wrong with a claim, whenever it is.
func (c *Claim) Check() error {
	if err := checkScope(c.Functions, 0, 0, 0, Rate{}); err != nil {
		return fmt.Errorf("claim: %w", err)
	}
	return nil
}
