package dht

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// As many of those in the region who are no contacts are asked at once as the quorum lacks, and more as they disappoint.
func TestLookupAsksAsManyAsItLacks(t *testing.T) {
	t.Parallel()
	rec, newer := testRecord(t, 1, 5, epoch), testRecord(t, 1, 6, epoch)
	const full = pathsGet * alpha
	none, has := &Response{Status: StatusNone}, &Response{Record: rec}
	for _, c := range []struct {
		name    string
		region  float64
		all     bool        // are to be asked
		known   int         // of the nearest, that are contacts
		local   bool        // this node holds it
		answers []*Response // of the first that are asked; nil: it refuses
		later   time.Duration
		first   int // asked at once
		then    int // in flight, and not late, after that
	}{
		{name: "the region is not known", region: 0, first: full, then: full},
		{name: "nobody is in it", region: 1e-15, first: full, then: full},
		{name: "all are in it and are to be asked", region: 1, all: true, first: full, then: full},
		{name: "all are in it", region: 1, first: quorum, then: quorum},
		{name: "three are in it, the others wait", region: 0.2, first: quorum, then: quorum},
		{name: "two are in it", region: 0.1, first: full, then: full},
		{name: "contacts are asked as ever", region: 1, known: 32, first: full, then: full},
		{name: "contacts count", region: 1, known: 4, first: 4, then: 4},
		{name: "one of three is here", region: 1, local: true, first: quorum - 1, then: quorum - 1},
		{name: "one has it", region: 1, answers: []*Response{has}, first: quorum, then: quorum - 1},
		{name: "two have it", region: 1, answers: []*Response{has, has}, first: quorum, then: quorum - 2},
		{name: "one has not", region: 1, answers: []*Response{none}, first: quorum, then: quorum + 1},
		{name: "one refuses", region: 1, answers: []*Response{nil}, first: quorum, then: quorum + 1},
		{name: "one has it, one has not", region: 1, answers: []*Response{has, none}, first: quorum, then: quorum},
		{name: "one has an older record", region: 1, answers: []*Response{has, {Record: newer}}, first: quorum, then: quorum - 1},
		{name: "none has it", region: 1, answers: []*Response{none, none, none}, first: quorum, then: full},
		{name: "all refuse", region: 1, answers: []*Response{nil, nil, nil}, first: quorum, then: full},
		{name: "all are nearly late", region: 1, later: 100*time.Millisecond - 1, first: quorum, then: quorum},
		{name: "all are late", region: 1, later: 100 * time.Millisecond, first: quorum, then: full},
		{name: "two have it, one is late", region: 1, answers: []*Response{has, has}, later: 100 * time.Millisecond, first: quorum, then: 2},
	} {
		l, seeds := testLookup(true, pathsGet, 32, NodeID(rec.Key))
		if c.all {
			l.quorum = 0
		}
		if l.region = c.region; c.local {
			l.best, l.holders = rec, 1
		}
		slices.SortFunc(seeds, func(a, b Contact) int { return compare(l.target, a.id(), b.id()) })
		for _, s := range seeds[:c.known] {
			l.of(s.Key).known = true
		}
		qs := l.next(epoch, 100, nil)
		if len(qs) != c.first {
			t.Errorf("%s: %d are asked, want %d", c.name, len(qs), c.first)
			continue
		}
		for i, r := range c.answers {
			if r != nil {
				l.answered(epoch, qs[i].to.Key, r)
			} else {
				l.failed(epoch, qs[i].to.Key, errRefused)
			}
		}
		now := epoch.Add(c.later)
		l.next(now, 100, nil)
		then := 0
		for i := range l.paths {
			then += l.inFlight(now.Sub(epoch), i)
		}
		if then != c.then {
			t.Errorf("%s: then %d are in flight, want %d", c.name, then, c.then)
		}
	}
}

// Nodes that two liars have named next to the target, and that are silent, do not hold up the third path for
// longer than it takes two of them to be late.
func TestLookupLiarsHoldNobodyUp(t *testing.T) {
	t.Parallel()
	const late = 100 * time.Millisecond // of every call, see testLookup
	target := NodeID(Key{1})
	l, seeds := testLookup(true, pathsGet, pathsGet, target)
	l.region = 0.01 // none of seeds is in it
	slices.SortFunc(seeds, func(a, b Contact) int { return compare(target, NodeID(a.Key), NodeID(b.Key)) })
	var near []Contact
	for i := 0; len(near) < 3*maxNew; i++ {
		if c := (at(Key{byte(i), byte(i >> 8), 7}, fmt.Sprintf("198.%d.%d.1:1", i>>8, i&255))); fraction(target, NodeID(c.Key)) < l.region {
			near = append(near, c)
		}
	}
	if qs := l.next(epoch, 100, nil); len(qs) != pathsGet || fraction(target, NodeID(seeds[0].Key)) < l.region {
		t.Fatalf("%d are asked", len(qs))
	}
	l.answered(epoch, seeds[0].Key, &Response{Contacts: near[:maxNew]}) // the liars are faster
	l.next(epoch, 1, nil)
	l.next(epoch.Add(late/10), 100, nil)
	l.answered(epoch.Add(late/5), seeds[1].Key, &Response{Contacts: near[maxNew : 2*maxNew]})
	l.next(epoch.Add(late/5), 100, nil)
	now := epoch.Add(late / 2)
	l.answered(now, seeds[2].Key, &Response{Contacts: near[2*maxNew:]})
	l.next(now, 100, nil)
	if all, third := l.inFlight(late/2, 0)+l.inFlight(late/2, 1), l.inFlight(late/2, 2); all != quorum || third != 0 {
		t.Fatalf("%d and %d are in flight, the quorum lacks %d", all, third, quorum)
	}
	for now.Before(epoch.Add(late + late/10)) {
		now = l.wake(now)
		l.next(now, 100, nil)
	}
	if l.inFlight(now.Sub(epoch), 2) == 0 {
		t.Error("the third path waits for the liars")
	}
}

// Whatever nodes do, the lookup goes on until it ends, and has no more calls in flight than its paths may.
func TestLookupNeverStalls(t *testing.T) {
	t.Parallel()
	rec := testRecord(t, 1, 5, epoch)
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		l, _ := testLookup(true, pathsGet, 1+rnd.IntN(40), NodeID(rec.Key))
		l.region = []float64{1e-15, 0.1, 0.5, 1}[rnd.IntN(4)]
		holders, silent := rnd.Float64(), rnd.Float64()
		type event struct {
			at   time.Time
			k    Key
			resp *Response
		}
		var due []event
		now := epoch
		for step := 0; !l.done(); step++ {
			if step == 10000 {
				t.Fatalf("seed %d: no end", seed)
			}
			for _, q := range l.next(now, 1+rnd.IntN(8), nil) {
				e := event{now.Add(q.timeout), q.to.Key, nil}
				if rnd.Float64() >= silent {
					e.at, e.resp = now.Add(time.Duration(rnd.Int64N(int64(q.timeout)))), &Response{Status: StatusNone}
					if rnd.Float64() < holders {
						e.resp = &Response{Record: rec}
					}
				}
				due = append(due, e)
			}
			for i := range l.paths {
				if n := l.inFlight(now.Sub(epoch), i); n > alpha {
					t.Fatalf("seed %d: %d in flight on one path", seed, n)
				}
			}
			if l.done() {
				break
			}
			if len(due) == 0 {
				t.Fatalf("seed %d: nothing is in flight, and it is not done", seed)
			}
			slices.SortStableFunc(due, func(a, b event) int { return a.at.Compare(b.at) })
			if at := l.wake(now); !at.IsZero() && at.Before(due[0].at) {
				now = at
				continue
			}
			e := due[0]
			due, now = due[1:], e.at
			if e.resp != nil {
				l.answered(now, e.k, e.resp)
			} else {
				l.failed(now, e.k, errRefused)
			}
		}
		if l.holders < quorum && len(l.trace) < min(bucketSize, len(l.nodes)) {
			t.Errorf("seed %d: it ends with %d holders, %d of %d have been heard", seed, l.holders, len(l.trace), len(l.nodes))
		}
	}
}

// Searches that are to be thorough save no call.
func TestThoroughSearchesSaveNothing(t *testing.T) {
	t.Parallel()
	c := joinedCore(t)
	for i := range 40 {
		c.meet(t, 100+i)
	}
	for _, o := range []struct {
		op
		saves bool
	}{
		{op{kind: opGet}, true}, {op{kind: opGet, strict: true}, false}, {op{kind: opGet, hardened: true}, false},
		{op{kind: opReadback}, false}, {op{kind: opPublish}, false}, {op{kind: opSelf}, false}, {op{kind: opRefresh}, false},
	} {
		if got := c.startOp(epoch, &o.op, NodeID(Key{1})); got.lookup.region > 0 != o.saves {
			t.Errorf("%+v: region %g", o.op, got.lookup.region)
		}
	}
}
