package sim

import "time"

// Heartbeats of sessions that nobody uses (docs/wire.md, section 5): a ping, that must be
// answered. What is sent by a request does for one.
const (
	beatEvery  = 890 * time.Second
	deadAfter  = 20 * time.Second
	beatBytes  = 134 + 82 // of a ping and a pong, headers included
	renewHours = 24       // after which a new handshake renews a session

	// Who can't be dialled begins with natFirst, and learns what idle connections survive
	// (transport's lasting.go) after about so long. One NAT in strictNATs forgets them
	// within 15 min.
	natFirst   = 90 * time.Second
	natThen    = 210 * time.Second
	natLearns  = 5 * time.Minute  // that natThen is enough
	natTrusts  = 30 * time.Minute // that beatEvery is
	strictNATs = 4
)

// beatEvery is how often n's sessions beat at a time that nobody uses them.
func (n *node) beatEvery(at int64) time.Duration {
	age := clock(at).Sub(n.begun)
	switch {
	case !n.nat:
		return beatEvery
	case age < natLearns:
		return natFirst
	case age < natTrusts || n.id%strictNATs == 0:
		return natThen
	}
	return beatEvery
}

// beats is how many heartbeats a session of n's that was last used at used had from since to until,
// where there is one every so often. Floating point is faster, and exact here: no quotient
// comes so near to a whole number without being one.
func beats(every, used, since, until int64) int64 {
	if until-used < every {
		return 0
	}
	return int64(float64(until-used)/float64(every)) - int64(float64(max(since-used, 0))/float64(every))
}

// beat counts the heartbeats of a session of n's until at, with one every so often. Each side counts half of
// its bytes; who can't be dialled, and says how often it beats, counts for both.
func (p *partition) beat(n *node, s *session, every, at int64) {
	bytes := int64(beatBytes / 2)
	switch {
	case n.nat:
		bytes = beatBytes
	case p.sim.world.nats[s.node()]:
		return
	}
	p.meter.beats += bytes * beats(every, int64(s.used)*int64(time.Millisecond), n.kept, at)
}

// use tells whether n has a session with peer, and notes that it is used.
func (p *partition) use(n *node, at int64, peer int32) bool {
	i := n.pool.find(peer)
	if i < 0 {
		return false
	}
	if at >= p.sim.measure {
		p.beat(n, &n.pool.slots[i], int64(n.beatEvery(at)), at)
	}
	n.pool.slots[i].used = ms(at)
	return true
}

// beatAll counts the heartbeats of all sessions of n's until at, and the handshakes that renew them.
func (p *partition) beatAll(n *node, at int64) {
	if at >= p.sim.measure {
		every := int64(n.beatEvery(at))
		for i := range n.pool.slots {
			if s := &n.pool.slots[i]; s.peer != 0 {
				p.beat(n, s, every, at)
			}
		}
		if clock(at).Sub(n.begun) > renewHours*time.Hour {
			perHour := float64(synBytes+tcpBytes+message1Bytes+message2Bytes) / renewHours / 2
			p.meter.beats += int64(float64(n.pool.n) * perHour * time.Duration(at-n.kept).Hours())
		}
	}
	n.kept = at
}

// tend closes the sessions that n has dialled and needs no more: all but those with contacts.
func (p *partition) tend(n *node, at int64) {
	p.beatAll(n, at)
	n.pool.unused(at, p.contact(n), func(peer int32) { p.goodbye(n, at, peer) })
}

// contact tells who is one of n's.
func (p *partition) contact(n *node) func(peer int32) bool {
	return func(peer int32) bool { return n.m != nil && n.m.Knows(p.sim.world.tops[peer]) }
}
