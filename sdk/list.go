package sdk

import (
	"iter"
	"time"
)

// ListKind says what a List is of.
type ListKind uint8

const (
	ListGrants      ListKind = iota + 1 // Page.Grants, the oldest first
	ListClaims                          // Page.Claims, by grantor
	ListDelegations                     // Page.Delegations, the newest first
)

// Bounds of a Page.
const (
	MaxListed      = 256       // elements
	MaxListedBytes = 256 << 10 // their bytes, about, where there is more than one
	MaxListAfter   = 128       // List.After and Page.Next
)

// List asks for a page of what a node keeps for an agent in one DNA.
type List struct {
	Kind ListKind
	// After is Page.Next of the page before; nil: the first page.
	After []byte
}

// Page is a part of a list, in the field of its kind. It may be empty and not the
// last one.
type Page struct {
	Grants      []GrantStatus
	Claims      []ClaimStatus
	Delegations []DelegationStatus
	// Next is where the next page begins, for nobody but the node to read; nil: this
	// is the last one.
	Next []byte
}

// GrantStatus is a grant of this agent's that was not revoked.
type GrantStatus struct {
	ID Hash // its name: see Revoke
	Grant
	Since   time.Time
	Used    int // how many calls it has let in, where Uses bounds them
	Expired bool
}

// ClaimStatus is a claim that this agent holds. Its secret stays with the node.
type ClaimStatus struct {
	Grantor   AgentID
	Grant     Hash
	Functions []string
	Expires   time.Time
	Secret    bool // it has one
	Since     time.Time
	// Told tells that the grantor's node told of it, and that nobody here has added
	// it: anybody can tell anything.
	Told bool
	// Refused is why the grantor's node refused it the last time; empty: it did not.
	Refused string
}

// DelegationStatus is a delegation by this agent that has not ended by itself.
type DelegationStatus struct {
	ID    Hash // its name: see Revoke
	Proof Proof
	// Link is what it says: the last one of Proof.
	Link
	Since   time.Time
	Revoked bool
}

// Grants walks over this agent's grants of this DNA that were not revoked, the
// oldest first. It ends after the first error. Of those that come or go meanwhile
// some are there, and each at most once.
func (c *Context) Grants() iter.Seq2[GrantStatus, error] {
	return list(c, "Grants", ListGrants, func(p *Page) []GrantStatus { return p.Grants })
}

// Claims walks over the claims that this agent holds in this DNA, by grantor, as
// Grants does.
func (c *Context) Claims() iter.Seq2[ClaimStatus, error] {
	return list(c, "Claims", ListClaims, func(p *Page) []ClaimStatus { return p.Claims })
}

// Delegations walks over the delegations by this agent in this DNA that have not
// ended by themselves, the newest first, as Grants does. Of those that were given
// to this agent its node knows nothing.
func (c *Context) Delegations() iter.Seq2[DelegationStatus, error] {
	return list(c, "Delegations", ListDelegations, func(p *Page) []DelegationStatus { return p.Delegations })
}

func list[T any](c *Context, what string, kind ListKind, of func(*Page) []T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		q := List{Kind: kind}
		for {
			var p Page
			err := c.live(what)
			if err == nil {
				p, err = c.call.host.List(c.under(), q)
			}
			if err != nil {
				var none T
				yield(none, hostError(err, DeliveredNo))
				return
			}
			for _, v := range of(&p) {
				if !yield(v, nil) {
					return
				}
			}
			if q.After = p.Next; len(q.After) == 0 {
				return
			}
		}
	}
}
