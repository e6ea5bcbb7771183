package sdk

import (
	"crypto/ed25519"
	"fmt"
	"slices"
	"time"
)

// The rules that a proof is held against, in the order in which they are checked:
// all links for their signature, then all for freshness, then each against the one
// before, and last what is asked for against the last link.
const (
	RuleFormat    = "format"
	RuleKey       = "key"       // From or To can't be an agent's key
	RuleSignature = "signature" // From has not signed it
	RuleNotYet    = "not-yet"   // NotBefore lies ahead
	RuleExpired   = "expired"   //
	RuleDNA       = "dna"       // it is of another DNA
	RuleParent    = "parent"    // it is not made under the link before
	RuleHolder    = "holder"    // From is not the one to whom the link before was given
	RuleTwice     = "twice"     // an agent stands in the chain twice
	RuleDepth     = "depth"     // the link before may not be handed on so often
	RuleTime      = "time"      // it begins before, or ends after, the link before
	RuleFunctions = "functions" // it allows functions that the link before does not
	RuleMessages  = "messages"  // likewise messages
	RuleAgents    = "agents"    // likewise agents to be called
	RuleUses      = "uses"      // likewise, the number of uses
	RuleRate      = "rate"      // likewise, their rate
	RulePayload   = "payload"   // likewise, their size
	RulePresenter = "presenter" // it was not given to the agent that uses it
	RuleToAgent   = "to-agent"  // it does not allow calls of this agent
	RuleFunction  = "function"  // it does not allow this function
	RuleMessage   = "message"   // it does not allow messages
	RuleTooLarge  = "too-large" // it does not allow a payload of this size
)

// ProofError says which link of a proof breaks which rule.
type ProofError struct {
	Link int    // from 0, the principal's; -1: the proof as a whole
	Rule string // one of the Rule constants
	Text string
}

func (e *ProofError) Error() string {
	if e.Link < 0 {
		return "the proof: " + e.Text
	}
	return fmt.Sprintf("delegation %d of the proof: %s", e.Link+1, e.Text)
}

// Use is what somebody wants to do in the name of another one.
type Use struct {
	Presenter AgentID // who does it: proven otherwise
	DNA       DNAHash
	To        AgentID // who is called
	// Function is the one that is called; empty: a message is sent.
	Function string
	Payload  int // bytes
}

// Behalf is a proof that holds: the chain of delegations, the principal's first.
type Behalf struct{ Links []Link }

// Principal is in whose name is acted.
func (b *Behalf) Principal() AgentID { return b.Links[0].From }

// Verify tells whether p, at a time, lets u happen. It asks nobody: whether a link
// was revoked it can't know. Its error is a *ProofError, of the first rule that is
// broken in the order signature, freshness, narrowing, use.
func (p Proof) Verify(now time.Time, u Use) (*Behalf, error) {
	links, broken := p.links()
	if broken == nil {
		broken = verifyLinks(links, now, false)
	}
	if broken == nil {
		broken = allows(links, &u)
	}
	if broken != nil {
		return nil, broken
	}
	return &Behalf{links}, nil
}

// Allows tells whether a proof that holds lets another use happen. Its error is a
// *ProofError.
func (b *Behalf) Allows(u Use) error {
	if e := allows(b.Links, &u); e != nil {
		return e
	}
	return nil
}

// verifyLinks is all that does not depend on the use. A proof that is only being
// made may begin later.
func verifyLinks(links []Link, now time.Time, made bool) *ProofError {
	for i := range links {
		if e := links[i].signed(); e != nil {
			e.Link = i
			return e
		}
	}
	for i := range links {
		if e := links[i].fresh(now, made); e != nil {
			e.Link = i
			return e
		}
	}
	return narrowing(links)
}

func broken(rule, format string, args ...any) *ProofError {
	return &ProofError{Rule: rule, Text: fmt.Sprintf(format, args...)}
}

func (l *Link) signed() *ProofError {
	for _, a := range []AgentID{l.From, l.To} {
		if !plausibleKey(a) {
			return broken(RuleKey, "%x is no agent's key", a[:])
		}
	}
	if !ed25519.Verify(l.From[:], LinkSigningBytes(l.ID()), l.Signature[:]) {
		return broken(RuleSignature, "%s has not signed it", l.From.Short())
	}
	return nil
}

// plausibleKey refuses the keys for which anybody can sign, and second encodings
// of others: a sign bit, y not below p = 2^255-19, a point of order 8 or less.
func plausibleKey(a AgentID) bool {
	if a[31]&0x80 != 0 || slices.Contains(smallOrder, a) {
		return false
	}
	if a[31] != 0x7f || a[0] < 0xed {
		return true
	}
	for _, b := range a[1:31] {
		if b != 0xff {
			return true
		}
	}
	return false
}

// smallOrder are the points of order 8 or less with sign bit 0, canonically encoded.
var smallOrder = []AgentID{
	{},  // y = 0, order 4
	{1}, // the identity
	{ // y = -1, order 2
		0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
	{ // order 8
		0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0,
		0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05},
	{ // order 8
		0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f,
		0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a},
}

func (l *Link) fresh(now time.Time, made bool) *ProofError {
	switch {
	case !made && now.Add(DelegationSkew).Before(l.NotBefore):
		return broken(RuleNotYet, "it begins at %s", l.NotBefore.Format(time.RFC3339Nano))
	case !now.Before(l.Expires):
		return broken(RuleExpired, "it has expired at %s", l.Expires.Format(time.RFC3339Nano))
	}
	return nil
}

// narrowing holds each link against the one before.
func narrowing(links []Link) *ProofError {
	seen := map[AgentID]bool{links[0].From: true}
	for i := range links {
		l := &links[i]
		var e *ProofError
		switch {
		case l.DNA != links[0].DNA:
			e = broken(RuleDNA, "it is of another DNA than the first one")
		case i == 0 && !l.Parent.IsZero():
			e = broken(RuleParent, "it is the first one, and made under another")
		case i > 0:
			e = links[i-1].narrows(l)
		}
		if e == nil && seen[l.To] {
			e = broken(RuleTwice, "%s stands in the chain twice", l.To.Short())
		}
		if e != nil {
			e.Link = i
			return e
		}
		seen[l.To] = true
	}
	return nil
}

// narrows tells what in next goes beyond l, under which it is made.
func (l *Link) narrows(next *Link) *ProofError {
	switch {
	case next.Parent != l.ID():
		return broken(RuleParent, "it is not made under the one before")
	case next.From != l.To:
		return broken(RuleHolder, "it is given by %s, and the one before was given to %s", next.From.Short(), l.To.Short())
	case next.Depth >= l.Depth:
		return broken(RuleDepth, "it has depth %d, and the one before %d", next.Depth, l.Depth)
	case next.NotBefore.Before(l.NotBefore):
		return broken(RuleTime, "it begins before the one that it is made under")
	case next.Expires.After(l.Expires):
		return broken(RuleTime, "it ends at %s, after the one that it is made under, at %s",
			next.Expires.Format(time.RFC3339Nano), l.Expires.Format(time.RFC3339Nano))
	}
	if e := l.narrowsScope(next); e != nil {
		return e
	}
	switch {
	case l.Uses > 0 && (next.Uses == 0 || next.Uses > l.Uses):
		return broken(RuleUses, "it allows more uses: %d, not %d (0: no bound)", next.Uses, l.Uses)
	case l.Rate.N > 0 && (next.Rate.N == 0 || next.Rate.N > l.Rate.N || next.Rate.Per < l.Rate.Per):
		return broken(RuleRate, "it allows %d uses in %s, not %d in %s (0: no bound)", next.Rate.N, next.Rate.Per, l.Rate.N, l.Rate.Per)
	case l.MaxPayload > 0 && (next.MaxPayload == 0 || next.MaxPayload > l.MaxPayload):
		return broken(RulePayload, "it allows payloads of %d bytes, not %d (0: no bound)", next.MaxPayload, l.MaxPayload)
	}
	return nil
}

// narrowsScope is narrows for what may be done, and with whom.
func (l *Link) narrowsScope(next *Link) *ProofError {
	if next.All && !l.All {
		return broken(RuleFunctions, "it allows all functions")
	}
	for _, f := range next.Functions {
		if !l.function(f) {
			return broken(RuleFunctions, "it allows function %q", f)
		}
	}
	if next.Messages && !l.Messages {
		return broken(RuleMessages, "it allows messages")
	}
	if len(l.Agents) > 0 && len(next.Agents) == 0 {
		return broken(RuleAgents, "it allows calls of any agent")
	}
	for _, a := range next.Agents {
		if !l.agent(a) {
			return broken(RuleAgents, "it allows calls of %s", a.Short())
		}
	}
	return nil
}

func (l *Link) function(name string) bool {
	_, named := slices.BinarySearch(l.Functions, name)
	return l.All || named
}

func (l *Link) agent(a AgentID) bool {
	_, named := slices.BinarySearchFunc(l.Agents, a, compareAgents)
	return named || len(l.Agents) == 0
}

// allows holds a use against the last link, which is the narrowest.
func allows(links []Link, u *Use) *ProofError {
	last := len(links) - 1
	l := &links[last]
	var e *ProofError
	switch {
	case l.To != u.Presenter:
		e = broken(RulePresenter, "it was given to %s", l.To.Short())
	case l.DNA != u.DNA:
		e = broken(RuleDNA, "it is of another DNA")
	case !l.agent(u.To):
		e = broken(RuleToAgent, "it does not allow calls of %s", u.To.Short())
	case u.Function == "" && !l.Messages:
		e = broken(RuleMessage, "it does not allow messages")
	case u.Function != "" && !l.function(u.Function):
		e = broken(RuleFunction, "it does not allow function %q", u.Function)
	case l.MaxPayload > 0 && u.Payload > l.MaxPayload:
		e = broken(RuleTooLarge, "it allows payloads of %d bytes, not of %d", l.MaxPayload, u.Payload)
	}
	if e != nil {
		e.Link = last
	}
	return e
}

// Check is the part of Verify that does not depend on the use: signatures, freshness
// and narrowing.
func (p Proof) Check(now time.Time) error {
	links, broken := p.links()
	if broken == nil {
		broken = verifyLinks(links, now, false)
	}
	if broken != nil {
		return broken
	}
	return nil
}
