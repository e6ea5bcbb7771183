package transport

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// admission decides which incoming connections may try a handshake. What a
// flood does to others: connections of an address over its own rate or number
// are closed before a byte is read; when the table is full, the oldest
// connection that has not sent its message 1 makes room, so that idle ones
// can't keep out honest peers, who send it at once; sessions are not touched.
type admission struct {
	perIP, total, rate, burst int

	mu     sync.Mutex // guards:
	byIP   map[netip.Addr]*source
	open   map[*halfOpen]struct{}
	oldest *halfOpen // list of those without message 1, oldest first
	newest *halfOpen
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
	conn       net.Conn
	ip         netip.Addr
	prev, next *halfOpen
	listed     bool // waiting for message 1
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
			return nil, nil
		}
		src = &source{tokens: float64(a.burst), at: now}
		a.byIP[ip] = src
	}
	src.refill(now, a.rate, a.burst)
	if src.tokens < 1 || src.open >= a.perIP {
		return nil, nil
	}
	if len(a.open) >= a.total {
		if evicted = a.oldest; evicted == nil {
			return nil, nil
		}
		a.forget(evicted)
	}
	src.tokens--
	src.open++
	h = &halfOpen{conn: conn, ip: ip}
	a.open[h] = struct{}{}
	a.list(h)
	return h, evicted
}

// maxSources bounds the addresses that are remembered for their rate; those
// whose allowance is full again are forgotten at each tick.
const maxSources = 1 << 16

func (a *admission) list(h *halfOpen) {
	h.listed, h.prev = true, a.newest
	if a.newest == nil {
		a.oldest = h
	} else {
		a.newest.next = h
	}
	a.newest = h
}

func (a *admission) unlist(h *halfOpen) {
	if !h.listed {
		return
	}
	h.listed = false
	if h.prev == nil {
		a.oldest = h.next
	} else {
		h.prev.next = h.next
	}
	if h.next == nil {
		a.newest = h.prev
	} else {
		h.next.prev = h.prev
	}
	h.prev, h.next = nil, nil
}

func (a *admission) forget(h *halfOpen) {
	if _, ok := a.open[h]; !ok {
		return
	}
	delete(a.open, h)
	a.unlist(h)
	if src := a.byIP[h.ip]; src != nil {
		src.open--
	}
}

// arrived notes that h has sent a message 1 that is worth arithmetic: it can
// no longer be evicted. It reports false for a replayed one.
func (a *admission) arrived(h *halfOpen, ephemeral [dhSize]byte) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.unlist(h)
	return a.seen.add(ephemeral)
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

// maxSeen is how many ephemeral keys each of the two generations of replays holds.
const maxSeen = 1 << 15

// replays remembers the ephemeral keys of the last messages 1, between maxSeen
// and twice as many.
type replays struct {
	max       int
	now, last map[[dhSize]byte]struct{}
}

func newReplays(n int) replays { return replays{max: n, now: make(map[[dhSize]byte]struct{})} }

// add reports whether the key is new.
func (r *replays) add(key [dhSize]byte) bool {
	if _, ok := r.now[key]; ok {
		return false
	}
	if _, ok := r.last[key]; ok {
		return false
	}
	if len(r.now) >= r.max {
		r.last, r.now = r.now, make(map[[dhSize]byte]struct{})
	}
	r.now[key] = struct{}{}
	return true
}
