package node

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	bolt "go.etcd.io/bbolt"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/agency"
)

// policy says whom this node hears, and how much of it at once. It is asked before
// anything else is done with what came. Requests of the DHT are not under it.
type policy struct {
	rules atomic.Pointer[agency.Rules] // nil: there are none

	changing sync.Mutex // held while rules are changed

	mu   sync.Mutex // guards load
	load *agency.Load
}

func newPolicy() *policy { return &policy{load: agency.NewLoad()} }

// free tells that nothing of this agent need be counted or refused.
func (p *policy) free(agent sdk.AgentID) bool {
	r := p.rules.Load()
	return r == nil || r.Free(agent)
}

// hears tells whether anything of an agent is let in, be it through another one.
func (p *policy) hears(agent sdk.AgentID) *sdk.Error {
	if r := p.rules.Load(); r != nil {
		return r.Hears(agent)
	}
	return nil
}

// begin lets something of an agent in, or says why not. What was counted is to be
// counted out by end.
func (p *policy) begin(agent sdk.AgentID, amount agency.Amount) (counted bool, e *sdk.Error) {
	r := p.rules.Load()
	if r == nil || r.Free(agent) {
		return false, nil
	}
	if e := r.Hears(agent); e != nil {
		return false, e
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.load.Begin(r, agent, amount); e != nil {
		return false, e
	}
	return true, nil
}

func (p *policy) end(agent sdk.AgentID, amount agency.Amount, counted bool) {
	if !counted {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.load.End(agent, amount)
}

// request is what a request with a body of so many bytes takes.
func requestAmount(body int) (a agency.Amount) {
	a[agency.Requests], a[agency.Bytes] = 1, body
	return a
}

// beginSignal lets a notification of an agent wait for its handler, or says why
// not; endSignal, with what it returned, when it no longer waits.
func (p *policy) beginSignal(agent sdk.AgentID) (counted bool, e *sdk.Error) {
	return p.begin(agent, signalAmount)
}

func (p *policy) endSignal(agent sdk.AgentID, counted bool) { p.end(agent, signalAmount, counted) }

var signalAmount = func() (a agency.Amount) { a[agency.Signals] = 1; return a }()

// A rule stands in agency.db under the agent's key, that of all agents under 32
// zeros:
//
//	version 1 | flags 1 (1 blocked, 2 allowed) | requests 8 | bytes 8 | signals 8
const (
	ruleVersion = 1
	ruleSize    = 2 + 3*8
	ruleBlocked = 1
	ruleAllowed = 2
)

func encodeRule(r agency.Rule) []byte {
	if r.IsZero() {
		return nil
	}
	b := []byte{ruleVersion, 0}
	if r.Blocked {
		b[1] |= ruleBlocked
	}
	if r.Allowed {
		b[1] |= ruleAllowed
	}
	for _, n := range r.Limits {
		b = binary.BigEndian.AppendUint64(b, uint64(int64(n)))
	}
	return b
}

func decodeRule(b []byte) (r agency.Rule, err error) {
	if len(b) != ruleSize || b[0] != ruleVersion || b[1] > ruleBlocked|ruleAllowed {
		return r, fmt.Errorf("a rule of %d bytes that begins with % x", len(b), b[:min(len(b), 2)])
	}
	r.Blocked, r.Allowed = b[1]&ruleBlocked != 0, b[1]&ruleAllowed != 0
	for i := range r.Limits {
		r.Limits[i] = int(int64(binary.BigEndian.Uint64(b[2+8*i:])))
	}
	if r.IsZero() {
		return r, errors.New("a rule that says nothing")
	}
	return r, r.Check()
}

// loadPolicy reads agency.db. What it can't read is an error: who was blocked must
// not be let in.
func (n *Node) loadPolicy() error {
	var rules *agency.Rules
	err := n.agencyDB.each(bucketPolicy, func(k, v []byte) error {
		rule, err := decodeRule(v)
		if err == nil && len(k) != 32 {
			err = fmt.Errorf("a rule under %d bytes", len(k))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", agencyFile, err)
		}
		rules = rules.With(sdk.AgentID(k), rule)
		return nil
	})
	if err == nil {
		n.policy.set(rules)
	}
	return err
}

// agents are those of whom there is a rule.
func (p *policy) agents() map[sdk.AgentID]agency.Rule {
	if r := p.rules.Load(); r != nil {
		return r.Agents
	}
	return nil
}

func (p *policy) set(r *agency.Rules) {
	if r.IsZero() {
		r = nil
	}
	p.rules.Store(r)
}

// changePolicy changes the rules of some agents, the zero agent being all. They
// hold, and are on disk, when it returns nil.
func (n *Node) changePolicy(changes map[sdk.AgentID][]func(*agency.Rule)) error {
	n.policy.changing.Lock()
	defer n.policy.changing.Unlock()
	rules, most := n.policy.rules.Load(), n.cfg.Limits.PolicyMaxAgents
	changed := map[sdk.AgentID]agency.Rule{}
	for agent, list := range changes {
		rule := rules.Rule(agent)
		for _, change := range list {
			change(&rule)
		}
		if err := rule.Check(); err != nil {
			return sdk.Fail(sdk.HandlerCodeInput, "%v", err)
		}
		rules = rules.With(agent, rule)
		changed[agent] = rules.Rule(agent)
	}
	if rules == nil {
		return nil
	}
	if count := len(rules.Agents); count > most && count > len(n.policy.agents()) {
		return &sdk.Error{Code: sdk.Busy, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true, Text: "too many agents in the lists: remove some",
			Limit: &sdk.Limit{Name: "agents in the lists", Setting: "policy-max-agents", Value: uint64(count), Max: uint64(most)}}
	}
	err := n.agencyDB.update(func(tx *bolt.Tx) error {
		for agent, rule := range changed {
			if err := putAgency(tx, bucketPolicy, slices.Clone(agent[:]), encodeRule(rule)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		for agent := range changed {
			n.agencyDB.writeAgain(bucketPolicy+string(agent[:]), func(tx *bolt.Tx) error {
				return putAgency(tx, bucketPolicy, agent[:], encodeRule(n.policy.rules.Load().Rule(agent)))
			})
		}
		return &sdk.Error{Code: sdk.HandlerFailed, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true, HandlerCode: sdk.HandlerCodeCommit,
			Text: fmt.Sprintf("lists and limits stay as they are: %s could not be written: %v; free space or repair the disk, then say it again", agencyFile, err)}
	}
	n.policy.set(rules)
	return nil
}
