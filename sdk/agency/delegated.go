package agency

import (
	"fmt"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// maxDelegatedPerOne bounds the delegations of one presenter that are counted;
// maxDelegatedOfStranger those of one presenter where nobody is known: see Take.
const (
	maxDelegatedPerOne     = 1024
	maxDelegatedOfStranger = 64
)

// Delegated counts, for the agent that is called, the uses of other agents'
// delegations. What a delegation does not bound it does not count.
type Delegated struct {
	most        int
	gone        []sdk.Hash // forgotten, and not yet told by Gone
	counts      map[sdk.Hash]*delegatedCount
	byPresenter map[sdk.AgentID]int
	strange     int // counts of strangers
}

type delegatedCount struct {
	presenter sdk.AgentID // who used it first
	until     time.Time   // the delegation's end
	strange   bool
	used      int
	window    *Window
}

// DelegatedUse is one message that was counted: of each delegation that bounds the
// number of its uses, how many there are now.
type DelegatedUse struct {
	Used   []DelegatedCount
	counts []*delegatedCount
}

// DelegatedCount is what must survive a restart.
type DelegatedCount struct {
	ID        sdk.Hash
	Presenter sdk.AgentID
	Used      int
	Until     time.Time
}

// NewDelegated counts at most so many delegations that have not ended.
func NewDelegated(most int) *Delegated {
	return &Delegated{most: most, counts: map[sdk.Hash]*delegatedCount{}, byPresenter: map[sdk.AgentID]int{}}
}

// Take counts a message under each link of a verified proof, or says why it is one
// too many: then none of them has counted it. A nil use means that nothing counts.
//
// known tells that the agent who is called knows the presenter or the principal.
// Keys cost nothing: the delegations of strangers take half of the table at most,
// so that however many there are, those who are known find a place.
func (d *Delegated) Take(now time.Time, links []sdk.Link, known bool) (*DelegatedUse, *sdk.Error) {
	var use *DelegatedUse
	for i := range links {
		l := &links[i]
		if l.Uses == 0 && l.Rate.N == 0 {
			continue
		}
		if use == nil {
			use = &DelegatedUse{}
		}
		c, e := d.count(now, l, links[len(links)-1].To, known)
		if e == nil {
			e = c.take(now, l, i)
		}
		if e != nil {
			d.GiveBack(use)
			return nil, e
		}
		use.counts = append(use.counts, c)
		if l.Uses > 0 {
			use.Used = append(use.Used, DelegatedCount{l.ID(), c.presenter, c.used, c.until})
		}
	}
	return use, nil
}

func (c *delegatedCount) take(now time.Time, l *sdk.Link, i int) *sdk.Error {
	if l.Uses > 0 && c.used >= l.Uses {
		return Refused(fmt.Sprintf("delegation %d of the proof: all of its %d uses are used up", i+1, l.Uses))
	}
	if wait := c.window.Take(now); wait > 0 {
		return &sdk.Error{Code: sdk.Busy, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true,
			Text:  fmt.Sprintf("delegation %d of the proof is used too often: at most %d times in %s", i+1, l.Rate.N, l.Rate.Per),
			Limit: &sdk.Limit{Name: "uses of a delegation", Value: uint64(l.Rate.N) + 1, Max: uint64(l.Rate.N), RetryAfter: wait}}
	}
	c.used++
	return nil
}

func (d *Delegated) count(now time.Time, l *sdk.Link, presenter sdk.AgentID, known bool) (*delegatedCount, *sdk.Error) {
	id := l.ID()
	if c := d.counts[id]; c != nil {
		if c.window == nil {
			c.window = NewWindow(l.Rate)
		}
		return c, nil
	}
	if d.full(presenter, known) {
		d.Expire(now)
	}
	if n := len(d.counts); d.full(presenter, known) {
		return nil, &sdk.Error{Code: sdk.Busy, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true,
			Text:  "too many delegations are counted: this one bounds its uses",
			Limit: &sdk.Limit{Name: "delegations that are counted", Value: uint64(n) + 1, Max: uint64(d.most), RetryAfter: time.Minute}}
	}
	c := &delegatedCount{presenter: presenter, until: l.Expires, window: NewWindow(l.Rate), strange: !known}
	d.counts[id] = c
	d.byPresenter[presenter]++
	if c.strange {
		d.strange++
	}
	return c, nil
}

// full tells whether there is no place for one more delegation.
func (d *Delegated) full(presenter sdk.AgentID, known bool) bool {
	if !known && (d.strange >= d.most/2 || d.byPresenter[presenter] >= maxDelegatedOfStranger) {
		return true
	}
	return len(d.counts) >= d.most || d.byPresenter[presenter] >= maxDelegatedPerOne
}

// Load is what was counted before a restart. Rates begin anew, and whose it is counts
// as a stranger: who has filled that half before does not get the other one now.
func (d *Delegated) Load(c DelegatedCount) {
	d.counts[c.ID] = &delegatedCount{presenter: c.Presenter, until: c.Until, used: c.Used, strange: true}
	d.strange++
	d.byPresenter[c.Presenter]++
}

// Used is how often a delegation has been used by now; false: it has ended, and was
// forgotten.
func (d *Delegated) Used(id sdk.Hash) (used int, counted bool) {
	if c := d.counts[id]; c != nil {
		return c.used, true
	}
	return 0, false
}

// Gone are the delegations that have ended and were forgotten since it was asked
// last: what is kept of them elsewhere may go.
func (d *Delegated) Gone() []sdk.Hash {
	gone := d.gone
	d.gone = nil
	return gone
}

// GiveBack takes a use back whose call left no trace.
func (d *Delegated) GiveBack(u *DelegatedUse) {
	for _, c := range u.counts {
		c.used--
		c.window.GiveBack()
	}
}

// Expire forgets delegations that have ended.
func (d *Delegated) Expire(now time.Time) {
	for id, c := range d.counts {
		if now.Before(c.until) {
			continue
		}
		delete(d.counts, id)
		if c.strange {
			d.strange--
		}
		if d.byPresenter[c.presenter]--; d.byPresenter[c.presenter] == 0 {
			delete(d.byPresenter, c.presenter)
		}
		d.gone = append(d.gone, id)
	}
}

// Revoked is the refusal of a proof of which this link, from 0, was revoked.
func Revoked(link int) *sdk.Error {
	return Refused(fmt.Sprintf("delegation %d of the proof: it was revoked", link+1))
}
