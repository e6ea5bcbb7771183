package transport

import (
	"fmt"
	"net"
	"runtime"
	"syscall"
	"time"
)

// sender is the writing half of a session.
type sender struct {
	notify chan struct{} // capacity 1: the writer has something to do
	raw    syscall.RawConn
	try    func(fd uintptr) bool // tryWrite, bound once

	// Guarded by the session's mu:
	busy   bool // somebody packs and writes
	kicked bool // the writer was woken and has not looked yet

	// Owned by whoever set busy.
	dir     *direction
	body    bool   // what is being written holds a part of a body
	rest    []byte // what an inline write could not get rid of
	restBuf *writeBuf
	tryBuf  []byte
	tryN    int
	tryErr  error
}

func (t *sender) init(conn net.Conn) {
	t.notify = make(chan struct{}, 1)
	if sc, ok := conn.(syscall.Conn); ok && tryWriteSupported {
		if raw, err := sc.SyscallConn(); err == nil {
			t.raw, t.try = raw, t.tryOnce
		}
	}
}

func (t *sender) tryOnce(fd uintptr) bool {
	t.tryN, t.tryErr = writeNonblocking(fd, t.tryBuf)
	return true
}

// wake tells the writer that there may be something to do.
func (s *Session) wake() {
	select {
	case s.tx.notify <- struct{}{}:
	default:
	}
}

// inlineLoad is up to how many messages in flight a message is written by the
// goroutine that queued it. That saves a change of goroutines, where above it
// the writer's packing saves more.
const inlineLoad = 2

// flushLocked gets the queue written: at once where little is under way,
// else by the writer. It unlocks s.mu.
func (s *Session) flushLocked() {
	t := &s.tx
	size := s.out.waiting()
	if t.busy {
		s.mu.Unlock() // whoever is busy looks again
		return
	}
	if t.raw == nil || s.err != nil || t.rest != nil || size+recordHead+recordTag > smallBatch ||
		s.calls.inFlight+s.serve.slots > inlineLoad || s.out.empty() {
		s.kickLocked()
		s.mu.Unlock()
		return
	}
	w := s.packLocked(size)
	s.mu.Unlock()
	s.stats.writing.Store(s.ep.clock())
	b, err := w.seal(t.dir)
	if err == nil {
		t.tryBuf, t.tryN, t.tryErr = b, 0, nil
		err = t.raw.Write(t.try)
		if err == nil {
			err = t.tryErr
		}
		if t.tryN < len(b) {
			t.rest, t.restBuf = b[t.tryN:], w
		} else {
			w.put()
		}
		t.tryBuf = nil
	}
	s.wrote(t.tryN, err)
}

// kickLocked wakes the writer, once until it looks.
func (s *Session) kickLocked() {
	if !s.tx.kicked && !s.tx.busy {
		s.tx.kicked = true
		s.wake()
	}
}

// packLocked takes the right to write and packs a batch.
func (s *Session) packLocked(size int) *writeBuf {
	s.tx.busy, s.tx.body = true, s.out.bytes > 0
	w := getWriteBuf(size)
	s.out.pack(w, time.Now(), s.beganLocked, s.endedLocked)
	return w
}

// wrote gives the right to write back.
func (s *Session) wrote(n int, err error) {
	now := s.ep.clock()
	s.stats.writing.Store(0)
	s.stats.sent.Store(now)
	s.stats.bytesOut.Add(uint64(n))
	if n > 0 && s.tx.body {
		s.stats.moved.Store(now)
	}
	if err != nil {
		s.fail(fmt.Errorf("write: %w", err))
	}
	s.mu.Lock()
	s.tx.busy = false
	s.admitWaitingLocked()
	if s.drain.on {
		s.settleLocked()
	}
	more := !s.out.empty() || s.tx.rest != nil || s.serve.ready.head != nil && !s.serve.summoned
	bye := s.drain.bye && s.out.empty() && s.tx.rest == nil
	if bye {
		s.drain.byeSent = true
	}
	over := bye && s.drain.peerBye
	s.mu.Unlock()
	if over {
		s.fail(s.farewell(s.drain.reason))
	} else if more {
		s.wake()
	}
}

// writeLoop writes what the queue holds, as much at a time as fits into a batch.
func (s *Session) writeLoop() {
	t := &s.tx
	for {
		select {
		case <-s.done:
			s.mu.Lock()
			t.busy = true // nobody writes any more
			s.mu.Unlock()
			return
		case <-t.notify:
		}
		for s.writeBatch() {
		}
	}
}

// writeBatch writes one batch and reports whether there may be more.
func (s *Session) writeBatch() bool {
	t := &s.tx
	s.mu.Lock()
	t.kicked = false
	if s.summonLocked() { // what was held may go on
		s.mu.Unlock()
		s.ep.workers.give(s)
		s.mu.Lock()
	}
	if s.calls.inFlight+s.serve.slots > inlineLoad && s.out.waiting() < batchSize/4 {
		s.mu.Unlock()
		runtime.Gosched() // let those who are about to queue something do so
		s.mu.Lock()
	}
	if t.busy || s.err != nil || s.out.empty() && t.rest == nil {
		s.mu.Unlock()
		return false
	}
	var b []byte
	var err error
	w := t.restBuf
	if t.rest != nil {
		t.busy = true
		s.mu.Unlock()
		b, t.rest, t.restBuf = t.rest, nil, nil
	} else {
		w = s.packLocked(s.out.waiting())
		s.mu.Unlock()
		b, err = w.seal(t.dir)
	}
	n := 0
	if err == nil {
		s.stats.writing.Store(s.ep.clock())
		n, err = s.conn.Write(b)
	}
	w.put()
	s.wrote(n, err)
	return err == nil
}
