package agency

import (
	"bytes"
	"cmp"
	"slices"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

const (
	// maxEnded bounds the grants that a Book knows to be over, so that it can say so.
	maxEnded = 1024
	// maxUsers bounds the users of one transferable grant who are told of its end.
	maxUsers = 256
	// CountKept is how long after a grant's end by its time the count of its uses is
	// kept, so that a clock that was set wrong for a while brings no used-up grant back.
	CountKept = 24 * time.Hour
	// maxGone bounds the grants whose counts wait to be forgotten, in a Book, and
	// goneAtOnce those that Gone tells of at once.
	maxGone    = 4096
	goneAtOnce = 64
	// ClaimSize is that of a claim on the wire: the grant's name and its secret.
	ClaimSize = 64
)

// Book is one agent's grants in one DNA.
type Book struct {
	most    int // grants that are not over
	live    int
	grants  map[sdk.Hash]*held
	byAgent map[sdk.AgentID][]*held // assigned ones
	open    []*held                 // unrestricted ones
	ended   []*held                 // oldest first
	gone    []*held                 // see Gone
	touched map[sdk.Hash]bool       // see Touched
}

type held struct {
	name   sdk.Hash
	entry  Entry
	since  time.Time
	used   int
	window *Window
	end    ending
	users  []sdk.AgentID // of a transferable one
}

type ending uint8

const (
	lasting ending = iota
	endRevoked
	endExpired
)

// NewBook is a Book that holds at most so many grants that are not over.
func NewBook(most int) *Book {
	return &Book{most: most, grants: map[sdk.Hash]*held{}, byAgent: map[sdk.AgentID][]*held{}, touched: map[sdk.Hash]bool{}}
}

// Full tells whether there is no room for more grants, besides some that are on
// their way.
func (b *Book) Full(now time.Time, coming int) *sdk.Error {
	if b.live+coming < b.most {
		return nil
	}
	b.expire(now)
	if b.live+coming < b.most {
		return nil
	}
	return &sdk.Error{Code: sdk.Busy, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true, Text: "too many grants: revoke some",
		Limit: &sdk.Limit{Name: "grants of a DNA", Setting: "max-grants", Value: uint64(b.live + coming + 1), Max: uint64(b.most)}}
}

// Add holds a grant of this name, made at that time, that was used so often. One
// that is there already stays as it is.
func (b *Book) Add(name sdk.Hash, e Entry, since time.Time, used int) {
	if b.grants[name] != nil {
		return
	}
	h := &held{name: name, entry: e, since: since, used: used, window: NewWindow(e.Grant.Rate)}
	b.grants[name] = h
	b.live++
	switch e.Grant.Kind {
	case sdk.GrantUnrestricted:
		b.open = append(b.open, h)
	case sdk.GrantAssigned:
		for _, a := range e.Grant.Agents {
			if !slices.Contains(b.byAgent[a], h) {
				b.byAgent[a] = append(b.byAgent[a], h)
			}
		}
	}
}

// Known tells whether a grant of this name is there, and whether it is not over.
func (b *Book) Known(now time.Time, name sdk.Hash) (known, lasts bool) {
	h := b.grants[name]
	return h != nil, h != nil && h.at(now) == lasting
}

// Lasting is a grant that lasts.
func (b *Book) Lasting(now time.Time, name sdk.Hash) (g sdk.Grant, lasts bool) {
	h := b.grants[name]
	if h == nil || h.at(now) != lasting {
		return g, false
	}
	return h.entry.Grant, true
}

// Users are the last who have used a transferable grant that lasts, the latest last.
func (b *Book) Users(name sdk.Hash) []sdk.AgentID {
	if h := b.grants[name]; h != nil && h.end == lasting {
		return slices.Clone(h.users)
	}
	return nil
}

// SetUsers is told of those before a restart.
func (b *Book) SetUsers(name sdk.Hash, users []sdk.AgentID) {
	if h := b.grants[name]; h != nil && h.entry.Grant.Kind == sdk.GrantTransferable {
		h.users = slices.Clone(users[max(0, len(users)-maxUsers):])
	}
}

// Touched are the grants whose users have changed since it was asked last.
func (b *Book) Touched() (names []sdk.Hash) {
	for name := range b.touched {
		names = append(names, name)
	}
	clear(b.touched)
	return names
}

// Touch has a grant be among Touched once more.
func (b *Book) Touch(name sdk.Hash) { b.touched[name] = true }

// user notes who has used a transferable grant.
func (b *Book) user(h *held, agent sdk.AgentID) {
	if h.entry.Grant.Kind != sdk.GrantTransferable || slices.Contains(h.users, agent) {
		return
	}
	if len(h.users) == maxUsers {
		h.users = append(h.users[:0], h.users[1:]...)
	}
	h.users = append(h.users, agent)
	b.Touch(h.name)
}

// Names tells whether a grant that lasts is assigned to an agent.
func (b *Book) Names(now time.Time, agent sdk.AgentID) bool {
	return slices.ContainsFunc(b.byAgent[agent], func(h *held) bool { return h.at(now) == lasting })
}

// Used is how often a grant was used that is for a number of uses; false: it is over,
// or there is none.
func (b *Book) Used(name sdk.Hash) (used int, lasts bool) {
	if h := b.grants[name]; h != nil && h.end == lasting {
		return h.used, true
	}
	return 0, false
}

// Revoke ends a grant; false if there is none that lasts. holders are those who
// are to be told.
func (b *Book) Revoke(now time.Time, name sdk.Hash) (holders []sdk.AgentID, ok bool) {
	h := b.grants[name]
	if h == nil || h.at(now) != lasting {
		return nil, false
	}
	b.over(h, endRevoked)
	return slices.Concat(h.entry.Grant.Agents, h.users), true
}

// at is how the grant is at that time.
func (h *held) at(now time.Time) ending {
	if t := h.entry.Grant.Expires; h.end == lasting && !t.IsZero() && !now.Before(t) {
		return endExpired
	}
	return h.end
}

func (b *Book) over(h *held, e ending) {
	h.end, h.window = e, nil
	b.live--
	if e == endExpired && h.entry.Grant.Uses > 0 && len(b.gone) < maxGone {
		b.gone = append(b.gone, h)
	}
	b.ended = append(b.ended, h)
	if len(b.ended) > maxEnded {
		b.forget(b.ended[0])
		b.ended = slices.Delete(b.ended, 0, 1)
	}
}

func (b *Book) forget(h *held) {
	is := func(other *held) bool { return other == h }
	delete(b.grants, h.name)
	b.open = slices.DeleteFunc(b.open, is)
	for _, a := range h.entry.Grant.Agents {
		if b.byAgent[a] = slices.DeleteFunc(b.byAgent[a], is); len(b.byAgent[a]) == 0 {
			delete(b.byAgent, a)
		}
	}
}

func (b *Book) expire(now time.Time) {
	for _, h := range b.sorted() {
		if h.end == lasting && h.at(now) == endExpired {
			b.over(h, endExpired)
		}
	}
}

// Gone are grants that have expired long enough ago for the counts of their uses to be
// forgotten, a few at a time, each once.
func (b *Book) Gone(now time.Time) (names []sdk.Hash) {
	b.gone = slices.DeleteFunc(b.gone, func(h *held) bool {
		gone := len(names) < goneAtOnce && !now.Before(h.entry.Grant.Expires.Add(CountKept))
		if gone {
			names = append(names, h.name)
		}
		return gone
	})
	return names
}

// sorted are the grants, the oldest first.
func (b *Book) sorted() []*held {
	list := make([]*held, 0, len(b.grants))
	for _, h := range b.grants {
		list = append(list, h)
	}
	slices.SortFunc(list, func(x, y *held) int {
		return cmp.Or(cmp.Compare(x.since.UnixNano(), y.since.UnixNano()), bytes.Compare(x.name[:], y.name[:])) // as place
	})
	return list
}

// List are the grants that were not revoked, the oldest first.
func (b *Book) List(now time.Time) []sdk.GrantStatus {
	var out []sdk.GrantStatus
	for _, h := range b.sorted() {
		if end := h.at(now); end != endRevoked {
			out = append(out, h.status(now))
		}
	}
	return out
}

func (h *held) status(now time.Time) sdk.GrantStatus {
	return sdk.GrantStatus{ID: h.name, Grant: h.entry.Grant, Since: h.since, Used: h.used, Expired: h.at(now) == endExpired}
}
