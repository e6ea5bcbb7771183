package handlerpb

import (
	"bufio"
	"encoding/binary"
	"io"
	"sync"
)

// lengthSize is the size of a batch's length, which goes before it.
const lengthSize = 4

// keepBuffer is up to which size a buffer is kept to be used again.
const keepBuffer = 128 << 10

// batchPool holds buffers for batches that are filled.
var batchPool = sync.Pool{New: func() any { return new(make([]byte, lengthSize, 4<<10)) }}

func newBatch() *[]byte { return batchPool.Get().(*[]byte) }

func freeBatch(b *[]byte) {
	if cap(*b) <= keepBuffer {
		*b = (*b)[:lengthSize]
		batchPool.Put(b)
	}
}

// receiver is the receiving half of a call socket.
type receiver struct {
	r   *bufio.Reader
	max int    // bytes of a batch
	buf []byte // of a batch that is larger than r's buffer
	asm assembly
}

func newReceiver(r io.Reader, maxPayload int) receiver {
	limit := MaxMessage(maxPayload)
	return receiver{r: bufio.NewReaderSize(r, 64<<10), max: limit, asm: assembly{max: limit}}
}

// recv receives one batch and calls frame for each of its frames. Only at the
// end of a batch io.EOF is the end.
func (r *receiver) recv(frame func([]byte) error) error {
	head, err := r.r.Peek(lengthSize)
	if err != nil {
		if err == io.EOF && len(head) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	n := int(binary.BigEndian.Uint32(head))
	if n > r.max {
		return malformed("batch of %d bytes, at most %d allowed", n, r.max)
	}
	var msg []byte
	if whole := lengthSize + n; whole <= r.r.Size() {
		b, err := r.r.Peek(whole)
		if err != nil {
			return unexpected(err)
		}
		msg = b[lengthSize:]
		defer func() { _, _ = r.r.Discard(whole) }() // it is there
	} else {
		if cap(r.buf) < n {
			r.buf = make([]byte, n)
		}
		msg = r.buf[:n]
		if cap(r.buf) > 2*maxUrgent {
			r.buf = nil // larger than anything that this package sends
		}
		_, _ = r.r.Discard(lengthSize) // it is there
		if _, err := io.ReadFull(r.r, msg); err != nil {
			return unexpected(err)
		}
	}
	return parseBatch(msg, frame, func(piece []byte, last bool) error {
		whole, err := r.asm.add(piece, last)
		if err != nil || whole == nil {
			return err
		}
		return frame(whole)
	})
}

// unexpected is the error of an end within a batch.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// assembly puts a frame together that came in pieces.
type assembly struct {
	max    int
	pieces [][]byte
	size   int
}

// add takes a piece, and gives the frame where it was the last one. Every
// piece carries something, so that they can't be many.
func (a *assembly) add(piece []byte, last bool) ([]byte, error) {
	if len(piece) == 0 {
		return nil, malformed("empty piece of a frame")
	}
	if a.size += len(piece); a.size > a.max {
		return nil, malformed("frame of more than %d bytes in pieces", a.max)
	}
	if !last {
		if n := len(a.pieces); n > 0 && len(a.pieces[n-1])+len(piece) <= cap(a.pieces[n-1]) {
			a.pieces[n-1] = append(a.pieces[n-1], piece...)
			return nil, nil
		}
		a.pieces = append(a.pieces, append(make([]byte, 0, max(len(piece), 64<<10)), piece...))
		return nil, nil
	}
	whole := make([]byte, 0, a.size)
	for _, p := range a.pieces {
		whole = append(whole, p...)
	}
	a.pieces, a.size = nil, 0
	return append(whole, piece...), nil
}

// appendBatched appends a whole frame to a batch.
func appendBatched(b, head, tail []byte) []byte {
	b = appendLen(b, fieldFrames, len(head)+len(tail))
	return append(append(b, head...), tail...)
}
