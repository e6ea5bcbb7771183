package handlerpb

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"sync"
	"syscall"
	"time"
)

const (
	// SmallFrame is up to which size a frame is copied into the batch that is
	// being filled. Larger ones are sent from where they are.
	SmallFrame = 16 << 10
	// piece is how much of larger frames one batch carries at most: what a
	// small frame may have to wait for.
	piece = 256 << 10
	// maxQueued bounds what waits in the batch that is being filled; then those
	// who want to send wait. maxLarge is the same for larger frames; the last
	// one may exceed it.
	maxQueued = 256 << 10
	maxLarge  = 1 << 20
	// maxHeld is up to which size a batch waits for a frame that is sent at once.
	maxHeld = 16 << 10
	// maxUrgent bounds what waits together with frames that can't wait.
	maxUrgent = 2 * maxQueued
)

// ErrUnread is the error of a frame that can't wait and finds the queue full:
// the other side does not read.
var ErrUnread = errors.New("the other side does not read its call stream")

// writer is the sending half of a call socket. It packs the frames that wait
// into one batch. Where little else is under way the goroutine that queued a
// frame writes it by itself, without waiting; else the loop does.
type writer struct {
	conn   io.Writer
	raw    syscall.RawConn       // of conn; nil where nobody can write without waiting
	try    func(fd uintptr) bool // tryOnce, bound once
	notify chan struct{}         // capacity 1: the loop has something to do
	done   chan struct{}         // closed once, by fail

	mu     sync.Mutex
	busy   bool // somebody sends
	kicked bool // the loop was woken and has not looked yet
	began  time.Time
	cur    *[]byte // the batch that is being filled
	number uint64  // of that batch
	large  []*largeFrame
	size   int           // of large
	space  chan struct{} // closed when there may be room again; nil where nobody waits
	err    error

	// Owned by whoever set busy:
	rest    []byte // what was not written of restBuf
	restBuf *[]byte
	tryN    int
	tryErr  error
}

// largeFrame is a frame that is not copied until it is sent.
type largeFrame struct {
	head, tail []byte
	began      bool
	then       []byte // a frame to be sent after it
}

func (l *largeFrame) len() int { return len(l.head) + len(l.tail) }

func newWriter(conn io.Writer) *writer {
	w := &writer{conn: conn, notify: make(chan struct{}, 1), done: make(chan struct{}), cur: newBatch(), number: 1}
	if sc, ok := conn.(syscall.Conn); ok && tryWriteSupported {
		if raw, err := sc.SyscallConn(); err == nil {
			w.raw, w.try = raw, w.tryOnce
		}
	}
	return w
}

// Ticket is the hold on a frame that was queued.
type Ticket struct {
	batch uint64
	large *largeFrame
}

// put queues a frame and sees to it that it is sent. Where the queue is full it
// waits for ctx and the stream. quiet tells that little else is under way.
func (w *writer) put(ctx context.Context, head, tail []byte, quiet bool) (t Ticket, err error) {
	err = w.putFor(ctx, head, tail, quiet, &t)
	return t, err
}

// putFor is put that sets t before anybody can see the frame.
func (w *writer) putFor(ctx context.Context, head, tail []byte, quiet bool, t *Ticket) error {
	n := len(head) + len(tail)
	if err := w.lockWithRoom(ctx, n); err != nil {
		return err
	}
	*t = Ticket{batch: w.number}
	if n <= SmallFrame {
		*w.cur = appendBatched(*w.cur, head, tail)
	} else {
		t.large = &largeFrame{head: bytes.Clone(head), tail: tail}
		w.large = append(w.large, t.large)
		w.size += n
		quiet = false
	}
	w.flushLocked(quiet)
	return nil
}

// offer is putFor for a small frame, if there is room for it at once.
func (w *writer) offer(head, tail []byte, quiet bool, t *Ticket) bool {
	n := len(head) + len(tail)
	w.mu.Lock()
	if w.err != nil || n > SmallFrame || len(*w.cur) >= maxQueued {
		w.mu.Unlock()
		return false
	}
	*t = Ticket{batch: w.number}
	*w.cur = appendBatched(*w.cur, head, tail)
	w.flushLocked(quiet)
	return true
}

// hold queues a small frame that is in no hurry: whatever is sent next takes it
// along. Nobody is woken for it unless much is held already.
func (w *writer) hold(ctx context.Context, head, tail []byte) error {
	if err := w.lockWithRoom(ctx, len(head)+len(tail)); err != nil {
		return err
	}
	*w.cur = appendBatched(*w.cur, head, tail)
	if len(*w.cur) <= maxHeld {
		w.mu.Unlock()
		return nil
	}
	w.flushLocked(false)
	return nil
}

// lockWithRoom waits until a frame of n bytes may be queued, for ctx and the
// stream at most. It locks, unless there is an error.
func (w *writer) lockWithRoom(ctx context.Context, n int) error {
	w.mu.Lock()
	for {
		if w.err != nil {
			err := w.err
			w.mu.Unlock()
			return err
		}
		if n <= SmallFrame && len(*w.cur) < maxQueued || n > SmallFrame && w.size < maxLarge {
			return nil
		}
		if w.space == nil {
			w.space = make(chan struct{})
		}
		space := w.space
		w.mu.Unlock()
		select {
		case <-space:
		case <-w.done:
		case <-ctx.Done():
			return ctx.Err()
		}
		w.mu.Lock()
	}
}

// urgent queues a small frame without waiting.
func (w *writer) urgent(frame []byte) error {
	w.mu.Lock()
	if w.err == nil && len(*w.cur)+len(frame) > maxUrgent {
		w.mu.Unlock()
		return ErrUnread
	}
	if w.err != nil {
		err := w.err
		w.mu.Unlock()
		return err
	}
	*w.cur = appendBatched(*w.cur, frame, nil)
	w.flushLocked(false)
	return nil
}

// release gives the payload of a frame back to its owner, whatever was sent of
// it, and sends then (if not nil) after it. It tells whether the frame is on
// its way; if it is not, neither it nor then is sent.
func (w *writer) release(t Ticket, then []byte) (bool, error) {
	w.mu.Lock()
	for i, l := range w.large {
		if l != t.large {
			continue
		}
		defer w.mu.Unlock()
		if l.began { // only one at a time: the rest goes on as a copy
			l.tail, l.then = bytes.Clone(l.tail), then
			return true, nil
		}
		w.size -= l.len()
		w.large = append(w.large[:i], w.large[i+1:]...)
		w.roomLocked()
		return false, nil
	}
	w.mu.Unlock()
	if then == nil {
		return true, nil
	}
	return true, w.urgent(then)
}

// giveBack is release without a frame after it.
func (w *writer) giveBack(t Ticket) {
	if t.large != nil {
		_, _ = w.release(t, nil)
	}
}

// handed tells whether a frame, or a part of it, was handed to the system.
func (w *writer) handed(t *Ticket) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case t.large != nil:
		return t.large.began
	case t.batch == 0: // it was not queued
		return false
	}
	return t.batch < w.number
}

// flushLocked gets sent what waits, and unlocks.
func (w *writer) flushLocked(quiet bool) {
	switch {
	case w.busy: // whoever is busy looks again
	case quiet && w.raw != nil && len(w.large) == 0 && w.rest == nil:
		w.sendLocked(true)
		more := w.waitingLocked() && !w.kicked
		w.kicked = w.kicked || more
		w.mu.Unlock()
		if more {
			w.wake()
		}
		return
	case !w.kicked:
		w.kicked = true
		w.mu.Unlock()
		w.wake()
		return
	}
	w.mu.Unlock()
}

func (w *writer) wake() {
	select {
	case w.notify <- struct{}{}:
	default:
	}
}

func (w *writer) waitingLocked() bool {
	return len(*w.cur) > lengthSize || len(w.large) > 0 || w.rest != nil
}

// sendLocked sends one batch. It unlocks meanwhile. With try it does not wait:
// what the socket does not take is the loop's.
func (w *writer) sendLocked(try bool) {
	w.busy, w.began = true, time.Now()
	if w.rest == nil {
		w.restBuf = w.takeLocked()
		w.rest = *w.restBuf
		binary.BigEndian.PutUint32(w.rest, uint32(len(w.rest)-lengthSize))
	}
	w.mu.Unlock()
	var err error
	if try {
		w.tryN, w.tryErr = 0, nil
		if err = w.raw.Write(w.try); err == nil {
			err = w.tryErr
		}
		w.rest = w.rest[w.tryN:]
	} else {
		_, err = w.conn.Write(w.rest)
		w.rest = nil
	}
	if len(w.rest) == 0 || err != nil {
		freeBatch(w.restBuf)
		w.rest, w.restBuf = nil, nil
	}
	w.mu.Lock()
	w.busy = false
	if err != nil {
		w.failLocked(err)
	}
}

func (w *writer) tryOnce(fd uintptr) bool {
	w.tryN, w.tryErr = writeNonblocking(fd, w.rest)
	return true
}

// takeLocked takes the batch that was filled, and a piece of the larger frames.
func (w *writer) takeLocked() *[]byte {
	out := w.cur
	b := *out
	w.cur = newBatch()
	w.number++
	left := piece
	for len(w.large) > 0 && left > 0 {
		l := w.large[0]
		if !l.began && l.len() <= left {
			left -= l.len()
			l.began = true
			b = appendBatched(b, l.head, l.tail)
			w.dropFirstLocked()
			continue
		}
		if left < piece {
			break // the next batch is its own
		}
		l.began = true
		if l.len() > piece {
			b = appendLen(b, fieldPart, piece)
		} else {
			b = appendLen(b, fieldLastPart, l.len())
		}
		n := min(len(l.head), left)
		b, l.head, left = append(b, l.head[:n]...), l.head[n:], left-n
		n = min(len(l.tail), left)
		b, l.tail, left = append(b, l.tail[:n]...), l.tail[n:], left-n
		w.size -= piece - left
		if l.len() == 0 {
			w.dropFirstLocked()
			if l.then != nil {
				*w.cur = appendBatched(*w.cur, l.then, nil)
			}
		}
		break
	}
	w.roomLocked()
	*out = b
	return out
}

func (w *writer) dropFirstLocked() {
	w.size -= w.large[0].len()
	w.large[0] = nil
	w.large = w.large[1:]
}

func (w *writer) roomLocked() {
	if w.space != nil {
		close(w.space)
		w.space = nil
	}
}

// loop sends what nobody sends by himself. It ends when the stream fails.
func (w *writer) loop() {
	for {
		select {
		case <-w.done:
			return
		case <-w.notify:
		}
		runtime.Gosched() // let those who are about to queue something do so
		w.mu.Lock()
		w.kicked = false
		for !w.busy && w.err == nil && w.waitingLocked() {
			w.sendLocked(false)
		}
		w.mu.Unlock()
	}
}

// fail ends the writer. Those who wait see it.
func (w *writer) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failLocked(err)
}

func (w *writer) failLocked(err error) {
	if w.err == nil {
		w.err = err
		w.large, w.size = nil, 0
		close(w.done)
	}
}

// blocked is for how long one message has been waiting for the other side.
func (w *writer) blocked() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.busy {
		return 0
	}
	return time.Since(w.began)
}
