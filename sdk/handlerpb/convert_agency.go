package handlerpb

import (
	"math"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// This file converts what handlers ask for beside messages and entries:
// notifications, signals, grants and delegations.

func timeToWire(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// timeFromWire knows no time before 1970: 0 is none.
func timeFromWire(us int64) (time.Time, error) {
	switch {
	case us == 0:
		return time.Time{}, nil
	case us < 0:
		return time.Time{}, malformed("a time before 1970")
	}
	return time.UnixMicro(us).UTC(), nil
}

func countFromWire(what string, n uint64) (int, error) {
	if n > math.MaxInt32 {
		return 0, malformed("%s: %d, at most %d", what, n, math.MaxInt32)
	}
	return int(n), nil
}

func agentsToWire(ids []sdk.AgentID) [][]byte {
	out := make([][]byte, len(ids))
	for i := range ids {
		out[i] = ids[i][:]
	}
	return out
}

func agentsFromWire(list [][]byte, most int) ([]sdk.AgentID, error) {
	if len(list) > most {
		return nil, malformed("%d agents, at most %d", len(list), most)
	}
	var out []sdk.AgentID
	for _, b := range list {
		id, err := fixed[sdk.AgentID]("agent", b)
		if err != nil {
			return nil, err
		}
		out = append(out, id)
	}
	return out, nil
}

func rateToWire(r sdk.Rate) *Rate {
	if r == (sdk.Rate{}) {
		return nil
	}
	return &Rate{N: uint64(r.N), PerNs: int64(r.Per)}
}

func rateFromWire(w *Rate) (r sdk.Rate, err error) {
	if r.N, err = countFromWire("rate", w.GetN()); err != nil {
		return r, err
	}
	r.Per = time.Duration(w.GetPerNs())
	return r, nil
}

// bounds are what a grant and a delegation have in common.
type bounds struct {
	uses, payload int
	rate          sdk.Rate
}

func boundsFromWire(uses, payload uint64, r *Rate) (b bounds, err error) {
	if b.uses, err = countFromWire("uses", uses); err != nil {
		return b, err
	}
	if b.payload, err = countFromWire("payload", payload); err != nil {
		return b, err
	}
	b.rate, err = rateFromWire(r)
	return b, err
}

// sane gives what sdk says is wrong with a value the contract's error.
func sane(err error) error {
	if err != nil {
		return malformed("%v", err)
	}
	return nil
}

// agencyToWire is of the callbacks of this file.
func agencyToWire(c *Callback) (w *CallbackRequest, err error) {
	w = &CallbackRequest{Cb: c.ID}
	switch c.Op {
	case OpNotify:
		n, e := noticeToWire(c)
		w.Op, err = &CallbackRequest_Notify{Notify: n}, e
	case OpEmit:
		w.Op = &CallbackRequest_Emit{Emit: &Emit{Payload: c.Payload}}
	case OpOnline:
		w.Op = &CallbackRequest_Online{Online: &Online{Agent: c.Agent[:]}}
	case OpGrant:
		g, e := grantToWire(&c.Grant)
		w.Op, err = &CallbackRequest_Grant{Grant: g}, e
	case OpRevoke:
		w.Op = &CallbackRequest_Revoke{Revoke: &Revoke{Id: c.Revoke[:]}}
	case OpClaim:
		k, e := claimToWire(&c.Claim)
		w.Op, err = &CallbackRequest_Claim{Claim: k}, e
	case OpDelegate:
		d, e := delegationToWire(&c.Delegate)
		w.Op, err = &CallbackRequest_Delegate{Delegate: d}, e
	case OpList:
		l, e := listToWire(&c.List)
		w.Op, err = &CallbackRequest_List{List: l}, e
	default:
		err = malformed("callback operation %d", c.Op)
	}
	return w, err
}

func noticeToWire(c *Callback) (*Notify, error) {
	n := &c.Notice
	if err := checkNotice(n); err != nil {
		return nil, err
	}
	return &Notify{To: agentsToWire(n.To), Payload: n.Payload, Wait: n.Wait, RemainingMs: remainingToWire(c.Remaining), Behalf: n.Behalf}, nil
}

func noticeFromWire(w *Notify) (n sdk.Notice, err error) {
	if n.To, err = agentsFromWire(w.GetTo(), sdk.MaxNotified); err != nil {
		return n, err
	}
	n.Payload, n.Wait, n.Behalf = w.GetPayload(), w.GetWait(), proofFromWire(w.GetBehalf())
	return n, checkNotice(&n)
}

func checkNotice(n *sdk.Notice) error {
	if len(n.To) == 0 || len(n.To) > sdk.MaxNotified {
		return malformed("a notification to %d agents, 1 to %d", len(n.To), sdk.MaxNotified)
	}
	return checkProof(n.Behalf)
}

// resultsToWire takes the results of a Notify, each a *sdk.Error or nil.
func resultsToWire(errs []error) (*NotifyResults, error) {
	if len(errs) > sdk.MaxNotified {
		return nil, malformed("%d results, at most %d", len(errs), sdk.MaxNotified)
	}
	w := &NotifyResults{}
	for _, err := range errs {
		r := &NotifyResult{}
		if err != nil {
			e, ok := err.(*sdk.Error)
			if !ok {
				e = &sdk.Error{Code: sdk.HandlerFailed, Side: sdk.SideNode, Text: err.Error()}
			}
			r.Error = errorToWire(e)
		}
		w.Results = append(w.Results, r)
	}
	return w, nil
}

func resultsFromWire(w *NotifyResults) ([]error, error) {
	if len(w.GetResults()) > sdk.MaxNotified {
		return nil, malformed("%d results, at most %d", len(w.GetResults()), sdk.MaxNotified)
	}
	var out []error
	for _, r := range w.GetResults() {
		if r.GetError() == nil {
			out = append(out, nil)
			continue
		}
		e, err := errorFromWire(r.Error)
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, nil
}

func presenceFromWire(w *Presence) (p sdk.Presence, err error) {
	p.Online = w.GetOnline()
	p.LastHeard, err = timeFromWire(w.GetLastHeardUs())
	return p, err
}

func grantToWire(g *sdk.Grant) (*Grant, error) {
	if err := sane(g.Check()); err != nil {
		return nil, err
	}
	return &Grant{Kind: GrantKind(g.Kind), Agents: agentsToWire(g.Agents), Functions: g.Functions, ExpiresUs: timeToWire(g.Expires),
		Uses: uint64(g.Uses), Rate: rateToWire(g.Rate), MaxPayload: uint64(g.MaxPayload)}, nil
}

func grantFromWire(w *Grant) (g sdk.Grant, err error) {
	if w.GetKind() < 0 || w.GetKind() > math.MaxUint8 {
		return g, malformed("grant of kind %d", w.GetKind())
	}
	g.Kind, g.Functions = sdk.GrantKind(w.GetKind()), w.GetFunctions()
	if g.Agents, err = agentsFromWire(w.GetAgents(), sdk.MaxGrantAgents); err != nil {
		return g, err
	}
	if g.Expires, err = timeFromWire(w.GetExpiresUs()); err != nil {
		return g, err
	}
	b, err := boundsFromWire(w.GetUses(), w.GetMaxPayload(), w.GetRate())
	if err != nil {
		return g, err
	}
	g.Uses, g.MaxPayload, g.Rate = b.uses, b.payload, b.rate
	return g, sane(g.Check())
}

func claimToWire(c *sdk.Claim) (*Claim, error) {
	if err := sane(c.Check()); err != nil {
		return nil, err
	}
	w := &Claim{Grantor: c.Grantor[:], Grant: c.Grant[:], Functions: c.Functions, ExpiresUs: timeToWire(c.Expires)}
	if !c.Secret.IsZero() {
		w.Secret = c.Secret[:]
	}
	return w, nil
}

func claimFromWire(w *Claim) (c sdk.Claim, err error) {
	if c.Grantor, err = fixed[sdk.AgentID]("grantor", w.GetGrantor()); err != nil {
		return c, err
	}
	if c.Grant, err = fixed[sdk.Hash]("grant", w.GetGrant()); err != nil {
		return c, err
	}
	if len(w.GetSecret()) > 0 {
		if c.Secret, err = fixed[sdk.Secret]("secret", w.GetSecret()); err != nil {
			return c, err
		}
	}
	c.Functions = w.GetFunctions()
	if c.Expires, err = timeFromWire(w.GetExpiresUs()); err != nil {
		return c, err
	}
	return c, sane(c.Check())
}

func delegationToWire(d *sdk.Delegation) (*Delegate, error) {
	if err := sane(d.Check()); err != nil {
		return nil, err
	}
	return &Delegate{To: d.To[:], Functions: d.Functions, All: d.All, Messages: d.Messages, Agents: agentsToWire(d.Agents),
		NotBeforeUs: timeToWire(d.NotBefore), ExpiresUs: timeToWire(d.Expires), Uses: uint64(d.Uses), Rate: rateToWire(d.Rate),
		MaxPayload: uint64(d.MaxPayload), Depth: uint32(d.Depth), Under: d.Under}, nil
}

func delegationFromWire(w *Delegate) (d sdk.Delegation, err error) {
	if d.To, err = fixed[sdk.AgentID]("receiver of a delegation", w.GetTo()); err != nil {
		return d, err
	}
	d.Functions, d.All, d.Messages, d.Under = w.GetFunctions(), w.GetAll(), w.GetMessages(), proofFromWire(w.GetUnder())
	if d.Agents, err = agentsFromWire(w.GetAgents(), sdk.MaxGrantAgents); err != nil {
		return d, err
	}
	if d.NotBefore, err = timeFromWire(w.GetNotBeforeUs()); err != nil {
		return d, err
	}
	if d.Expires, err = timeFromWire(w.GetExpiresUs()); err != nil {
		return d, err
	}
	b, err := boundsFromWire(w.GetUses(), w.GetMaxPayload(), w.GetRate())
	if err != nil {
		return d, err
	}
	d.Uses, d.MaxPayload, d.Rate = b.uses, b.payload, b.rate
	if d.Depth, err = countFromWire("depth", uint64(w.GetDepth())); err != nil {
		return d, err
	}
	return d, sane(d.Check())
}

// proofFromWire has nil for none.
func proofFromWire(b []byte) sdk.Proof {
	if len(b) == 0 {
		return nil
	}
	return b
}

func checkProof(p sdk.Proof) error { return checkLen("proof", len(p), 0, sdk.MaxProof) }
