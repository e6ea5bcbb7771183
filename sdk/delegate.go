package sdk

import (
	"crypto/ed25519"
	"fmt"
	"math"
	"slices"
	"time"
)

// SignDelegation makes the proof of a delegation by the agent of key, as a node
// does it. What d leaves at zero it takes over from what it is made under: Agents,
// NotBefore, Uses, Rate and MaxPayload. Times are rounded to the microsecond and a
// rate's period too, to what allows less. nonce is random.
func SignDelegation(d *Delegation, dna DNAHash, key ed25519.PrivateKey, nonce [16]byte, now time.Time) (Proof, error) {
	if err := d.Check(); err != nil {
		return nil, err
	}
	links, err := d.under()
	if err != nil {
		return nil, fmt.Errorf("delegation: Under: %w", err)
	}
	l := d.link()
	l.From, l.DNA, l.Nonce = AgentID(key.Public().(ed25519.PublicKey)), dna, nonce
	if n := len(links); n > 0 {
		parent := &links[n-1]
		l.Parent = parent.ID()
		l.inherit(parent)
	}
	if err := l.check(); err != nil {
		return nil, fmt.Errorf("delegation: %w", err)
	}
	copy(l.Signature[:], ed25519.Sign(key, LinkSigningBytes(l.ID())))
	links = append(links, l)
	p := appendProof(links)
	switch {
	case len(links) > MaxDelegations:
		return nil, fmt.Errorf("delegation: %d in a row, at most %d", len(links), MaxDelegations)
	case len(p) > MaxProof:
		return nil, fmt.Errorf("delegation: its proof has %d bytes, at most %d: name fewer agents or functions", len(p), MaxProof)
	}
	if e := verifyLinks(links, now, true); e != nil {
		return nil, fmt.Errorf("delegation: %w", e)
	}
	return p, nil
}

func (d *Delegation) under() ([]Link, error) {
	if len(d.Under) == 0 {
		return nil, nil
	}
	return d.Under.Links()
}

// link is what d says, without who signs it and under what.
func (d *Delegation) link() Link {
	l := Link{To: d.To, NotBefore: ceilMicro(d.NotBefore), Expires: d.Expires.UTC().Truncate(time.Microsecond),
		Depth: d.Depth, All: d.All, Messages: d.Messages, Functions: slices.Sorted(slices.Values(d.Functions)), Agents: slices.Clone(d.Agents),
		Uses: d.Uses, Rate: d.Rate, MaxPayload: d.MaxPayload}
	if up := l.Rate.Per % time.Microsecond; up > 0 && l.Rate.Per < math.MaxInt64-time.Microsecond {
		l.Rate.Per += time.Microsecond
	}
	l.Rate.Per = l.Rate.Per.Truncate(time.Microsecond)
	slices.SortFunc(l.Agents, compareAgents)
	return l
}

func ceilMicro(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.Add(time.Microsecond - 1).UTC().Truncate(time.Microsecond)
}

// inherit takes over what l leaves open and the link that it is made under does not.
func (l *Link) inherit(parent *Link) {
	if len(l.Agents) == 0 {
		l.Agents = parent.Agents
	}
	if l.NotBefore.IsZero() {
		l.NotBefore = parent.NotBefore
	}
	if l.Uses == 0 {
		l.Uses = parent.Uses
	}
	if l.Rate.N == 0 {
		l.Rate = parent.Rate
	}
	if l.MaxPayload == 0 {
		l.MaxPayload = parent.MaxPayload
	}
}

// OnBehalfOf is the agent in whose name From acts, proven; false: From acts in its
// own.
func (c *Context) OnBehalfOf() (AgentID, bool) {
	links, err := c.Behalf()
	if err != nil || len(links) == 0 {
		return AgentID{}, false
	}
	return links[0].From, true
}

// Behalf is the whole chain of delegations from the agent in whose name From acts
// to From; nil: From acts in its own. The node has verified it.
func (c *Context) Behalf() ([]Link, error) {
	if len(c.call.call.Behalf) == 0 {
		return nil, nil
	}
	return c.call.call.Behalf.Links()
}
