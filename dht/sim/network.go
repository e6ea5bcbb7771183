package sim

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/parley-p2p/parley/dht"
)

// Model of the network: round trips are a floor, the distance in a plane and
// each side's access, with mean 108 ms and 99th percentile 206 ms; each message
// varies lognormally around half of it.
const (
	rttFloor    = float64(2 * leastDelay)
	planeSide   = 98e6 // ns per side of the unit square
	accessMean  = 18.5e6
	jitterSigma = 0.1

	lossDelay = int64(200 * time.Millisecond) // TCP's least retransmission timeout
	synDelay  = int64(time.Second)            // and that of a first packet
	slowMean  = 400e6                         // ns that a slow node takes to answer
	dialLimit = int64(1500 * time.Millisecond)
)

// Sizes of what surrounds a message, in bytes.
const (
	packetBytes = 52   // headers of IPv4 and TCP, with timestamps
	packetMost  = 1448 // of data
	frameBytes  = 30   // frame and encryption

	// Of a new session (docs/wire.md, section 2).
	synBytes      = 2 * 60          // a first packet and what comes back, or its repetition
	tcpBytes      = 5 * packetBytes // headers of the further packets: 3 of message 1 and 2, and acknowledgements
	message1Bytes = 2 + 1313
	earlyBytes    = 4096 // message 1 with a question whose answer is long
	pingBytes     = message1Bytes + 24
	briefBytes    = 2 + 1153 + 1280
	message2Bytes = 2 + 1153
)

// dialBytes is what the new session costs that r begins, both ways, without r and
// its answer: reads ride in its messages, which are padded.
func dialBytes(r *dht.Request) int {
	n := tcpBytes + message2Bytes
	switch r.Op {
	case dht.OpPing:
		return n + pingBytes
	case dht.OpFind, dht.OpGet:
		if len(r.Known) > 0 {
			return n + briefBytes
		}
		return n + earlyBytes
	}
	return n + message1Bytes
}

// message is a call on its way, there and back.
type message struct {
	from, to int32
	fromInc  uint32
	fromLife uint8 // of the connections of from
	life     uint8 // of to's, where a session began
	cold     bool  // a new session
	joined   bool  // which another call of from has begun to open
	retried  bool  // dialled anew because the session was gone
	addr     netip.AddrPort
	src      netip.Addr // from's
	id       uint64
	purpose  dht.Purpose
	lookup   *running
	req      *dht.Request
	resp     *dht.Response
	own      dht.Response // what resp of an honest node is: its memory serves many messages
	deadline int64
}

// jitters are factors of one-way delays, drawn at random from a table.
var jitters = func() (t [4096]float64) {
	r := rand.New(rand.NewPCG(1, 2))
	for i := range t {
		t[i] = math.Exp(jitterSigma * r.NormFloat64())
	}
	return t
}()

// place is where a node is in the network.
type place struct {
	x, y, access float64
}

func newPlace(r *rand.Rand) place {
	return place{r.Float64(), r.Float64(), r.ExpFloat64() * accessMean}
}

// rtt is the round trip between two places without jitter, in ns.
func (a place) rtt(b place) float64 {
	return rttFloor + planeSide*math.Hypot(a.x-b.x, a.y-b.y) + a.access + b.access
}

// oneWay is the time that a message from n takes to o.
func (s *sim) oneWay(n, o *node) int64 {
	u := n.rnd.Uint64()
	d := int64(n.place.rtt(o.place) / 2 * jitters[u%4096])
	d = max(d, leastDelay)
	if float64(u>>12)/(1<<52) < s.cfg.Loss {
		d += max(lossDelay, 2*d)
	}
	return d
}

// isolated is the side of nodes that have lost their uplink.
const isolated = 127

// cut tells whether nothing gets from one node to the other.
func (s *sim) cut(n, o *node) bool { return n.side != o.side || n.side == isolated }

// begin sends a call of n's machine.
func (p *partition) begin(n *node, at int64, c *dht.Call) {
	s := p.sim
	to, known := s.world.nodeOf(c.To.Key)
	m := p.message()
	m.fromLife, m.src = n.life, n.addr.Addr()
	m.from, m.fromInc, m.id, m.purpose, m.req = n.id, n.inc, c.ID, c.Purpose, c.Req
	m.deadline = at + int64(c.Timeout)
	m.addr, m.to = netip.AddrPort{}, to
	if a := c.To.Addresses(); len(a) > 0 {
		m.addr = a[0]
	}
	if c.Lookup != nil {
		m.lookup = n.running(c.Lookup)
	}
	p.meter.sent(at, s, m, requestBytes(c.Req))
	if known && p.use(n, at, to) {
		m.cold = false
		p.dispatch(n, &s.nodes[to], at, evRequest, m)
		return
	}
	if m.addr.IsValid() {
		p.dial(n, at, m)
		return
	}
	n.self(p, event{at: at, kind: evFail, msg: m})
}

// dial begins a new session for m. Where the address is not the agent's, the
// one who has it answers with another key, or nobody does.
func (p *partition) dial(n *node, at int64, m *message) {
	s := p.sim
	m.cold, m.joined = true, slices.Contains(n.dialing, m.to)
	p.meter.dialled(at, s, m)
	if v, ok := s.world.victims[m.addr]; ok {
		v.Add(1)
		n.self(p, event{at: at + 2*leastDelay*5, kind: evFail, msg: m})
		return
	}
	if m.to < 0 {
		n.self(p, event{at: m.deadline, kind: evFail, msg: m})
		return
	}
	n.dialing = append(n.dialing, m.to)
	p.dispatch(n, &s.nodes[m.to], at, evDial, m)
}

// dispatch sends m on its way from n to o.
func (p *partition) dispatch(n, o *node, at int64, kind eventKind, m *message) {
	arrives := at + p.sim.oneWay(n, o)
	if p.sim.cut(n, o) {
		n.self(p, event{at: m.deadline, kind: evFail, msg: m})
		return
	}
	n.seq++
	p.send(event{at: arrives, dst: o.id, src: n.id, seq: n.seq, kind: kind, msg: m})
}

// back sends the outcome of m from n, which got it, to who called, who gave up
// at the deadline.
func (p *partition) back(n *node, at int64, kind eventKind, m *message) {
	s := p.sim
	o := &s.nodes[m.from]
	arrives := at + s.oneWay(n, o)
	if s.cut(n, o) {
		kind = evSilence
	}
	if kind == evSilence || arrives >= m.deadline {
		kind, arrives = evSilence, max(m.deadline, at+leastDelay)
	}
	n.seq++
	p.send(event{at: arrives, dst: o.id, src: n.id, seq: n.seq, kind: kind, msg: m})
}

func requestBytes(r *dht.Request) int {
	n := 20
	if r.Op == dht.OpFind || r.Op == dht.OpGet {
		n += 34
	}
	if r.Record != nil {
		n += len(r.Record.Bytes())
	}
	return sentBytes(n + len(r.Have) + len(r.Known))
}

// responseBytes is an answer's, and those of the packet that acknowledges it.
func responseBytes(r *dht.Response) int {
	n := 24 + len(r.Want)
	for i := range r.Contacts {
		if c := &r.Contacts[i]; c.Record != nil {
			n += 5 + len(c.Record.Bytes())
		} else {
			n += 40 + 21*len(c.Addrs)
		}
	}
	if r.Record != nil {
		n += 5 + len(r.Record.Bytes())
	}
	return sentBytes(n) + packetBytes
}

// sentBytes is what a message of n bytes is on the way.
func sentBytes(n int) int {
	n += frameBytes
	return n + (n+packetMost-1)/packetMost*packetBytes
}

func (p *partition) message() *message {
	if n := len(p.free); n > 0 {
		m := p.free[n-1]
		p.free = p.free[:n-1]
		return m
	}
	return &message{}
}

func (p *partition) release(m *message) {
	*m = message{own: dht.Response{Contacts: m.own.Contacts[:0]}}
	p.free = append(p.free, m)
}
