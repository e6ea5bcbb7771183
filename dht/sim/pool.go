package sim

import "time"

const (
	poolSize = 256
	poolIdle = 10 * time.Minute
	noticed  = 22 * time.Second // until a session whose other end is silent ends
)

// pool is a node's open sessions, the least recently used of which closes when
// there are too many. Either side may ask over a session.
type pool struct {
	peers []int32
	used  []int64
}

func (p *pool) find(peer int32) int {
	for i, o := range p.peers {
		if o == peer {
			return i
		}
	}
	return -1
}

// open tells whether there is a session with peer, and notes that it is used.
func (p *pool) open(now int64, peer int32) bool {
	i := p.find(peer)
	if i < 0 {
		return false
	}
	if now-p.used[i] > int64(poolIdle) {
		p.drop(i)
		return false
	}
	p.used[i] = now
	return true
}

// add notes a session; it returns the peer whose session closes for it, or -1.
func (p *pool) add(now int64, peer int32) int32 {
	if i := p.find(peer); i >= 0 {
		p.used[i] = now
		return -1
	}
	if len(p.peers) < poolSize {
		p.peers, p.used = append(p.peers, peer), append(p.used, now)
		return -1
	}
	oldest := 0
	for i, t := range p.used {
		if t < p.used[oldest] {
			oldest = i
		}
	}
	closed := p.peers[oldest]
	idle := now-p.used[oldest] > int64(poolIdle)
	p.peers[oldest], p.used[oldest] = peer, now
	if idle {
		return -1 // both sides have closed it long ago
	}
	return closed
}

// linked is open without a use.
func (p *pool) linked(now int64, peer int32) bool {
	i := p.find(peer)
	return i >= 0 && now-p.used[i] <= int64(poolIdle)
}

// keep keeps the sessions with peers from being idle.
func (p *pool) keep(now int64, peer int32) {
	if i := p.find(peer); i >= 0 && now-p.used[i] <= int64(poolIdle) {
		p.used[i] = now
	}
}

func (p *pool) remove(peer int32) {
	if i := p.find(peer); i >= 0 {
		p.drop(i)
	}
}

func (p *pool) drop(i int) {
	n := len(p.peers) - 1
	p.peers[i], p.used[i] = p.peers[n], p.used[n]
	p.peers, p.used = p.peers[:n], p.used[:n]
}

func (p *pool) clear() { p.peers, p.used = nil, nil }
