package dht

import (
	"cmp"
	"crypto/ed25519"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"
)

// Waiting for one call: a multiple of the contact's own round-trip time within
// bounds. A contact without a session has to be dialled first, and has no less time than
// one that was never called.
const (
	minTimeout   = time.Second
	maxTimeout   = 2 * time.Second
	firstTimeout = 1500 * time.Millisecond
	minHedge     = 50 * time.Millisecond
	firstHedge   = 300 * time.Millisecond

	deadKept     = 30 * time.Second // a contact that failed is not tried again for so long
	shutKept     = 10 * time.Minute // nor an address
	maxDead      = 1024
	maxShut      = 4096
	maxReferrers = 3   // in as many networks, whose word for one address is tried
	maxProbes    = 256 // waiting, of our own and of strangers each
	probing      = 8   // at once
	offsets      = 15  // clock offsets remembered
)

var (
	errWrongRecord = errors.New("it sent another agent's record")
	errLeftAlone   = errors.New("nobody answered at its address a moment ago")
)

// core is one node's protocol as a state machine: no goroutine, clock, global
// randomness or I/O. Whoever drives it calls poll after each event and at wake,
// makes the calls that poll returns, and hands their outcomes to answered.
//
// A simulation has so many nodes that none is in the processor's cache when its turn comes: what most
// events read stands together and first, and its parts are values, not pointers.
type core struct {
	cfg   *Config  // static
	off   Ablation // mitigations that are switched off; none but in a simulation
	up    uplink
	pace  pace
	calls []*call // under way, the oldest first

	ownCalls   int // of calls: those that no user waits for
	delivering int // of calls: those from outbox
	strange    int // strangers in queued
	lastID     uint64

	ops       []*op
	probes    []Contact // to be asked for their record
	strangers []Key     // those who came by themselves: asked when no other waits
	outbox    []query   // in the background: nobody waits for their answers

	queued few[Key, probeKind] // in probes, in strangers, or being asked
	dead   few[Key, dead]
	shut   few[netip.AddrPort, shut] // addresses that are left alone

	sched schedule
	proof proof
	own   own
	stats Stats

	table table
	self  Key // static
	id    ID  // static

	store   store
	entries entries
	budgets budgets

	verify func(*Record) error
	signer func(Record) (*Record, error)
	rnd    rand.Rand
	sizes  sizes
	lives  lifetimes
	dials  dialTimes
	offs   [offsets]time.Duration // this clock minus others', the latest ones
	offsAt int                    // how many there were: the next one is at offsAt%offsets
}

// call is one request under way.
type call struct {
	query
	id       uint64
	sent     time.Time
	op       *op  // nil: a probe, or from the outbox
	back     bool // from the outbox
	stranger bool // a probe of who came by himself
	opening  bool // its addresses were not dialled before
	ended    bool // a probeEnded
}

// own tells whether the node makes the call of its own accord.
func (cl *call) own() bool { return cl.op == nil || !cl.op.byUser() }

// shut is an address that is left alone, since no session could be opened there or
// one is being opened: for what the same referrer names, and for all when so many have
// named it. A liar who names his own key at another's address so hides it from nobody
// who hears of it elsewhere.
type shut struct {
	until stamp
	by    [maxReferrers]uint32
	n     uint8
}

// probeKind is why a contact is asked for its record.
type probeKind uint8

const (
	probeCheck     probeKind = iota // of a contact, or one whose record has changed
	probeEnded                      // of a contact whose session has ended: that counts with it
	probeCandidate                  // for a free place: bucket.asked counts it
	probeStranger                   // who came by himself
)

// dead is a contact that did not answer a moment ago.
type dead struct {
	until stamp
	seq   uint64 // of the record that was tried: a newer one is worth a try
}

func newCore(cfg *Config, now time.Time) *core {
	c := &core{}
	c.init(cfg, now)
	return c
}

func (c *core) init(cfg *Config, now time.Time) {
	self := Key(cfg.Key.Public().(ed25519.PublicKey))
	*c = core{cfg: cfg, self: self, id: NodeID(self), verify: (*Record).Verify, rnd: *rand.New(cfg.Rand)}
	c.signer = func(r Record) (*Record, error) { return r.Sign(cfg.Key) }
	c.pace.most = cfg.MaxCalls
	c.table = *newTable(c.id, cfg.Group)
	c.store, c.entries = *newStore(c.id, cfg), *newEntries(c.id, cfg)
	c.lives.init(now)
	c.proof.server = !cfg.dialBack || len(cfg.Bootstrap) == 0
	c.sched.init(now)
}

// start begins an operation at target.
func (c *core) start(now time.Time, kind opKind, target ID) *op {
	return c.startOp(now, &op{kind: kind}, target)
}

func (c *core) startOp(now time.Time, o *op, target ID) *op {
	kind := o.kind
	o.verify = c.verify
	cfg := lookupConfig{host: c, self: c.self, target: target, paths: pathsGet, group: c.cfg.Group, verify: c.verify}
	switch kind {
	case opGet:
		cfg.get, cfg.letGo = true, true
		if cfg.quorum = quorum; o.strict {
			cfg.quorum, cfg.alpha = 0, alphaStrict
		}
		if !o.strict && !o.hardened && !c.off.Region {
			cfg.region = c.radius()
		}
	case opReadback:
		cfg.get, cfg.minSeq, cfg.brief = true, seqOf(c.own.rec), true
		if c.steady() {
			cfg.paths = 1
		}
	case opPublish:
		if cfg.paths, o.rec = pathsPut, c.own.rec; c.renewed() && c.own.ready && c.steady() {
			cfg.brief, cfg.paths = true, 1 // as a search for ourselves
		}
	case opSelf:
		if c.sched.filled { // its neighbours are known: who else is there?
			cfg.brief, cfg.paths = true, 1
		}
	case opRefresh:
		cfg.brief = true
		cfg.paths = 1 // nobody knows the target beforehand
	case opPutEntry:
		cfg.paths = pathsPut
	case opGetEntry:
		cfg.get = true
		cfg.check = func(body []byte) bool {
			id, _, err := c.cfg.CheckEntry(body)
			return err == nil && id == target
		}
	}
	if o.hardened {
		cfg.paths = pathsHardened
	}
	if o.putting() {
		if o.asked, o.radius = map[Key]bool{}, c.radius(); c.off.Replicas {
			o.radius = 0
		}
		for _, e := range c.table.closest(target, bucketSize, live) { // most of them are right
			if e.key() != c.self && fraction(e.id(), target) < o.radius && !c.isDead(now, e.ref(), e.by) {
				o.asked[e.key()] = true
				o.puts = append(o.puts, e.contact())
			}
		}
	}
	c.off.lookup(&cfg)
	var space [2 * bucketSize]seed
	o.lookup = newLookup(now, cfg, c.seeds(now, target, space[:0]))
	if o.strict && !c.off.Region && c.nodes() > maxHolders { // it must not miss anything
		o.around = true
		c.around(now, o, subTargets)
	}
	switch kind {
	case opGet:
		c.local(now, o)
	case opGetEntry:
		if b := c.entries.get(now, target); b != nil {
			o.lookup.entry, o.lookup.ended = b, true
		}
	}
	c.sched.running[kind]++
	c.table.bucket(target).touched = now
	c.stats.Lookups++
	c.ops = append(c.ops, o)
	return o
}

// local counts this node itself among the holders.
func (c *core) local(now time.Time, o *op) {
	rec := c.store.get(now, o.lookup.target)
	holds := rec != nil
	if o.lookup.target == c.id {
		rec, holds, o.lookup.ended = c.own.rec, true, true
	}
	if e := c.table.getID(o.lookup.target); e != nil && rec == nil && !c.off.Holders {
		rec = e.record() // a contact's record is where to ask first, and can be an old one
	}
	if rec != nil && rec.Current(now) == nil {
		o.lookup.best, o.better = rec, true
		if holds {
			o.lookup.holders++
		}
	}
}

// seeds appends the contacts that a lookup starts from to out, which is empty: of its own table, and the
// bootstrap nodes while that is thin.
func (c *core) seeds(now time.Time, target ID, out []seed) []seed {
	var failed []seed
	for _, e := range c.table.closest(target, 2*bucketSize, nil) {
		if ct := e.contact(); c.isDead(now, &ct, e.by) {
			failed = append(failed, seed{e.who, true, e.called})
		} else {
			out = append(out, seed{e.who, true, e.called})
		}
	}
	if len(out) == 0 {
		out = failed // all of them: it was perhaps our own uplink
	}
	if len(out) < bucketSize || !c.up.down.IsZero() {
		var more []who
		for _, b := range c.cfg.Bootstrap {
			more = append(more, newWho(&b, b.id()))
		}
		for _, f := range c.sched.restored {
			more = append(more, f.who)
		}
		for _, w := range more {
			if k := w.key(); k != c.self && c.table.get(k) == nil {
				out = append(out, seed{who: w})
			}
		}
	}
	return out
}

func (c *core) contact(id ID) (ct Contact, called, ok bool) {
	if e := c.table.getID(id); e != nil {
		return e.contact(), e.called, true
	}
	return Contact{}, false, false
}

func (c *core) patience(k Key) (timeout, hedge time.Duration) {
	timeout, hedge = firstTimeout, firstHedge
	if e := c.table.get(k); e != nil && e.rtt > 0 {
		rtt, least := e.roundTrip(), minTimeout
		if c.cfg.sessions && !c.cfg.linked(k) {
			least = firstTimeout
		}
		timeout, hedge = min(max(3*rtt, least), maxTimeout), max(rtt*3/2, minHedge)
	}
	slack := c.pace.slack()
	return timeout + slack, hedge + slack
}

// poll moves everything on and returns the calls to make now.
func (c *core) poll(now time.Time) []*call { return c.pollInto(now, nil) }

// pollInto is poll that appends to out.
func (c *core) pollInto(now time.Time, out []*call) []*call {
	for again := true; again; { // the end of one operation may be the start of another
		again = false
		c.schedule(now)
		for _, o := range c.ops {
			o.lookup.tire(now)
			c.widen(now, o)
			out = c.advance(now, o, out)
			if o.ready() && !o.finished {
				c.finish(now, o)
				again = true
			}
		}
		if again {
			c.ops = slices.DeleteFunc(c.ops, func(o *op) bool { return o.finished })
		}
	}
	c.watchReady(now)
	return c.nextDeliveries(now, c.nextProbes(now, out))
}

// advance appends the calls that o wants now.
func (c *core) advance(now time.Time, o *op, out []*call) []*call {
	if o.putting() && o.wide && o.lookup.done() && !o.chosen {
		o.chosen = true
		o.choose(c.holders(o.lookup))
	}
	var space [alpha * pathsGet]query
	for again := true; again; { // what was not begun after all makes room for others
		again = false
		room := c.room()
		if !o.byUser() && !c.own.gone {
			room = c.ownRoom()
		}
		qs := o.lookup.next(now, room, space[:0])
		for _, q := range o.nextPuts(room-len(qs), qs) {
			if cl := (&call{query: q, op: o}); c.emit(now, cl) {
				out = append(out, cl)
			} else {
				again = true
			}
		}
	}
	return out
}

// room is how many calls may be begun.
func (c *core) room() int { return max(0, c.cfg.MaxCalls-len(c.calls)) }

// ownRoom is how many of them may be the node's own.
func (c *core) ownRoom() int { return min(c.room(), max(0, c.pace.allowed()-c.ownCalls)) }

// emit begins cl, whose query, and op if it belongs to one, are set. It tells whether it did: records
// that others named are verified here, when they are about to be dialled, and not before.
func (c *core) emit(now time.Time, cl *call) bool {
	q, o := &cl.query, cl.op
	e := c.table.has(&q.to)
	if r := q.to.Record; r != nil {
		if (e == nil || !e.knows(r)) && c.verify(r) != nil {
			if o != nil {
				o.lookup.forged(q.to.Key)
			}
			return false
		}
	}
	if addrs := q.to.Addresses(); e == nil && len(addrs) > 0 && !c.familiar(q.to.Key) {
		if c.isShut(now, &q.to, q.to.by) {
			c.opFailed(now, q, o, errLeftAlone)
			return false
		}
		c.shutOut(now, q.to) // until this call has shown that somebody is there
		cl.opening = true
	}
	q.req.Seq = 0 // nobody need call a client
	if c.proof.server && len(c.own.addrs) > 0 {
		q.req.Seq = seqOf(c.own.rec)
	}
	c.lastID++
	cl.id, cl.sent = c.lastID, now
	c.calls = append(c.calls, cl)
	if cl.own() {
		c.ownCalls++
	}
	c.stats.Calls++
	return true
}

func (c *core) opFailed(now time.Time, q *query, o *op, err error) {
	switch {
	case o == nil || o.finished:
	case q.req.Op == OpPut:
		o.putFailed(q.to.Key, err)
	default:
		o.lookup.failed(now, q.to.Key, err)
	}
}

// call is the place of a call in calls; false if it is not under way.
func (c *core) call(id uint64) (int, bool) {
	return slices.BinarySearchFunc(c.calls, id, func(cl *call, id uint64) int { return cmp.Compare(cl.id, id) })
}

// answered takes the outcome of a call: a response, or why there is none.
func (c *core) answered(now time.Time, id uint64, resp *Response, err error) {
	i, under := c.call(id)
	if !under {
		return
	}
	cl := c.calls[i]
	c.calls = slices.Delete(c.calls, i, i+1)
	if cl.own() {
		c.ownCalls--
	}
	switch {
	case cl.back:
		c.delivering--
	case cl.op == nil:
		c.probed(cl.to.Key)
	}
	if err == nil {
		err = resp.Validate()
	}
	if err == nil && cl.req.Op == OpPing {
		err = c.checkOwn(now, cl.to.Key, resp)
	}
	if err != nil {
		c.stats.Failed++
		c.blame(now, cl, err)
		c.opFailed(now, &cl.query, cl.op, err)
		if cl.back && cl.req.Op == OpDialBack {
			c.proved(now, cl, nil)
		}
		return
	}
	if cl.opening {
		c.dials.took(now.Sub(cl.sent))
		for _, a := range cl.to.Addresses() {
			c.shut.del(addrHash(a), a)
		}
	}
	c.pace.answered()
	off := c.noteClock(now, cl, resp)
	c.alive(now, cl, resp)
	switch o := cl.op; {
	case cl.back && cl.req.Op == OpSync:
		c.synced(now, cl, resp)
	case cl.back && cl.req.Op == OpDialBack:
		c.proved(now, cl, resp)
	case cl.back && cl.req.Op == OpGet:
		c.fetched(now, cl, resp)
	case o == nil || o.finished:
	case cl.req.Op == OpPut:
		o.putAnswered(now, cl.to.Key, resp, off)
		if o.kind == opPublish && o.holders == ackShare {
			c.acked(now, o)
		}
	default:
		c.lookupAnswered(now, o, cl.to.Key, resp)
	}
}

func (c *core) lookupAnswered(now time.Time, o *op, k Key, resp *Response) {
	l := o.lookup
	n, better := l.answered(now, k, resp)
	o.better = o.better || better
	switch {
	case n == nil:
	case o.kind == opReadback && l.holders > 0:
		c.foundBack(l.best)
	case o.putting() && !o.wide && len(o.asked) < bucketSize && share(n.top(), l.target.top()) < o.radius:
		o.choose([]*node{n}) // it is near enough whoever else is found
	}
}

// finish ends an operation and draws the consequences.
func (c *core) finish(now time.Time, o *op) {
	o.finished = true
	c.sched.running[o.kind]--
	o.result = o.lookup.result(now)
	switch o.kind {
	case opGet:
		o.err = c.getError(o)
		c.repair(now, o.lookup)
	case opRefresh:
		c.sample(now, o.lookup)
	case opSelf:
		c.joined(now, o)
	case opPublish:
		c.published(now, o)
	case opReadback:
		c.readBack(now, o)
	case opPutEntry:
		o.err = o.publishError()
	case opGetEntry:
		if o.lookup.entry == nil {
			o.err = c.getError(o)
		}
	}
}

// getError says whether a record was found, certainly not, or who knows.
func (c *core) getError(o *op) error {
	l := o.lookup
	alone := c.table.n == 0 && l.nobody() && len(c.cfg.Bootstrap) == 0 && len(c.sched.restored) == 0
	switch {
	case l.best != nil && !l.best.tombstone():
		return nil
	case l.best != nil:
		o.result.Record = nil
		return withdrawnError(l.best)
	case alone, l.ended:
		return ErrNotFound
	case l.replies == 0:
		return ErrNoAnswer
	}
	// Of those asked any number can be dead, or invented next to the target: what counts is how many answered.
	should, answered := min(bucketSize, max(c.table.n, 1)), min(l.replies, bucketSize)
	if 2*answered < should {
		return &SilentError{Should: should, Answered: answered}
	}
	return ErrNotFound
}

// cancel gives an operation up. Its calls run to their ends.
func (c *core) cancel(o *op) {
	if !o.finished {
		o.finished = true
		c.sched.running[o.kind]--
		c.ops = slices.DeleteFunc(c.ops, func(p *op) bool { return p == o })
	}
}

// users counts the users' operations under way.
func (c *core) users() int {
	r := &c.sched.running
	return r[opGet] + r[opGetEntry] + r[opPutEntry]
}

// statsNow completes the counters.
func (c *core) statsNow() Stats {
	s := c.stats
	s.Contacts, s.Records, s.RecordBytes, s.Floors = c.table.n, c.store.records.len(), c.store.bytes, len(c.store.floors)
	for i := range c.table.buckets {
		b := &c.table.buckets[i]
		s.Replacements += len(b.replacements)
		s.Buckets += btoi(len(b.entries) > 0)
	}
	s.Seq, s.Ready, s.Nodes = seqOf(c.own.rec), c.own.ready, int(c.nodes())
	s.ReadBackUntil = c.own.until
	s.Entries, s.EntryBytes = len(c.entries.kept), c.entries.bytes
	s.Server, s.Proven = c.proof.server, c.proof.known
	s.Session, s.UplinkDown = c.lives.median(), c.up.down
	s.Late, s.OwnCalls = c.pace.late, c.pace.allowed()
	if c.offsAt >= 3 {
		s.ClockOff = median(c.offs[:min(c.offsAt, offsets)])
	}
	return s
}
