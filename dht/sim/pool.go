package sim

import (
	"cmp"
	"slices"
	"time"
)

// What a node keeps open, as transport's MaxBackground, MaxBackgroundInbound and
// BackgroundIdle say.
const (
	poolDialled = 256
	poolInbound = 1024
	poolIdle    = 10 * time.Minute
	tendEvery   = 4 * time.Minute // how often a node looks at its sessions
)

// pool is a node's open sessions. Of those that it dialled, and of those that peers did, the
// least recently used closes when there are too many. Either side may ask over a session.
//
// It is a hash table with linear probing, at most three quarters full, since every message
// looks into it, and 100,000 nodes have one.
type pool struct {
	slots   []session // a power of two of them, or none
	n       int
	dialled int // by this node
	// last are those to close next, of those that peers dialled and of those that this node
	// did, as they were when rank put them in order: the least recently used one last.
	last [2][]session
}

// ranked is how many sessions rank puts in order: for as many that close it looks at all once.
const ranked = 64

// session is one with an agent's node. The zero value is a free slot.
type session struct {
	// peer is the node's number and 1, in 24 bits, the life of its connections in
	// 7, and 1 for one that was dialled from this side.
	peer uint32
	used uint32 // when last, ms
}

const (
	peerBits   = 24
	peerMask   = 1<<peerBits - 1
	lifeMask   = 0x7f
	sessionOut = 1 << 31
)

func newSession(peer int32, life uint8, out bool, now int64) session {
	s := session{peer: uint32(peer+1) | uint32(life&lifeMask)<<peerBits, used: ms(now)}
	if out {
		s.peer |= sessionOut
	}
	return s
}

func ms(at int64) uint32 { return uint32(at / int64(time.Millisecond)) }

func (s *session) node() int32      { return int32(s.peer&peerMask) - 1 }
func (s *session) life() uint8      { return uint8(s.peer>>peerBits) & lifeMask }
func (s *session) out() bool        { return s.peer&sessionOut != 0 }
func (s *session) is(k uint32) bool { return s.peer&peerMask == k }

// home is the slot where the search for a peer begins (Knuth's multiplicative hash).
func (p *pool) home(peer uint32) int { return int(peer*2654435769>>16) & (len(p.slots) - 1) }

func (p *pool) find(peer int32) int {
	if p.n == 0 {
		return -1
	}
	k := uint32(peer) + 1
	for i := p.home(k); ; i = (i + 1) & (len(p.slots) - 1) {
		switch s := &p.slots[i]; {
		case s.is(k):
			return i
		case s.peer == 0:
			return -1
		}
	}
}

// linked tells whether there is a session with peer.
func (p *pool) linked(peer int32) bool { return p.find(peer) >= 0 }

// full tells whether one closes for the next one.
func (p *pool) full(out bool) bool {
	return out && p.dialled >= poolDialled || !out && p.n-p.dialled >= poolInbound
}

// add notes a new session; it returns the peer whose session closes for it, or -1.
func (p *pool) add(s session) int32 {
	if i := p.find(s.node()); i >= 0 {
		if p.slots[i].out() {
			s.peer |= sessionOut // who has dialled keeps it
		}
		p.slots[i] = s
		return -1
	}
	closed := int32(-1)
	if p.full(s.out()) {
		if !p.inOrder(s.out()) {
			p.rank(s.out(), func(int32) bool { return false })
		}
		oldest := p.find(p.oldest(s.out()).node())
		closed = p.slots[oldest].node()
		p.drop(oldest)
	}
	if 4*(p.n+1) > 3*len(p.slots) {
		p.resize()
	}
	p.put(s)
	return closed
}

// rank puts the least recently used of those that this node dialled, if out, or of the
// others in order, but for those that are kept.
func (p *pool) rank(out bool, kept func(peer int32) bool) {
	l := p.last[dir(out)][:0]
	for _, s := range p.slots {
		if s.peer != 0 && s.out() == out && !kept(s.node()) {
			l = append(l, s)
		}
	}
	slices.SortStableFunc(l, func(a, b session) int { return cmp.Compare(a.used, b.used) })
	l = slices.Clone(l[:min(ranked, len(l))])
	slices.Reverse(l)
	p.last[dir(out)] = l
}

// inOrder tells whether the one to close next is known: one that is as it was when rank
// came by. Whoever was used since is used later than all of those.
func (p *pool) inOrder(out bool) bool {
	for l := &p.last[dir(out)]; len(*l) > 0; *l = (*l)[:len(*l)-1] {
		if i := p.find(p.oldest(out).node()); i >= 0 && p.slots[i] == *p.oldest(out) {
			return true
		}
	}
	return false
}

func (p *pool) oldest(out bool) *session {
	l := p.last[dir(out)]
	return &l[len(l)-1]
}

func dir(out bool) int {
	if out {
		return 1
	}
	return 0
}

func (p *pool) put(s session) {
	i := p.home(s.peer & peerMask)
	for p.slots[i].peer != 0 {
		i = (i + 1) & (len(p.slots) - 1)
	}
	p.slots[i] = s
	p.n++
	if s.out() {
		p.dialled++
	}
}

// resize makes room for one more.
func (p *pool) resize() {
	old := p.slots
	p.slots, p.n, p.dialled = make([]session, max(8, 2*len(old))), 0, 0
	for _, s := range old {
		if s.peer != 0 {
			p.put(s)
		}
	}
}

func (p *pool) remove(peer int32) {
	if i := p.find(peer); i >= 0 {
		p.drop(i)
	}
}

// lost is remove where the session is of that life of the peer's connections; it tells
// whether it was.
func (p *pool) lost(peer int32, life uint8) bool {
	i := p.find(peer)
	if i < 0 || p.slots[i].life() != life&lifeMask {
		return false
	}
	p.drop(i)
	return true
}

// unused calls f for each peer whom this node has dialled, not used for poolIdle, and is
// not to keep, and forgets the session.
func (p *pool) unused(now int64, kept func(peer int32) bool, f func(peer int32)) {
	since := int64(ms(now)) - poolIdle.Milliseconds()
	for i := 0; i < len(p.slots); {
		s := &p.slots[i]
		if s.peer == 0 || !s.out() || int64(s.used) > since || kept(s.node()) {
			i++
			continue
		}
		f(s.node())
		p.drop(i) // another may stand here now
	}
}

// drop frees slot i and moves up what stands behind it, so that no search ends
// there too soon.
func (p *pool) drop(i int) {
	if p.slots[i].out() {
		p.dialled--
	}
	mask := len(p.slots) - 1
	for j := (i + 1) & mask; p.slots[j].peer != 0; j = (j + 1) & mask {
		if (j-p.home(p.slots[j].peer&peerMask))&mask >= (j-i)&mask {
			p.slots[i] = p.slots[j]
			i = j
		}
	}
	p.slots[i] = session{}
	p.n--
}

// each calls f for every peer.
func (p *pool) each(f func(peer int32)) {
	for i := range p.slots {
		if s := &p.slots[i]; s.peer != 0 {
			f(s.node())
		}
	}
}

func (p *pool) clear() { *p = pool{} }
