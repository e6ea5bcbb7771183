package dht

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// The bootstrap node answers its dial later than the call that began it waits: the
// session is reason enough to ask again at once, and not after the back-off.
func TestLateSessionJoins(t *testing.T) {
	now := time.Unix(1e9, 0)
	boot := Contact{Key: pub(testKey(1)), Addrs: []netip.AddrPort{testAddr(1)}}
	cfg := Config{Key: testKey(0), Network: &heldNetwork{}, Bootstrap: []Contact{boot}}.withDefaults()
	c := newCore(&cfg, now)
	asked := func() int { return len(c.poll(now)) }
	fail := func() {
		for _, cl := range slices.Clone(c.calls) {
			c.answered(now, cl.id, nil, ErrDial)
		}
	}
	for range 6 { // the back-off grows
		if now = c.sched.bootstrap; asked() != 1 {
			t.Fatalf("no call at %s", now)
		}
		now = now.Add(firstTimeout)
		fail()
		if asked() != 0 {
			t.Fatal("no pause")
		}
	}
	now = now.Add(time.Second)
	if asked() != 0 || c.wake(now).Sub(now) < 10*time.Second {
		t.Fatalf("next try in %s", c.wake(now).Sub(now))
	}
	if !c.opened(now, boot.Key, boot.Addrs[0]) {
		t.Error("nothing to do")
	}
	if asked() == 0 {
		t.Error("it is not asked at once")
	}
	for _, cl := range slices.Clone(c.calls) {
		c.answered(now, cl.id, &Response{Seq: 1, Time: uint64(now.UnixMilli())}, nil)
	}
	if c.table.n != 1 || c.dead.len() != 0 {
		t.Errorf("%d contacts, %d held dead", c.table.n, c.dead.len())
	}
}

// A contact that was named, and whose session opens late, is asked for its record:
// it was not dead.
func TestLateSessionIsAChance(t *testing.T) {
	now := time.Unix(1e9, 0)
	cfg := Config{Key: testKey(0), Network: &heldNetwork{}}.withDefaults()
	c := newCore(&cfg, now)
	c.poll(now)
	late := testRecord(t, 7, 1, now)
	ct := Contact{Key: late.Key, Record: late}
	for range 2 {
		c.probe(ct, probeCheck)
		if calls := c.poll(now); len(calls) != 1 || calls[0].to.Key != late.Key {
			t.Fatalf("%d calls", len(calls))
		}
		for _, cl := range slices.Clone(c.calls) {
			c.answered(now, cl.id, nil, ErrDial)
		}
		if !c.isDead(now, &ct, 0) || !c.isShut(now, &ct, 0) {
			t.Fatal("it is not left alone")
		}
		if c.opened(now, late.Key, netip.AddrPort{}); !c.isShut(now, &ct, 0) {
			t.Fatal("its address is dialled because it has dialled this node")
		}
		if !c.opened(now, late.Key, late.Addrs[0]) || c.isDead(now, &ct, 0) {
			t.Fatal("it is still held against it")
		}
		calls := c.poll(now)
		if len(calls) != 1 || calls[0].to.Key != late.Key || calls[0].req.Op != OpPing {
			t.Fatalf("%d calls", len(calls))
		}
		for _, cl := range slices.Clone(c.calls) {
			c.answered(now, cl.id, &Response{Seq: 1, Record: late}, nil)
		}
		if c.table.get(late.Key) == nil {
			t.Fatal("it is no contact")
		}
		c.table.forget(late.Key)
	}
}

// However many calls are in flight over a session that ends, and whether its end or theirs is told first, the
// contact is asked once more, and stays if it answers. What is lost after that counts as before.
func TestSessionEndIsOneFailure(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		suspect int // is told after so many of three calls
		late    bool
		err     error
		stays   bool
	}{
		{name: "its end is told first", err: errRefused, stays: true},
		{name: "then one call", suspect: 1, err: errRefused, stays: true},
		{name: "the calls are told first", suspect: 3, err: errRefused, stays: true},
		{name: "dials are no session", suspect: 3, err: ErrDial},
		{name: "silence is no end", suspect: 3, err: context.DeadlineExceeded},
		{name: "a later call", suspect: 3, err: errRefused, late: true},
	} {
		x := joinedCore(t)
		r := x.meet(t, 7)
		x.meet(t, 8)
		now := epoch.Add(time.Second)
		var calls []*call
		ask := func() {
			calls = append(calls, x.begin(now, query{to: Contact{Key: r.Key, Record: r}, req: &Request{Op: OpFind, Target: ID{1}}}))
			calls[len(calls)-1].back = true
			x.delivering++
		}
		for range 3 {
			ask()
		}
		for i := range 4 {
			now = now.Add(time.Millisecond)
			if i == c.suspect {
				x.suspect(now, r.Key)
			}
			if i == 1 && c.late {
				ask()
			}
			if i < 3 {
				x.answered(now, calls[i].id, nil, c.err)
			}
		}
		if c.late {
			x.answered(now.Add(time.Millisecond), calls[3].id, nil, c.err)
		}
		if got := x.table.get(r.Key) != nil; got != c.stays {
			t.Errorf("%s: it stays: %t", c.name, got)
		}
		if !c.stays {
			continue
		}
		asked := 0
		for end := now.Add(2 * checkRetry); now.Before(end); now = now.Add(time.Second) {
			for _, cl := range x.poll(now) {
				if cl.to.Key == r.Key {
					asked++
					x.answered(now, cl.id, nil, ErrDial)
				} else {
					x.answered(now, cl.id, &Response{Record: cl.to.Record}, nil)
				}
			}
		}
		if asked != 1 || x.table.get(r.Key) != nil {
			t.Errorf("%s: asked %d times, and dropped: %t", c.name, asked, x.table.get(r.Key) == nil)
		}
		checkTable(t, &x.table)
	}
}
