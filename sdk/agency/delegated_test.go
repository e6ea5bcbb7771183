package agency

import (
	"errors"
	"testing"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// TestDelegated: each link counts for itself, all or none; what has ended is
// forgotten; what was counted outlives a restart; and there are bounds.
func TestDelegated(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_900_000_000, 0)
	link := func(nonce byte, to byte, uses int, r sdk.Rate) sdk.Link {
		return sdk.Link{Nonce: [16]byte{nonce}, To: sdk.AgentID{to}, Expires: now.Add(time.Hour), Uses: uses, Rate: r}
	}
	free, three, two := link(1, 1, 0, sdk.Rate{}), link(2, 1, 3, sdk.Rate{}), link(3, 1, 2, sdk.Rate{})
	d := NewDelegated(100)
	take := func(d *Delegated, at time.Time, want sdk.Code, links ...sdk.Link) *DelegatedUse {
		t.Helper()
		use, e := d.Take(at, links, true)
		if (e == nil) != (want == 0) || e != nil && (!errors.Is(e, want) || !e.Retry || e.Delivered != sdk.DeliveredNo) {
			t.Fatalf("got %v, want %v", e, want)
		}
		return use
	}
	if use := take(d, now, 0, free); use != nil {
		t.Errorf("counted %+v of what bounds nothing", use)
	}
	use := take(d, now, 0, free, three, two)
	if len(use.Used) != 2 || use.Used[0].Used != 1 || use.Used[0].ID != three.ID() || use.Used[1].Until != two.Expires {
		t.Errorf("counted %+v", use)
	}
	last := take(d, now, 0, three, two)
	take(d, now, sdk.Refused, three, two)
	for _, l := range []sdk.Link{three, two} {
		if used, counted := d.Used(l.ID()); used != 2 || !counted {
			t.Errorf("what was refused counts: %d, %t", used, counted)
		}
	}
	again := NewDelegated(100) // a restart
	for _, c := range last.Used {
		again.Load(c)
	}
	take(again, now, sdk.Refused, two)
	take(again, now, 0, three)
	take(again, now, sdk.Refused, three)
	d.GiveBack(last)
	take(d, now, 0, three, two)

	often := link(4, 1, 0, sdk.Rate{N: 2, Per: time.Minute})
	take(d, now, 0, often)
	take(d, now, 0, often)
	if _, e := d.Take(now, []sdk.Link{often}, true); e == nil || e.Code != sdk.Busy || e.Limit == nil || e.Limit.RetryAfter < time.Minute/2 {
		t.Errorf("too often: %v", e)
	}
	take(d, now.Add(2*time.Minute), 0, often)

	d.Expire(now.Add(time.Hour))
	if gone := d.Gone(); len(gone) != 3 || len(d.Gone()) != 0 || len(d.counts) != 0 || len(d.byPresenter) != 0 {
		t.Errorf("%d have ended, %d stay", len(gone), len(d.counts))
	}
	if used, counted := d.Used(three.ID()); used != 0 || counted {
		t.Errorf("what has ended: %d, %t", used, counted)
	}
	for i := range 200 { // of everybody
		l := link(byte(i), byte(i), 1, sdk.Rate{})
		use, e := d.Take(now, []sdk.Link{l}, true)
		if (e == nil) != (i < 100) || e != nil && e.Code != sdk.Busy || use == nil != (e != nil) {
			t.Fatalf("%d: %v", i, e)
		}
	}
	d = NewDelegated(1 << 20)
	for i := range maxDelegatedPerOne + 1 { // of one
		l := link(byte(i), 1, 1, sdk.Rate{})
		l.Nonce[1] = byte(i >> 8)
		if _, e := d.Take(now, []sdk.Link{l}, true); (e == nil) != (i < maxDelegatedPerOne) {
			t.Fatalf("%d: %v", i, e)
		}
	}
}

// However many strangers there are, and after a restart too, those who are known find
// a place; and nobody among the strangers has all of theirs.
func TestDelegatedOfStrangers(t *testing.T) {
	now := time.Unix(1000, 0)
	const most = 4 * maxDelegatedOfStranger
	fresh := byte(0)
	take := func(d *Delegated, presenter, n byte, known bool) (*DelegatedUse, *sdk.Error) {
		fresh++
		return d.Take(now, []sdk.Link{{From: sdk.AgentID{9}, To: sdk.AgentID{presenter}, Nonce: [16]byte{n, fresh, presenter}, Uses: 3, Expires: now.Add(time.Hour)}}, known)
	}
	d := NewDelegated(most)
	var kept []DelegatedCount
	for i := range maxDelegatedOfStranger + 1 {
		for presenter := range byte(3) {
			use, e := take(d, presenter, byte(i), false)
			if want := i < maxDelegatedOfStranger && (int(presenter)+3*i < most/2); (e == nil) != want {
				t.Fatalf("delegation %d of stranger %d: %v", i, presenter, e)
			}
			if use != nil {
				kept = append(kept, use.Used...)
			}
		}
	}
	if len(kept) != most/2 {
		t.Fatalf("%d of strangers are counted", len(kept))
	}
	again := NewDelegated(most)
	for _, c := range kept {
		again.Load(c)
	}
	for _, d := range []*Delegated{d, again} {
		if _, e := take(d, 100, 1, false); e == nil || e.Code != sdk.Busy {
			t.Errorf("one more stranger: %v", e)
		}
		for i := range most / 2 {
			if _, e := take(d, 200, byte(i), true); e != nil {
				t.Fatalf("who is known, delegation %d: %v", i, e)
			}
		}
		if _, e := take(d, 201, 1, true); e == nil {
			t.Error("the table has no bound")
		}
		now = now.Add(2 * time.Hour)
		if _, e := take(d, 100, 1, false); e != nil {
			t.Errorf("a stranger, when all have ended: %v", e)
		}
		now = now.Add(-2 * time.Hour)
	}
}
