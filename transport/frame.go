package transport

import (
	"encoding/binary"
	"fmt"
)

// Every frame begins with the same head. Integers are big-endian.
//
//	type 1 | flags 1 | length 2 (of what follows the head) | id 8
//
//	request 1, notify 5   kind 1 | message id 16 | remaining ms 4 | header length 2 | body length 4 | header | body…
//	response 2            body length 4 | body…
//	error 3               code 1 | served 1 | limit 1 | max 8 | value 8 | retry ms 4 | body length 4 | body…
//	cancel 4              code 1
//	ping 6, pong 7        (empty; a pong repeats the ping's id)
//	go-away 8             phase 1 | reason 1; id 0
//	more 9                body…   continues a request or notify of the frame's sender
//	more-reply 10         body…   continues a response or error of the frame's sender
//
// Flag 1, last, is set on the frame that ends its message, and on no other.
// remaining ms = 0 means that there is no deadline.
const (
	frameHead = 12

	typeRequest   = 1
	typeResponse  = 2
	typeError     = 3
	typeCancel    = 4
	typeNotify    = 5
	typePing      = 6
	typePong      = 7
	typeGoAway    = 8
	typeMore      = 9
	typeMoreReply = 10

	flagLast = 1

	requestFixed  = 1 + 16 + 4 + 2 + 4
	responseFixed = 4
	errorFixed    = 1 + 1 + 1 + 8 + 8 + 4 + 4
)

// Codes of error frames. 0 is an application's error; the others are Code's.
const codeApplication = 0

// Limits that an error frame names.
const (
	limitNone       = 0
	limitRequests   = 1
	limitReassembly = 2
	limitQueued     = 3
	limitMessage    = 4
	limitReply      = 5
	limitStopping   = 6
	limitServing    = 7
	limitServed     = 8
)

var limitNames = [...]struct{ name, setting string }{
	limitRequests:   {"requests served at once", "MaxRequests"},
	limitReassembly: {"bytes of incomplete messages", "MaxReassembly"},
	limitQueued:     {"bytes waiting to be written", "MaxQueued"},
	limitMessage:    {"bytes of a message", "MaxMessage"},
	limitReply:      {"bytes of a reply", "MaxMessage"},
	limitStopping:   {"the peer is stopping", ""},
	limitServing:    {"bytes of requests being served", "MaxServing"},
	limitServed:     {"requests served at once for all peers", "MaxRequestsTotal"},
}

// Phases of a go-away.
const (
	goAwayDrain = 1 // I send no new request here, and you shall send none
	goAwayBye   = 2 // nothing of mine is in flight, and I send nothing more
)

// Reasons of a go-away.
const (
	reasonShutdown = 1
	reasonReplaced = 2
	reasonLimit    = 3
	reasonUnused   = 4
)

type frame struct {
	typ     uint8
	last    bool
	id      uint64
	payload []byte
}

func putFrameHead(b []byte, typ uint8, last bool, n int, id uint64) {
	b[0], b[1] = typ, 0
	if last {
		b[1] = flagLast
	}
	binary.BigEndian.PutUint16(b[2:], uint16(n))
	binary.BigEndian.PutUint64(b[4:], id)
}

// nextFrame takes the first frame off a record's plaintext.
func nextFrame(b []byte) (f frame, rest []byte, err error) {
	if len(b) < frameHead {
		return f, nil, fmt.Errorf("%w: %d bytes are no frame", ErrProtocol, len(b))
	}
	n := int(binary.BigEndian.Uint16(b[2:]))
	if len(b)-frameHead < n {
		return f, nil, fmt.Errorf("%w: a frame of %d bytes does not end in its record", ErrProtocol, n)
	}
	f = frame{typ: b[0], last: b[1] == flagLast, id: binary.BigEndian.Uint64(b[4:]), payload: b[frameHead : frameHead+n : frameHead+n]}
	if b[1] > flagLast {
		return f, nil, fmt.Errorf("%w: frame flags %#x", ErrProtocol, b[1])
	}
	if f.typ == 0 || f.typ > typeMoreReply {
		return f, nil, fmt.Errorf("%w: frame type %d", ErrProtocol, f.typ)
	}
	return f, b[frameHead+n:], nil
}

// requestHead is the fixed part of request and notify.
type requestHead struct {
	kind      uint8
	id        [16]byte
	remaining uint32 // ms; 0 = no deadline
	header    uint16
	body      uint32
}

func appendRequestHead(b []byte, h *requestHead) []byte {
	b = append(b, h.kind)
	b = append(b, h.id[:]...)
	b = binary.BigEndian.AppendUint32(b, h.remaining)
	b = binary.BigEndian.AppendUint16(b, h.header)
	return binary.BigEndian.AppendUint32(b, h.body)
}

// parseRequest splits a request or notify into head, header and the part of
// the body that the first frame holds.
func parseRequest(p []byte) (h requestHead, header, body []byte, err error) {
	if len(p) < requestFixed {
		return h, nil, nil, fmt.Errorf("%w: request of %d bytes", ErrProtocol, len(p))
	}
	h.kind = p[0]
	copy(h.id[:], p[1:])
	h.remaining = binary.BigEndian.Uint32(p[17:])
	h.header = binary.BigEndian.Uint16(p[21:])
	h.body = binary.BigEndian.Uint32(p[23:])
	p = p[requestFixed:]
	if h.header > MaxHeader || int(h.header) > len(p) {
		return h, nil, nil, fmt.Errorf("%w: request header of %d bytes, %d are there, %d allowed", ErrProtocol, h.header, len(p), MaxHeader)
	}
	return h, p[:h.header], p[h.header:], nil
}

func parseResponse(p []byte) (total uint32, body []byte, err error) {
	if len(p) < responseFixed {
		return 0, nil, fmt.Errorf("%w: response of %d bytes", ErrProtocol, len(p))
	}
	return binary.BigEndian.Uint32(p), p[responseFixed:], nil
}

// errorHead is the fixed part of error.
type errorHead struct {
	code       uint8
	served     bool // the handler may have begun to run
	limit      uint8
	max, value uint64
	retry      uint32 // ms
	body       uint32
}

func appendErrorHead(b []byte, h *errorHead) []byte {
	served := byte(0)
	if h.served {
		served = 1
	}
	b = append(b, h.code, served, h.limit)
	b = binary.BigEndian.AppendUint64(b, h.max)
	b = binary.BigEndian.AppendUint64(b, h.value)
	b = binary.BigEndian.AppendUint32(b, h.retry)
	return binary.BigEndian.AppendUint32(b, h.body)
}

func parseError(p []byte) (h errorHead, body []byte, err error) {
	if len(p) < errorFixed {
		return h, nil, fmt.Errorf("%w: error of %d bytes", ErrProtocol, len(p))
	}
	h.code, h.served, h.limit = p[0], p[1] != 0, p[2]
	h.max = binary.BigEndian.Uint64(p[3:])
	h.value = binary.BigEndian.Uint64(p[11:])
	h.retry = binary.BigEndian.Uint32(p[19:])
	h.body = binary.BigEndian.Uint32(p[23:])
	if h.code != codeApplication && (h.body != 0 || len(p) != errorFixed) {
		return h, nil, fmt.Errorf("%w: error code %d with a body", ErrProtocol, h.code)
	}
	if h.code > uint8(Lost) {
		h.code = uint8(Unsupported)
	}
	return h, p[errorFixed:], nil
}
