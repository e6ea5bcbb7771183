package agency

import (
	"bytes"
	"encoding/binary"
	"slices"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// A list is read in pages. Where the next one begins is told by the place of the
// last element in the list's order, which stays the same whatever comes and goes.

// pageFill is how full a page is.
type pageFill struct{ elements, bytes int }

// takes tells whether there is room for one more element, and counts it in.
func (f *pageFill) takes(size int) bool {
	if f.elements == sdk.MaxListed || f.elements > 0 && f.bytes+size > sdk.MaxListedBytes {
		return false
	}
	f.elements++
	f.bytes += size
	return true
}

// listedSize is about what an element takes that names agents and functions.
func listedSize(agents []sdk.AgentID, functions []string) int {
	n := 192 + 34*len(agents)
	for _, f := range functions {
		n += 2 + len(f)
	}
	return n
}

func badAfter() error {
	return sdk.Fail(sdk.HandlerCodeInput, "list: After is no page's Next")
}

// place is a grant's in the order of age.
func (h *held) place() []byte {
	return append(binary.BigEndian.AppendUint64(make([]byte, 0, 40), uint64(h.since.UnixNano())), h.name[:]...)
}

// Page is a page of List.
func (b *Book) Page(now time.Time, after []byte) (p sdk.Page, err error) {
	if n := len(after); n != 0 && n != 40 {
		return p, badAfter()
	}
	var fill pageFill
	var last *held
	for _, h := range b.sorted() {
		if h.at(now) == endRevoked || bytes.Compare(h.place(), after) <= 0 {
			continue
		}
		if !fill.takes(listedSize(h.entry.Grant.Agents, h.entry.Grant.Functions)) {
			p.Next = last.place()
			break
		}
		s := h.status(now)
		s.Agents, s.Functions = slices.Clone(s.Agents), slices.Clone(s.Functions)
		p.Grants, last = append(p.Grants, s), h
	}
	return p, nil
}

// place is a claim's in the order by grantor and age.
func (h *HeldClaim) place() []byte {
	b := append(make([]byte, 0, 72), h.Grantor[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(h.Since.UnixNano()))
	return append(b, h.Grant[:]...)
}

// Page is a page of one DNA's claims, without their secrets.
func (t *Claims) Page(now time.Time, dna sdk.DNAHash, after []byte) (p sdk.Page, err error) {
	if n := len(after); n != 0 && n != 72 {
		return p, badAfter()
	}
	var fill pageFill
	var last *HeldClaim
	list := t.List(now)
	for i := range list {
		h := &list[i]
		if h.DNA != dna || bytes.Compare(h.place(), after) <= 0 {
			continue
		}
		if !fill.takes(listedSize(nil, h.Functions) + len(h.Refused)) {
			p.Next = last.place()
			break
		}
		p.Claims, last = append(p.Claims, sdk.ClaimStatus{Grantor: h.Grantor, Grant: h.Grant, Functions: slices.Clone(h.Functions), Expires: h.Expires,
			Secret: !h.Secret.IsZero(), Since: h.Since, Told: h.Told, Refused: h.Refused}), h
	}
	return p, nil
}

// delegationsRead is how many delegations are read from the chain for one page, at most:
// those that have ended are passed over.
const delegationsRead = 1000

// DelegationPage is a page of the delegations that stand on a source chain, read by
// query, and have not ended by themselves. Those that can't be read, as of a later
// version, are left out: unread is told of them.
func DelegationPage(now time.Time, query func(sdk.Query) ([]sdk.Record, error), revoked func(sdk.Hash) bool, unread func(*sdk.Record, error), after []byte) (p sdk.Page, err error) {
	q := sdk.Query{Type: sdk.TypeDelegation, Reverse: true, Limit: sdk.MaxListed}
	if n := len(after); n != 0 {
		if n != 8 || binary.BigEndian.Uint64(after) == 0 {
			return p, badAfter()
		}
		q.To = binary.BigEndian.Uint64(after)
	}
	var fill pageFill
	for read := 0; read < delegationsRead; {
		records, err := query(q)
		if err != nil || len(records) == 0 {
			return p, err
		}
		read += len(records)
		for i := range records {
			d, err := delegationStatus(&records[i])
			if err != nil {
				unread(&records[i], err)
			} else if now.Before(d.Expires) {
				if !fill.takes(64 + len(d.Proof)) {
					p.Next = binary.BigEndian.AppendUint64(nil, q.To)
					return p, nil
				}
				d.Revoked = revoked(d.ID)
				p.Delegations = append(p.Delegations, d)
			}
			if q.To = records[i].Header.Seq; q.To == 0 {
				return p, nil
			}
		}
	}
	p.Next = binary.BigEndian.AppendUint64(nil, q.To)
	return p, nil
}

func delegationStatus(r *sdk.Record) (d sdk.DelegationStatus, err error) {
	links, err := sdk.Proof(r.Content).Links()
	if err != nil {
		return d, err
	}
	d = sdk.DelegationStatus{Proof: r.Content, Link: links[len(links)-1], Since: r.Header.Time}
	d.ID = d.Link.ID()
	return d, nil
}
