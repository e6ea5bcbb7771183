package dht

import (
	"encoding/binary"
	"slices"
	"testing"
)

// tops are the first bytes of the ids of cs, as a FIND names them.
func tops(cs []Contact) (b []byte) {
	for i := range cs {
		id := cs[i].id()
		b = binary.BigEndian.AppendUint64(b, id.top())
	}
	return b
}

// A FIND that says whom it knows is told of others, no farther than they where it knows many.
func TestServeKnown(t *testing.T) {
	t.Parallel()
	n := newMemNet().prepare(t, 1, nil, nil)
	now := n.cfg.Now()
	for i := range 400 {
		r := testRecord(t, 100+i, 1, now)
		n.core.table.succeeded(now, Contact{Key: r.Key, Record: r}, 1, checkFirst)
	}
	target := ID{0x80, 7}
	find := func(known []byte) []Contact {
		return n.core.serve(now, Key{1}, testAddr(9).Addr(), &Request{Op: OpFind, Target: target, Known: known}).Contacts
	}
	var all []Contact // the nearest first
	for _, e := range n.core.table.closest(target, 200, live) {
		all = append(all, e.contact())
	}
	if len(all) < 2*MaxKnown {
		t.Fatalf("%d contacts", len(all))
	}
	has := func(got, want []Contact) bool {
		return slices.EqualFunc(got, want, func(a, b Contact) bool { return a.Key == b.Key })
	}
	if got := find(nil); !has(got, all[:MaxContacts]) {
		t.Error("without known ones the nearest are not named")
	}
	if got := find(tops(all[:5])); !has(got, all[5:5+MaxBrief]) {
		t.Errorf("%d others, want the %d nearest of them", len(got), MaxBrief)
	}
	// As many as may be said, of whom two are missing among the nearest.
	missing := slices.Concat(all[:3], all[4:20], all[21:MaxKnown+2])
	if got := find(tops(missing)); !has(got, []Contact{all[3], all[20]}) {
		t.Errorf("%d contacts, want the two that are missing", len(got))
	}
	get := func(known []byte) []Contact {
		return n.core.serve(now, Key{1}, testAddr(9).Addr(), &Request{Op: OpGet, Target: target, Known: known}).Contacts
	}
	if got := get(tops(missing)); !has(got, []Contact{all[3], all[20]}) || !has(get(nil), all[:MaxContacts]) {
		t.Errorf("asked for a record: %d contacts, want the two that are missing", len(got))
	}
	if got := find(tops(all[:MaxKnown])); len(got) != 0 {
		t.Errorf("%d contacts that are farther than those known", len(got))
	}
}

// Who was only named, who failed and who has come by himself is not said to be known.
func TestNearestKnown(t *testing.T) {
	t.Parallel()
	target := NodeID(Key{1})
	l, _ := testLookup(false, 1, 4, target)
	l.brief = true
	now := epoch
	q := l.next(now, 1, nil)
	if len(q) != 1 || len(q[0].req.Known) != 0 {
		t.Fatalf("%+v: nobody has answered yet", q)
	}
	named := at(Key{200}, "203.0.113.5:1")
	l.answered(now, q[0].to.Key, &Response{Contacts: []Contact{named}})
	first := q[0].to
	if q = l.next(now, 1, nil); len(q) != 1 || !slices.Equal(q[0].req.Known, tops([]Contact{first})) {
		t.Fatalf("known: %x, want who answered", q[0].req.Known)
	}
	l.failed(now, q[0].to.Key, errRefused)
	if got := l.nearestKnown(&target); !slices.Equal(got, tops([]Contact{first})) {
		t.Errorf("known: %x", got)
	}
	var contact *node // of the table
	for i := range l.nodes {
		if n := &l.nodes[i]; n.state == nodeNew && n.key() != named.Key {
			contact = n
		}
	}
	contact.known, contact.vouch = true, true
	if got := l.nearestKnown(&target); !slices.Equal(got, tops([]Contact{first})) {
		t.Errorf("known: %x, one of them came by itself", got)
	}
	contact.vouch = false
	if got := l.nearestKnown(&target); len(got) != 2*KnownSize {
		t.Errorf("known: %x, want a contact of the table too", got)
	}
	l.widen(target, subWidth, nil)
	for _, n := range l.paths[0].list {
		l.add(&l.paths[1], n)
	}
	if again := l.nearestKnown(&target); len(again) != 2*KnownSize {
		t.Errorf("known to both of two paths: %x", again)
	}
}

// What an earlier run learned of the network's size does not count where the table says
// another thing, and is outvoted by as many new samples.
func TestSizeOfAnEarlierRun(t *testing.T) {
	t.Parallel()
	n := newMemNet().prepare(t, 1, nil, nil)
	now, c := n.cfg.Now(), n.core
	if _, ok := c.size(); ok || !c.unsure() {
		t.Error("sure without a sample")
	}
	for i := range 40 {
		r := testRecord(t, 100+i, 1, now)
		c.table.succeeded(now, Contact{Key: r.Key, Record: r}, 1, checkFirst)
	}
	c.sched.filled = true
	c.sizes.restore([]uint64{40, 45, 38, 44})
	if v, ok := c.size(); !ok || v != 44 || c.unsure() {
		t.Errorf("%g, %t: what the table confirms is not believed", v, ok)
	}
	c.sizes = sizes{}
	c.sizes.restore([]uint64{4000, 4500, 3800, 4400})
	if v, ok := c.size(); ok || !c.unsure() || c.nodes() != float64(c.table.shallow()) {
		t.Errorf("%g nodes are believed, the table knows of %d", v, c.table.shallow())
	}
	far := 0
	for i := range 100 {
		if !c.inReach(NodeID(pub(testKey(5000 + i)))) {
			far++
		}
	}
	if far > 0 {
		t.Errorf("%d of 100 records are too far away in a network of 40", far)
	}
	for _, d := range []struct{ old, new float64 }{{100_000, 100}, {100, 100_000}} {
		var s sizes
		s.restore([]uint64{uint64(d.old), uint64(d.old), uint64(d.old), uint64(d.old)})
		at := now
		for range sizeEnough {
			at = at.Add(sampleFirst)
			s.add(at, d.new)
		}
		if v, _ := s.nodes(); v != d.new {
			t.Errorf("from %g to %g: %g after as many new samples", d.old, d.new, v)
		}
	}
}

// While the table fills nobody is heard who is farther than both the answerer and what it was
// asked about: it knows enough who are as near.
func TestHearNoFarther(t *testing.T) {
	t.Parallel()
	n := newMemNet().prepare(t, 1, nil, nil)
	now, c := n.cfg.Now(), n.core
	at := func(bucket int) *Record {
		for i := 0; ; i++ {
			if r := testRecord(t, 1000*bucket+i+500, 1, now); prefixLen(c.id, r.id) == bucket {
				return r
			}
		}
	}
	asked, far, near, other := at(2), at(0), at(3), at(1)
	heard := func(r *Record) bool {
		b := c.table.bucket(r.id)
		return b.spare(r.id.top(), r.Key) >= 0
	}
	contact := func(r *Record) Contact { return Contact{Key: r.Key, Record: r} }
	answer := func(target ID, named ...*Record) {
		resp := &Response{}
		for _, r := range named {
			resp.Contacts = append(resp.Contacts, contact(r))
		}
		c.alive(now, &call{query: query{to: contact(asked), req: &Request{Op: OpFind, Target: target}}, sent: now}, resp)
	}
	if answer(c.id, far, near); heard(far) || !heard(near) {
		t.Errorf("heard of one who is farther: %t; of one who is nearer: %t", heard(far), heard(near))
	}
	again := at(0)
	c.alive(now, &call{query: query{to: contact(asked), req: &Request{Op: OpGet, Target: c.id}}, sent: now}, &Response{Contacts: []Contact{contact(again)}})
	if heard(again) {
		t.Error("who asks for the own record hears of anybody")
	}
	if answer(other.id, other, far); !heard(other) || heard(far) {
		t.Errorf("about bucket 1, heard of one in it: %t; of one in bucket 0: %t", heard(other), heard(far))
	}
	if answer(far.id, far); !heard(far) {
		t.Error("about bucket 0, one in it is not heard")
	}
	c.sched.filled = true
	if answer(c.id, again); !heard(again) {
		t.Error("when the table is filled somebody was not heard")
	}
}

// Who came by himself is a seed as any other, but not said to be known.
func TestSeedsThatCame(t *testing.T) {
	t.Parallel()
	c := joinedCore(t)
	for i := range 3 {
		c.meet(t, 10+i)
	}
	came := c.table.get(pub(testKey(10)))
	c.table.setCalled(came, true)
	o := c.start(epoch, opRefresh, came.id())
	if len(o.lookup.nodes) != 3 || !o.lookup.of(came.key()).vouch {
		t.Fatalf("%d nodes", len(o.lookup.nodes))
	}
	top := came.id()
	for _, cl := range c.poll(epoch) {
		if cl.op == o && (len(cl.req.Known) != 2*KnownSize || slices.Equal(cl.req.Known[:KnownSize], top[:KnownSize])) {
			t.Errorf("known: %x", cl.req.Known)
		}
	}
}
