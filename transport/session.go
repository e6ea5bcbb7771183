package transport

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Session is one encrypted, mutually authenticated connection. It has two
// goroutines, a reader and a writer, and one for each request that it serves.
type Session struct {
	// Static.
	ep        *Endpoint
	conn      net.Conn
	peer      PeerKey
	addr      netip.AddrPort
	hello     hello // the peer's
	initiator bool
	net       string       // of addr, by Config.Group
	renews    *Session     // the one that it was dialled to replace; cleared by the reader
	early     *earlyAnswer // until it is registered
	opened    time.Time
	skew      time.Duration
	done      chan struct{} // closed by fail

	rx    receiver // owned by the reader goroutine
	tx    sender   // its fields say who owns them
	stats stats    // atomics

	mu    sync.Mutex // guards:
	err   error
	out   outQueue
	calls calls
	serve serving
	drain drainState
	pings pings
	use   usage
	live  liveness
	asked atomic.Bool // Presence was asked for since the last tick
}

// stats are written by reader and writer, read by everybody.
type stats struct {
	heard, sent       atomic.Int64 // since Endpoint.start, ns
	writing           atomic.Int64 // when the write under way began; 0 = none
	moved             atomic.Int64 // when a part of a body last went either way
	bytesIn, bytesOut atomic.Uint64
	rtt               atomic.Int64
	renewed           atomic.Int64 // when the last renewal was tried
}

// serving is what of the peer's is under way here.
type serving struct {
	byID   map[uint64]*incoming
	slots  int    // requests and notifies, until their reply is framed
	lastID uint64 // of the peer's requests and notifies

	ready    readyList // complete, no worker has them yet
	summoned bool      // a worker is on its way here

	asm     budget // bytes of incomplete messages
	bodies  budget // bytes of large requests, from complete to served
	replies budget // bytes of large replies that wait to be written
}

// drainState is how far the goodbye has come.
type drainState struct {
	on      bool // no new request of ours
	sent    bool // our go-away (drain) is in the queue or gone
	peer    bool // the peer's has arrived
	bye     bool // our bye is in the queue or gone
	byeSent bool
	peerBye bool
	reason  uint8
	since   time.Time
}

func (e *Endpoint) newSession(conn net.Conn, peer PeerKey, k *keys, initiator bool) (*Session, error) {
	now := time.Now()
	addr := remoteAddr(conn)
	s := &Session{ep: e, conn: conn, peer: peer, addr: addr, net: e.cfg.Group(addr.Addr()), hello: k.peer, initiator: initiator,
		opened: now, skew: k.peer.skew(now), done: make(chan struct{})}
	var err error
	if s.rx.dir, err = newDirection(k.recv); err != nil {
		return nil, err
	}
	if s.tx.dir, err = newDirection(k.send); err != nil {
		return nil, err
	}
	s.tx.init(conn)
	s.live.quiet = int64(min(time.Duration(k.peer.quiet)*time.Second, maxQuiet))
	s.calls.max = int(min(k.peer.maxRequests, 1<<20))
	s.serve.asm = budget{max: int64(e.cfg.MaxReassembly), total: &e.assembly}
	s.serve.bodies = budget{max: int64(e.cfg.MaxServing), total: &e.serving}
	s.serve.replies = budget{max: int64(e.cfg.MaxQueued), total: &e.replies}
	t := e.clock()
	s.stats.heard.Store(t)
	s.stats.sent.Store(t)
	if e.cfg.Background == 0 {
		s.live.spoke = t // all that it may carry are messages
	}
	return s, nil
}

func remoteAddr(c net.Conn) netip.AddrPort {
	a, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// Peer is the agent key that the other side has proven.
func (s *Session) Peer() PeerKey { return s.peer }

// RemoteAddr is the other end of the connection, as this side sees it.
func (s *Session) RemoteAddr() netip.AddrPort { return s.addr }

// RTT is the round trip time that the last ping measured; 0 before the first.
func (s *Session) RTT() time.Duration { return time.Duration(s.stats.rtt.Load()) }

// Done is closed when the session has ended.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err says why the session has ended; nil while it has not.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// fail ends the session: the first cause counts. Everything that waits for
// the peer gets Lost; what the peer asked for keeps running (see Handler).
func (s *Session) fail(cause error) {
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return
	}
	s.err = cause
	s.failLocked()
	s.failQueuedLocked(cause)
	s.calls.failAll(cause)
	s.serve.byID = nil
	s.serve.replies.give(int(s.serve.replies.used.Load()))
	s.out = outQueue{lastID: s.out.lastID}
	s.pings.failAll()
	close(s.done)
	tell := s.calls.tell
	s.calls.tell = nil
	s.mu.Unlock()
	s.conn.Close()
	s.ep.unregister(s, cause)
	for _, c := range tell {
		s.tell(c)
	}
}

// failQueuedLocked ends the calls that are in the queue and not in calls.byID:
// requests that have not begun, which may go elsewhere, and notifies.
func (s *Session) failQueuedLocked(cause error) {
	for _, l := range []*list{&s.out.fast, &s.out.bulk} {
		for l.head != nil {
			m := l.pop()
			switch {
			case m.call == nil || m.call.gone:
			case !m.started:
				s.calls.finish(m.call, nil, errMoved)
			case m.typ == typeNotify:
				m.call.gone = true
				s.calls.finish(m.call, nil, &RequestError{Code: Lost, Sent: true, Err: cause})
			}
		}
	}
}

// run owns the session's goroutines; it returns when both have ended. first
// is the plaintext of records that the handshake has already read.
func (s *Session) run(first []byte) {
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		s.writeLoop()
	}()
	s.readLoop(first)
	wg.Wait()
	s.mu.Lock()
	summon := s.summonLocked() // the peer may ask again for what it has asked here
	s.mu.Unlock()
	if summon {
		s.ep.workers.give(s)
	}
	s.serve.asm.give(int(s.serve.asm.used.Load())) // incomplete messages go with the session
}

// info describes the session.
func (s *Session) info() SessionInfo {
	s.mu.Lock()
	out, in, draining, beat := s.calls.inFlight, s.serve.slots, s.drain.on, s.beatLocked()
	background := s.use.messages == 0 && s.live.spoke == 0 && !s.live.heir
	s.mu.Unlock()
	return SessionInfo{Peer: s.peer, Addr: s.addr, Initiator: s.initiator, Draining: draining,
		Opened: s.opened, LastHeard: s.ep.start.Add(time.Duration(s.stats.heard.Load())),
		BytesIn: s.stats.bytesIn.Load(), BytesOut: s.stats.bytesOut.Load(),
		Outgoing: out, Incoming: in, RTT: s.RTT(), Skew: s.skew, Beat: beat, Background: background}
}

// draining tells whether either side has said goodbye.
func (s *Session) draining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.drain.on
}

// errMoved: the session is draining and the request has not left; another
// session may take it.
var errMoved = errors.New("transport: the session is being replaced")

// startDrain lets what is in flight finish and nothing new begin. Requests
// that have not begun move to the session that replaces this one.
func (s *Session) startDrain(reason uint8) {
	s.mu.Lock()
	s.drainLocked(reason)
	s.settleLocked()
	s.mu.Unlock()
	s.wake()
}

func (s *Session) drainLocked(reason uint8) {
	if s.drain.on || s.err != nil {
		return
	}
	s.drain.on, s.drain.reason, s.drain.since = true, reason, time.Now()
	s.calls.moveWaiting()
}

// settleLocked takes the next step of the goodbye that has become possible.
func (s *Session) settleLocked() {
	d := &s.drain
	if !d.on || s.err != nil {
		return
	}
	if !d.sent && s.out.unstarted == 0 {
		d.sent = true
		s.out.push(&outMsg{typ: typeGoAway, code: goAwayDrain, reason: d.reason})
	}
	if d.sent && d.peer && !d.bye && s.calls.inFlight == 0 && s.serve.slots == 0 && s.out.empty() {
		d.bye = true
		s.out.push(&outMsg{typ: typeGoAway, code: goAwayBye, reason: d.reason})
	}
}

// farewell is how a session ends whose goodbye is complete.
func (s *Session) farewell(reason uint8) error {
	select {
	case <-s.ep.ended:
		return ErrClosed
	default:
	}
	if reason == reasonReplaced {
		return ErrReplaced
	}
	return ErrPeerClosed
}

// Ping measures the round trip time.
func (s *Session) Ping(ctx context.Context) (time.Duration, error) {
	p := &ping{done: make(chan struct{})}
	s.mu.Lock()
	if s.err != nil || s.drain.bye {
		s.mu.Unlock()
		return 0, &RequestError{Code: Lost, Err: s.whyNot()}
	}
	if !s.pings.add(p) {
		s.mu.Unlock()
		return 0, &RequestError{Code: Busy, Limit: "pings at once", Value: maxPings + 1, Max: maxPings}
	}
	s.pingLocked(p)
	s.mu.Unlock()
	s.wake()
	select {
	case <-p.done:
	case <-ctx.Done():
		s.mu.Lock()
		s.pings.remove(p)
		s.mu.Unlock()
		return 0, contextError(ctx, true)
	}
	if p.rtt < 0 {
		return 0, &RequestError{Code: Lost, Sent: true, Err: s.Err()}
	}
	return p.rtt, nil
}
