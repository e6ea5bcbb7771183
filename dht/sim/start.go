package sim

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/parley-p2p/parley/dht"
)

// bootstraps is how many nodes everyone is configured with. They never go.
const bootstraps = 8

const (
	recordTTL  = dht.DefaultTTL
	liarsRenew = 11 * time.Hour
)

// world is what surrounds the nodes. It does not change within a window.
type world struct {
	addrs    *addresses
	sessions sessions
	targets  popularity
	boot     []dht.Contact
	liars    *directory
	victims  map[netip.AddrPort]*atomic.Int64
	byKey    map[dht.Key]int32 // with Crypto
	private  []ed25519.PrivateKey
	nats     []bool   // the nodes that can't be dialled: every use of a session asks, and this fits into a cache
	tops     []uint64 // the beginning of each node's id, for the same reason
}

// newSim makes a network in the middle of its life.
func newSim(cfg Config) *sim {
	s := &sim{cfg: cfg, end: int64(cfg.Warmup + cfg.Duration), measure: int64(cfg.Warmup)}
	s.sent = math.MaxInt64
	for range cfg.Workers {
		p := &partition{sim: s, self: len(s.parts), sent: math.MaxInt64}
		p.of = -1
		p.out[0], p.out[1] = make([][]event, cfg.Workers), make([][]event, cfg.Workers)
		s.parts = append(s.parts, p)
	}
	rnd := rand.New(rand.NewPCG(cfg.Seed, 1))
	s.world.addrs = newAddresses(rnd, min(max(cfg.Nodes/10, leastBlocks), mostBlocks))
	s.world.victims = map[netip.AddrPort]*atomic.Int64{}
	total := cfg.Nodes
	if cfg.Session > 0 {
		s.world.sessions = newSessions(cfg.Session)
		total += int(spare * float64(cfg.Nodes))
	}
	s.nodes = make([]node, 0, total+4096)
	online := rnd.Perm(total - bootstraps)
	for i := range total {
		n := s.addNode(rnd)
		n.nat = i >= bootstraps && rnd.Float64() < cfg.NAT
		n.slow = i >= bootstraps && rnd.Float64() < cfg.Slow
		n.loyal = i < bootstraps
		n.up = i < bootstraps || online[i-bootstraps] < cfg.Nodes-bootstraps
		if n.up && !n.nat && !n.loyal && rnd.Float64() < cfg.Malicious {
			n.slow = false
			if n.forgets = cfg.Behaviour == Forget; !n.forgets {
				n.liar = &liar{behaviour: cfg.Behaviour}
			}
		}
	}
	if cfg.attack != nil {
		s.cfg.events = slices.Clone(cfg.events)
		cfg.attack.prepare(s, rnd)
	}
	s.public, s.world.nats, s.world.tops = make([]public, len(s.nodes)), make([]bool, len(s.nodes)), make([]uint64, len(s.nodes))
	for i := range s.nodes {
		s.public[i].addr, s.world.nats[i], s.world.tops[i] = s.nodes[i].addr, s.nodes[i].nat, top(s.nodes[i].nid)
	}
	s.globals = slices.Clone(s.cfg.events)
	for at := liarsRenew; int64(at) < s.end; at += liarsRenew {
		s.globals = append(s.globals, global{at, renewLiars})
	}
	s.prime(rnd)
	s.censuses()
	return s
}

// addNode appends a node that is down.
func (s *sim) addNode(rnd *rand.Rand) *node {
	id := int32(len(s.nodes))
	s.nodes = append(s.nodes, node{id: id, place: newPlace(rnd), addr: s.world.addrs.random(rnd)})
	n := &s.nodes[id]
	n.source.Seed(s.cfg.Seed^0x9e3779b97f4a7c15, uint64(id))
	n.rnd = *rand.New(&n.source)
	n.key = s.newKey(id, rnd)
	n.nid = dht.NodeID(n.key)
	return n
}

// newKey makes the key of node id. Without cryptography it is random but for
// the node's number in it.
func (s *sim) newKey(id int32, rnd *rand.Rand) (k dht.Key) {
	if s.cfg.Crypto {
		var seed [ed25519.SeedSize]byte
		for {
			for i := 0; i < len(seed); i += 8 {
				binary.BigEndian.PutUint64(seed[i:], rnd.Uint64())
			}
			if p := ed25519.NewKeyFromSeed(seed[:]); p[63]&0x80 == 0 {
				if s.world.byKey == nil {
					s.world.byKey = map[dht.Key]int32{}
				}
				k = dht.Key(p.Public().(ed25519.PublicKey))
				s.world.private, s.world.byKey[k] = append(s.world.private, p), id
				return k
			}
		}
	}
	binary.BigEndian.PutUint64(k[:], rnd.Uint64())
	binary.BigEndian.PutUint32(k[24:], uint32(id))
	return k
}

// nodeOf is the node of an agent.
func (w *world) nodeOf(k dht.Key) (int32, bool) {
	if w.byKey != nil {
		id, ok := w.byKey[k]
		return id, ok
	}
	return int32(binary.BigEndian.Uint32(k[24:])), true
}

// nodeID is dht.NodeID, computed once for every node.
func (s *sim) nodeID(k dht.Key) dht.ID {
	if id, ok := s.world.nodeOf(k); ok && id >= 0 && int(id) < len(s.nodes) && s.nodes[id].key == k {
		return s.nodes[id].nid
	}
	return dht.NodeID(k)
}

// config are the settings of n's next life.
func (w *world) config(s *sim, n *node) dht.Config {
	c := dht.Config{Bootstrap: w.boot, Rand: rand.NewPCG(s.cfg.Seed, uint64(n.id)<<32|uint64(n.inc)), TTL: recordTTL, MaxRecords: s.cfg.maxRecords}
	if s.cfg.GroupsOff {
		c.Group = func(netip.Addr) (narrow, wide netip.Prefix) { return narrow, wide }
	}
	if s.cfg.Crypto {
		c.Key = w.private[n.id]
	} else {
		c.Key = append(make([]byte, 32, 64), n.key[:]...)
	}
	return c
}

func (w *world) options(s *sim, n *node) dht.MachineOptions {
	o := dht.MachineOptions{Off: s.cfg.Off, NodeID: s.nodeID, Linked: func(k dht.Key) bool {
		peer, ok := w.nodeOf(k)
		return ok && n.pool.linked(peer)
	}}
	o.Evicted = func(k dht.Key) {
		if !isJunk(k) {
			n.evicted++
			if s.within(n, k) {
				n.evictNear++
			}
		}
	}
	if !s.cfg.Crypto {
		o.Verify, o.Sign = verifyTag, signTag
	}
	return o
}

var errTag = errors.New("wrong tag")

// tagOf is what stands for the signature where there is no cryptography: as only
// the agent can sign, only code that acts for the agent calls signTag.
func tagOf(k *dht.Key, seq uint64) (tag [ed25519.SignatureSize]byte) {
	copy(tag[:], k[:])
	binary.BigEndian.PutUint64(tag[32:], ^seq)
	return tag
}

func signTag(r dht.Record) (*dht.Record, error) { return r.Tagged(tagOf(&r.Key, r.Seq)) }

func verifyTag(r *dht.Record) error {
	if r.Tag() != tagOf(&r.Key, r.Seq) {
		return errTag
	}
	return nil
}

// record signs a record of n, for nodes without a machine.
func (s *sim) record(n *node, at int64, addr netip.AddrPort) *dht.Record {
	now := clock(at)
	r := dht.Record{Key: n.key, Flags: dht.FlagServer, Seq: uint64(now.UnixMilli()), IssuedAt: now, Addrs: []netip.AddrPort{addr}}
	r.TTL = dht.MaxTTL
	sign := signTag
	if s.cfg.Crypto {
		sign = func(r dht.Record) (*dht.Record, error) { return r.Sign(s.world.private[n.id]) }
	}
	out, err := sign(r)
	if err != nil {
		panic(err) // its fields are within their bounds
	}
	return out
}

// prime gives every node that is online its table, its record and the records of
// others, as hours of life would have.
func (s *sim) prime(rnd *rand.Rand) {
	for i := range s.nodes {
		if n := &s.nodes[i]; n.loyal {
			s.world.boot = append(s.world.boot, dht.Contact{Key: n.key, Addrs: []netip.AddrPort{n.addr}})
		}
	}
	s.world.liars = newDirectory(s.nodes, func(n *node) bool { return n.liar != nil && n.liar.named })
	if len(s.world.liars.who) == 0 {
		s.world.liars = newDirectory(s.nodes, func(n *node) bool { return n.liar != nil })
	}
	servers := newDirectory(s.nodes, func(n *node) bool { return n.up && !n.nat && !n.hidden() })
	records := make([]*dht.Record, len(s.nodes))
	for i := range s.nodes {
		n := &s.nodes[i]
		if !n.up {
			continue
		}
		age := rnd.Int64N(int64(recordTTL / 2))
		if n.liar != nil {
			n.liar.rec = s.record(n, -age, n.addr)
			records[i] = n.liar.rec
			continue
		}
		n.m, n.begun = s.machine(n, 0), epoch.Add(-time.Hour)
		n.m.Prime(epoch, epoch.Add(-time.Duration(age)), len(servers.who), n.addrs())
		records[i] = n.m.Record()
		s.public[i].up = true
		if records[i] != nil {
			s.public[i].seq = records[i].Seq
		}
	}
	s.world.targets = newPopularity(rnd, s.servers(), s.cfg.Zipf)
	c := newCrew(len(s.parts))
	defer c.stop()
	c.each(func(part int) {
		for i := range s.nodes {
			if n := &s.nodes[i]; n.m != nil && i%len(s.parts) == part {
				s.meet(n, servers, records)
			}
			if part == 0 && i%pagesEvery == 0 {
				s.pages.look()
			}
		}
	})
	for i := range s.nodes {
		if n := &s.nodes[i]; n.m != nil {
			n.kept = rnd.Int64N(int64(tendEvery)) - int64(tendEvery)
			n.m.Table(func(e dht.TableEntry) { s.link(n, e.Key) })
		}
	}
	for i, r := range records {
		if r == nil || s.nodes[i].hidden() {
			continue
		}
		replicas := nearest
		if s.cfg.Off.Replicas {
			replicas = 1
		}
		for _, h := range servers.closest(s.nodes[i].nid, replicas+1) {
			if o := &s.nodes[h]; int(h) != i && o.m != nil {
				o.m.Keep(epoch, r)
			} else if o.liar != nil {
				o.liar.keep(r)
			}
		}
	}
	s.schedule()
}

// link opens a session of n's with a contact, if both have room.
func (s *sim) link(n *node, k dht.Key) {
	id, ok := s.world.nodeOf(k)
	if !ok || n.pool.linked(id) {
		return
	}
	o := &s.nodes[id]
	if n.pool.dialled < poolDialled && o.pool.n-o.pool.dialled < poolInbound {
		n.pool.add(newSession(id, o.life, true, 0))
		o.pool.add(newSession(n.id, n.life, false, 0))
	}
}

// servers are all agents that can be looked up, online or not.
func (s *sim) servers() (ids []int32) {
	for i := range s.nodes {
		if n := &s.nodes[i]; !n.nat && n.liar == nil {
			ids = append(ids, n.id)
		}
	}
	return ids
}

// meet fills n's table: the nearest nodes, and random ones of each bucket.
func (s *sim) meet(n *node, servers *directory, records []*dht.Record) {
	meet := func(o int32) bool {
		if o == n.id {
			return false
		}
		rtt := time.Duration(n.place.rtt(s.nodes[o].place))
		return n.m.Meet(epoch, dht.Contact{Key: s.nodes[o].key, Record: records[o]}, rtt)
	}
	for _, o := range servers.closest(n.nid, 40) {
		meet(o)
	}
	for b := range 64 {
		lo, hi := servers.bucket(top(n.nid), b)
		if hi-lo == 0 {
			if l, h := servers.prefix(top(n.nid), b); h-l <= 1 {
				break
			}
			continue
		}
		if hi-lo <= 24 {
			for _, i := range n.rnd.Perm(hi - lo) {
				meet(servers.who[lo+i])
			}
			continue
		}
		for got, tries := 0, 0; got < 16 && tries < 40; tries++ {
			if meet(servers.who[lo+n.rnd.IntN(hi-lo)]) {
				got++
			}
		}
	}
}

// schedule sends every node the events of its life.
func (s *sim) schedule() {
	for i := range s.nodes {
		n := &s.nodes[i]
		p := s.parts[i%len(s.parts)]
		in := func(mean float64) int64 { return int64(n.rnd.ExpFloat64() * mean) }
		if n.m != nil {
			n.wake = 1 + n.rnd.Int64N(int64(time.Second))
			n.self(p, event{at: n.wake, kind: evWake})
		}
		if n.liar == nil && s.cfg.Lookups > 0 {
			n.self(p, event{at: in(float64(time.Hour) / s.cfg.Lookups), kind: evLookup})
		}
		if n.liar == nil && !n.loyal && s.cfg.Moves > 0 {
			n.self(p, event{at: in(float64(time.Hour) / s.cfg.Moves), kind: evMove})
		}
		if s.cfg.Session > 0 && n.liar == nil && !n.loyal {
			if n.up {
				n.downAt = s.world.sessions.rest(n)
				n.self(p, event{at: n.downAt, kind: evDown})
			} else {
				n.upAt = 1 + s.away(n, 0)
				n.self(p, event{at: n.upAt, kind: evUp})
			}
		}
		if s.cfg.attack != nil {
			s.cfg.attack.begin(s, p, n)
		}
	}
}

// digest is a hash of the run's state, for tests of determinism.
func (s *sim) digest() [32]byte {
	h := sha256.New()
	for i := range s.nodes {
		n := &s.nodes[i]
		var b [16]byte
		binary.BigEndian.PutUint32(b[:], n.seq)
		binary.BigEndian.PutUint64(b[8:], uint64(n.wake))
		h.Write(b[:])
	}
	return [32]byte(h.Sum(nil))
}
