package transport

import (
	"slices"
	"time"
)

// maxPings bounds the pings that wait for their pong on one session, and the
// pongs that wait to be written.
const maxPings = 16

// ping is one that waits for its pong.
type ping struct {
	id   uint64
	at   time.Time
	rtt  time.Duration // -1: the session ended
	done chan struct{} // nil: nobody waits, liveness sent it
}

// pings are those of one session; its mu guards them.
type pings struct {
	wait   []*ping
	nextID uint64
	pongs  int // in the queue
}

func (p *pings) add(x *ping) bool {
	if len(p.wait) >= maxPings {
		return false
	}
	p.nextID++
	x.id, x.at = p.nextID, time.Now()
	p.wait = append(p.wait, x)
	return true
}

func (p *pings) remove(x *ping) {
	for i, y := range p.wait {
		if x == y {
			p.wait = append(p.wait[:i], p.wait[i+1:]...)
			return
		}
	}
}

// pong finds the ping that a pong answers.
func (p *pings) pong(id uint64) *ping {
	for _, x := range p.wait {
		if x.id == id {
			p.remove(x)
			return x
		}
	}
	return nil
}

// awaited tells whether somebody waits for one.
func (p *pings) awaited() bool {
	return slices.ContainsFunc(p.wait, func(x *ping) bool { return x.done != nil })
}

func (p *pings) failAll() {
	for _, x := range p.wait {
		x.rtt = -1
		if x.done != nil {
			close(x.done)
		}
	}
	p.wait = nil
}

// pingLocked queues x, whose id add has given.
func (s *Session) pingLocked(x *ping) { s.out.push(&outMsg{typ: typePing, id: x.id}) }

// heartbeat sends a ping at now that nobody waits for, unless something waits to be
// sent anyway. A lost one makes room.
func (s *Session) heartbeat(now int64) {
	s.mu.Lock()
	if s.err == nil && !s.drain.bye && s.out.empty() {
		x := &ping{}
		for i, y := range s.pings.wait {
			if y.done == nil {
				s.pings.wait = append(s.pings.wait[:i], s.pings.wait[i+1:]...)
				break
			}
		}
		if s.pings.add(x) {
			s.pingLocked(x)
		} else {
			s.out.push(&outMsg{typ: typePing}) // all places are waited for: id 0, its pong is ignored
		}
		s.live.pings(now, s.stats.bytesIn.Load())
	}
	s.mu.Unlock()
	s.wake()
}

func (s *Session) onPing(id uint64) {
	s.mu.Lock()
	// A peer that pings without reading our pongs gets no more of them.
	if s.err == nil && s.pings.pongs < maxPings && !s.drain.bye {
		s.pings.pongs++
		s.out.push(&outMsg{typ: typePong, id: id})
	}
	s.mu.Unlock()
	s.wake()
}

func (s *Session) onPong(id uint64) {
	s.mu.Lock()
	x := s.pings.pong(id)
	s.mu.Unlock()
	if x == nil {
		return
	}
	x.rtt = max(time.Since(x.at), 1)
	s.stats.rtt.Store(int64(x.rtt))
	if x.done != nil {
		close(x.done)
	}
}
