package sim

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/parley-p2p/parley/dht"
)

// attack is what happens to the network besides its liars. Its state does not
// change within a window.
type attack interface {
	prepare(s *sim, rnd *rand.Rand)       // adds the attacker's nodes, before the network begins
	begin(s *sim, p *partition, n *node)  // sends a node the first event of its own
	step(p *partition, n *node, at int64) // evPlan
}

// addLiar appends an attacker's node at an address. Its id may be ground.
func (s *sim) addLiar(rnd *rand.Rand, addr netip.AddrPort, key *dht.Key) *node {
	n := s.addNode(rnd)
	if key != nil {
		n.key = *key
		binary.BigEndian.PutUint32(n.key[24:], uint32(n.id))
		n.nid = dht.NodeID(n.key)
	}
	n.addr, n.up, n.liar = addr, true, &liar{}
	return n
}

// say lets an attacker's node send a request of its own.
func (p *partition) say(n *node, at int64, to int32, req *dht.Request) {
	m := p.message()
	m.from, m.fromInc, m.to, m.req, m.purpose = n.id, n.inc, to, req, dht.Purposes
	m.fromLife = n.life
	m.deadline, m.addr, m.src = at+dialLimit, p.sim.public[to].addr, n.addr.Addr()
	if p.use(n, at, to) {
		p.dispatch(n, &p.sim.nodes[to], at, evRequest, m)
		return
	}
	p.dial(n, at, m)
}

// sybils are nodes nearer to a few agents' records than every honest node, but
// the agents' own. Those agents publish, and go for good: what others find of
// them is what their replicas hold.
type sybils struct {
	each, subnets int
	targets       int
	ids           []int32
}

func (a *sybils) prepare(s *sim, rnd *rand.Rand) {
	honest := newDirectory(s.nodes, func(n *node) bool { return n.up && !n.nat })
	for i := range s.nodes {
		n := &s.nodes[i]
		if len(a.ids) < a.targets && n.up && !n.nat && !n.loyal && n.liar == nil {
			n.loyal, n.hunted = true, true // until the attack ends its life
			a.ids = append(a.ids, n.id)
		}
	}
	for _, t := range a.ids {
		target := s.nodes[t].nid
		nearest := s.nodes[honest.closest(target, 2)[1]].nid
		var nets []int
		for range a.subnets {
			nets = append(nets, s.world.addrs.addBlock(rnd))
		}
		for i := range a.each {
			id := int32(len(s.nodes))
			var k dht.Key
			for {
				binary.BigEndian.PutUint64(k[:], rnd.Uint64())
				binary.BigEndian.PutUint32(k[24:], uint32(id))
				if nid := dht.NodeID(k); compareFrom(target, nid, nearest) < 0 {
					break
				}
			}
			s.addLiar(rnd, s.world.addrs.in(nets[i%len(nets)], 0, rnd), &k)
		}
	}
	at := s.cfg.Warmup
	s.cfg.events = append(s.cfg.events, global{at / 2, a.publish}, global{at - time.Second, a.kill})
}

// publish lets the targets publish under the attack.
func (a *sybils) publish(s *sim, at int64) {
	for _, t := range a.ids {
		n := &s.nodes[t]
		p := s.parts[int(t)%len(s.parts)]
		n.addr = s.world.addrs.random(&n.rnd)
		n.m.SetAddrs(clock(at), n.addrs())
		p.poll(n, at)
	}
}

// kill ends the targets' own nodes, for good.
func (a *sybils) kill(s *sim, at int64) {
	for _, t := range a.ids {
		n := &s.nodes[t]
		s.parts[int(t)%len(s.parts)].goDown(n, at, true)
		n.upAt = -1
	}
}

func (a *sybils) begin(s *sim, p *partition, n *node) {
	if n.liar == nil && s.cfg.Lookups > 0 {
		n.self(p, event{at: s.measure + int64(n.rnd.ExpFloat64()*float64(time.Hour)/s.cfg.Lookups), kind: evPlan})
	}
}

// step lets an honest node look for one of the targets.
func (a *sybils) step(p *partition, n *node, at int64) {
	n.self(p, event{at: at + int64(n.rnd.ExpFloat64()*float64(time.Hour)/p.sim.cfg.Lookups), kind: evPlan})
	if n.up && n.m != nil && n.m.Ready() && n.id != a.ids[0] {
		p.startLookup(n, at, a.ids[n.rnd.IntN(len(a.ids))])
	}
}

const restarted = 20 // one in so many restarts under a flood

// flood is attackers who call honest nodes to get into their tables, and name
// one another.
type flood struct {
	ids     int     // of the attacker
	blocks  int     // /16 that he has; 0: one single /24
	perHour float64 // calls of each honest node and hour, by all attackers
	total   float64 // or of all of them in an hour
	restart bool    // a twentieth of the honest nodes starts anew, without a snapshot, under the flood
	first   int32
	honest  []int32
}

func (a *flood) prepare(s *sim, rnd *rand.Rand) {
	for i := range s.nodes {
		if n := &s.nodes[i]; !n.nat {
			a.honest = append(a.honest, n.id)
		}
	}
	var nets []int
	for range max(1, a.blocks) {
		nets = append(nets, s.world.addrs.addBlock(rnd))
	}
	a.first = int32(len(s.nodes))
	for i := range a.ids {
		network := 0
		if a.blocks > 0 {
			network = i / len(nets) % netsInBlock
		}
		s.addLiar(rnd, s.world.addrs.in(nets[i%len(nets)], network, rnd), nil).liar.hide = true
	}
	if a.restart {
		at := s.cfg.Warmup
		s.cfg.events = append(s.cfg.events, global{at, func(s *sim, at int64) {
			for i, h := range a.honest {
				if n := &s.nodes[h]; i%restarted == 0 && n.up && n.liar == nil && !n.loyal {
					p := s.parts[int(h)%len(s.parts)]
					p.goDown(n, at, false)
					n.rest, n.watched = nil, true
					n.upAt = at + int64(10*time.Second)
					n.self(p, event{at: n.upAt, kind: evUp})
				}
			}
		}})
	}
}

func (a *flood) begin(s *sim, p *partition, n *node) {
	if n.id >= a.first {
		n.self(p, event{at: 1 + n.rnd.Int64N(int64(a.every())), kind: evPlan})
	}
}

// every is the time between two calls of one attacker.
func (a *flood) every() time.Duration {
	calls := a.total
	if calls == 0 {
		calls = a.perHour * float64(len(a.honest))
	}
	return time.Duration(float64(time.Hour) * float64(a.ids) / calls)
}

func (a *flood) step(p *partition, n *node, at int64) {
	n.self(p, event{at: at + int64(a.every()), kind: evPlan})
	i := n.rnd.IntN(len(a.honest))
	if a.restart { // he knows whom to flood
		i -= i % restarted
	}
	p.say(n, at, a.honest[i], &dht.Request{Op: dht.OpFind, Target: n.nid, Seq: n.liar.rec.Seq})
}

// redirect is colluders who name others whose records give a victim's address.
type redirect struct {
	victim netip.AddrPort
	hits   atomic.Int64
}

func (a *redirect) prepare(s *sim, rnd *rand.Rand) {
	a.victim = s.world.addrs.in(s.world.addrs.addBlock(rnd), 0, rnd)
	s.world.victims[a.victim] = &a.hits
	for range 1000 {
		n := s.addLiar(rnd, a.victim, nil)
		n.liar.hide, n.liar.named = true, true
	}
	s.cfg.events = append(s.cfg.events, global{s.cfg.Warmup, func(*sim, int64) { a.hits.Store(0) }})
}

func (a *redirect) begin(*sim, *partition, *node) {}
func (a *redirect) step(*partition, *node, int64) {}

// junkBit marks, where others have a node's number, keys that no node has.
const junkBit = 1 << 31

func isJunk(k dht.Key) bool { return binary.BigEndian.Uint32(k[24:])&junkBit != 0 }

// hoard is attackers who put junk records on honest nodes: each of an agent of
// its own.
type hoard struct {
	flood
	ids     int
	perHour float64 // records for each server
	poses   bool    // each is brought by its agent, for the price of a session; else its addresses are anybody's
}

func (a *hoard) prepare(s *sim, rnd *rand.Rand) {
	a.flood = flood{ids: a.ids, blocks: 4, perHour: a.perHour}
	a.flood.prepare(s, rnd)
	for i := a.first; int(i) < len(s.nodes); i++ {
		s.nodes[i].liar.poses = a.poses
	}
}

func (a *hoard) step(p *partition, n *node, at int64) {
	n.self(p, event{at: at + int64(a.every()), kind: evPlan})
	junk := dht.Record{Flags: dht.FlagServer, Seq: 1, IssuedAt: clock(at), TTL: dht.MaxTTL, Addrs: []netip.AddrPort{n.addr}}
	if !a.poses {
		junk.Addrs[0] = p.sim.world.addrs.random(&n.rnd)
	}
	binary.BigEndian.PutUint64(junk.Key[:], n.rnd.Uint64())
	binary.BigEndian.PutUint32(junk.Key[24:], junkBit)
	r, err := signTag(junk)
	if err != nil {
		panic(err)
	}
	req := &dht.Request{Op: dht.OpPut, Record: r, Seq: n.liar.rec.Seq}
	if a.poses {
		req.Seq = 0 // its agent has no node that could be called
	}
	p.say(n, at, a.honest[n.rnd.IntN(len(a.honest))], req)
}
