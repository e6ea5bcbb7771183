package sim

import "time"

const (
	poolSize  = 256
	poolIdle  = 10 * time.Minute
	keepEvery = 4 * time.Minute  // how often sessions with neighbours are used: their heartbeats
	noticed   = 22 * time.Second // until a session whose other end is silent ends
)

// pool is a node's open sessions, the least recently used of which closes when
// there are too many. Either side may ask over a session.
//
// It is a hash table with linear probing, at most three quarters full, since every message
// looks into it, and 100,000 nodes have one.
type pool struct {
	slots []session // a power of two of them, or none
	n     int
}

// session is one with peer-1; peer 0 is a free slot.
type session struct {
	peer uint32
	used uint32 // when last, ms
}

func ms(at int64) uint32 { return uint32(at / int64(time.Millisecond)) }

func (s *session) idle(now int64) bool { return ms(now)-s.used > uint32(poolIdle/time.Millisecond) }

// home is the slot where the search for a peer begins (Knuth's multiplicative hash).
func (p *pool) home(peer uint32) int { return int(peer*2654435769>>16) & (len(p.slots) - 1) }

func (p *pool) find(peer int32) int {
	if p.n == 0 {
		return -1
	}
	k := uint32(peer) + 1
	for i := p.home(k); ; i = (i + 1) & (len(p.slots) - 1) {
		switch p.slots[i].peer {
		case k:
			return i
		case 0:
			return -1
		}
	}
}

// open tells whether there is a session with peer, and notes that it is used.
func (p *pool) open(now int64, peer int32) bool {
	i := p.find(peer)
	if i < 0 {
		return false
	}
	if p.slots[i].idle(now) {
		p.drop(i)
		return false
	}
	p.slots[i].used = ms(now)
	return true
}

// add notes a session; it returns the peer whose session closes for it, or -1.
func (p *pool) add(now int64, peer int32) int32 {
	if i := p.find(peer); i >= 0 {
		p.slots[i].used = ms(now)
		return -1
	}
	closed := int32(-1)
	if p.n == poolSize {
		p.grow(now)
	}
	if p.n == poolSize {
		oldest := -1
		for i, s := range p.slots {
			if s.peer != 0 && (oldest < 0 || s.used < p.slots[oldest].used) {
				oldest = i
			}
		}
		closed = int32(p.slots[oldest].peer - 1)
		p.drop(oldest)
	}
	if 4*(p.n+1) > 3*len(p.slots) {
		p.grow(now)
	}
	p.put(session{uint32(peer) + 1, ms(now)})
	return closed
}

func (p *pool) put(s session) {
	i := p.home(s.peer)
	for p.slots[i].peer != 0 {
		i = (i + 1) & (len(p.slots) - 1)
	}
	p.slots[i] = s
	p.n++
}

// grow forgets the idle sessions, which both sides have closed long ago, and makes
// room for one more.
func (p *pool) grow(now int64) {
	old, live := p.slots, 0
	for i := range old {
		if old[i].peer != 0 && !old[i].idle(now) {
			live++
		}
	}
	size := 8
	for 4*(live+1) > 3*size {
		size *= 2
	}
	p.slots, p.n = make([]session, size), 0
	for i := range old {
		if old[i].peer != 0 && !old[i].idle(now) {
			p.put(old[i])
		}
	}
}

// linked is open without a use.
func (p *pool) linked(now int64, peer int32) bool {
	i := p.find(peer)
	return i >= 0 && !p.slots[i].idle(now)
}

// keep keeps the sessions with peers from being idle.
func (p *pool) keep(now int64, peer int32) {
	if i := p.find(peer); i >= 0 && !p.slots[i].idle(now) {
		p.slots[i].used = ms(now)
	}
}

func (p *pool) remove(peer int32) {
	if i := p.find(peer); i >= 0 {
		p.drop(i)
	}
}

// drop frees slot i and moves up what stands behind it, so that no search ends
// there too soon.
func (p *pool) drop(i int) {
	mask := len(p.slots) - 1
	for j := (i + 1) & mask; p.slots[j].peer != 0; j = (j + 1) & mask {
		if (j-p.home(p.slots[j].peer))&mask >= (j-i)&mask {
			p.slots[i] = p.slots[j]
			i = j
		}
	}
	p.slots[i] = session{}
	p.n--
}

// each calls f for every peer.
func (p *pool) each(now int64, f func(peer int32)) {
	for _, s := range p.slots {
		if s.peer != 0 && !s.idle(now) {
			f(int32(s.peer - 1))
		}
	}
}

func (p *pool) clear() { p.slots, p.n = nil, 0 }
