package dht

import (
	"crypto/ed25519"
	"fmt"
	"math"
	"math/bits"
	"net/netip"
	"slices"
	"time"
)

// Machine is one node's protocol without loop, clock and network: the state
// machine that DHT runs, for simulators. Its driver calls Poll after each event
// and at Wake, makes the calls that Poll returns, and hands their outcomes to
// Answered. It must be used by one goroutine at a time.
type Machine struct {
	core core
	cfg  Config
}

// MachineOptions change what a simulation can't afford or wants to compare.
type MachineOptions struct {
	// Verify takes the place of Record.Verify; nil: Record.Verify.
	Verify func(*Record) error
	// Sign takes the place of the signature with Config.Key; nil: Ed25519. With it
	// only the second half of Config.Key is used, as the agent's key, which need
	// be no point of the curve.
	Sign func(Record) (*Record, error)
	// NodeID takes the place of the function NodeID, for a driver that has the
	// answers at hand; nil: NodeID.
	NodeID func(Key) ID
	// Evicted is told whose record the store has dropped for another; nil: nobody is.
	Evicted func(Key)
	// Linked tells whether a session with an agent is open; nil: never.
	Linked func(Key) bool
	// Off are the mitigations that are switched off.
	Off Ablation
}

// Ablation switches single mitigations off, so that a simulation can show the
// attack that each one stops. The zero value is the protocol.
type Ablation struct {
	DisjointPaths bool // one path does the work of all: the same calls in flight
	NewPerAnswer  bool // all contacts of an answer are taken
	JoinFirst     bool // strangers are called back before the own first search is over
	Probe         bool // contacts enter the table on hearsay
	KeepLive      bool // who comes last puts out a live contact of a full bucket
	Floors        bool // no sequence floor outlives its record
	Copies        bool // the first record ends a lookup
	Recheck       bool // silent contacts are not checked
	Region        bool // records belong to the nearest k, and nothing is odd
	LeaveAlone    bool // addresses are dialled however often and wherever nobody answered
	Stores        bool // a store takes everything, and drops the oldest whoever brought it
	Holders       bool // a record is known to its holders only: its agent's own node and contacts do not answer with it
	Replicas      bool // a record is put on the nearest node only, and nobody hands it on
}

// lookup applies what concerns one lookup.
func (a Ablation) lookup(cfg *lookupConfig) {
	if a.DisjointPaths {
		cfg.alpha, cfg.paths = alpha*cfg.paths, 1
	}
	if a.Copies && cfg.quorum > 0 {
		cfg.quorum = 1
	}
	if a.NewPerAnswer {
		cfg.maxNew = MaxContacts
	}
	cfg.dialAll, cfg.onlyHeld = a.LeaveAlone, a.Holders
}

// Purpose is what a Call is for.
type Purpose uint8

const (
	PurposeLookup    Purpose = iota // a user's lookup
	PurposeSelf                     // the search for the own neighbourhood
	PurposeRefresh                  // of a bucket
	PurposePublish                  // the search before a publication, and the PUTs
	PurposeReadback                 // the own record, read from others
	PurposeCheck                    // of a contact that was silent
	PurposeRenew                    // of a contact whose record has changed
	PurposeCandidate                // whom others named, for a place in the table
	PurposeStranger                 // who called us
	PurposeHandOver                 // records that others should keep: repair, hand-over, SYNC
	Purposes                        // how many there are
)

func (p Purpose) String() string {
	return [...]string{"lookup", "self", "refresh", "publish", "readback", "check", "renew", "candidate", "stranger", "hand-over", "?"}[min(p, Purposes)]
}

// Call is one request to make now. It fails if it takes longer than Timeout.
type Call struct {
	ID      uint64
	To      Contact
	Req     *Request
	Timeout time.Duration
	Purpose Purpose
	Lookup  *MachineLookup // it belongs to; nil: to none of Machine.Lookup
}

// MachineLookup is a user's lookup in a Machine.
type MachineLookup struct {
	op    *op
	First time.Duration // until the first valid record was handed up; 0 until then, and with Local
	Local bool          // this node had the record itself
}

// Done tells whether the lookup has ended.
func (l *MachineLookup) Done() bool { return l.op.finished }

// Result is what a lookup that is Done found. The error is Lookup's of a DHT.
func (l *MachineLookup) Result() (*Result, error) {
	r := l.op.result
	if r != nil && r.Trace == nil {
		r.Trace = l.op.lookup.route()
	}
	return r, l.op.err
}

// NewMachine makes a machine that knows nobody. Config.Network, Now and Addrs are
// not used.
func NewMachine(cfg Config, now time.Time, opts MachineOptions) (*Machine, error) {
	if len(cfg.Key) != ed25519.PrivateKeySize {
		return nil, fmt.Errorf("dht: machine: key of %d bytes, not %d", len(cfg.Key), ed25519.PrivateKeySize)
	}
	cfg.linked = opts.Linked
	m := &Machine{cfg: cfg.withDefaults()}
	c := &m.core
	c.init(&m.cfg, now)
	if opts.Verify != nil {
		c.verify, c.store.verify = opts.Verify, opts.Verify
	}
	if opts.Sign != nil {
		c.signer = opts.Sign
	}
	c.store.evicted = opts.Evicted
	if opts.NodeID != nil {
		c.table.idOf = opts.NodeID
	}
	c.off, c.table.off, c.store.off = opts.Off, opts.Off, opts.Off
	return m, nil
}

// Poll moves everything on and appends the calls to make now to out.
func (m *Machine) Poll(now time.Time, out []Call) []Call {
	var space [16]*call
	for _, cl := range m.core.pollInto(now, space[:0]) {
		c := Call{ID: cl.id, To: cl.to, Req: cl.req, Timeout: cl.timeout, Purpose: m.purpose(now, cl)}
		if cl.op != nil {
			c.Lookup = cl.op.user
		}
		out = append(out, c)
	}
	return out
}

// purpose tells the kinds of probes apart by what is known of the contact.
func (m *Machine) purpose(now time.Time, cl *call) Purpose {
	if cl.op != nil {
		return [...]Purpose{PurposeLookup, PurposeSelf, PurposeRefresh, PurposePublish, PurposeReadback, PurposePublish, PurposeLookup}[cl.op.kind]
	}
	e := m.core.table.get(cl.to.Key)
	switch {
	case cl.back:
		return PurposeHandOver
	case cl.stranger:
		return PurposeStranger
	case e == nil:
		return PurposeCandidate
	case cl.to.Record == nil, m.core.table.time(e.nextCheck).Sub(now) > checkRetry:
		return PurposeRenew
	}
	return PurposeCheck
}

// Answered takes the outcome of a call: a response, or why there is none.
func (m *Machine) Answered(now time.Time, id uint64, resp *Response, err error) {
	var l *MachineLookup
	if i, under := m.core.call(id); under && m.core.calls[i].op != nil {
		l = m.core.calls[i].op.user
	}
	m.core.answered(now, id, resp, err)
	if l != nil && l.First == 0 && !l.Local && l.op.lookup.best != nil {
		l.First = now.Sub(l.op.lookup.start)
	}
}

// Serve answers a request as DHT.Serve does, into resp; addr is where it comes from.
// What resp's Contacts have room for is used again.
func (m *Machine) Serve(now time.Time, from Key, addr netip.Addr, req *Request, resp *Response) error {
	if err := req.Validate(); err != nil {
		m.core.stats.Refused++
		return err
	}
	m.core.serveInto(now, from, addr, req, resp)
	return nil
}

// Closed says that the session with k has ended. Poll must follow.
func (m *Machine) Closed(now time.Time, k Key) { m.core.suspect(now, k) }

// Pinned calls f for each contact that DHT.Pinned names.
func (m *Machine) Pinned(f func(*Contact)) {
	m.core.table.pinned(func(e *entry) { f(e.ref()) })
}

// Pending tells whether Poll may have something to do because of Serve.
func (m *Machine) Pending() bool { return len(m.core.probes)+len(m.core.strangers) > 0 }

// Wake is when to poll again though nothing happens.
func (m *Machine) Wake(now time.Time) time.Time { return m.core.wake(now) }

// Lookup begins a user's lookup. Poll must follow.
func (m *Machine) Lookup(now time.Time, k Key, s Search) (*MachineLookup, error) {
	if n := m.core.users(); n >= m.cfg.MaxLookups {
		return nil, fmt.Errorf("dht: lookup of %s: %w: %d, the setting MaxLookups allows no more", k, ErrBusy, n)
	}
	l := &MachineLookup{op: m.core.startOp(now, &op{kind: opGet, strict: s.Strict, hardened: s.Hardened}, NodeID(k))}
	l.op.user, l.Local = l, l.op.lookup.best != nil
	return l, nil
}

// SetAddrs says where the node can be dialled now. A change is published at once.
func (m *Machine) SetAddrs(now time.Time, addrs []netip.AddrPort) { m.core.setAddrs(now, addrs) }

// Rest is what a node knows between two runs: what DHT.Snapshot encodes, as it is.
type Rest struct{ snapshot }

// Rest ends the machine and returns what its next run may know.
func (m *Machine) Rest() *Rest { return &Rest{m.core.rest()} }

// Resume takes over what an earlier run knew, as DHT.Restore does; nil is nothing.
func (m *Machine) Resume(now time.Time, r *Rest) {
	if r != nil {
		m.core.resume(now, &r.snapshot)
	}
}

// Stats returns the state of this moment.
func (m *Machine) Stats() Stats { return m.core.statsNow() }

// Record is the node's own record, nil if it has none.
func (m *Machine) Record() *Record { return m.core.own.rec }

// Holds returns the valid record kept for another agent, nil if there is none.
func (m *Machine) Holds(now time.Time, id ID) *Record { return m.core.store.get(now, id) }

// TableEntry is a contact of the routing table.
type TableEntry struct {
	Contact
	Bucket int  // length of the prefix shared with this node's id
	Live   bool // it answered the last call
}

// Table calls f for every contact of the routing table.
func (m *Machine) Table(f func(TableEntry)) {
	for i := range m.core.table.buckets {
		for _, e := range m.core.table.buckets[i].entries {
			f(TableEntry{e.contact(), i, e.fails == 0})
		}
	}
}

// Knows tells whether an agent whose NodeID begins with the 64 bits top is a contact of the routing table.
func (m *Machine) Knows(top uint64) bool {
	t := &m.core.table
	p := bits.LeadingZeros64(t.self.top() ^ top)
	return p < len(t.buckets) && slices.Contains(t.buckets[p].tops, top)
}

// PutOut is how many live contacts have given way to others: none, unless that is what
// Ablation.KeepLive switches off.
func (m *Machine) PutOut() uint64 { return m.core.table.putOut }

// Prime puts a new node into the middle of its life: it has joined, and its own
// record was made at issued and published. A simulation so starts with a network
// instead of building one; Meet and Keep do the rest.
func (m *Machine) Prime(now, issued time.Time, nodes int, addrs []netip.AddrPort) {
	c, s := &m.core, &m.core.sched
	s.joined, s.filled, s.filling = true, true, -1
	s.started = now.Add(-24 * time.Hour)
	s.self, s.check = now.Add(time.Duration(c.rnd.Int64N(int64(selfMost)))), now.Add(time.Duration(c.rnd.Int64N(int64(checkRound))))
	s.sweep = now.Add(time.Duration(c.rnd.Int64N(int64(sweepEvery))))
	if len(addrs) > 0 {
		c.own.addrs = slices.Clone(addrs)
		c.sign(issued)
		s.publish = issued.Add(m.cfg.TTL / 2)
	}
	c.own.ready = true
	for range sizeEnough {
		c.sizes.add(now, float64(nodes)*math.Exp(c.rnd.NormFloat64()/math.Sqrt(bucketSize)))
	}
	s.sample = now.Add(time.Duration(c.rnd.Int64N(int64(sampleFirst))))
	s.resample = now.Add(time.Duration(c.rnd.Int64N(int64(sampleEvery))))
}

// Meet notes that a contact answered a call some time ago. It tells whether the
// table took it.
func (m *Machine) Meet(now time.Time, ct Contact, rtt time.Duration) bool {
	c := &m.core
	if !c.table.succeeded(now, ct, rtt, checkMost) {
		return false
	}
	e := c.table.getID(ct.id())
	c.table.checkAt(e, now.Add(time.Duration(c.rnd.Int64N(int64(checkMost)))))
	c.table.sooner(c.table.bucket(e.id()), e)
	c.table.bucket(e.id()).touched = now.Add(-time.Duration(c.rnd.Int64N(int64(refreshAfter))))
	c.table.idle = time.Time{}
	return true
}

// Keep takes a record as a PUT of its agent does, from its first address.
func (m *Machine) Keep(now time.Time, r *Record) Status {
	o := origin{agent: true}
	if len(r.Addrs) > 0 {
		_, o.net = m.cfg.Group(r.Addrs[0].Addr())
	}
	st, _ := m.core.store.take(now, r, o, func() bool { return true })
	return st
}

// Tagged encodes r with tag in the place of its signature, for simulations
// without cryptography: Tag gives it back.
func (r Record) Tagged(tag [ed25519.SignatureSize]byte) (*Record, error) {
	r.IssuedAt = time.UnixMilli(r.IssuedAt.UnixMilli())
	r.TTL = r.TTL.Truncate(time.Second)
	if err := r.check(); err != nil {
		return nil, err
	}
	r.raw, r.id, r.sound = append(r.appendBody(make([]byte, 0, 160)), tag[:]...), NodeID(r.Key), true
	return &r, nil
}

// Tag is what stands in the place of the signature.
func (r *Record) Tag() (tag [ed25519.SignatureSize]byte) {
	copy(tag[:], r.raw[len(r.raw)-len(tag):])
	return tag
}

// Ready is DHT.Ready.
func (m *Machine) Ready() bool { return m.core.own.ready }

// Own is what became of the own record: the time and the number of holders of
// its last publication, and the sequence number that was published.
func (m *Machine) Own() (published time.Time, holders int) {
	return m.core.stats.Published, m.core.stats.Holders
}
