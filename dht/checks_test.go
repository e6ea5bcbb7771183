package dht

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// withContact is a node that knows the agent of r.
func withContact(t *testing.T) (now time.Time, c *core, r *Record) {
	n := newMemNet().prepare(t, 1, nil, nil)
	now, c = n.cfg.Now(), n.core
	r = testRecord(t, 100, 1, now)
	c.table.succeeded(now, Contact{Key: r.Key, Record: r}, 1, checkFirst)
	return now, c, r
}

// A contact with a session is looked at seldom. When it answers, its next check is sooner
// than that, and is made then, though the session has ended meanwhile without a word.
func TestCheckAfterLink(t *testing.T) {
	t.Parallel()
	now, c, r := withContact(t)
	e := c.table.get(r.Key)
	linked := true
	c.cfg.linked = func(Key) bool { return linked }
	due := func(at time.Time) bool {
		c.checkContacts(at)
		return len(c.probes) > 0
	}
	at := now.Add(checkFirst)
	if due(at) || !c.table.time(e.nextCheck).After(at.Add(checkFirst)) {
		t.Fatalf("next check at +%s", c.table.time(e.nextCheck).Sub(now))
	}
	at = at.Add(time.Minute)
	c.table.succeeded(at, e.contact(), 1, checkFirst)
	linked = false
	want := at.Add(checkFirst)
	for ; !due(at); at = at.Add(checkRound) {
		if at.After(want.Add(2 * checkRound)) {
			t.Fatalf("the check that is due at +%s was not made", want.Sub(now))
		}
	}
	if at.Before(want) {
		t.Errorf("it was made at +%s, due at +%s", at.Sub(now), want.Sub(now))
	}
}

// A contact with a session is asked for its record before the one that is known ends, which
// nobody pushes then, and not sooner.
func TestLinkedRecordNeverEnds(t *testing.T) {
	t.Parallel()
	now, c, r := withContact(t)
	c.cfg.linked = func(Key) bool { return true }
	at := now
	for ; len(c.probes) == 0; at = at.Add(checkRound) {
		if !at.Before(r.Expires()) {
			t.Fatalf("nobody asked for it until it ended after %s", r.TTL)
		}
		c.checkContacts(at)
	}
	if left := r.Expires().Sub(at); left > checkMost {
		t.Errorf("it was asked for %s before its end", left)
	}
}

// A bucket that lost a contact and has no replacement is explored after 15 min.
func TestUntouchedAfterLoss(t *testing.T) {
	t.Parallel()
	n := newMemNet().prepare(t, 1, nil, nil)
	c, rnd, now := n.core, rand.New(rand.NewPCG(1, 2)), n.cfg.Now()
	for b := range 3 {
		for range bucketSize {
			c.table.succeeded(now, at(keyAt(rnd, c.id, b), "127.0.0.1:1"), 1, checkFirst)
		}
		c.table.buckets[b].touched = now
	}
	c.table.idle, c.table.sibling = time.Time{}, 3
	if i := c.table.untouched(now, refreshAfter); i >= 0 {
		t.Fatalf("bucket %d was not touched", i)
	}
	c.table.remove(&c.table.buckets[0], 3)
	c.table.sibling = 3
	for _, m := range []struct{ minute, want int }{{14, -1}, {16, 0}} {
		if i := c.table.untouched(now.Add(time.Duration(m.minute)*time.Minute), refreshAfter); i != m.want {
			t.Errorf("after %d min bucket %d is explored, want %d", m.minute, i, m.want)
		}
	}
}

// Of a bucket's nearest those with a session are asked first, each once, and no more than enough.
func TestExploreOverSessions(t *testing.T) {
	t.Parallel()
	c := fullCore(t, 2*explorers+8, 0)
	var all []Key
	for _, e := range c.table.closest(c.randomIn(0), c.table.n, nil) {
		if e.id()[0]&0x80 != c.id[0]&0x80 { // in bucket 0: among the nearest for any target there
			all = append(all, e.key())
		}
	}
	for linked := range explorers + 2 {
		c.cfg.linked = func(k Key) bool { return slices.Contains(all[:linked], k) }
		c.outbox = nil
		c.explore(0)
		asked := map[Key]bool{}
		for i, q := range c.outbox {
			if asked[q.to.Key] = true; c.cfg.linked(q.to.Key) != (i < linked) {
				t.Errorf("%d have a session: the %dth that is asked has one: %t", linked, i, c.cfg.linked(q.to.Key))
			}
		}
		if len(asked) != explorers || len(c.outbox) != explorers {
			t.Errorf("%d have a session: %d are asked, %d questions", linked, len(asked), len(c.outbox))
		}
	}
}
