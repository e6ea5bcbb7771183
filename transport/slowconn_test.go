package transport

import (
	"net"
	"sync"
	"time"
)

// slowConn is an end of a connection on which what is written arrives later, in
// order, however much it is: a line of endless width. The end of the stream takes as
// long; a reset, which is what the pipe below makes of a Close here, does not.
type slowConn struct {
	net.Conn
	oneWay time.Duration

	mu     sync.Mutex // guards:
	queue  []slowData
	closed bool
	kick   chan struct{} // capacity 1
	gone   chan struct{} // closed when closed
}

type slowData struct {
	due  time.Time
	data []byte
}

func newSlowConn(c net.Conn, oneWay time.Duration) *slowConn {
	s := &slowConn{Conn: c, oneWay: oneWay, kick: make(chan struct{}, 1), gone: make(chan struct{})}
	go s.deliver()
	return s
}

func (s *slowConn) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, net.ErrClosed
	}
	s.queue = append(s.queue, slowData{time.Now().Add(s.oneWay), append([]byte(nil), b...)})
	select {
	case s.kick <- struct{}{}:
	default:
	}
	return len(b), nil
}

// Close ends reading at once, and the other side's reading when all has arrived.
func (s *slowConn) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		close(s.gone)
		s.Conn.SetReadDeadline(time.Unix(1, 0))
		s.Conn.SetWriteDeadline(time.Now().Add(s.oneWay + time.Second)) // the other side may be closed, too
	}
	return nil
}

// deliver ends when the connection is closed and what was written has arrived.
func (s *slowConn) deliver() {
	defer s.Conn.Close()
	for {
		s.mu.Lock()
		queue, closed := s.queue, s.closed
		s.queue = nil
		s.mu.Unlock()
		for _, d := range queue {
			time.Sleep(time.Until(d.due))
			if _, err := s.Conn.Write(d.data); err != nil {
				<-s.gone
				return
			}
		}
		if len(queue) > 0 {
			continue
		}
		if closed {
			time.Sleep(s.oneWay)
			return
		}
		select {
		case <-s.kick:
		case <-s.gone:
		}
	}
}
