package transport

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// receiver is the reading half of a session. The reader goroutine owns it.
type receiver struct {
	dir        *direction
	buf        []byte
	start, end int // what is read and not yet handled
	big        *[]byte
	quiet      int       // small reads in a row
	at         time.Time // of the last read

	// What of the record under way can be handled under one lock.
	requests []*incoming
	answers  []arrival
}

const (
	// smallRead is the buffer of an idle session, bigRead that of a busy one.
	smallRead = 4 << 10
	bigRead   = 2 * (maxRecord + 1)
	// quietReads is after how many small reads a big buffer is given back.
	quietReads = 8
)

var readBufs = sync.Pool{New: func() any { b := make([]byte, bigRead); return &b }}

// grow moves to a big buffer.
func (r *receiver) grow() {
	if r.big != nil {
		return
	}
	r.big = readBufs.Get().(*[]byte)
	r.end = copy(*r.big, r.buf[r.start:r.end])
	r.start, r.buf = 0, *r.big
}

// release gives a big buffer back; what is left must fit into a small one.
func (r *receiver) release() {
	if r.big == nil {
		return
	}
	readBufs.Put(r.big)
	r.big, r.buf, r.start, r.end, r.quiet = nil, nil, 0, 0, 0
}

// fill reads once.
func (r *receiver) fill(conn io.Reader) (int, error) {
	if r.start == r.end {
		r.start, r.end = 0, 0
		if r.quiet >= quietReads {
			r.release()
		}
	}
	if r.buf == nil {
		r.buf = make([]byte, smallRead)
	}
	if r.start > 0 {
		r.end = copy(r.buf, r.buf[r.start:r.end])
		r.start = 0
	}
	n, err := conn.Read(r.buf[r.end:])
	r.end += n
	if n < smallRead {
		r.quiet++
	} else {
		r.quiet = 0
	}
	return n, err
}

// readLoop reads, decrypts in place and hands frames on until the session
// ends. It never waits for anything but the connection, so that two sides
// whose queues are full can't block one another.
func (s *Session) readLoop(first []byte) {
	defer s.rx.release()
	confirmed := !s.initiator
	s.rx.at = time.Now()
	err := s.onRecord(first)
	for err == nil {
		var n int
		n, err = s.rx.fill(s.conn)
		if n > 0 {
			s.rx.at = time.Now()
			s.stats.heard.Store(int64(s.rx.at.Sub(s.ep.start)) + 1)
			s.stats.bytesIn.Add(uint64(n))
			before := s.rx.dir.n
			if e := s.drainBuffer(); e != nil {
				err = e
			}
			if !confirmed && s.rx.dir.n > before && err == nil {
				confirmed = true
				s.ep.supersede(s)
				s.renews = nil
			}
		}
	}
	s.fail(s.readError(err))
}

// readError says how reading ended.
func (s *Session) readError(err error) error {
	s.mu.Lock()
	d := s.drain
	s.mu.Unlock()
	switch {
	case d.bye && d.peerBye:
		return s.farewell(d.reason)
	case err == io.EOF:
		return fmt.Errorf("%w: end of stream", ErrPeerClosed)
	}
	return fmt.Errorf("read: %w", err)
}

// drainBuffer handles every complete record of the buffer.
func (s *Session) drainBuffer() error {
	r := &s.rx
	for {
		ct, rest, need, err := nextRecord(r.buf[r.start:r.end])
		if err != nil {
			return err
		}
		if need > 0 {
			if need > len(r.buf) || r.end == len(r.buf) {
				r.grow()
			}
			return nil
		}
		r.start = r.end - len(rest)
		plain, err := r.dir.open(ct)
		if err != nil {
			return err
		}
		if err := s.onRecord(plain); err != nil {
			return err
		}
	}
}

// onRecord handles the frames of a record.
func (s *Session) onRecord(plain []byte) error {
	for len(plain) > 0 {
		f, rest, err := nextFrame(plain)
		if err != nil {
			return err
		}
		if err := s.onFrame(f); err != nil {
			return err
		}
		plain = rest
	}
	return s.flushBatch()
}

// flushBatch handles the small requests and answers that have been put aside.
func (s *Session) flushBatch() error {
	if err := s.deliverAnswers(); err != nil {
		return err
	}
	return s.admitRequests()
}

func (s *Session) onFrame(f frame) error {
	switch f.typ {
	case typeRequest, typeNotify:
		return s.onRequest(f)
	case typeResponse, typeError:
		return s.onAnswer(f)
	}
	if err := s.flushBatch(); err != nil {
		return err
	}
	switch f.typ {
	case typeMore:
		s.stats.moved.Store(s.stats.heard.Load())
		return s.onMore(f)
	case typeMoreReply:
		s.stats.moved.Store(s.stats.heard.Load())
		return s.onMoreReply(f)
	}
	if err := f.checkControl(); err != nil {
		return err
	}
	switch f.typ {
	case typeCancel:
		return s.onCancel(f.id)
	case typePing:
		s.onPing(f.id)
	case typePong:
		s.onPong(f.id)
	case typeGoAway:
		return s.onGoAway(f.payload[0], f.payload[1])
	}
	return nil
}

// checkControl holds a frame that is a whole message against its size.
func (f *frame) checkControl() error {
	size := map[uint8]int{typeCancel: 1, typePing: 0, typePong: 0, typeGoAway: 2}[f.typ]
	if len(f.payload) != size || !f.last {
		return fmt.Errorf("%w: frame of type %d with %d bytes", ErrProtocol, f.typ, len(f.payload))
	}
	return nil
}

func (s *Session) onGoAway(phase, reason uint8) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch phase {
	case goAwayDrain:
		s.drain.peer = true
		s.drainLocked(reason)
		s.settleLocked()
		s.wake()
	case goAwayBye:
		if !s.drain.peer {
			return fmt.Errorf("%w: bye without a go-away before", ErrProtocol)
		}
		s.drain.peerBye = true
		if s.drain.byeSent {
			return io.EOF
		}
	default:
		return fmt.Errorf("%w: go-away phase %d", ErrProtocol, phase)
	}
	return nil
}
