package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"
)

// acceptLoop owns the listener until Run ends.
func (e *Endpoint) acceptLoop() {
	defer e.wg.Done()
	backoff := time.Duration(0)
	for {
		conn, err := e.listener.Accept()
		if err != nil {
			select {
			case <-e.ended:
				return
			default:
			}
			if errors.Is(err, net.ErrClosed) {
				return
			}
			// Out of descriptors, most likely: sessions go on, new ones wait.
			backoff = min(max(2*backoff, 5*time.Millisecond), time.Second)
			e.cfg.Log.Warn("accept failed", "error", err, "again in", backoff)
			select {
			case <-e.ended:
				return
			case <-time.After(backoff):
			}
			continue
		}
		backoff = 0
		e.accepted(conn)
	}
}

// accepted starts the handshake of a connection that may try one.
func (e *Endpoint) accepted(conn net.Conn) {
	h, evicted := e.admit.begin(conn, remoteAddr(conn).Addr(), time.Now())
	if evicted != nil {
		evicted.conn.Close()
	}
	if h == nil {
		conn.Close()
		return
	}
	e.wg.Add(1)
	go func() {
		defer e.wg.Done()
		s, first, err := e.respond(h)
		if err != nil {
			e.admit.end(h)
			conn.Close() // nothing answers a stranger
			e.cfg.Log.Debug("handshake refused", "addr", remoteAddr(conn), "cause", err)
			return
		}
		s.run(first)
	}()
}

// respond is the listening side of a handshake. The session begins with the
// initiator's first record: only that proves that message 1 was no replay.
func (e *Endpoint) respond(h *halfOpen) (*Session, []byte, error) {
	conn := h.conn
	if err := conn.SetDeadline(time.Now().Add(e.cfg.HandshakeTimeout)); err != nil {
		return nil, nil, err
	}
	msg, err := readMessage(conn, minMessage1, maxMessage1)
	if err != nil {
		return nil, nil, err
	}
	r := newResponder(e.id, e.entropy)
	mac, err := r.precheck(msg)
	if err != nil {
		return nil, nil, err
	}
	if !e.admit.arrived(h, mac) {
		return nil, nil, errors.New("message 1 is a replay")
	}
	if err := e.refusal(e.cfg.Group(remoteAddr(conn).Addr())); err != nil { // before the answer: what an initiator sends after it may have been delivered
		return nil, nil, err
	}
	reply, k, err := e.answer(r, msg, remoteAddr(conn), func() bool { return hungUp(conn) })
	if err != nil {
		return nil, nil, err
	}
	if _, err := conn.Write(reply); err != nil {
		return nil, nil, err
	}
	s, err := e.newSession(conn, r.agent, k, false)
	if err != nil {
		return nil, nil, err
	}
	s.stats.bytesIn.Add(uint64(len(msg) + 2))
	s.stats.bytesOut.Add(uint64(len(reply)))
	first, err := s.firstRecord()
	if err != nil {
		return nil, nil, err
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return nil, nil, err
	}
	e.admit.end(h)
	if err := e.register(s); err != nil {
		return nil, nil, err
	}
	e.supersede(s)
	e.earlyBegan(r.answered)
	return s, first, nil
}

var errHungUp = errors.New("the initiator has hung up before its turn came")

// answer does the costly part, unless nobody waits for it any more: where many
// wait for their turn, those who have given up must not hold up those who have not.
func (e *Endpoint) answer(r *responder, msg []byte, from netip.AddrPort, hungUp func() bool) ([]byte, *keys, error) {
	e.costly <- struct{}{}
	defer func() { <-e.costly }()
	if hungUp() {
		return nil, nil, errHungUp
	}
	if err := r.read(msg); err != nil {
		return nil, nil, err
	}
	h := e.hello()
	return r.message2(h, e.answerEarly(r, h, from, len(msg)))
}

func (e *Endpoint) hello() hello {
	return hello{clock: time.Now().UnixMilli(), maxMessage: uint32(e.cfg.MaxMessage), maxRequests: uint32(e.cfg.MaxRequests),
		quiet: uint16((e.cfg.announced() + time.Second - 1) / time.Second)}
}

// readMessage reads a handshake message. The length is checked before memory
// is allocated.
func readMessage(r io.Reader, least, most int) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(head[:]))
	if n < least || n > most {
		return nil, fmt.Errorf("%w: handshake message of %d bytes, %d to %d are allowed", ErrProtocol, n, least, most)
	}
	msg := make([]byte, n)
	_, err := io.ReadFull(r, msg)
	return msg, err
}

// firstRecord reads one record before the reader runs.
func (s *Session) firstRecord() ([]byte, error) {
	var head [recordHead]byte
	if _, err := io.ReadFull(s.conn, head[:]); err != nil {
		return nil, err
	}
	_, _, need, err := nextRecord(head[:])
	if err != nil {
		return nil, err
	}
	ct := make([]byte, need-recordHead)
	if _, err := io.ReadFull(s.conn, ct); err != nil {
		return nil, err
	}
	s.stats.bytesIn.Add(uint64(need))
	return s.rx.dir.open(ct)
}
