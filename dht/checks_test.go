package dht

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"
)

// A contact with a session is looked at seldom. When it answers, its next check is sooner
// than that, and is made then, though the session has ended meanwhile without a word.
func TestCheckAfterLink(t *testing.T) {
	t.Parallel()
	n := newMemNet().prepare(t, 1, nil, nil)
	now, c := n.cfg.Now(), n.core
	r := testRecord(t, 100, 1, now)
	c.table.succeeded(now, Contact{Key: r.Key, Record: r}, 1, checkFirst)
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
	c.table.succeeded(at, e.Contact, 1, checkFirst)
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
	n := newMemNet().prepare(t, 1, nil, nil)
	now, c := n.cfg.Now(), n.core
	r := testRecord(t, 100, 1, now)
	c.table.succeeded(now, Contact{Key: r.Key, Record: r}, 1, checkFirst)
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
	c.table.remove(c.table.buckets[0], 3)
	c.table.sibling = 3
	for _, m := range []struct{ minute, want int }{{14, -1}, {16, 0}} {
		if i := c.table.untouched(now.Add(time.Duration(m.minute)*time.Minute), refreshAfter); i != m.want {
			t.Errorf("after %d min bucket %d is explored, want %d", m.minute, i, m.want)
		}
	}
}

// Whose session has ended while the uplink was down is kept, and named to nobody before it answers.
func TestSessionEndsWithUplink(t *testing.T) {
	t.Parallel()
	c := testCore(t)
	c.sched.joined, c.sched.filled, c.sched.publish = true, true, epoch.Add(time.Hour)
	var keys []Key
	for i := range 2 * uplinkRun {
		r := testRecord(t, 100+i, 1, epoch)
		c.table.succeeded(epoch, Contact{Key: r.Key, Record: r}, time.Millisecond, checkFirst)
		keys = append(keys, r.Key)
	}
	for _, k := range keys[1 : 1+uplinkRun] {
		c.blame(epoch, Contact{Key: k}, errSilentTest)
	}
	if c.up.down.IsZero() {
		t.Fatal("the uplink counts as up")
	}
	c.suspect(epoch, keys[0])
	for _, cl := range c.poll(epoch) {
		if cl.to.Key == keys[0] && cl.ended {
			c.answered(epoch.Add(time.Second), cl.id, nil, errSilentTest)
		}
	}
	if e := c.table.get(keys[0]); e == nil || e.fails == 0 {
		t.Fatalf("%+v is kept of it", e)
	}
	checkTable(t, c.table)
	for _, ct := range c.name(nil, Key{}, NodeID(keys[0]), nil) {
		if ct.Key == keys[0] {
			t.Error("it is named to others")
		}
	}
}

var errSilentTest = errors.New("no answer in time")
