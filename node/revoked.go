package node

import (
	"container/list"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

const (
	// revocationHolds is for how long a delegation counts as not revoked after it
	// was looked for; revocationAgain after how long it is looked for again while it
	// is in use, so that its users need not wait. Together with what a publication
	// and a look take (publishLimit is its bound, and it takes 2 s or less where
	// nodes answer; lookLimit), a revocation counts everywhere within a minute.
	revocationHolds = 30 * time.Second
	revocationAgain = 15 * time.Second

	// Bounds of the table: 200 bytes each.
	revokedKnown     = 1 << 15 // delegations
	revokedPerAuthor = 1 << 10 // of one agent's
)

// revocationKey names a delegation: by whom, and its id.
type revocationKey struct {
	author sdk.AgentID
	id     sdk.Hash
}

// knownRevocation is what the node knows of one delegation.
type knownRevocation struct {
	key     revocationKey
	revoked bool
	until   time.Time // when the delegation ends by itself, and this is forgotten
	looked  time.Time // of one that is not revoked: when it was last looked for
	shown   bool      // a proof had it: it is counted in authors
}

// revocations knows which delegations are revoked, and of which it was not so a
// moment ago. It is a pure state machine. Where there is no room, what was used
// the longest ago goes: whoever needs it looks for it again.
type revocations struct {
	known    map[revocationKey]*list.Element // of *knownRevocation
	used     list.List                       // the last used in front
	byAuthor map[sdk.AgentID]int
	authors  map[sdk.AgentID]int // of delegations that a proof had
}

func newRevocations() *revocations {
	return &revocations{known: map[revocationKey]*list.Element{}, byAuthor: map[sdk.AgentID]int{}, authors: map[sdk.AgentID]int{}}
}

// verdict is what the table can say of a delegation.
type verdict uint8

const (
	unknown    verdict = iota // it is to be looked for
	inForce                   // it was not revoked a moment ago
	inForceAsk                // likewise, and it is to be looked for meanwhile
	isRevoked
)

// of says what is known of a delegation.
func (t *revocations) of(now time.Time, k revocationKey) verdict {
	e := t.known[k]
	if e == nil {
		return unknown
	}
	t.used.MoveToFront(e)
	r := e.Value.(*knownRevocation)
	age := now.Sub(r.looked)
	switch {
	case r.revoked:
		return isRevoked
	case age < 0 || age >= revocationHolds:
		return unknown
	case age >= revocationAgain:
		return inForceAsk
	}
	return inForce
}

// uses tells whether k is known, without a use of it.
func (t *revocations) uses(k revocationKey) bool { return t.known[k] != nil }

// shown notes that a proof had k, if it is known.
func (t *revocations) shown(k revocationKey) {
	if e := t.known[k]; e != nil && !e.Value.(*knownRevocation).shown {
		e.Value.(*knownRevocation).shown = true
		t.authors[k.author]++
	}
}

// hasShown tells that a proof had a delegation of this agent's, which has not ended.
// What an agent says of itself does not count.
func (t *revocations) hasShown(agent sdk.AgentID) bool { return t.authors[agent] > 0 }

// looked notes what a look at that time came to. until is the delegation's end.
// What is revoked stays so.
func (t *revocations) looked(at time.Time, k revocationKey, revoked bool, until time.Time) {
	e := t.known[k]
	if e == nil {
		if t.byAuthor[k.author] >= revokedPerAuthor {
			t.dropOldest(func(r *knownRevocation) bool { return r.key.author == k.author })
		}
		for len(t.known) >= revokedKnown {
			t.drop(t.used.Back())
		}
		e = t.used.PushFront(&knownRevocation{key: k, until: until})
		t.known[k] = e
		t.byAuthor[k.author]++
	}
	r := e.Value.(*knownRevocation)
	r.revoked = r.revoked || revoked
	if at.After(r.looked) {
		r.looked = at
	}
	if until.After(r.until) {
		r.until = until
	}
}

func (t *revocations) dropOldest(which func(*knownRevocation) bool) {
	for e := t.used.Back(); e != nil; e = e.Prev() {
		if which(e.Value.(*knownRevocation)) {
			t.drop(e)
			return
		}
	}
}

func (t *revocations) drop(e *list.Element) {
	r := t.used.Remove(e).(*knownRevocation)
	delete(t.known, r.key)
	if t.byAuthor[r.key.author]--; t.byAuthor[r.key.author] == 0 {
		delete(t.byAuthor, r.key.author)
	}
	if !r.shown {
		return
	}
	if t.authors[r.key.author]--; t.authors[r.key.author] == 0 {
		delete(t.authors, r.key.author)
	}
}

// expire forgets delegations that have ended, a few at a time.
func (t *revocations) expire(now time.Time) {
	for range 16 {
		e := t.used.Back()
		if e == nil || now.Before(e.Value.(*knownRevocation).until) {
			return
		}
		t.drop(e)
	}
}
