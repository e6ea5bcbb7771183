package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// dialing is one dial of a peer, shared by all who want a session with it.
type dialing struct {
	q       *question // of who has begun it; nil if it has none
	done    chan struct{}
	once    sync.Once
	s       *Session // set before done is closed, as the next two
	answer  []byte   // to q; nil if there is none
	err     error
	waiters int              // guarded by Endpoint.mu, as the next four
	left    bool             // nobody waits, and what was begun goes on (leaveDial)
	addrs   []netip.AddrPort // to try, those tried included
	over    bool             // none of them answered: no more are taken
	more    chan struct{}    // capacity 1: addrs has grown
	cancel  context.CancelCauseFunc
}

// deliver ends the wait; the first outcome counts.
func (d *dialing) deliver(s *Session, err error) {
	d.once.Do(func() {
		d.s, d.err = s, err
		if s != nil && s.early != nil && s.early.to == d.q {
			d.answer = s.early.body
		}
		close(d.done)
	})
}

// Session returns the live session with peer, or dials addrs: each starts
// DialStagger after the one before, or as soon as that has failed, and has
// DialTimeout. Concurrent callers share one dial, which tries the addresses of
// all of them, each once. It waits for Run to begin.
//
// Errors: *DialError with every attempt; ErrSelf, ErrKey, ErrClosed; a
// *RequestError with Busy (MaxDials, MaxSessions), Timeout or Canceled.
func (e *Endpoint) Session(ctx context.Context, peer PeerKey, addrs []netip.AddrPort) (s *Session, reused bool, err error) {
	s, _, reused, err = e.session(ctx, peer, addrs, nil)
	return s, reused, err
}

// session is Session with a question, which may be nil. The answer is not nil if
// this call has begun the dial, and message 2 has brought one.
func (e *Endpoint) session(ctx context.Context, peer PeerKey, addrs []netip.AddrPort, q *question) (s *Session, answer []byte, reused bool, err error) {
	if s, ok := e.Live(peer); ok {
		return s, nil, true, nil
	}
	if peer == e.id.agent {
		return nil, nil, false, ErrSelf
	}
	if err := ValidKey(peer); err != nil {
		return nil, nil, false, fmt.Errorf("dial %s: %w", peer, err)
	}
	select {
	case <-e.began:
	case <-ctx.Done():
		return nil, nil, false, contextError(ctx, false)
	}
	d, s, err := e.joinDial(peer, addrs, q)
	if s != nil || err != nil {
		return s, nil, s != nil, err
	}
	defer e.leaveDial(peer, d)
	select {
	case <-d.done:
		if d.q == q {
			answer = d.answer
		}
		return d.s, answer, false, d.err
	case <-ctx.Done():
		return nil, nil, false, contextError(ctx, false)
	}
}

// joinDial joins the dial under way or starts one.
func (e *Endpoint) joinDial(peer PeerKey, addrs []netip.AddrPort, q *question) (*dialing, *Session, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopping {
		return nil, nil, ErrClosed
	}
	if s := e.liveLocked(peer); s != nil {
		return nil, s, nil
	}
	if d := e.dials[peer]; d != nil && (!d.over || len(addrs) == 0) {
		d.waiters++
		e.lingerLocked(d, false)
		d.add(addrs, joinedDials*e.cfg.MaxAddresses)
		return d, nil, nil
	}
	if len(addrs) == 0 {
		return nil, nil, &DialError{Peer: peer}
	}
	if n := len(e.dials); n >= e.cfg.MaxDials {
		return nil, nil, &RequestError{Code: Busy, Limit: "peers being dialled", Setting: "MaxDials",
			Value: uint64(n + 1), Max: uint64(n), RetryAfter: time.Second}
	}
	if n := e.sessions; n >= e.cfg.MaxSessions {
		return nil, nil, &RequestError{Code: Busy, Limit: "sessions", Setting: "MaxSessions", Value: uint64(n + 1), Max: uint64(n)}
	}
	ctx, cancel := context.WithCancelCause(e.life)
	d := &dialing{q: q, done: make(chan struct{}), waiters: 1, more: make(chan struct{}, 1), cancel: cancel}
	d.add(addrs, e.cfg.MaxAddresses)
	e.dials[peer] = d
	e.wg.Add(1)
	go func() {
		defer e.wg.Done()
		e.dial(ctx, d, peer)
	}()
	return d, nil, nil
}

// joinedDials is how many times MaxAddresses one dial tries that many have joined.
const joinedDials = 4

// add takes those of addrs that are new, up to most in all. The caller holds
// Endpoint.mu.
func (d *dialing) add(addrs []netip.AddrPort, most int) {
	for _, a := range addrs {
		if len(d.addrs) < most && !slices.Contains(d.addrs, a) {
			d.addrs = append(d.addrs, a)
		}
	}
	select {
	case d.more <- struct{}{}:
	default:
	}
}

// dial runs one dial and, where it succeeds, its session.
func (e *Endpoint) dial(ctx context.Context, d *dialing, peer PeerKey) {
	s, err := e.connect(ctx, peer, d, nil)
	e.mu.Lock()
	e.lingerLocked(d, false)
	if e.dials[peer] == d {
		delete(e.dials, peer)
	}
	e.mu.Unlock()
	d.deliver(s, err)
	d.cancel(nil)
	if s != nil {
		s.run(nil)
	}
}

// connect dials, and registers the session of the first address that answers.
// The caller must run it.
func (e *Endpoint) connect(ctx context.Context, peer PeerKey, d *dialing, renews *Session) (*Session, error) {
	s, err := e.race(ctx, peer, d)
	if err != nil {
		return nil, err
	}
	s.renews = renews
	if err := e.register(s); err != nil {
		s.conn.Close()
		return nil, err
	}
	s.early = nil          // register has handed it on
	s.heartbeat(e.clock()) // the responder's session begins with our first record
	return s, nil
}

type outcome struct {
	s    *Session
	addr netip.AddrPort
	err  error
}

// race tries the addresses side by side, also those that come meanwhile. The
// losers are closed and waited for.
func (e *Endpoint) race(ctx context.Context, peer PeerKey, d *dialing) (*Session, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan outcome)
	stagger := time.NewTimer(0)
	defer stagger.Stop()
	failed := &DialError{Peer: peer}
	addrs := e.list(d, 0, false)
	var won *Session
	for next, pending := 0, 0; ; {
		if pending == 0 && next == len(addrs) && won == nil && ctx.Err() == nil {
			addrs = e.list(d, next, true)
		}
		if next < len(addrs) && pending == 0 {
			stagger.Reset(0)
		}
		if pending == 0 && (next == len(addrs) || won != nil || ctx.Err() != nil) {
			break
		}
		var start <-chan time.Time
		if next < len(addrs) && won == nil && ctx.Err() == nil {
			start = stagger.C
		}
		select {
		case <-start:
			if addrs = e.list(d, next, false); next == len(addrs) {
				continue // nobody waits any more
			}
			addr := addrs[next]
			next++
			pending++
			go func() {
				s, err := e.attempt(ctx, peer, addr, d.q)
				results <- outcome{s, addr, err}
			}()
			stagger.Reset(e.cfg.DialStagger)
		case <-d.more:
			addrs = e.list(d, next, false)
		case r := <-results:
			pending--
			switch {
			case r.err != nil:
				failed.Attempts = append(failed.Attempts, Attempt{r.addr, r.err})
				stagger.Reset(0)
			case won != nil:
				r.s.conn.Close()
			default:
				won = r.s
				cancel()
			}
		}
	}
	if won != nil {
		return won, nil
	}
	if cause := context.Cause(ctx); cause != nil && errors.Is(cause, ErrClosed) {
		return nil, ErrClosed
	}
	return nil, failed
}

// attempt dials one address and shakes hands.
func (e *Endpoint) attempt(ctx context.Context, peer PeerKey, addr netip.AddrPort, q *question) (*Session, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, e.cfg.DialTimeout,
		fmt.Errorf("no answer within %s (setting DialTimeout): %w", e.cfg.DialTimeout, context.DeadlineExceeded))
	defer cancel()
	conn, err := e.cfg.Dial(ctx, addr)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("connect: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	s, err := e.initiate(conn, peer, q)
	if !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("handshake: %w", err)
	}
	return s, nil
}

// initiate is the dialling side of a handshake.
func (e *Endpoint) initiate(conn net.Conn, peer PeerKey, q *question) (*Session, error) {
	in, err := newInitiator(e.id, peer, e.entropy)
	if err != nil {
		return nil, err
	}
	h := e.hello()
	msg, err := in.message1(h, q.extensions(h))
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(msg); err != nil {
		return nil, noAnswer(err)
	}
	began := time.Now()
	reply, err := readMessage(conn, minMessage2, len(msg)-2)
	if err != nil {
		return nil, noAnswer(err)
	}
	rtt := time.Since(began)
	k, err := in.finish(reply)
	if err != nil {
		return nil, err
	}
	s, err := e.newSession(conn, peer, k, true)
	if err != nil {
		return nil, err
	}
	if k.early != nil {
		s.early = &earlyAnswer{to: q, body: k.early}
	}
	s.skew = k.peer.skew(began.Add(rtt / 2))
	s.stats.rtt.Store(int64(max(rtt, 1)))
	s.stats.bytesOut.Add(uint64(len(msg)))
	s.stats.bytesIn.Add(uint64(len(reply) + 2))
	return s, nil
}

// noAnswer marks the errors by which the other side's close shows.
func noAnswer(err error) error {
	for _, closed := range []error{io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe} {
		if errors.Is(err, closed) {
			return fmt.Errorf("%w (%w)", ErrNoAnswer, err)
		}
	}
	if isReset(err) {
		return fmt.Errorf("%w (%w)", ErrNoAnswer, err)
	}
	return err
}
