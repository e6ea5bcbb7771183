package agency

import (
	"bytes"
	"cmp"
	"slices"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// ClaimKey names a claim that is held.
type ClaimKey struct {
	DNA     sdk.DNAHash
	Grantor sdk.AgentID
	Grant   sdk.Hash
}

// HeldClaim is a claim that is held.
type HeldClaim struct {
	sdk.Claim
	DNA   sdk.DNAHash
	Since time.Time
	// Told tells that the grantor's node told of it, and not the handler or the
	// operator of the holder: anybody can tell anything.
	Told bool
	// Refused is why the grantor's node refused it the last time; empty if it
	// did not.
	Refused string
}

// Key names it.
func (h *HeldClaim) Key() ClaimKey { return ClaimKey{h.DNA, h.Grantor, h.Grant} }

// Claims are what an agent holds of other agents' grants.
type Claims struct {
	most, mostEach int
	all            map[ClaimKey]*HeldClaim
	grantors       map[sdk.AgentID][]*HeldClaim // the oldest first
}

// NewClaims holds at most so many claims in all, and so many told by each grantor.
func NewClaims(most, mostEach int) *Claims {
	return &Claims{most: most, mostEach: mostEach, all: map[ClaimKey]*HeldClaim{}, grantors: map[sdk.AgentID][]*HeldClaim{}}
}

// Add holds a claim. A told one leaves one that was not told as it is, and goes,
// or has another told one go, where there is no room: of its grantor's the oldest,
// else the oldest of the grantor that has told most. gone are those that went.
// One that was not told is refused where there is no room.
func (t *Claims) Add(now time.Time, c HeldClaim) (gone []ClaimKey, err *sdk.Error) {
	c.Since = now
	if old := t.all[c.Key()]; old != nil {
		if c.Told && !old.Told {
			return nil, nil
		}
		t.drop(old)
	}
	gone = t.Expire(now)
	if c.Told {
		if told := t.told(c.Grantor); len(told) >= t.mostEach {
			gone = append(gone, told[0].Key())
			t.drop(told[0])
		}
	}
	if len(t.all) >= t.most {
		oldest := t.leastMissed()
		if oldest == nil {
			return gone, &sdk.Error{Code: sdk.Busy, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true, Text: "too many claims: remove some",
				Limit: &sdk.Limit{Name: "claims", Setting: "max-claims", Value: uint64(len(t.all)) + 1, Max: uint64(t.most)}}
		}
		gone = append(gone, oldest.Key())
		t.drop(oldest)
	}
	t.put(&c)
	return gone, nil
}

// Restore is Add of one that was held before, as long as there is room.
func (t *Claims) Restore(c HeldClaim) bool {
	if len(t.all) >= t.most || t.all[c.Key()] != nil {
		return false
	}
	t.put(&c)
	return true
}

func (t *Claims) put(c *HeldClaim) {
	t.all[c.Key()] = c
	t.grantors[c.Grantor] = append(t.grantors[c.Grantor], c)
}

func (t *Claims) drop(c *HeldClaim) {
	delete(t.all, c.Key())
	list := slices.DeleteFunc(t.grantors[c.Grantor], func(other *HeldClaim) bool { return other == c })
	if t.grantors[c.Grantor] = list; len(list) == 0 {
		delete(t.grantors, c.Grantor)
	}
}

func (t *Claims) told(grantor sdk.AgentID) (told []*HeldClaim) {
	for _, c := range t.grantors[grantor] {
		if c.Told {
			told = append(told, c)
		}
	}
	return told
}

// leastMissed is the oldest told claim of the grantor that has told most.
func (t *Claims) leastMissed() *HeldClaim {
	var most []*HeldClaim
	for grantor := range t.grantors {
		told := t.told(grantor)
		if d := len(told) - len(most); d > 0 || d == 0 && len(told) > 0 && told[0].Since.Before(most[0].Since) {
			most = told
		}
	}
	if len(most) == 0 {
		return nil
	}
	return most[0]
}

// Remove lets a claim go; false if it was not held.
func (t *Claims) Remove(k ClaimKey) bool {
	c := t.all[k]
	if c == nil {
		return false
	}
	t.drop(c)
	return true
}

// Expire lets those go that have expired.
func (t *Claims) Expire(now time.Time) (gone []ClaimKey) {
	for k, c := range t.all {
		if c.over(now) {
			gone = append(gone, k)
			t.drop(c)
		}
	}
	return gone
}

func (h *HeldClaim) over(now time.Time) bool { return !h.Expires.IsZero() && !now.Before(h.Expires) }

// Choose is the claim by which to call a function of a grantor's, but for those
// that were tried: one that was not refused, then one for few functions, then one
// that lasts. Only claims with a secret are of use in a call; the others are
// found by the grantor's node itself.
func (t *Claims) Choose(now time.Time, dna sdk.DNAHash, grantor sdk.AgentID, function string, tried []sdk.Hash) (sdk.Claim, bool) {
	var best *HeldClaim
	for _, c := range t.grantors[grantor] {
		if c.DNA != dna || c.Secret.IsZero() || c.over(now) || slices.Contains(tried, c.Grant) ||
			len(c.Functions) > 0 && !slices.Contains(c.Functions, function) {
			continue
		}
		if best == nil || c.better(best) {
			best = c
		}
	}
	if best == nil {
		return sdk.Claim{}, false
	}
	return best.Claim, true
}

func (h *HeldClaim) better(than *HeldClaim) bool {
	breadth := func(c *HeldClaim) int { // all functions are the most
		if len(c.Functions) == 0 {
			return sdk.MaxGrantFunctions + 1
		}
		return len(c.Functions)
	}
	lasts := func(c *HeldClaim) int64 {
		if c.Expires.IsZero() {
			return 1<<63 - 1
		}
		return c.Expires.UnixNano()
	}
	worn := func(c *HeldClaim) int {
		if c.Refused != "" {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(worn(h), worn(than)), cmp.Compare(breadth(h), breadth(than)), cmp.Compare(lasts(than), lasts(h)),
		bytes.Compare(h.Grant[:], than.Grant[:])) < 0
}

// Refuse notes why the grantor's node refused a claim; empty: it did not.
func (t *Claims) Refuse(k ClaimKey, why string) {
	if c := t.all[k]; c != nil {
		c.Refused = why
	}
}

// Get is the claim of that name.
func (t *Claims) Get(k ClaimKey) (HeldClaim, bool) {
	c := t.all[k]
	if c == nil {
		return HeldClaim{}, false
	}
	return *c, true
}

// Len is how many are held, with those that have expired since.
func (t *Claims) Len() int { return len(t.all) }

// List are the claims, by grantor, the oldest first.
func (t *Claims) List(now time.Time) []HeldClaim {
	list := make([]HeldClaim, 0, len(t.all))
	for _, c := range t.all {
		if !c.over(now) {
			list = append(list, *c)
		}
	}
	slices.SortFunc(list, func(x, y HeldClaim) int {
		return cmp.Or(bytes.Compare(x.Grantor[:], y.Grantor[:]), cmp.Compare(x.Since.UnixNano(), y.Since.UnixNano()), bytes.Compare(x.Grant[:], y.Grant[:])) // as place
	})
	return list
}
