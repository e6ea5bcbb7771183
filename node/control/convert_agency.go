package control

import (
	"fmt"
	"math"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/parley-p2p/parley/node/control/controlpb"
	"github.com/parley-p2p/parley/sdk"
)

var grantKinds = map[string]sdk.GrantKind{"assigned": sdk.GrantAssigned, "transferable": sdk.GrantTransferable, "unrestricted": sdk.GrantUnrestricted}

// GrantKindName is a kind's name in the control API.
func GrantKindName(k sdk.GrantKind) string {
	for name, kind := range grantKinds {
		if kind == k {
			return name
		}
	}
	return ""
}

func (r *reader) agents(field string, list []string) (out []sdk.AgentID) {
	for _, s := range list {
		if s == "" {
			r.fail(field, fmt.Errorf("an agent without a name"))
		}
		out = append(out, r.agent(field, s))
	}
	return out
}

func agentTexts(list []sdk.AgentID) []string {
	var out []string
	for _, a := range list {
		out = append(out, a.String())
	}
	return out
}

func (r *reader) count32(field string, n int64) int {
	if n < 0 || n > math.MaxInt32 {
		r.fail(field, fmt.Errorf("%d, 0 to %d", n, math.MaxInt32))
		return 0
	}
	return int(n)
}

func grantToWire(g *Grant) *controlpb.Grant {
	m := &controlpb.Grant{Grant: hashText(g.ID), Kind: g.Kind, Agents: agentTexts(g.Agents), Functions: texts(g.Functions), Expires: timestamp(g.Expires),
		Uses: int64(g.Uses), Used: int64(g.Used), Rate: int64(g.Rate), MaxPayload: int64(g.MaxPayload), Since: timestamp(g.Since), Expired: g.Expired}
	if g.Per != 0 {
		m.Per = durationpb.New(g.Per)
	}
	return m
}

func grantFromWire(m *controlpb.Grant) (Grant, error) {
	var r reader
	g := Grant{ID: r.hash("grant", m.GetGrant()), Kind: m.GetKind(), Agents: r.agents("agents", m.GetAgents()), Functions: m.GetFunctions(),
		Expires: r.time("expires", m.GetExpires()), Uses: r.count32("uses", m.GetUses()), Used: r.count32("used", m.GetUsed()),
		Rate: r.count32("rate", m.GetRate()), Per: r.duration("per", m.GetPer()), MaxPayload: r.count32("max_payload", m.GetMaxPayload()),
		Since: r.time("since", m.GetSince()), Expired: m.GetExpired()}
	if _, ok := grantKinds[g.Kind]; !ok {
		r.fail("kind", fmt.Errorf("%q: assigned, transferable or unrestricted", g.Kind))
	}
	return g, r.err()
}

// newGrant is the grant that a request is for.
func newGrant(m *controlpb.Grant) (sdk.Grant, error) {
	g, err := grantFromWire(m)
	if err != nil {
		return sdk.Grant{}, inputErrorf("grant: %v", err)
	}
	out := sdk.Grant{Kind: grantKinds[g.Kind], Agents: g.Agents, Functions: g.Functions, Expires: g.Expires, Uses: g.Uses,
		Rate: sdk.Rate{N: g.Rate, Per: g.Per}, MaxPayload: g.MaxPayload}
	if err := out.Check(); err != nil {
		return out, inputErrorf("%v", err)
	}
	return out, nil
}

func newGrantToWire(g *sdk.Grant) *controlpb.Grant {
	return grantToWire(&Grant{Kind: GrantKindName(g.Kind), Agents: g.Agents, Functions: g.Functions, Expires: g.Expires, Uses: g.Uses,
		Rate: g.Rate.N, Per: g.Rate.Per, MaxPayload: g.MaxPayload})
}

func claimToWire(c *Claim) *controlpb.Claim {
	return &controlpb.Claim{Grantor: agentText(c.Grantor), Grant: hashText(c.Grant), Functions: texts(c.Functions), Expires: timestamp(c.Expires),
		Since: timestamp(c.Since), Told: c.Told, Secret: c.Secret, Refused: text(c.Refused)}
}

func claimFromWire(m *controlpb.Claim) (Claim, error) {
	var r reader
	c := Claim{Grantor: r.agent("grantor", m.GetGrantor()), Grant: r.hash("grant", m.GetGrant()), Functions: m.GetFunctions(),
		Expires: r.time("expires", m.GetExpires()), Since: r.time("since", m.GetSince()), Told: m.GetTold(), Secret: m.GetSecret(), Refused: m.GetRefused()}
	return c, r.err()
}

func policyToWire(p *Policy) *controlpb.PolicyResponse {
	return &controlpb.PolicyResponse{Blocked: agentTexts(p.Blocked), Allowed: agentTexts(p.Allowed), Limits: limitsToWire(p.Limits)}
}

func policyFromWire(m *controlpb.PolicyResponse) (Policy, error) {
	var r reader
	p := Policy{Blocked: r.agents("blocked", m.GetBlocked()), Allowed: r.agents("allowed", m.GetAllowed()), Limits: r.limits(m.GetLimits())}
	return p, r.err()
}

func limitsToWire(list []AgentLimit) (out []*controlpb.AgentLimit) {
	for _, l := range list {
		out = append(out, &controlpb.AgentLimit{Agent: agentText(l.Agent), Name: text(l.Name), Max: int64(l.Max)})
	}
	return out
}

func (r *reader) limits(list []*controlpb.AgentLimit) (out []AgentLimit) {
	for _, l := range list {
		if n := l.GetMax(); n < -1 || n > math.MaxInt {
			r.fail(l.GetName(), fmt.Errorf("%d: more than 0, or -1 for none", n))
		}
		out = append(out, AgentLimit{Agent: r.agent("agent", l.GetAgent()), Name: l.GetName(), Max: int(l.GetMax())})
	}
	return out
}

func changeToWire(c *PolicyChange) *controlpb.ChangePolicyRequest {
	return &controlpb.ChangePolicyRequest{Block: agentTexts(c.Block), Unblock: agentTexts(c.Unblock), Allow: agentTexts(c.Allow),
		Disallow: agentTexts(c.Disallow), Limits: limitsToWire(c.Limits)}
}

func changeFromWire(m *controlpb.ChangePolicyRequest) (PolicyChange, error) {
	var r reader
	c := PolicyChange{Block: r.agents("block", m.GetBlock()), Unblock: r.agents("unblock", m.GetUnblock()), Allow: r.agents("allow", m.GetAllow()),
		Disallow: r.agents("disallow", m.GetDisallow()), Limits: r.limits(m.GetLimits())}
	if err := r.err(); err != nil {
		return c, inputErrorf("%v", err)
	}
	return c, nil
}
