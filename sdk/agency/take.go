package agency

import (
	"slices"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// Ask is another agent's call of a function.
type Ask struct {
	// Caller is who was granted something: the proven caller, or the principal in
	// whose name it calls.
	Caller   sdk.AgentID
	Function string
	Payload  int // bytes of the input
	// Claim names a transferable grant and has its secret (ClaimSize); nil: none.
	Claim []byte
}

// Use is one call that a grant lets in.
type Use struct {
	Grant sdk.Hash
	// Used is how often the grant was used, this time included, where it is for a
	// number of uses; else 0.
	Used int
	held *held
}

// refusal says why a grant does not let a call in, the more telling the greater.
type refusal uint8

const (
	allowed refusal = iota
	notGranted
	revoked
	expired
	spent
	tooLarge
	tooOften
)

// Take finds a grant that lets a call in and counts the use, or says why there
// is none. Of several it takes one that does not count its uses.
func (b *Book) Take(now time.Time, ask *Ask) (*Use, *sdk.Error) {
	var best *held
	worst := notGranted
	var why *held
	try := func(h *held) {
		switch r := h.check(now, ask); {
		case r != allowed:
			if r > worst {
				worst, why = r, h
			}
		case best == nil || best.entry.Grant.Uses > 0 && h.entry.Grant.Uses == 0:
			best = h
		}
	}
	for _, h := range b.byAgent[ask.Caller] {
		try(h)
	}
	for _, h := range b.open {
		try(h)
	}
	if h := b.claimed(ask); h != nil {
		try(h)
	}
	if best == nil {
		return nil, refused(worst, why, ask)
	}
	if wait := best.window.Take(now); wait > 0 {
		// Another one may let it in whose rate is not used up.
		if other := b.within(now, ask, best); other != nil {
			best = other
		} else {
			e := refused(tooOften, best, ask)
			e.Limit.RetryAfter = wait
			return nil, e
		}
	}
	u := &Use{Grant: best.name, held: best}
	if best.entry.Grant.Uses > 0 {
		best.used++
		u.Used = best.used
	}
	b.user(best, ask.Caller)
	return u, nil
}

// within counts the use with another grant that lets the call in; nil if none does.
func (b *Book) within(now time.Time, ask *Ask, not *held) *held {
	for _, h := range slices.Concat(b.byAgent[ask.Caller], b.open, []*held{b.claimed(ask)}) {
		if h != nil && h != not && h.check(now, ask) == allowed && h.window.Take(now) == 0 {
			return h
		}
	}
	return nil
}

// claimed is the transferable grant whose name and secret the call brought.
func (b *Book) claimed(ask *Ask) *held {
	if len(ask.Claim) != ClaimSize {
		return nil
	}
	h := b.grants[sdk.Hash(ask.Claim[:32])]
	if h == nil || h.entry.Grant.Kind != sdk.GrantTransferable || !h.entry.opens(sdk.Secret(ask.Claim[32:])) {
		return nil
	}
	return h
}

// check is everything but the rate.
func (h *held) check(now time.Time, ask *Ask) refusal {
	g := &h.entry.Grant
	switch end := h.at(now); {
	case len(g.Functions) > 0 && !slices.Contains(g.Functions, ask.Function):
		return notGranted
	case end == endRevoked:
		return revoked
	case end == endExpired:
		return expired
	case g.Uses > 0 && h.used >= g.Uses:
		return spent
	case g.MaxPayload > 0 && ask.Payload > g.MaxPayload:
		return tooLarge
	}
	return allowed
}

// GiveBack takes a use back whose function never began to run.
func (b *Book) GiveBack(u *Use) {
	if u.held.window != nil {
		u.held.window.GiveBack()
	}
	if u.Used > 0 {
		u.held.used--
	}
}

// refused tells another agent no more than it needs.
func refused(why refusal, h *held, ask *Ask) *sdk.Error {
	switch why {
	case tooLarge:
		return &sdk.Error{Code: sdk.TooLarge, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true, Text: "the grant is for smaller inputs",
			Limit: &sdk.Limit{Name: "input that the grant allows", Value: uint64(ask.Payload), Max: uint64(h.entry.Grant.MaxPayload)}}
	case tooOften:
		r := h.entry.Grant.Rate
		return &sdk.Error{Code: sdk.Busy, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true,
			Text:  "the grant is used as often as it allows within " + r.Per.String(),
			Limit: &sdk.Limit{Name: "rate of the grant", Value: uint64(r.N) + 1, Max: uint64(r.N)}}
	}
	return Refused(map[refusal]string{notGranted: "no grant of this agent's allows it", revoked: "the grant was revoked",
		expired: "the grant has expired", spent: "the uses that the grant allows are spent"}[why])
}

// Refused is the error of a node that does not let another agent in.
func Refused(why string) *sdk.Error {
	return &sdk.Error{Code: sdk.Refused, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true, Text: why}
}
