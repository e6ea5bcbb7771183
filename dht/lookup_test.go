package dht

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"
)

func testLookup(get bool, paths, seeds int, target ID) (*lookup, []Contact) {
	var cs []Contact
	for i := range seeds {
		cs = append(cs, Contact{Key: pub(testKey(100 + i)), Addrs: []netip.AddrPort{testAddr(100 + i)}})
	}
	return newLookup(epoch, lookupConfig{host: &testHost{}, target: target, get: get, paths: paths, quorum: quorum, group: DefaultGroup,
		verify: (*Record).Verify}, strangers(cs...)), cs
}

// testHost is a node whose table has knows, if anybody, and that takes nobody for dead.
type testHost struct {
	knows *Record
	waits time.Duration
}

func (*testHost) patience(Key) (timeout, hedge time.Duration) {
	return time.Second, 100 * time.Millisecond
}
func (h *testHost) wait() time.Duration                   { return h.waits }
func (*testHost) isDead(time.Time, *Contact, uint32) bool { return false }
func (*testHost) network(Contact) uint32                  { return 0 }
func (h *testHost) contact(id ID) (c Contact, called, ok bool) {
	if h.knows == nil || h.knows.id != id {
		return Contact{}, false, false
	}
	return Contact{Key: h.knows.Key, Record: h.knows}, false, true
}

// strangers are seeds that no table has.
func strangers(cs ...Contact) []seed {
	var seeds []seed
	for _, c := range cs {
		seeds = append(seeds, seed{who: newWho(&c, c.id())})
	}
	return seeds
}

// of is the node of k.
func (l *lookup) of(k Key) *node {
	id := NodeID(k)
	return &l.nodes[l.find(id.top(), &k)]
}

// drive answers every call by answer until the lookup is done, and returns who was asked.
func drive(t *testing.T, l *lookup, answer func(Contact) *Response) (asked []Key) {
	t.Helper()
	now := epoch
	for range 1000 {
		qs := l.next(now, 100, nil)
		if len(qs) == 0 {
			break
		}
		for _, q := range qs {
			if slices.Contains(asked, q.to.Key) {
				t.Fatalf("%s is asked twice", q.to.Key)
			}
			asked = append(asked, q.to.Key)
			now = now.Add(time.Millisecond)
			if r := answer(q.to); r != nil {
				l.answered(now, q.to.Key, r)
			} else {
				l.failed(now, q.to.Key, errRefused)
			}
		}
	}
	if !l.done() {
		t.Fatal("the lookup does not end")
	}
	return asked
}

func TestLookupFlight(t *testing.T) {
	t.Parallel()
	for _, d := range []int{1, 3, 4, 8} {
		l, seeds := testLookup(false, d, 32, NodeID(Key{1}))
		qs := l.next(epoch, 100, nil)
		if len(qs) != d*alpha {
			t.Errorf("d=%d: %d calls in flight, want %d", d, len(qs), d*alpha)
		}
		if more := l.next(epoch, 100, nil); len(more) != 0 {
			t.Errorf("d=%d: %d more without an answer", d, len(more))
		}
		if at := l.wake(epoch); !at.Equal(epoch.Add(100 * time.Millisecond)) {
			t.Errorf("d=%d: wakes at %s", d, at)
		}
		if more := l.next(epoch.Add(100*time.Millisecond), 100, nil); len(more) != min(d*alpha, 32-d*alpha) {
			t.Errorf("d=%d: %d hedged calls", d, len(more))
		}
		l, _ = testLookup(false, d, 32, NodeID(Key{1}))
		if asked := drive(t, l, func(Contact) *Response { return &Response{} }); len(asked) < bucketSize || len(asked) > len(seeds) {
			t.Errorf("d=%d: %d asked", d, len(asked))
		}
		got := l.nearest(bucketSize)
		slices.SortFunc(seeds, func(a, b Contact) int { return compare(l.target, NodeID(a.Key), NodeID(b.Key)) })
		for i := range got {
			if got[i].key() != seeds[i].Key {
				t.Fatalf("d=%d: the %dth nearest is %s, want %s", d, i, got[i].key(), seeds[i].Key)
			}
		}
	}
}

// One liar names ever new nodes that don't exist. The other paths find the
// record; a single path asks on and on about them first.
func TestLookupLiar(t *testing.T) {
	t.Parallel()
	rec := testRecord(t, 1, 5, epoch)
	l, seeds := testLookup(true, 3, 9, NodeID(rec.Key))
	slices.SortFunc(seeds, func(a, b Contact) int { return compare(l.target, NodeID(a.Key), NodeID(b.Key)) })
	liar := seeds[0].Key
	fakes := 0
	drive(t, l, func(c Contact) *Response {
		switch {
		case c.Key == liar:
			r := &Response{}
			for i := range MaxContacts {
				r.Contacts = append(r.Contacts, Contact{Key: Key{byte(i), 1}, Addrs: []netip.AddrPort{testAddr(i + 1)}})
			}
			return r
		case c.Key[1] == 1 && c.Key[2] == 0:
			fakes++
			return nil
		default:
			return &Response{Record: rec}
		}
	})
	if l.best != rec || l.holders < quorum {
		t.Errorf("best %v of %d holders", l.best, l.holders)
	}
	if fakes > maxNew {
		t.Errorf("%d contacts of one answer were asked, at most %d", fakes, maxNew)
	}
	for _, p := range l.paths[1:] {
		for _, n := range p.list {
			if k := l.nodes[n].key(); k[1] == 1 && k[2] == 0 {
				t.Fatal("what the liar named is known to another path")
			}
		}
	}
}

// The newest valid record wins; nothing else counts.
func TestLookupRecords(t *testing.T) {
	t.Parallel()
	old, newest := testRecord(t, 1, 5, epoch), testRecord(t, 1, 6, epoch)
	forged, err := ParseRecord(testRecord(t, 1, 9, epoch).Bytes())
	if err != nil {
		t.Fatal(err)
	}
	forged.raw[len(forged.raw)-1] ^= 1
	answers := []*Response{
		{Record: old}, {Record: newest}, {Record: old}, {Record: forged},
		{Record: testRecord(t, 2, 99, epoch)}, {Record: testRecord(t, 1, 50, epoch.Add(time.Hour))},
		{Record: testRecord(t, 1, 51, epoch.Add(-3*time.Hour))}, {Status: StatusNone}, nil,
	}
	for shift := range answers {
		l, _ := testLookup(true, 3, len(answers), NodeID(newest.Key))
		i := shift
		drive(t, l, func(Contact) *Response {
			i++
			return answers[i%len(answers)]
		})
		if l.best == nil || l.best.Seq != 6 || l.holders != 1 {
			t.Errorf("shift %d: best %+v of %d holders", shift, l.best, l.holders)
		}
		failed := 0
		for _, s := range l.trace {
			if s.answer == AnswerFailed {
				failed++
			}
		}
		if len(l.trace) != len(answers) || failed != 1 {
			t.Errorf("shift %d: %d steps, %d failed", shift, len(l.trace), failed)
		}
	}
}

// Sybils that answer and name ever nearer ones don't hold a lookup up for ever.
func TestLookupSybils(t *testing.T) {
	t.Parallel()
	l, _ := testLookup(false, 3, 3, ID{})
	target := func(n int) ID { return NodeID(Key{byte(n), byte(n >> 8), byte(n >> 16), 7}) }
	order := make([]int, 20000) // Sybils, the farthest first
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return compare(ID{}, target(b), target(a)) })
	next := 0
	asked := drive(t, l, func(Contact) *Response {
		r := &Response{}
		for range maxNew {
			n := order[min(next, len(order)-1)]
			next++
			r.Contacts = append(r.Contacts, Contact{Key: Key{byte(n), byte(n >> 8), byte(n >> 16), 7}, Addrs: []netip.AddrPort{testAddr(n + 1)}})
		}
		return r
	})
	if len(asked) != 3*maxAsked {
		t.Errorf("%d asked, want %d", len(asked), 3*maxAsked)
	}
	if got := l.nearest(bucketSize); len(got) != bucketSize {
		t.Errorf("%d of them are nearest", len(got))
	}
}

func TestLookupQuorum(t *testing.T) {
	t.Parallel()
	rec := testRecord(t, 1, 5, epoch)
	l, _ := testLookup(true, 3, 30, NodeID(rec.Key))
	if asked := drive(t, l, func(Contact) *Response { return &Response{Record: rec} }); len(asked) > 3*alpha {
		t.Errorf("%d asked though 3 agree", len(asked))
	}
	if r := l.result(epoch); r.Holders < quorum || r.Record != rec {
		t.Errorf("%+v", r)
	}
}

func TestLookupGroups(t *testing.T) {
	t.Parallel()
	l, seeds := testLookup(false, 1, 1, NodeID(Key{1}))
	l.next(epoch, 1, nil)
	var named []Contact
	for i := range MaxContacts {
		named = append(named, at(Key{byte(i), 1}, "203.0.113.5:1"))
	}
	l.answered(epoch, seeds[0].Key, &Response{Contacts: named})
	if n := len(l.paths[0].list); n != 1+groupPerBucket {
		t.Errorf("%d contacts of one /24 are taken, at most %d", n-1, groupPerBucket)
	}
}

// What comes without a question changes nothing.
func TestLookupStray(t *testing.T) {
	t.Parallel()
	rec := testRecord(t, 1, 5, epoch)
	l, seeds := testLookup(true, 3, 4, NodeID(rec.Key))
	l.answered(epoch, seeds[0].Key, &Response{Record: rec})
	l.answered(epoch, Key{1}, &Response{Record: rec})
	l.failed(epoch, seeds[1].Key, errors.New("x"))
	if l.best != nil || len(l.trace) != 0 {
		t.Error("an answer that nobody asked for counts")
	}
}

// What the table knows of a contact goes before what a stranger says of it.
func TestLookupKnownContact(t *testing.T) {
	t.Parallel()
	l, seeds := testLookup(false, 1, 1, NodeID(Key{1}))
	honest := testRecord(t, 7, 5, epoch)
	l.host = &testHost{knows: honest}
	l.next(epoch, 1, nil)
	l.answered(epoch, seeds[0].Key, &Response{Contacts: []Contact{at(honest.Key, "203.0.113.5:1")}})
	if qs := l.next(epoch, 1, nil); len(qs) != 1 || qs[0].to.Record != honest {
		t.Errorf("%+v", qs)
	}
}

// What a node is known by gives way to a newer record that is verified and to nothing else, also where
// it was asked in vain: then it is asked once more.
func TestLookupNewerRecord(t *testing.T) {
	t.Parallel()
	first, newer := testRecord(t, 7, 5, epoch), testRecord(t, 7, 6, epoch)
	forged, err := ParseRecord(newer.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	forged.raw[len(forged.raw)-1] ^= 1
	for _, x := range []struct {
		name   string
		named  Contact
		failed bool    // it was asked before
		want   *Record // that it is asked by then; nil: it is not
	}{
		{"forged", Contact{Key: first.Key, Record: forged}, false, first},
		{"unsigned", at(first.Key, "203.0.113.5:1"), false, first},
		{"older", Contact{Key: first.Key, Record: testRecord(t, 7, 4, epoch)}, false, first},
		{"newer", Contact{Key: first.Key, Record: newer}, false, newer},
		{"forged, after it failed", Contact{Key: first.Key, Record: forged}, true, nil},
		{"the same, after it failed", Contact{Key: first.Key, Record: first}, true, nil},
		{"newer, after it failed", Contact{Key: first.Key, Record: newer}, true, newer},
	} {
		l, seeds := testLookup(false, 1, 1, NodeID(Key{1}))
		l.next(epoch, 1, nil)
		l.add(&l.paths[0], l.seed(&strangers(Contact{Key: first.Key, Record: first})[0]))
		if x.failed {
			l.next(epoch, 1, nil)
			l.failed(epoch, first.Key, errRefused)
		}
		l.answered(epoch, seeds[0].Key, &Response{Contacts: []Contact{x.named}})
		qs := l.next(epoch, 1, nil)
		switch {
		case x.want == nil && len(qs) != 0:
			t.Errorf("%s: it is asked again", x.name)
		case x.want != nil && (len(qs) != 1 || qs[0].to.Record != x.want):
			t.Errorf("%s: asked are %+v", x.name, qs)
		}
		if x.failed && x.want != nil { // but not a third time
			l.failed(epoch, first.Key, errRefused)
			i, c, id := l.find(first.id.top(), &first.Key), Contact{Key: first.Key, Record: testRecord(t, 7, 8, epoch)}, first.id
			if l.named(i, &c, &id, 0, 2); len(l.next(epoch, 1, nil)) > 0 {
				t.Errorf("%s: it is asked a third time", x.name)
			}
		}
	}
}

// Whose record is forged was never asked: it is asked when another names it, and nobody waits for it.
func TestLookupForged(t *testing.T) {
	t.Parallel()
	l, seeds := testLookup(false, 1, 2, NodeID(Key{1}))
	named := &Response{Contacts: []Contact{at(Key{7}, "203.0.113.5:1")}}
	l.next(epoch, 2, nil)
	for i, s := range seeds {
		l.answered(epoch, s.Key, named)
		qs := l.next(epoch, 2, nil)
		if len(qs) != 1 || qs[0].to.Key != named.Contacts[0].Key {
			t.Fatalf("%d: %+v are asked, want who was named", i, qs)
		}
		l.forged(qs[0].to.Key)
		l.answered(epoch, qs[0].to.Key, &Response{})
		if l.replies != i+1 || len(l.flying) != len(seeds)-1-i || l.nobody() {
			t.Errorf("%d: %d replies, %d in flight", i, l.replies, len(l.flying))
		}
	}
	if !l.done() {
		t.Error("it waits for who was not asked")
	}
	l, seeds = testLookup(false, 1, 1, NodeID(Key{1}))
	l.next(epoch, 1, nil)
	if l.forged(seeds[0].Key); !l.nobody() || !l.done() {
		t.Error("it knows somebody")
	}
}
