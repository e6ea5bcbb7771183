package transport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Endpoint is one node's end of all its sessions.
type Endpoint struct {
	// Static.
	cfg      Config
	id       *identity
	entropy  entropy
	start    time.Time
	starter  Starter // Config.Handler, where it is one, as the next two
	early    EarlyReader
	beginner SessionBeginner
	life     context.Context // until the end of Run; of dials
	stop     context.CancelCauseFunc
	contexts serveContexts // of served requests
	began    chan struct{} // closed when Run begins
	ended    chan struct{} // closed when Run no longer makes sessions

	assembly   budget // of all sessions, as the next three
	serving    budget
	replies    budget
	served     budget // counts requests
	idle       callPool
	incoming   incomingPool
	workers    workers
	complaints complaints
	heard      heardList
	admit      *admission
	costly     chan struct{} // a token for each incoming handshake whose arithmetic is under way
	ran        atomic.Bool
	dialable   atomic.Bool // see Dialable
	lasting    lasting
	pooledAt   int64          // when pool last looked; Run's alone, as the next
	ticked     time.Time      // the last tick; Run's alone, as the next
	late       bool           // it was late
	wg         sync.WaitGroup // every goroutine of Run, its own aside

	mu       sync.Mutex // guards:
	listener net.Listener
	peers    map[PeerKey][]*Session // oldest first
	sessions int
	inbound  int // of sessions: those that peers have dialled

	priorities   map[PeerKey]priority // see Pin; replaced, never changed
	inboundByNet map[string]int
	dials        map[PeerKey]*dialing
	lingers      int // of dials: those that nobody waits for
	stopping     bool
}

// New checks the configuration. It starts nothing and opens nothing.
func New(c Config) (*Endpoint, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("transport: config: %w", err)
	}
	id, err := newIdentity(c.Key, c.Network)
	if err != nil {
		return nil, fmt.Errorf("transport: config: Key: %w", err)
	}
	e := &Endpoint{cfg: c, id: id, start: time.Now(), began: make(chan struct{}), ended: make(chan struct{}),
		peers: make(map[PeerKey][]*Session), dials: make(map[PeerKey]*dialing), inboundByNet: make(map[string]int), admit: newAdmission(&c),
		costly: make(chan struct{}, runtime.GOMAXPROCS(0))}
	e.assembly.max, e.serving.max = int64(c.MaxReassemblyTotal), int64(c.MaxServingTotal)
	e.replies.max, e.served.max = int64(c.MaxQueuedTotal), int64(c.MaxRequestsTotal)
	e.workers.ep, e.complaints.e = e, e
	e.starter, _ = c.Handler.(Starter)
	e.early, _ = c.Handler.(EarlyReader)
	e.beginner, _ = c.Handler.(SessionBeginner)
	e.life, e.stop = context.WithCancelCause(context.Background())
	return e, nil
}

// clock is the monotonic time since the endpoint was made, in ns, never 0.
func (e *Endpoint) clock() int64 { return int64(time.Since(e.start)) + 1 }

// Bind binds the listener, so that a port in use is told before Run. Run binds
// where Bind was not called. With an empty Config.Listen it does nothing.
func (e *Endpoint) Bind() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.listener != nil || e.cfg.Listen == "" {
		return nil
	}
	if e.stopping {
		return ErrClosed
	}
	l, err := e.cfg.Listener(e.cfg.Listen)
	if err != nil {
		return fmt.Errorf("transport: listen on %s: %w", e.cfg.Listen, err)
	}
	e.listener = l
	return nil
}

// Addr is the address that Bind bound; the zero value before it.
func (e *Endpoint) Addr() netip.AddrPort {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.listener == nil {
		return netip.AddrPort{}
	}
	a, _ := netip.ParseAddrPort(e.listener.Addr().String())
	return a
}

// Close gives back what Bind bound where Run is never called.
func (e *Endpoint) Close() error {
	if !e.ran.CompareAndSwap(false, true) {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stopping = true
	close(e.began)
	close(e.ended)
	e.stop(ErrClosed)
	e.contexts.stop(ErrClosed)
	if e.listener != nil {
		return e.listener.Close()
	}
	return nil
}

// Run accepts and keeps sessions until ctx ends. It then says goodbye to the
// peers, for CloseTimeout at most, and returns nil when every goroutine has
// ended, handlers included, but for requests that a Starter has taken and not
// answered. It is called once.
func (e *Endpoint) Run(ctx context.Context) error {
	if err := e.Bind(); err != nil {
		return err
	}
	if !e.ran.CompareAndSwap(false, true) {
		return errors.New("transport: Run was called before, or after Close")
	}
	close(e.began)
	if e.listener != nil {
		e.wg.Add(1)
		go e.acceptLoop()
	}
	ticker := time.NewTicker(e.cfg.Tick)
	defer ticker.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-ticker.C:
			e.tick(time.Now())
		}
	}
	e.shutdown()
	return nil
}

// shutdown ends everything that Run began.
func (e *Endpoint) shutdown() {
	e.mu.Lock()
	e.stopping = true
	sessions := e.allLocked()
	e.mu.Unlock()
	close(e.ended) // ends dials and the wait of those who want a session
	e.stop(ErrClosed)
	e.contexts.stop(ErrClosed)
	if e.listener != nil {
		e.listener.Close()
	}
	e.admit.closeAll()
	for _, s := range sessions {
		s.goodbye()
	}
	timer := time.NewTimer(e.cfg.CloseTimeout)
	defer timer.Stop()
	for _, s := range sessions {
		select {
		case <-s.done:
		case <-timer.C:
			timer.Reset(0)
			s.fail(ErrClosed)
		}
	}
	e.workers.close()
	e.wg.Wait()
}

func (e *Endpoint) allLocked() []*Session {
	all := make([]*Session, 0, e.sessions)
	for _, ss := range e.peers {
		all = append(all, ss...)
	}
	return all
}

// Live is the session to peer that takes new requests, if there is one.
func (e *Endpoint) Live(peer PeerKey) (*Session, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.liveLocked(peer)
	return s, s != nil
}

// liveLocked is the newest session that is not draining.
func (e *Endpoint) liveLocked(peer PeerKey) *Session {
	ss := e.peers[peer]
	for i := len(ss) - 1; i >= 0; i-- {
		if ss[i].usable() {
			return ss[i]
		}
	}
	return nil
}

func (s *Session) usable() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err == nil && !s.drain.on
}

// Sessions describes all sessions, in no order.
func (e *Endpoint) Sessions() []SessionInfo {
	e.mu.Lock()
	all := e.allLocked()
	e.mu.Unlock()
	infos := make([]SessionInfo, len(all))
	for i, s := range all {
		infos[i] = s.info()
	}
	return infos
}

// maxPerPeer bounds the sessions of one peer, draining ones included.
const maxPerPeer = 4

// register adds a session.
func (e *Endpoint) register(s *Session) error {
	e.mu.Lock()
	if e.stopping {
		e.mu.Unlock()
		return ErrClosed
	}
	if s.initiator && e.sessions >= e.cfg.MaxSessions {
		e.mu.Unlock()
		return &RequestError{Code: Busy, Limit: "sessions", Setting: "MaxSessions",
			Value: uint64(e.sessions + 1), Max: uint64(e.cfg.MaxSessions)}
	}
	if setting := e.inboundLimitLocked(s.net); !s.initiator && setting != "" {
		e.mu.Unlock()
		return refusedInbound(setting)
	}
	old := e.peers[s.peer]
	s.inherit(e.clock(), old)
	e.peers[s.peer] = append(old[:len(old):len(old)], s)
	e.sessions++
	e.countInboundLocked(s, 1)
	if d := e.dials[s.peer]; d != nil {
		d.deliver(s, nil)
		if d.left && !s.initiator {
			d.cancel(errNobodyWaits) // the peer was faster
		}
	}
	e.mu.Unlock()
	if len(old) >= maxPerPeer {
		old[0].fail(ErrReplaced)
	}
	if e.beginner != nil {
		var dialled netip.AddrPort
		if s.initiator {
			dialled = s.addr
		}
		e.beginner.SessionBegan(s.peer, dialled)
	}
	return nil
}

// refusal says why no session that is dialled from net can begin; nil if it can.
func (e *Endpoint) refusal(net string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopping {
		return ErrClosed
	}
	if setting := e.inboundLimitLocked(net); setting != "" {
		return refusedInbound(setting)
	}
	return nil
}

// supersede drains the sessions that s takes the place of, once both sides
// have s: on the responder's side that is so from the start, on the
// initiator's with the first record that comes back. Of two sessions the node
// with the smaller key decides: it keeps the newer. The other node drains only
// what it renews itself.
func (e *Endpoint) supersede(s *Session) {
	e.mu.Lock()
	all := e.peers[s.peer]
	e.mu.Unlock()
	judge := lessKey(e.id.agent, s.peer)
	for _, o := range all {
		if o == s {
			return
		}
		if judge || o == s.renews {
			o.startDrain(reasonReplaced)
		}
	}
}

func lessKey(a, b PeerKey) bool { return string(a[:]) < string(b[:]) }

// unregister forgets a session that has ended. The log may be slow: nothing
// waits for it that wants a session.
func (e *Endpoint) unregister(s *Session, cause error) {
	e.mu.Lock()
	ss := e.peers[s.peer]
	i := slices.Index(ss, s)
	switch {
	case i < 0:
	case len(ss) == 1:
		delete(e.peers, s.peer)
	default:
		e.peers[s.peer] = append(ss[:i:i], ss[i+1:]...)
	}
	if i >= 0 {
		e.sessions--
		e.countInboundLocked(s, -1)
	}
	last := e.peers[s.peer] == nil
	e.mu.Unlock()
	if i >= 0 {
		e.heard.note(s.peer, e.start.Add(time.Duration(s.stats.heard.Load())))
		e.cfg.Log.Debug("session ended", "peer", s.peer, "addr", s.addr, "cause", cause)
		if ender, ok := e.cfg.Handler.(SessionEnder); ok && last && !s.draining() {
			ender.SessionLost(s.peer)
		}
	}
}

// lateTicks is after how many of Tick a tick is late: the machine was too busy, or
// asleep, and what it has not heard may be there to be read.
const lateTicks = 3

// slept is for how long nobody has looked at the sessions before now, in ns; 0 if
// they were looked at in time. Where ticks are late again and again one Tick of
// each counts, so that in the end a silent peer is noticed there too.
func (e *Endpoint) slept(now time.Time) int64 {
	since, late := now.Sub(e.ticked), e.late
	e.late = !e.ticked.IsZero() && since > lateTicks*e.cfg.Tick
	e.ticked = now
	switch {
	case !e.late:
		return 0
	case late:
		since -= e.cfg.Tick
	}
	return int64(since)
}

// tick looks after every session.
func (e *Endpoint) tick(now time.Time) {
	e.mu.Lock()
	all := e.allLocked()
	e.mu.Unlock()
	e.admit.tick(now)
	e.workers.tick()
	e.contexts.expire(now)
	e.relieve(all)
	e.pool(int64(now.Sub(e.start))+1, all)
	slept := e.slept(now)
	for _, s := range all {
		s.tick(now, slept)
	}
}

// relieve ends the session whose peer reads the slowest, when replies take so
// much memory that those to others are about to be dropped.
func (e *Endpoint) relieve(all []*Session) {
	if e.replies.used.Load() <= e.replies.max/4*3 {
		return
	}
	var slowest *Session
	var most int64
	for _, s := range all {
		if n := s.serve.replies.used.Load(); n > most {
			slowest, most = s, n
		}
	}
	if slowest != nil {
		slowest.fail(fmt.Errorf("%w: its replies take %d bytes, those of all sessions %d (setting MaxQueuedTotal)",
			ErrSlowReader, most, e.replies.used.Load()))
	}
}

// complaints are about errors of the node's own code that peers can bring
// about: at most one a second is logged.
type complaints struct {
	e *Endpoint

	mu     sync.Mutex // guards:
	last   int64
	missed int
}

// next is the log for one more, or nil.
func (c *complaints) next() *slog.Logger {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.e.clock()
	if c.last != 0 && now-c.last < int64(time.Second) {
		c.missed++
		return nil
	}
	log := c.e.cfg.Log
	if c.missed > 0 {
		log = log.With("not logged before", c.missed)
	}
	c.last, c.missed = now, 0
	return log
}
