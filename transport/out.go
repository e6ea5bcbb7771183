package transport

import (
	"encoding/binary"
	"sync"
	"time"
)

// outMsg is one message that waits to be written, whole or in part. It is
// guarded by its session's mu.
type outMsg struct {
	next      *outMsg
	call      *call     // a request or notify: whose it is
	in        *incoming // a reply: to what; its slot is free once it is framed
	header    []byte
	body      []byte
	id        uint64     // of a request or notify: given with its first frame
	off       int        // bytes of body that are framed
	errHead   *errorHead // error; nil = an application's
	kind      uint8
	typ       uint8
	code      uint8 // cancel: reason; go-away: phase
	reason    uint8 // go-away
	started   bool
	refusal   bool // an error for a request that was refused
	messageID [16]byte
}

const (
	// fastLimit is the size up to which a message goes before larger ones and
	// is never cut up.
	fastLimit = 8 << 10
	// minFragment is the least room in a record for which a message is cut.
	minFragment = 1 << 10
	// batchRecords is how many records at most go into one write.
	batchRecords = 2
	batchSize    = batchRecords * maxRecord
	// smallBatch is the size of the buffers for writes of little.
	smallBatch = 4 << 10
)

// writeBuf is what one write is made of.
type writeBuf struct {
	b       []byte
	records [batchRecords]int // where each record's plaintext ends; the next begins recordTag later
	n       int
}

var (
	bigBufs   = sync.Pool{New: func() any { return &writeBuf{b: make([]byte, batchSize)} }}
	smallBufs = sync.Pool{New: func() any { return &writeBuf{b: make([]byte, smallBatch)} }}
)

func getWriteBuf(size int) *writeBuf {
	p := &bigBufs
	if size+recordHead+recordTag <= smallBatch {
		p = &smallBufs
	}
	w := p.Get().(*writeBuf)
	w.n = 0
	return w
}

func (w *writeBuf) put() {
	if len(w.b) == smallBatch {
		smallBufs.Put(w)
	} else {
		bigBufs.Put(w)
	}
}

// list is a FIFO of messages.
type list struct {
	head, tail *outMsg
	n          int
}

func (l *list) push(m *outMsg) {
	m.next = nil
	if l.tail == nil {
		l.head = m
	} else {
		l.tail.next = m
	}
	l.tail = m
	l.n++
}

func (l *list) pop() *outMsg {
	m := l.head
	l.head = m.next
	if l.head == nil {
		l.tail = nil
	}
	m.next = nil
	l.n--
	return m
}

// remove takes m out, if it is there. It walks the list: only cancelled
// requests need it.
func (l *list) remove(m *outMsg) bool {
	var prev *outMsg
	for x := l.head; x != nil; prev, x = x, x.next {
		if x != m {
			continue
		}
		if prev == nil {
			l.head = x.next
		} else {
			prev.next = x.next
		}
		if l.tail == x {
			l.tail = prev
		}
		x.next = nil
		l.n--
		return true
	}
	return false
}

// outQueue orders what waits: small messages first, then one fragment of each
// large one in turn. It is pure; its session's mu guards it.
type outQueue struct {
	fast, bulk list
	bytes      int    // of all bodies and headers in the queue that are not framed yet
	unstarted  int    // requests and notifies of which no frame is packed
	refusals   int    // errors for refused requests in the queue
	lastID     uint64 // of the last request or notify that began
}

func (q *outQueue) empty() bool { return q.fast.head == nil && q.bulk.head == nil }

func (m *outMsg) fixed() int {
	switch m.typ {
	case typeRequest, typeNotify:
		return requestFixed
	case typeResponse:
		return responseFixed
	case typeError:
		return errorFixed
	case typeCancel:
		return 1
	case typeGoAway:
		return 2
	}
	return 0
}

func (m *outMsg) opens() bool { return m.typ == typeRequest || m.typ == typeNotify }

// frameSize is the size of m in one frame.
func (m *outMsg) frameSize() int { return frameHead + m.fixed() + len(m.header) + len(m.body) }

func (q *outQueue) push(m *outMsg) {
	q.bytes += len(m.header) + len(m.body)
	if m.opens() {
		q.unstarted++
	}
	if m.refusal {
		q.refusals++
	}
	if m.frameSize() <= fastLimit {
		q.fast.push(m)
	} else {
		q.bulk.push(m)
	}
}

// drop takes m out of the queue, if it is there.
func (q *outQueue) drop(m *outMsg) {
	if !q.fast.remove(m) && !q.bulk.remove(m) {
		return
	}
	q.bytes -= len(m.body) - m.off
	if !m.started {
		q.bytes -= len(m.header)
		if m.opens() {
			q.unstarted--
		}
	}
	if m.refusal {
		q.refusals--
	}
}

// waiting is about how many bytes a pack would write, as a size for its buffer.
func (q *outQueue) waiting() int {
	return q.bytes + (q.fast.n+q.bulk.n)*(frameHead+requestFixed)
}

// pack frames as much of the queue as fits into w. began is called for each
// request or notify with its first frame, after it got its id; ended for each
// message that is framed to its end.
func (q *outQueue) pack(w *writeBuf, now time.Time, began, ended func(*outMsg)) {
	p := packer{w: w, limit: len(w.b)}
	p.open()
	// Large messages get at least half of a full batch, lest small ones starve them.
	fastEnd := p.limit
	if q.bulk.head != nil {
		fastEnd = p.limit / 2
	}
	for q.fast.head != nil && p.pos < fastEnd {
		m := q.fast.head
		size := m.frameSize()
		if !p.room(size) {
			break
		}
		q.fast.pop()
		q.frame(&p, m, len(m.body), now, began)
		q.finish(m, ended)
	}
	for q.bulk.head != nil {
		m := q.bulk.head
		over := frameHead
		if !m.started {
			over += m.fixed() + len(m.header)
		}
		left := len(m.body) - m.off
		if !p.room(over + min(left, minFragment)) {
			break
		}
		q.bulk.pop()
		n := min(left, p.free()-over)
		q.frame(&p, m, n, now, began)
		if m.off < len(m.body) {
			q.bulk.push(m)
		} else {
			q.finish(m, ended)
		}
	}
	p.close()
}

func (q *outQueue) finish(m *outMsg, ended func(*outMsg)) {
	if m.refusal {
		q.refusals--
	}
	ended(m)
}

// frame writes the next n bytes of m's body as a frame.
func (q *outQueue) frame(p *packer, m *outMsg, n int, now time.Time, began func(*outMsg)) {
	first := !m.started
	typ := m.typ
	if first && m.opens() {
		q.lastID++
		m.id = q.lastID
		q.unstarted--
	}
	if !first {
		typ = typeMoreReply
		if m.opens() {
			typ = typeMore
		}
	}
	at := p.pos
	b := p.w.b[: at+frameHead : cap(p.w.b)]
	if first {
		b = m.appendFixed(b, now)
		b = append(b, m.header...)
		q.bytes -= len(m.header)
		m.started = true
	}
	b = append(b, m.body[m.off:m.off+n]...)
	m.off += n
	q.bytes -= n
	putFrameHead(b[at:], typ, m.off == len(m.body), len(b)-at-frameHead, m.id)
	p.pos = len(b)
	if first && m.opens() {
		began(m)
	}
}

func (m *outMsg) appendFixed(b []byte, now time.Time) []byte {
	switch m.typ {
	case typeRequest, typeNotify:
		h := requestHead{kind: m.kind, id: m.messageID, remaining: remaining(m.call.deadline, now),
			header: uint16(len(m.header)), body: uint32(len(m.body))}
		return appendRequestHead(b, &h)
	case typeResponse:
		return binary.BigEndian.AppendUint32(b, uint32(len(m.body)))
	case typeError:
		if m.errHead == nil {
			return appendErrorHead(b, &errorHead{served: true, body: uint32(len(m.body))})
		}
		return appendErrorHead(b, m.errHead)
	case typeCancel:
		return append(b, m.code)
	case typeGoAway:
		return append(b, m.code, m.reason)
	}
	return b
}

// remaining is the time until the deadline in ms, rounded up; 0 means no deadline.
func remaining(deadline, now time.Time) uint32 {
	if deadline.IsZero() {
		return 0
	}
	ms := (deadline.Sub(now) + time.Millisecond - 1) / time.Millisecond
	return uint32(min(max(ms, 1), 1<<32-1))
}

// packer lays frames out in records: pos is where the next byte goes.
type packer struct {
	w     *writeBuf
	start int // of the current record
	pos   int
	limit int
}

func (p *packer) open() { p.pos = p.start + recordHead }

// free is the room for plaintext in the current record.
func (p *packer) free() int {
	return min(p.start+maxRecord, p.limit) - recordTag - p.pos
}

// room makes sure that need bytes fit into the current record, and begins a
// new one where they don't.
func (p *packer) room(need int) bool {
	if p.free() >= need {
		return true
	}
	next := p.pos + recordTag
	if p.pos == p.start+recordHead || p.w.n+1 >= batchRecords ||
		min(next+maxRecord, p.limit)-recordTag-recordHead-next < need {
		return false
	}
	p.w.records[p.w.n] = p.pos
	p.w.n++
	p.start = next
	p.open()
	return true
}

func (p *packer) close() {
	if p.pos > p.start+recordHead {
		p.w.records[p.w.n] = p.pos
		p.w.n++
	}
}

// seal encrypts the records in place and returns what goes onto the wire.
func (w *writeBuf) seal(d *direction) ([]byte, error) {
	start := 0
	for _, end := range w.records[:w.n] {
		rec, err := d.seal(w.b[start:end])
		if err != nil {
			return nil, err
		}
		start += len(rec)
	}
	return w.b[:start], nil
}
