package transport

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// The pool of sessions. Sessions are kept for as long as they may be of use, and
// their number is bounded so that nobody can take from others what they need:
//
//   - What others have dialled has a budget of its own (MaxInbound, and
//     MaxInboundPerNet for each network), so that it never takes the places of
//     what this node dials.
//   - Sessions over which only Config.Background requests ever went are closed by
//     the side that dialled them when BackgroundIdle passed without one, unless they
//     are kept (Pin), and the longest unused ones when there are more than
//     MaxBackground or MaxBackgroundInbound.
//   - Where the budget for others is nearly used up, the longest unused of theirs
//     go, those too that have carried messages, but not within messageKeeps.
//
// Sessions with requests in flight, those used just now, and pinned peers' (Pin) are
// never closed so. Kept peers' are only where there are too many without all others.

const (
	// messageKeeps is how long a message keeps a session from being closed for
	// the room that it takes.
	messageKeeps = time.Hour
	// freshFor is how long a new or used session is not closed.
	freshFor = 10 * time.Second
	// poolEvery is how often the sessions are gone through for it.
	poolEvery = 5 * time.Second
)

// usage is what of a session's traffic the pool looks at. Session.mu guards it.
type usage struct {
	messages     uint64 // requests and notifies both ways that are not Background
	seenRequests uint64 // at the last sample, as the next
	seenMessages uint64
	used         int64 // when the last request was begun, to within poolEvery; the opening counts
	message      int64 // when the last of messages was; 0 = there was none
}

// sample notes what has happened since the last sample.
func (u *usage) sample(now int64, requests uint64) {
	if requests != u.seenRequests {
		u.seenRequests, u.used = requests, now
	}
	if u.messages != u.seenMessages {
		u.seenMessages, u.message = u.messages, now
	}
}

// priority is what Pin has said of a session's peer: who has more goes later.
type priority uint8

const (
	stranger priority = iota // nothing
	kept                     // its session stays, where there is one
	pinned                   // its session is never closed by the pool
)

// pooled is a session as the pool sees it.
type pooled struct {
	s        *Session
	inbound  bool
	net      string // for MaxInboundPerNet; "" = not limited
	busy     bool   // it has requests in flight
	priority priority
	used     int64
	message  int64
}

// background tells whether only Background requests ever went over it.
func (p *pooled) background() bool { return p.message == 0 }

// crowd counts sessions by what limits them.
type crowd struct {
	background, inbound, backgroundInbound int
	byNet                                  map[string]int // inbound ones
}

// count counts a session in or out.
func (w *crowd) count(p *pooled, d int) {
	switch {
	case p.inbound:
		w.inbound += d
		w.byNet[p.net] += d
		if p.background() {
			w.backgroundInbound += d
		}
	case p.background():
		w.background += d
	}
}

// presses tells whether there are so many that p is to go for its room.
func (w *crowd) presses(c *Config, now int64, p *pooled) bool {
	switch {
	case !p.inbound:
		return p.background() && w.background > c.MaxBackground
	case p.background() && w.backgroundInbound > c.MaxBackgroundInbound:
		return true
	case !p.background() && now-p.message < int64(messageKeeps):
		return false
	}
	return w.inbound > almost(c.MaxInbound) || p.net != "" && w.byNet[p.net] > almost(c.MaxInboundPerNet)
}

// surplus decides which sessions are to be closed. It sorts all. Kept ones go only
// where they and the pinned ones alone are too many: strangers, of whom the fresh and
// the busy do not go, would have them closed else.
func surplus(c *Config, now int64, all []pooled) (close []*Session) {
	slices.SortFunc(all, func(a, b pooled) int {
		return cmp.Or(cmp.Compare(a.priority, b.priority), cmp.Compare(a.used, b.used))
	})
	everybody, prior := crowd{byNet: make(map[string]int)}, crowd{byNet: make(map[string]int)}
	count := func(p *pooled, d int) {
		everybody.count(p, d)
		if p.priority != stranger {
			prior.count(p, d)
		}
	}
	for i := range all {
		count(&all[i], 1)
	}
	for i := range all {
		p := &all[i]
		idle := now - p.used
		if p.busy || p.priority == pinned || idle < int64(freshFor) {
			continue
		}
		var gone bool
		if p.priority == kept {
			gone = prior.presses(c, now, p)
		} else {
			unused := !p.inbound && p.background() && idle >= int64(c.BackgroundIdle)
			gone = unused || everybody.presses(c, now, p)
		}
		if gone {
			close = append(close, p.s)
			count(p, -1)
		}
	}
	return close
}

// almost leaves an eighth of a budget, one at least, to those who come until the next look.
func almost(limit int) int { return limit - max(1, limit/8) }

// pool closes what is surplus.
func (e *Endpoint) pool(now int64, sessions []*Session) {
	if e.cfg.Background == 0 || now-e.pooledAt < int64(poolEvery) {
		return
	}
	e.pooledAt = now
	e.mu.Lock()
	peers := e.priorities
	e.mu.Unlock()
	all := make([]pooled, 0, len(sessions))
	for _, s := range sessions {
		if p, ok := s.pooled(now); ok {
			p.priority = peers[s.peer]
			all = append(all, p)
		}
	}
	for _, s := range surplus(&e.cfg, now, all) {
		s.startDrain(reasonUnused)
	}
}

// pooled samples the session; false if it is ending.
func (s *Session) pooled(now int64) (pooled, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil || s.drain.on {
		return pooled{}, false
	}
	s.use.sample(now, s.out.lastID+s.serve.lastID)
	return pooled{s: s, inbound: !s.initiator, net: s.net, used: s.use.used, message: s.use.message,
		busy: s.calls.inFlight > 0 || s.calls.waiting.head != nil || s.serve.slots > 0}, true
}

// inherit takes over what older sessions of the peer were used for, as s is
// opened at now: a renewed session counts as the one before.
func (s *Session) inherit(now int64, old []*Session) {
	s.use.used = now
	for _, o := range old {
		o.mu.Lock()
		o.use.sample(now, o.use.seenRequests)
		s.use.message = max(s.use.message, o.use.message)
		s.live.inherit(&o.live, o.use.messages)
		o.mu.Unlock()
	}
}

// Pin says whose sessions outlive those of strangers; it replaces what was said before.
// Those with pinned peers are not closed for being unused or for the room that they
// take. Those with kept peers are closed for their room alone, and only where they and
// the pinned ones are too many without any others. Who is in both lists is pinned. It
// dials nobody.
func (e *Endpoint) Pin(pinnedPeers, keptPeers []PeerKey) {
	all := make(map[PeerKey]priority, len(pinnedPeers)+len(keptPeers))
	for _, p := range keptPeers {
		all[p] = kept
	}
	for _, p := range pinnedPeers {
		all[p] = pinned
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.priorities = all
}

// inboundLimitLocked says by which setting one more session that somebody at the
// network net dials is refused; "" if it is not.
func (e *Endpoint) inboundLimitLocked(net string) (setting string) {
	switch {
	case e.sessions >= e.cfg.MaxSessions:
		return "MaxSessions"
	case e.inbound >= e.cfg.MaxInbound:
		return "MaxInbound"
	case net != "" && e.inboundByNet[net] >= e.cfg.MaxInboundPerNet:
		return "MaxInboundPerNet"
	}
	return ""
}

// refusedInbound is for the log: who dials gets no word.
func refusedInbound(setting string) error {
	return &RequestError{Code: Busy, Limit: "sessions that others have dialled", Setting: setting}
}

// countInboundLocked counts an inbound session in or out.
func (e *Endpoint) countInboundLocked(s *Session, d int) {
	if s.initiator {
		return
	}
	e.inbound += d
	if s.net == "" {
		return
	}
	if e.inboundByNet[s.net] += d; e.inboundByNet[s.net] == 0 {
		delete(e.inboundByNet, s.net)
	}
}

// DefaultGroup is the /24 of an IPv4 address and the /48 of an IPv6 address.
// Loopback, private and link-local addresses have none: who is there is on this
// machine's own network.
func DefaultGroup(a netip.Addr) string {
	a = a.Unmap().WithZone("")
	if !a.IsValid() || a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast() {
		return ""
	}
	bits := 48
	if a.Is4() {
		bits = 24
	}
	p, _ := a.Prefix(bits) // the length is possible
	return p.String()
}
