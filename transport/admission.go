package transport

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// admission decides which incoming connections may try a handshake. What a
// flood does to others: connections of an address over its own rate or number
// are closed before a byte is read; when the table is full, the address that
// has the most connections in it loses one, so that whoever floods makes room
// for those who don't; sessions are not touched.
type admission struct {
	perIP, total, rate, burst int

	mu     sync.Mutex // guards:
	byIP   map[netip.Addr]*source
	open   map[*halfOpen]struct{}
	lastID uint64
	seen   replays
}

// source is what one IPv4 address or IPv6 /64 has under way.
type source struct {
	open   int
	tokens float64
	at     time.Time
}

// halfOpen is a connection whose handshake is under way.
type halfOpen struct {
	conn    net.Conn
	ip      netip.Addr
	src     *source
	id      uint64 // in the order of their coming
	arrived bool   // it has sent a message 1 that is worth arithmetic
}

// before tells that h is to be evicted rather than o: of the address with more
// connections, then of those without message 1, then the older one.
func (h *halfOpen) before(o *halfOpen) bool {
	switch {
	case h.src.open != o.src.open:
		return h.src.open > o.src.open
	case h.arrived != o.arrived:
		return !h.arrived
	}
	return h.id < o.id
}

func newAdmission(c *Config) *admission {
	return &admission{perIP: c.MaxHandshakesPerIP, total: c.MaxHandshakes,
		rate: c.HandshakeRatePerIP, burst: c.HandshakeBurstPerIP,
		byIP: make(map[netip.Addr]*source), open: make(map[*halfOpen]struct{}), seen: newReplays(maxSeen)}
}

// sourceOf groups addresses by who can easily have many of them.
func sourceOf(a netip.Addr) netip.Addr {
	a = a.Unmap()
	if a.Is6() {
		if p, err := a.WithZone("").Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}

func (s *source) refill(now time.Time, rate, burst int) {
	s.tokens = min(float64(burst), s.tokens+now.Sub(s.at).Seconds()*float64(rate))
	s.at = now
}

// begin admits a connection, or returns nil. evicted is one to be closed for it.
func (a *admission) begin(conn net.Conn, from netip.Addr, now time.Time) (h, evicted *halfOpen) {
	ip := sourceOf(from)
	a.mu.Lock()
	defer a.mu.Unlock()
	src := a.byIP[ip]
	if src == nil {
		if len(a.byIP) >= maxSources {
			a.forgetSource()
		}
		src = &source{tokens: float64(a.burst), at: now}
		a.byIP[ip] = src
	}
	src.refill(now, a.rate, a.burst)
	if !ip.IsLoopback() { // all nodes of a machine share that one, and a proxy's clients
		if src.tokens < 1 || src.open >= a.perIP {
			return nil, nil
		}
		src.tokens--
	}
	if len(a.open) >= a.total {
		if evicted = a.victim(src.open); evicted == nil {
			return nil, nil
		}
		a.forget(evicted)
	}
	src.open++
	a.lastID++
	h = &halfOpen{conn: conn, ip: ip, src: src, id: a.lastID}
	a.open[h] = struct{}{}
	return h, evicted
}

// victim is the half-open connection that makes room for one of an address
// that has open others, or nil: one under way only goes if its address has more.
func (a *admission) victim(open int) *halfOpen {
	var worst *halfOpen
	for h := range a.open {
		if worst == nil || h.before(worst) {
			worst = h
		}
	}
	if worst == nil || worst.arrived && worst.src.open <= open+1 {
		return nil
	}
	return worst
}

// forgetSource makes room for one more source. It forgets the allowance of one
// that has nothing under way, whichever comes first.
func (a *admission) forgetSource() {
	for ip, src := range a.byIP {
		if src.open == 0 {
			delete(a.byIP, ip)
			return
		}
	}
}

// maxSources bounds the addresses that are remembered for their rate; those
// whose allowance is full again are forgotten at each tick.
const maxSources = 1 << 16

func (a *admission) forget(h *halfOpen) {
	if _, ok := a.open[h]; ok {
		delete(a.open, h)
		h.src.open--
	}
}

// arrived notes that h has sent a message 1 that is worth arithmetic. It
// reports false for a replayed one.
func (a *admission) arrived(h *halfOpen, mac messageMAC) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	h.arrived = true
	return a.seen.add(mac)
}

// end forgets h, whose handshake is over.
func (a *admission) end(h *halfOpen) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.forget(h)
}

// tick forgets sources that have nothing under way and their full allowance.
func (a *admission) tick(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for ip, src := range a.byIP {
		src.refill(now, a.rate, a.burst)
		if src.open == 0 && src.tokens >= float64(a.burst) {
			delete(a.byIP, ip)
		}
	}
}

func (a *admission) closeAll() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for h := range a.open {
		h.conn.Close()
	}
}

// maxSeen is how many messages 1 each of the two generations of replays holds.
const maxSeen = 1 << 15

// replays remembers the last messages 1 by their macs, between maxSeen and
// twice as many. By their ephemeral keys alone, somebody who has seen one on its
// way could have it refused by sending another with the same key first.
type replays struct {
	max       int
	now, last map[messageMAC]struct{}
}

func newReplays(n int) replays { return replays{max: n, now: make(map[messageMAC]struct{})} }

// add reports whether the message is new.
func (r *replays) add(mac messageMAC) bool {
	if _, ok := r.now[mac]; ok {
		return false
	}
	if _, ok := r.last[mac]; ok {
		return false
	}
	if len(r.now) >= r.max {
		r.last, r.now = r.now, make(map[messageMAC]struct{})
	}
	r.now[mac] = struct{}{}
	return true
}
