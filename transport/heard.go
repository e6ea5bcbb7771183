package transport

import (
	ages "container/list"
	"sync"
	"time"
)

// maxHeard bounds the peers without a session of whom it is remembered when they
// were last heard.
const maxHeard = 4096

// heardList remembers when peers were last heard whose sessions have ended. Where
// there are too many, those go whose sessions ended first.
type heardList struct {
	mu  sync.Mutex // guards what follows
	at  map[PeerKey]*ages.Element
	all ages.List // of *heardOf, the oldest end first
}

type heardOf struct {
	peer PeerKey
	at   time.Time
}

// note takes note of a session's end.
func (l *heardList) note(peer PeerKey, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.at[peer]; e != nil {
		if of := e.Value.(*heardOf); of.at.Before(at) {
			of.at = at
		}
		l.all.MoveToBack(e)
		return
	}
	if l.at == nil {
		l.at = make(map[PeerKey]*ages.Element)
	}
	l.at[peer] = l.all.PushBack(&heardOf{peer, at})
	if l.all.Len() > maxHeard {
		delete(l.at, l.all.Remove(l.all.Front()).(*heardOf).peer)
	}
}

func (l *heardList) last(peer PeerKey) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.at[peer]; e != nil {
		return e.Value.(*heardOf).at
	}
	return time.Time{}
}

// Presence tells what is known of a peer without asking: online, that there is a
// session with it and that it is not silent (see silentAfter); heard, when a byte of
// it last arrived over any session, the ended ones of the last 4,096 peers included;
// zero is never. Who asks again within two minutes has the session beat as often as
// one that carries messages.
func (e *Endpoint) Presence(peer PeerKey) (online bool, heard time.Time) {
	heard = e.heard.last(peer)
	e.mu.Lock()
	sessions := e.peers[peer]
	e.mu.Unlock()
	now := e.clock()
	for _, s := range sessions {
		at := s.stats.heard.Load()
		if t := e.start.Add(time.Duration(at)); t.After(heard) {
			heard = t
		}
		online = online || s.usable() && now-at <= int64(s.silentAfter(now))
		s.asked.Store(true)
	}
	return online, heard
}

// silentAfter is for how long nothing may be heard over a session before the peer
// counts as silent, while the session goes on until it is dead: one of its heartbeats
// is missing then. Over a quiet session, or one that has just woken, it is the answer
// to one of this side's, or what the peer has announced.
func (s *Session) silentAfter(now int64) time.Duration {
	s.mu.Lock()
	busy, quiet, every := s.live.busy, time.Duration(s.live.quiet), s.beatLocked()
	s.mu.Unlock()
	t := &s.ep.cfg.Times
	after := t.PingAfter + (t.DeadAfter-t.PingAfter)/2
	if busy == 0 || now-busy <= int64(wakeAfter) {
		after = max(after, min(every+after, quiet/4*5))
	}
	return after
}
