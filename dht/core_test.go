package dht

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"
)

func testCore(t *testing.T, boot ...Contact) *core {
	n := newMemNet().prepare(t, 1, boot, func(c *Config) { c.Now = func() time.Time { return epoch } })
	n.core.setAddrs(epoch, n.cfg.Addrs())
	return n.core
}

// Whoever asks before our own first search is over is not called back before.
func TestCoreJoinsFirst(t *testing.T) {
	t.Parallel()
	boot := at(pub(testKey(2)), "127.0.0.1:1")
	c := testCore(t, boot)
	for i := range 100 {
		c.serve(epoch, pub(testKey(100+i)), netip.Addr{}, &Request{Op: OpFind, Seq: 1})
	}
	calls := c.poll(epoch)
	if len(calls) != 1 || calls[0].to.Key != boot.Key || calls[0].req.Op != OpFind {
		t.Fatalf("%d calls before joining", len(calls))
	}
	c.answered(epoch, calls[0].id, &Response{}, nil)
	pings := 0
	for range 100 { // its own questions come first
		for _, cl := range c.poll(epoch) {
			if cl.req.Op == OpPing {
				pings++
			} else {
				c.answered(epoch, cl.id, &Response{}, nil)
			}
		}
	}
	if pings != probing {
		t.Errorf("%d calls back at once, want %d", pings, probing)
	}
	if c.table.n != 1 {
		t.Errorf("%d contacts, only the bootstrap node answered", c.table.n)
	}
}

// However many strangers come and don't answer, contacts are checked and
// candidates asked.
func TestCoreStrangers(t *testing.T) {
	t.Parallel()
	c := testCore(t)
	c.sched.joined, c.sched.filled, c.sched.publish = true, true, epoch.Add(time.Hour)
	contact, candidate := testRecord(t, 7, 1, epoch), testRecord(t, 8, 1, epoch)
	c.table.succeeded(epoch, Contact{Key: contact.Key, Record: contact}, time.Millisecond, checkFirst)
	now := epoch.Add(checkFirst + time.Second)
	stranger := 100
	flood := func() {
		for range 2 * maxProbes {
			c.serve(now, pub(testKey(100+stranger%1000)), netip.Addr{}, &Request{Op: OpFind, Seq: 1})
			stranger++
		}
	}
	flood()
	waiting := c.poll(now)
	c.table.heard(&hearing{dead: allAlive}, &Contact{Key: candidate.Key, Record: candidate})
	c.sched.candidates = true
	asked := map[Key]bool{}
	for round := 0; !asked[contact.Key] || !asked[candidate.Key]; round++ {
		if round > 2*probing {
			t.Fatalf("asked: the contact %t, the candidate %t", asked[contact.Key], asked[candidate.Key])
		}
		flood()
		now = now.Add(firstTimeout)
		c.answered(now, waiting[0].id, nil, errRefused)
		waiting = append(waiting[1:], c.poll(now)...)
		for _, cl := range waiting {
			asked[cl.to.Key] = asked[cl.to.Key] || cl.req.Op == OpPing
		}
	}
	n := len(c.strangers)
	for _, cl := range waiting {
		if cl.to.Key != contact.Key && cl.to.Key != candidate.Key {
			n++
		}
	}
	if len(c.strangers) > maxProbes || c.strange != n {
		t.Errorf("%d strangers wait, %d are counted, not %d", len(c.strangers), c.strange, n)
	}
}

// A liar names an honest node by a forged record, or at a wrong address. It is
// not asked there, or not only there, and not blamed.
func TestCoreWrongReferral(t *testing.T) {
	t.Parallel()
	honest := testRecord(t, 7, 5, epoch)
	forged, err := ParseRecord(testRecord(t, 7, 900, epoch).Bytes())
	if err != nil {
		t.Fatal(err)
	}
	forged.raw[len(forged.raw)-1] ^= 1
	elsewhere := []netip.AddrPort{testAddr(4711)}
	for name, lie := range map[string]Contact{
		"forged":   {Key: honest.Key, Record: forged},
		"unsigned": {Key: honest.Key, Addrs: elsewhere},
	} {
		for _, known := range []bool{false, true} {
			c := testCore(t)
			liar, other := testRecord(t, 20, 1, epoch), testRecord(t, 21, 1, epoch)
			for _, r := range []*Record{liar, other} {
				c.table.succeeded(epoch, Contact{Key: r.Key, Record: r}, time.Millisecond, checkFirst)
			}
			if known {
				c.table.succeeded(epoch, Contact{Key: honest.Key, Record: honest}, time.Millisecond, checkFirst)
			}
			c.sched.joined, c.sched.filled, c.sched.publish = true, true, epoch.Add(time.Hour)
			o := c.start(epoch, opGet, NodeID(pub(testKey(99))))
			asked := false
			now := epoch
			var late *call
			for round := range 20 {
				now = now.Add(time.Millisecond)
				if round == 10 && late != nil {
					c.answered(now, late.id, &Response{Contacts: []Contact{{Key: honest.Key, Record: honest}}}, nil)
				}
				for _, cl := range c.poll(now) {
					switch {
					case cl.req.Op != OpGet:
						c.answered(now, cl.id, nil, errRefused)
					case cl.to.Key == liar.Key:
						c.answered(now, cl.id, &Response{Contacts: []Contact{lie}}, nil)
					case cl.to.Key == other.Key: // the truth comes after the lie
						late = cl
					case cl.to.Record == honest:
						asked = true
						c.answered(now, cl.id, &Response{}, nil)
					case cl.to.Record == forged:
						t.Errorf("%s, known %t: dialled by a forged record", name, known)
						c.answered(now, cl.id, nil, errRefused)
					default:
						c.answered(now, cl.id, nil, errRefused)
					}
				}
			}
			if !o.finished || !asked {
				t.Errorf("%s, known %t: finished %t, the honest node was asked: %t", name, known, o.finished, asked)
			}
			if e := c.table.get(honest.Key); known && (e == nil || e.fails > 0 || e.record() != honest) {
				t.Errorf("%s: the honest node is blamed", name)
			}
		}
	}
}

// A record's seq is beyond all that went before, whatever the clock says, and
// beyond what holders know of an earlier life. A forged one proves nothing.
func TestCoreSeq(t *testing.T) {
	t.Parallel()
	c := testCore(t)
	last := c.own.rec.Seq
	for i, now := range []time.Time{epoch, epoch, epoch.Add(-time.Hour)} {
		c.setAddrs(now, []netip.AddrPort{testAddr(50 + i)})
		if c.own.rec.Seq <= last {
			t.Errorf("seq %d after %d", c.own.rec.Seq, last)
		}
		last = c.own.rec.Seq
	}
	o := &op{kind: opPublish, rec: c.own.rec, pending: 2}
	forged, err := ParseRecord(testRecord(t, 1, 1<<61, epoch).Bytes())
	if err != nil {
		t.Fatal(err)
	}
	forged.raw[len(forged.raw)-1] ^= 1
	o.putAnswered(epoch, Key{1}, &Response{Status: StatusNewer, Record: forged}, 0)
	o.putAnswered(epoch, Key{2}, &Response{Status: StatusNewer, Record: testRecord(t, 1, 1<<60, epoch)}, 0)
	c.published(epoch, o)
	if c.own.rec.Seq != 1<<60+1 || !c.sched.publish.Equal(epoch) {
		t.Errorf("seq %d, to be published at %s", c.own.rec.Seq, c.sched.publish)
	}
}

// One holder whose clock is off is no proof that ours is.
func TestPublishError(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		holders, clocks int
		clock, fails    bool
	}{{3, 0, false, false}, {3, 3, false, false}, {3, 4, true, true}, {0, 1, true, true}, {0, 0, false, true}} {
		o := &op{holders: test.holders}
		for i := range test.clocks {
			o.clock = append(o.clock, time.Duration(i+1)*time.Hour)
		}
		err := o.publishError()
		var off *ClockError
		if (err != nil) != test.fails || errors.As(err, &off) != test.clock {
			t.Errorf("%+v: %v", test, err)
		}
		if test.clock && (off.Off != o.clock[test.clocks/2] || off.Peers != test.clocks) {
			t.Errorf("%+v: %+v", test, off)
		}
	}
}

// Who asks is not told of himself.
func TestCoreNames(t *testing.T) {
	t.Parallel()
	c := testCore(t)
	for i := range 3 {
		r := testRecord(t, 10+i, 1, epoch)
		c.table.succeeded(epoch, Contact{Key: r.Key, Record: r}, time.Millisecond, checkFirst)
	}
	asker := pub(testKey(11))
	resp := c.serve(epoch, asker, netip.Addr{}, &Request{Op: OpFind, Target: NodeID(asker), Seq: 1})
	if len(resp.Contacts) != 2 || slices.ContainsFunc(resp.Contacts, func(ct Contact) bool { return ct.Key == asker }) {
		t.Errorf("%d contacts, the asker among them", len(resp.Contacts))
	}
}

// What a contact gives as its own record, and what others give as a contact's, is verified unless it is
// the very record that the table has.
func TestForgedRecordOfAContact(t *testing.T) {
	t.Parallel()
	c := testCore(t)
	c.sched.joined = true
	known, newer := testRecord(t, 7, 5, epoch), testRecord(t, 7, 6, epoch)
	parsed := func(r *Record, flip byte) *Record {
		p, err := ParseRecord(r.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		p.raw[len(p.raw)-1] ^= flip
		return p
	}
	verified := 0
	c.verify = func(r *Record) error { verified++; return r.Verify() }
	c.table.succeeded(epoch, Contact{Key: known.Key, Record: known}, time.Millisecond, checkFirst)
	for _, x := range []struct {
		name  string
		rec   *Record
		taken bool
		cost  int
	}{{"the same", parsed(known, 0), true, 0}, {"the same, forged", parsed(known, 1), false, 1}, {"a newer one, forged", parsed(newer, 1), false, 1}} {
		verified = 0
		if cl := c.begin(epoch, query{to: Contact{Key: known.Key, Record: x.rec}, req: &Request{Op: OpPing}}); (cl != nil) != x.taken || verified != x.cost {
			t.Errorf("%s: called %t, %d verified", x.name, cl != nil, verified)
		}
		cl := c.begin(epoch, query{to: Contact{Key: known.Key, Record: known}, req: &Request{Op: OpPing}})
		verified = 0
		c.answered(epoch, cl.id, &Response{Record: x.rec}, nil)
		if e := c.table.get(known.Key); e == nil || e.record() != known || (e.fails == 0) != x.taken || verified != x.cost {
			t.Fatalf("%s: the entry is %+v, %d verified", x.name, e, verified)
		} else {
			c.table.fail(e, 0)
		}
	}
	cl := c.begin(epoch, query{to: Contact{Key: known.Key, Record: known}, req: &Request{Op: OpPing}})
	c.answered(epoch, cl.id, &Response{Record: newer}, nil)
	if e := c.table.get(known.Key); e.record() != newer {
		t.Errorf("the newer record is not taken: %+v", e.record())
	}
}

// Who was picked and can't be called after all gives his place to another at once.
func TestForgedGivesPlace(t *testing.T) {
	t.Parallel()
	c := joinedCore(t)
	c.meet(t, 10)
	forged := testRecord(t, 100, 1, epoch)
	forged.raw[len(forged.raw)-1] ^= 1
	named := []Contact{{Key: forged.Key, Record: forged}}
	for i := range alpha {
		r := testRecord(t, 101+i, 1, epoch)
		named = append(named, Contact{Key: r.Key, Record: r})
	}
	c.start(epoch, opGet, forged.id) // which it is the nearest to
	calls := c.poll(epoch)
	if len(calls) != 1 {
		t.Fatalf("%d are asked first", len(calls))
	}
	c.answered(epoch, calls[0].id, &Response{Status: StatusNone, Contacts: named}, nil)
	gets := 0
	for _, cl := range c.poll(epoch) {
		gets += btoi(cl.req.Op == OpGet && cl.to.Key != forged.Key)
	}
	if gets != alpha {
		t.Errorf("%d are asked, want %d", gets, alpha)
	}
}

// Who did not answer the last call is named to nobody before he answers one again.
func TestSilentContactsAreNotNamed(t *testing.T) {
	t.Parallel()
	c := joinedCore(t)
	r := c.meet(t, 10)
	c.meet(t, 11)
	named := func() bool {
		checkTable(t, &c.table)
		resp := c.serve(epoch, Key{9}, netip.Addr{}, &Request{Op: OpFind, Target: r.id})
		return slices.ContainsFunc(resp.Contacts, func(ct Contact) bool { return ct.Key == r.Key })
	}
	for _, want := range []bool{true, false, true} {
		if !want {
			c.table.failed(epoch, r.Key)
		} else {
			c.meet(t, 10)
		}
		if named() != want {
			t.Errorf("named: %t", !want)
		}
	}
}
