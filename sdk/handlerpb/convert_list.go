package handlerpb

import (
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// This file converts what handlers list: grants, claims and delegations.

func checkList(l *sdk.List) error {
	if l.Kind < sdk.ListGrants || l.Kind > sdk.ListDelegations {
		return malformed("list of kind %d", l.Kind)
	}
	return checkLen("place in a list", len(l.After), 0, sdk.MaxListAfter)
}

func listToWire(l *sdk.List) (*List, error) {
	if err := checkList(l); err != nil {
		return nil, err
	}
	return &List{Kind: ListKind(l.Kind), After: l.After}, nil
}

func listFromWire(w *List) (l sdk.List, err error) {
	if w.GetKind() < 0 || w.GetKind() > 0xff {
		return l, malformed("list of kind %d", w.GetKind())
	}
	l.Kind, l.After = sdk.ListKind(w.GetKind()), w.GetAfter()
	return l, checkList(&l)
}

func checkPage(elements, next int) error {
	if elements > sdk.MaxListed {
		return malformed("a page of %d elements, at most %d", elements, sdk.MaxListed)
	}
	return checkLen("place in a list", next, 0, sdk.MaxListAfter)
}

func pageToWire(p *sdk.Page) (*Listing, error) {
	if err := checkPage(len(p.Grants)+len(p.Claims)+len(p.Delegations), len(p.Next)); err != nil {
		return nil, err
	}
	w := &Listing{Next: p.Next}
	for i := range p.Grants {
		g := &p.Grants[i]
		grant, err := grantToWire(&g.Grant)
		if err != nil {
			return nil, err
		}
		w.Grants = append(w.Grants, &GrantStatus{Id: g.ID[:], Grant: grant, SinceUs: timeToWire(g.Since), Used: uint64(g.Used), Expired: g.Expired})
	}
	for i := range p.Claims {
		c := &p.Claims[i]
		claim, err := claimToWire(&sdk.Claim{Grantor: c.Grantor, Grant: c.Grant, Functions: c.Functions, Expires: c.Expires})
		if err != nil {
			return nil, err
		}
		w.Claims = append(w.Claims, &ClaimStatus{Claim: claim, Secret: c.Secret, SinceUs: timeToWire(c.Since), Told: c.Told, Refused: clip(c.Refused, maxText)})
	}
	for i := range p.Delegations {
		d := &p.Delegations[i]
		if err := checkLen("proof", len(d.Proof), 1, sdk.MaxProof); err != nil {
			return nil, err
		}
		w.Delegations = append(w.Delegations, &DelegationStatus{Proof: d.Proof, SinceUs: timeToWire(d.Since), Revoked: d.Revoked})
	}
	return w, nil
}

func pageFromWire(w *Listing) (p sdk.Page, err error) {
	if err := checkPage(len(w.GetGrants())+len(w.GetClaims())+len(w.GetDelegations()), len(w.GetNext())); err != nil {
		return p, err
	}
	if len(w.GetNext()) > 0 {
		p.Next = w.GetNext()
	}
	for _, g := range w.GetGrants() {
		s, err := grantStatusFromWire(g)
		if err != nil {
			return p, err
		}
		p.Grants = append(p.Grants, s)
	}
	for _, c := range w.GetClaims() {
		s, err := claimStatusFromWire(c)
		if err != nil {
			return p, err
		}
		p.Claims = append(p.Claims, s)
	}
	for _, d := range w.GetDelegations() {
		s, err := delegationStatusFromWire(d)
		if err != nil {
			return p, err
		}
		p.Delegations = append(p.Delegations, s)
	}
	return p, nil
}

func grantStatusFromWire(w *GrantStatus) (s sdk.GrantStatus, err error) {
	s.Expired = w.GetExpired()
	if s.ID, err = fixed[sdk.Hash]("name of a grant", w.GetId()); err != nil {
		return s, err
	}
	if s.Grant, err = grantFromWire(w.GetGrant()); err != nil {
		return s, err
	}
	if s.Since, err = timeFromWire(w.GetSinceUs()); err != nil {
		return s, err
	}
	s.Used, err = countFromWire("uses", w.GetUsed())
	return s, err
}

func claimStatusFromWire(w *ClaimStatus) (s sdk.ClaimStatus, err error) {
	c, err := claimFromWire(w.GetClaim())
	switch {
	case err != nil:
		return s, err
	case !c.Secret.IsZero():
		return s, malformed("a list tells a secret")
	}
	s = sdk.ClaimStatus{Grantor: c.Grantor, Grant: c.Grant, Functions: c.Functions, Expires: c.Expires, Secret: w.GetSecret(), Told: w.GetTold(), Refused: w.GetRefused()}
	if err := checkText("refusal", s.Refused, 0, maxText); err != nil {
		return s, err
	}
	s.Since, err = timeFromWire(w.GetSinceUs())
	return s, err
}

func delegationStatusFromWire(w *DelegationStatus) (s sdk.DelegationStatus, err error) {
	var since time.Time
	if since, err = timeFromWire(w.GetSinceUs()); err != nil {
		return s, err
	}
	links, err := sdk.Proof(w.GetProof()).Links()
	if err != nil {
		return s, malformed("%v", err)
	}
	l := links[len(links)-1]
	return sdk.DelegationStatus{ID: l.ID(), Proof: w.GetProof(), Link: l, Since: since, Revoked: w.GetRevoked()}, nil
}
