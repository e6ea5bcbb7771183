package dht

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"time"
)

const (
	bootstrapFirst = time.Second
	bootstrapMost  = time.Minute
	publishFirst   = 2 * time.Second
	publishMost    = 5 * time.Minute
	sweepEvery     = 10 * time.Minute // nobody is given what has expired: it only takes room
	checkRound     = 2 * time.Minute  // how often the table is looked through for contacts to check
	checkFirst     = 10 * time.Minute // a contact's first check; doubles to checkMost
	checkMost      = 26 * time.Minute
	checkRetry     = 30 * time.Second // of one that did not answer
	linkedRound    = 5 * time.Minute  // those with a session are looked at together
	selfFirst      = 10 * time.Minute // doubles to selfMost
	selfMost       = 2 * time.Hour
	selfClient     = 6 * time.Hour
	refreshAfter   = time.Hour        // a bucket that no lookup touched
	explorers      = 3                // contacts that are asked about one bucket
	sampleEvery    = 6 * time.Hour    // a search for a random target
	sampleFirst    = 20 * time.Minute // while the size of the network is not known well
	readbackAfter  = 5 * time.Second
	repairAfter    = 15 * time.Second
	maxOwnRepairs  = 3
)

// own is this node's own record and what became of it.
type own struct {
	addrs []netip.AddrPort
	rec   *Record
	seq   uint64  // highest ever used
	last  *Record // that others took
	ready bool
	until time.Time // the end of the record that others were last seen to have
	gone  bool      // withdrawn for good: the node stops
}

// schedule is what a node does by itself, and when.
type schedule struct {
	running [opKinds]int

	candidates bool      // there may be replacements that there is room for
	joined     bool      // the first search of our own is over
	bootstrap  time.Time // next try while the table is empty
	backoff    time.Duration
	restored   []former // of the last run, or dropped: asked when the table is empty

	started   time.Time
	self      time.Time // next search for our own neighbourhood
	sweep     time.Time
	check     time.Time
	filling   int  // bucket to refresh next after joining; -1: none
	filled    bool // all buckets were refreshed once
	publish   time.Time
	republish time.Duration // back-off of publish
	readback  time.Time     // when the own record is read back; zero: not
	repairs   int           // of this publication
	sync      time.Time
	sample    time.Time // next look whether the size of the network is known
	resample  time.Time // next search for a random target though it is
}

func (s *schedule) init(now time.Time) {
	s.started, s.bootstrap, s.publish = now, now, now
	s.self, s.sweep, s.check = now.Add(selfFirst), now.Add(sweepEvery), now.Add(checkRound)
	s.sync, s.sample = now.Add(syncEvery), now.Add(sampleFirst)
	s.backoff, s.republish, s.filling = bootstrapFirst, publishFirst, -1
}

// remember keeps a contact that was dropped: if all are, it was perhaps our own
// uplink that failed.
func (s *schedule) remember(ct Contact) {
	if i := s.former(ct.Key); i >= 0 {
		s.restored = slices.Delete(s.restored, i, i+1)
	}
	s.restored = append(slices.Delete(s.restored, 0, max(0, len(s.restored)-restoreSeeds+1)), former{newWho(&ct, ct.id()), ct.Key.hash()})
}

// former is one of schedule.restored.
type former struct {
	who
	hash uint64 // of its key: every dial asks whether it is one of them
}

// former returns the place of k in restored, -1 if it is not there.
func (s *schedule) former(k Key) int {
	hash := k.hash()
	for i := range s.restored {
		if f := &s.restored[i]; f.hash == hash && f.key() == k {
			return i
		}
	}
	return -1
}

// schedule begins what is due.
func (c *core) schedule(now time.Time) {
	s := &c.sched
	if c.table.n == 0 {
		c.scheduleJoin(now)
	} else {
		c.scheduleUpkeep(now)
	}
	if free := c.freeProbes(); s.joined && s.candidates && free > 0 {
		taken := c.table.takeCandidates(free)
		s.candidates = len(taken) == free // there may be more
		for _, ct := range taken {
			if c.isDead(now, &ct, ct.by) || !c.probe(ct, probeCandidate) {
				c.unask(ct.Key)
			}
		}
	}
	if !now.Before(s.sweep) {
		s.sweep = now.Add(sweepEvery)
		c.store.sweep(now)
		c.entries.sweep(now)
		c.sweepDead(now)
		c.sweepShut(now)
	}
}

// scheduleJoin looks for somebody to talk to.
func (c *core) scheduleJoin(now time.Time) {
	s := &c.sched
	if len(c.cfg.Bootstrap) == 0 && len(s.restored) == 0 {
		s.joined = true // the first of its network: others will come
		c.own.ready = true
		return
	}
	c.prove(now)
	if s.running[opSelf] == 0 && !now.Before(s.bootstrap) {
		s.filled, s.filling = false, -1 // whoever was known, all buckets are empty now
		c.start(now, opSelf, c.id)
	}
}

// joined is the end of a search for our own neighbourhood.
func (c *core) joined(now time.Time, o *op) {
	s := &c.sched
	first := !s.joined
	s.joined = true
	if c.table.n == 0 {
		s.bootstrap = now.Add(c.jitter(s.backoff))
		s.backoff = min(2*s.backoff, bootstrapMost)
		if len(c.cfg.Bootstrap) == 0 {
			s.restored = nil // nobody is left of the last run
		}
		return
	}
	c.knowsSelf(now)
	if first || !s.filled {
		s.filling = 0
	}
}

// knowsSelf puts off the next search for our own neighbourhood: one is over, or a publication
// has asked the same nodes the same. A client, which nobody asks, hardly needs to know it.
func (c *core) knowsSelf(now time.Time) {
	after := min(max(now.Sub(c.sched.started), selfFirst), selfMost)
	if c.sched.filled && c.isClient() {
		after = selfClient
	}
	c.sched.self = now.Add(c.jitter(after))
}

// scheduleUpkeep keeps the table and the own record fresh.
func (c *core) scheduleUpkeep(now time.Time) {
	s := &c.sched
	if !c.up.down.IsZero() && s.running[opSelf] == 0 && !now.Before(s.bootstrap) { // is anybody there?
		s.bootstrap = now.Add(c.jitter(s.backoff))
		s.backoff = min(2*s.backoff, bootstrapMost)
		c.start(now, opSelf, c.id)
	}
	c.prove(now)
	c.resize(now)
	if s.running[opSelf] == 0 && (!s.joined || !now.Before(s.self) || !s.filled && s.filling < 0) {
		c.start(now, opSelf, c.id)
	}
	if s.filling >= 0 && len(c.outbox) == 0 {
		c.fill()
	}
	if !now.Before(s.sync) {
		s.sync = now.Add(c.jitter(syncEvery))
		c.sync(now)
	}
	if !now.Before(s.check) {
		s.check = now.Add(checkRound)
		c.lives.watch(now, c.table.n)
		c.checkContacts(now)
		c.refreshOne(now)
	}
	if c.own.rec == nil {
		c.own.ready = c.own.ready || s.joined
		return
	}
	if s.joined && s.running[opPublish]+s.running[opReadback] == 0 {
		if !s.readback.IsZero() && !now.Before(s.readback) {
			s.readback = time.Time{}
			c.start(now, opReadback, c.id)
		} else if !now.Before(s.publish) && !c.unproved(now) {
			c.renew(now)
			c.start(now, opPublish, c.id)
		}
	}
}

// resize fits the table to what this node is: a client, which nobody asks, needs fewer
// contacts than a server. One that finds that it can be dialled looks for the others.
func (c *core) resize(now time.Time) {
	client := c.isClient()
	if client == (c.table.k == clientBucket) {
		return
	}
	c.table.resize(client)
	if client {
		return
	}
	c.sched.candidates = true
	if c.sched.filled {
		c.sched.self, c.sched.filled = now, false // all buckets again
	}
}

// isClient tells whether nobody can dial this node, as far as it knows.
func (c *core) isClient() bool { return len(c.own.addrs) == 0 || c.proof.known && !c.proof.server }

// fill asks for contacts of every bucket once after joining, one after the other.
func (c *core) fill() {
	s := &c.sched
	deepest := 0
	for i := range c.table.buckets {
		if len(c.table.buckets[i].entries) > 0 {
			deepest = i
		}
	}
	if s.filling > deepest {
		s.filling, s.filled = -1, true
		return
	}
	c.explore(s.filling)
	s.filling++
}

// refreshOne asks for contacts of one bucket that was not touched for long, and
// looks a random target up from time to time, to learn how dense the network is. Who was told
// so by its last run, and sees nothing else, has no need to begin with it.
func (c *core) refreshOne(now time.Time) {
	if c.sched.running[opRefresh] == 0 && !now.Before(c.sched.sample) {
		c.sched.sample = now.Add(c.jitter(sampleFirst))
		if c.unsure() || !now.Before(c.sched.resample) {
			c.sched.resample = now.Add(c.jitter(sampleEvery))
			c.start(now, opRefresh, c.randomAfter(ID{}, 0))
		}
	}
	if i := c.table.untouched(now, refreshAfter); i >= 0 {
		c.table.buckets[i].touched = now
		c.explore(i)
	}
}

// explore asks a few contacts for those that they know in one bucket: its own, or
// the nearest to it. What they name is checked before it enters.
func (c *core) explore(i int) {
	target := c.randomIn(i)
	near := c.table.closest(target, bucketSize, live)
	c.rnd.Shuffle(len(near), func(a, b int) { near[a], near[b] = near[b], near[a] })
	known, n := c.known(target), explorers
	if b := &c.table.buckets[i]; len(b.entries) >= c.table.k && len(b.replacements) >= replacementSize/2 {
		n = 1 // it lacks nothing
	}
	for _, linked := range [...]bool{true, false} { // those with a session first
		for _, e := range near {
			if n > 0 && c.cfg.linked(e.key()) == linked {
				c.deliver(e.contact(), &Request{Op: OpFind, Target: target, Known: known})
				n--
			}
		}
	}
}

// known are the contacts around target that need not be named to this node. One that
// came by itself has yet to be named by others.
func (c *core) known(target ID) []byte {
	near := c.table.closest(target, MaxKnown, func(e *entry) bool { return !e.called })
	if len(near) == 0 {
		return nil
	}
	b := make([]byte, 0, len(near)*KnownSize)
	for _, e := range near {
		b = binary.BigEndian.AppendUint64(b, e.top())
	}
	return b
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// randomIn is a random target that shares exactly n leading bits with self.
func (c *core) randomIn(n int) ID {
	var t ID
	for i := range t {
		t[i] = byte(c.rnd.Uint32())
	}
	n = min(n, 255)
	for i := 0; i < n; i++ {
		bit := byte(0x80 >> (i % 8))
		t[i/8] = t[i/8]&^bit | c.id[i/8]&bit
	}
	bit := byte(0x80 >> (n % 8))
	t[n/8] = t[n/8]&^bit | ^c.id[n/8]&bit
	return t
}

// checkContacts asks contacts that were silent for their time whether they live.
func (c *core) checkContacts(now time.Time) {
	if c.off.Recheck {
		return
	}
	c.table.due(now, func(e *entry) {
		if len(c.probes) >= maxProbes {
			return
		}
		if e.fails > 0 {
			c.table.checkAt(e, now.Add(checkRetry)) // until the answer moves it on
		} else if c.cfg.linked(e.key()) { // the end of the session is a check
			next := now.Add(checkMost)
			c.table.checkAt(e, next)
			e.nextCheck -= e.nextCheck % stamp(linkedRound)
			if r := e.record(); r != nil && next.Before(r.Expires()) {
				return
			}
		} else {
			e.every = min(2*e.every, uint8(checkMost/time.Minute))
			c.table.checkAt(e, now.Add(checkRetry)) // until the answer moves it on
		}
		c.probe(e.contact(), probeCheck)
	})
}

// jitter is d, a tenth more or less.
func (c *core) jitter(d time.Duration) time.Duration {
	return d - d/10 + time.Duration(c.rnd.Int64N(int64(d/5)+1))
}

// wake is when poll has something to do though nothing happens.
func (c *core) wake(now time.Time) time.Time {
	s := &c.sched
	at := s.sweep
	earlier := func(t time.Time) {
		if t.Before(at) && t.After(now) {
			at = t
		}
	}
	if c.table.n == 0 {
		earlier(s.bootstrap)
		earlier(c.proof.next)
	} else {
		if !c.up.down.IsZero() {
			earlier(s.bootstrap)
		}
		earlier(s.self)
		earlier(s.sync)
		earlier(s.readback)
		work := c.table.next
		if idle := c.table.idle.Add(refreshAfter); idle.Before(work) {
			work = idle
		}
		if s.sample.Before(work) {
			work = s.sample
		}
		if work.Before(s.check) {
			work = s.check
		}
		earlier(work)
		earlier(s.publish)
		earlier(c.proof.next)
		earlier(s.started.Add(dialBackLimit))
	}
	for _, o := range c.ops {
		if w := o.lookup.wake(now); !w.IsZero() {
			earlier(w)
		}
	}
	return at
}
