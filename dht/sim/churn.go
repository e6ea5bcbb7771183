package sim

import (
	"math"
	"net/netip"
	"time"

	"github.com/parley-p2p/parley/dht"
)

// Sessions and absences.
const (
	longShare = 0.025 // of sessions are longer than longTime
	longTime  = 24 * time.Hour
	longZ     = 1.959964 // quantile of the standard normal at 1-longShare
	spare     = 0.25     // agents that are away, as a share of those online

	day = float64(24 * time.Hour)
)

// sessions is the lognormal distribution of session lengths.
type sessions struct{ mu, sigma float64 }

func newSessions(median time.Duration) sessions {
	return sessions{math.Log(float64(median)), math.Log(float64(longTime)/float64(median)) / longZ}
}

func (d sessions) mean() float64 { return math.Exp(d.mu + d.sigma*d.sigma/2) }

func (d sessions) length(n *node) int64 {
	return int64(math.Exp(d.mu + d.sigma*n.rnd.NormFloat64()))
}

// rest is what remains of a session that somebody finds under way: such a one is
// longer than most (length-biased), and any part of it may be over.
func (d sessions) rest(n *node) int64 {
	return int64(n.rnd.Float64() * math.Exp(d.mu+d.sigma*d.sigma+d.sigma*n.rnd.NormFloat64()))
}

// away is how long a node stays away: Poisson arrivals, more by day than by night.
func (s *sim) away(n *node, at int64) int64 {
	d := n.rnd.ExpFloat64() * spare * s.world.sessions.mean()
	return int64(d / (1 + s.cfg.Diurnal*math.Sin(2*math.Pi*float64(at)/day)))
}

// goDown ends n's process without a goodbye. If silent, its host is gone too.
func (p *partition) goDown(n *node, at int64, silent bool) {
	if n.m != nil {
		n.rest = n.m.Rest()
		p.meter.putOut += n.m.PutOut()
	}
	n.m, n.up, n.refuse, n.moved = nil, false, !silent, 0
	n.pending = nil
	p.closeAll(n, at, silent)
	n.dialing = nil
	p.notice(n, false, 0)
	n.upAt = max(at+int64(time.Second), at+p.sim.away(n, at))
	n.self(p, event{at: n.upAt, kind: evUp})
}

// closeAll ends n's sessions. The other ends are told by n's host, or notice by the
// beats that are missing (docs/wire.md, section 5).
func (p *partition) closeAll(n *node, at int64, silent bool) {
	p.beatAll(n, at)
	n.pool.each(func(peer int32) {
		o := &p.sim.nodes[peer]
		then := at + p.sim.oneWay(n, o)
		if silent {
			then += n.rnd.Int64N(int64(beatEvery)) + int64(deadAfter)
		}
		n.seq++
		p.send(event{at: then, dst: peer, src: n.id, seq: n.seq, kind: evLost, life: n.life})
	})
	n.pool.clear()
	n.life++
}

// goUp begins n's next life, with its key and what it knew.
func (p *partition) goUp(n *node, at int64) {
	s := p.sim
	n.inc++
	n.up = true
	if s.cfg.Session > 0 && !n.loyal {
		n.downAt = at + s.world.sessions.length(n)
		n.self(p, event{at: n.downAt, kind: evDown})
	}
	if n.liar != nil {
		return
	}
	n.m = s.machine(n, at)
	n.m.Resume(clock(at), n.rest)
	n.rest, n.published, n.wake, n.begun = nil, time.Time{}, 0, clock(at)
	p.notice(n, true, 0)
	n.m.SetAddrs(clock(at), n.addrs())
	p.poll(n, at)
}

func (n *node) addrs() []netip.AddrPort {
	if n.nat {
		return nil
	}
	return []netip.AddrPort{n.addr}
}

// move gives n another address, every so often, online or not.
func (p *partition) move(n *node, at int64) {
	s := p.sim
	n.self(p, event{at: at + int64(n.rnd.ExpFloat64()*float64(time.Hour)/s.cfg.Moves), kind: evMove})
	n.addr = s.world.addrs.random(&n.rnd)
	p.notice(n, n.up, s.public[n.id].seq)
	if !n.up || n.m == nil || n.nat {
		return
	}
	p.closeAll(n, at, true) // sessions do not survive it
	if n.moved == 0 {
		n.moved = at
	}
	n.m.SetAddrs(clock(at), n.addrs())
	p.poll(n, at)
}

// machine makes n's protocol for a new life.
func (s *sim) machine(n *node, at int64) *dht.Machine {
	m, err := dht.NewMachine(s.world.config(s, n), clock(at), s.world.options(s, n))
	if err != nil {
		panic(err) // the settings are the simulator's own
	}
	return m
}
