package sim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/parley-p2p/parley/dht"
)

type eventKind uint8

const (
	evWake     eventKind = iota // the machine wants to be polled
	evDial                      // a session's first packet arrives
	evRequest                   // a request arrives
	evResponse                  // its answer arrives
	evReset                     // the session was gone: dial anew
	evFail                      // the dial or the call is refused
	evSilence                   // the call's time is over
	evClosed                    // the peer closed the session
	evLost                      // its session ended without a goodbye
	evDown                      // the node's process ends
	evUp                        // and begins again
	evMove                      // it gets another address
	evLookup                    // its agent looks somebody up
	evPlan                      // the attack's next step
)

// weights are how long events of each kind take, in µs, on one machine: what is long is begun first.
var weights = [...]int{evWake: 20, evDial: 1, evRequest: 14, evResponse: 35, evFail: 20, evSilence: 20, evLost: 20, evDown: 400, evUp: 150, evMove: 120, evLookup: 90, evPlan: 100}

var (
	errRefused = errors.New("connection refused")
	errSilent  = errors.New("no answer in time")
	errDial    = fmt.Errorf("%w: %w", dht.ErrDial, errRefused)
)

// node is one agent's node, or an attacker's.
type node struct {
	id      int32
	key     dht.Key
	nid     dht.ID
	place   place
	source  rand.PCG // of rnd, beside it: most events draw
	rnd     rand.Rand
	seq     uint32 // of the events it caused
	slow    bool
	nat     bool
	loyal   bool // never goes, never moves: a bootstrap node
	liar    *liar
	watched bool // an attack aims at its table
	hunted  bool // and at its record
	// forgets: it says that it keeps what it is given, and does not.
	forgets bool

	up      bool
	inc     uint32 // lives so far
	refuse  bool   // while it is down its host answers: connection refused
	side    int8   // of a network that is cut in two
	addr    netip.AddrPort
	m       *dht.Machine
	rest    *dht.Rest // what its last life knew, while it is away
	pool    pool
	life    uint8   // of its connections: all end together when it goes or moves
	dialing []int32 // peers to whom a session is being opened
	wake    int64   // the one evWake that counts
	downAt  int64
	upAt    int64

	pending   []*running
	moved     int64 // when it got the address that is not published yet; 0: none
	evicted   int64 // records of agents that its store has dropped for others
	evictNear int64 // of these, such as are among the nearest to it of all
	published time.Time
	begun     time.Time // this life
	task      int32     // its number and 1 in the tasks of a window, while they are made
	at        int64     // now, for the machine's callbacks
	kept      int64     // when the sessions with neighbours were last kept open
}

// running is a lookup under way.
type running struct {
	l      *dht.MachineLookup
	target int32
	start  int64
	seq    uint64 // published before the lookup began
	calls  int
	dials  int
}

func (n *node) running(l *dht.MachineLookup) *running {
	for _, r := range n.pending {
		if r.l == l {
			return r
		}
	}
	return nil
}

// failure is the error of a call: another one where there was no session.
func failure(m *message, err error) error {
	if m.cold {
		return errDial
	}
	return err
}

// self sends n an event of its own.
func (n *node) self(p *partition, e event) {
	n.seq++
	e.dst, e.src, e.seq = n.id, n.id, n.seq
	p.send(e)
}

// reachable tells whether a new session to addr reaches n.
func (n *node) reachable(addr netip.AddrPort) bool { return n.up && !n.nat && addr == n.addr }

// handle is all that happens to n.
func (p *partition) handle(n *node, e event) {
	m := e.msg
	n.at = e.at
	switch e.kind {
	case evDial:
		p.dialArrives(n, e.at, m)
	case evRequest:
		p.requestArrives(n, e.at, m)
	case evResponse, evFail, evSilence:
		p.answerArrives(n, e.at, e.kind, m)
	case evReset:
		if n.inc != m.fromInc || !n.up || m.retried || !m.addr.IsValid() {
			p.answerArrives(n, e.at, evFail, m)
			return
		}
		n.pool.remove(m.to)
		m.retried = true
		p.dial(n, e.at, m)
	case evClosed:
		n.pool.lost(e.src, e.life)
	case evLost:
		if n.pool.lost(e.src, e.life) && n.up && n.m != nil {
			n.m.Closed(clock(e.at), p.sim.nodes[e.src].key)
			p.poll(n, e.at)
		}
	case evWake:
		if n.up && n.m != nil && e.at == n.wake {
			n.wake = 0
			p.poll(n, e.at)
		}
	case evDown:
		if n.up && e.at == n.downAt {
			p.goDown(n, e.at, n.rnd.Float64() < p.sim.cfg.Silent)
		}
	case evUp:
		if !n.up && e.at == n.upAt {
			p.goUp(n, e.at)
		}
	case evMove:
		p.move(n, e.at)
	case evLookup:
		p.lookUp(n, e.at)
	case evPlan:
		p.sim.cfg.attack.step(p, n, e.at)
	}
}

func (p *partition) dialArrives(n *node, at int64, m *message) {
	switch {
	case n.reachable(m.addr):
		// The first answer comes after ColdRTT round trips: half of one is over, and
		// half is the answer's.
		wait := int64(float64(p.sim.cfg.ColdRTT-1) * n.place.rtt(p.sim.nodes[m.from].place))
		p.meter.shaken(at, p.sim, m)
		n.self(p, event{at: at + wait, kind: evRequest, msg: m})
	case n.refuse || n.up && n.rnd.Float64() >= p.sim.cfg.Silent: // a machine without a listener there
		p.back(n, at, evFail, m)
	default:
		p.back(n, at, evSilence, m)
	}
}

func (p *partition) requestArrives(n *node, at int64, m *message) {
	switch {
	case !n.up && n.refuse:
		p.back(n, at, evFail, m)
		return
	case !n.up:
		p.back(n, at, evSilence, m)
		return
	case m.cold:
		m.life = n.life
		p.opened(n, at, m.from, m.fromLife, false)
	case p.use(n, at, m.from) || slices.Contains(n.dialing, m.from):
	case m.addr == n.addr || n.nat:
		p.back(n, at, evReset, m)
		return
	default: // the session has ended with an address that nobody answers at any more
		p.back(n, at, evSilence, m)
		return
	}
	served := at
	if n.slow {
		served += int64(n.rnd.ExpFloat64() * slowMean)
	}
	if n.liar != nil {
		p.lie(n, served, m)
		return
	}
	if n.forgets && m.req.Op == dht.OpPut {
		m.resp = &dht.Response{}
		p.meter.answered(at, p.sim, m)
		p.back(n, served, evResponse, m)
		return
	}
	asker := p.sim.nodes[m.from].asker(m.req)
	m.resp = &m.own
	if err := n.m.Serve(clock(at), asker, m.src, m.req, m.resp); err != nil {
		p.back(n, at, evFail, m)
		return
	}
	p.meter.answered(at, p.sim, m)
	p.back(n, served, evResponse, m)
	if n.m.Pending() {
		p.poll(n, at)
	}
}

// opened notes a session that peer began or that n has just begun, if out.
func (p *partition) opened(n *node, at int64, peer int32, life uint8, out bool) {
	if n.pool.full(out) && !n.pool.inOrder(out) {
		n.pool.rank(out, p.contact(n)) // one with a contact closes only where all others are, too
	}
	if closed := n.pool.add(newSession(peer, life, out, at)); closed >= 0 {
		p.goodbye(n, at, closed)
	}
}

// goodbye tells a peer that n has closed their session.
func (p *partition) goodbye(n *node, at int64, peer int32) {
	n.seq++
	o := &p.sim.nodes[peer]
	p.send(event{at: at + p.sim.oneWay(n, o), dst: peer, src: n.id, seq: n.seq, kind: evClosed, life: n.life})
}

func (p *partition) answerArrives(n *node, at int64, kind eventKind, m *message) {
	defer p.release(m)
	if i := slices.Index(n.dialing, m.to); m.cold && i >= 0 {
		n.dialing = slices.Delete(n.dialing, i, i+1)
	}
	if !n.up || n.inc != m.fromInc {
		return
	}
	if n.liar != nil {
		if kind == evResponse && m.cold {
			p.opened(n, at, m.to, m.life, true)
		}
		return
	}
	now := clock(at)
	switch kind {
	case evResponse:
		if m.cold {
			p.opened(n, at, m.to, m.life, true)
		}
		n.m.Answered(now, m.id, m.resp, nil)
	case evFail, evReset:
		n.pool.remove(m.to)
		p.meter.failure(at, p.sim, m)
		n.m.Answered(now, m.id, nil, failure(m, errRefused))
	default:
		n.pool.remove(m.to)
		p.meter.failure(at, p.sim, m)
		n.m.Answered(now, m.id, nil, failure(m, errSilent))
	}
	p.poll(n, at)
}

// poll lets n's machine act, and looks whether lookups have ended.
func (p *partition) poll(n *node, at int64) {
	now := clock(at)
	if at-n.kept > int64(tendEvery) {
		p.tend(n, at)
	}
	p.buf = n.m.Poll(now, p.buf[:0])
	for i := range p.buf {
		p.begin(n, at, &p.buf[i])
	}
	clear(p.buf)
	for i := 0; i < len(n.pending); {
		r := n.pending[i]
		if !r.l.Done() {
			i++
			continue
		}
		p.meter.lookupDone(at, p.sim, r)
		n.pending = slices.Delete(n.pending, i, i+1)
	}
	p.watchPublication(n, at)
	if w := int64(n.m.Wake(now).Sub(epoch)); n.wake == 0 || w < n.wake || n.wake <= at {
		n.wake = max(w, at+int64(time.Millisecond))
		n.self(p, event{at: n.wake, kind: evWake})
	}
}

// watchPublication tells the observer when others have taken n's record.
func (p *partition) watchPublication(n *node, at int64) {
	published, _ := n.m.Own()
	if published.Equal(n.published) {
		return
	}
	n.published = published
	r := n.m.Record()
	if r == nil {
		return
	}
	p.notice(n, true, r.Seq)
	if n.moved != 0 {
		p.meter.published(at, p.sim, at-n.moved)
		n.moved = 0
	}
}
