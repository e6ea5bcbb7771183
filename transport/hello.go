package transport

import (
	"encoding/binary"
	"fmt"
	"time"
)

// hello is what each side says of itself in the encrypted payload of its
// handshake message. Integers are big-endian.
//
//	 version 1 (= 1) | clock 8 (unix ms) | max message 4 | max requests 4
//	| extensions: type 2 | length 2 | value … until the end of the payload
//
// A receiver skips extensions that it does not know. Types 1 to 255 are
// docs/wire.md's; early.go has those that are defined.
type hello struct {
	clock       int64  // unix ms
	maxMessage  uint32 // largest body that the sender of the hello takes
	maxRequests uint32 // most requests that it serves at once on this session
	quiet       uint16 // how often it sends on a quiet session at least (quiet.go), seconds; 0: it knows no such
}

// quietSize is what the extension that says so takes of a hello.
const quietSize = extensionHead + 2

const (
	helloVersion = 1
	helloFixed   = 1 + 8 + 4 + 4
	// maxHello bounds a hello with its extensions.
	maxHello = 16 << 10
)

func appendHello(b []byte, h hello) []byte {
	b = append(b, helloVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(h.clock))
	b = binary.BigEndian.AppendUint32(b, h.maxMessage)
	b = binary.BigEndian.AppendUint32(b, h.maxRequests)
	if h.quiet != 0 {
		b = appendExtension(b, extQuiet, binary.BigEndian.AppendUint16(nil, h.quiet))
	}
	return b
}

// extra is how much longer h is than a hello without extensions.
func (h hello) extra() int {
	if h.quiet == 0 {
		return 0
	}
	return quietSize
}

// parseHello returns the hello and its early data, nil if there is none.
func parseHello(b []byte) (h hello, early []byte, err error) {
	if len(b) < helloFixed || len(b) > maxHello {
		return h, nil, fmt.Errorf("%w: hello of %d bytes", ErrProtocol, len(b))
	}
	if b[0] != helloVersion {
		return h, nil, fmt.Errorf("%w: hello version %d, only %d is known", ErrProtocol, b[0], helloVersion)
	}
	h.clock = int64(binary.BigEndian.Uint64(b[1:]))
	h.maxMessage = binary.BigEndian.Uint32(b[9:])
	h.maxRequests = binary.BigEndian.Uint32(b[13:])
	if h.maxRequests == 0 {
		return h, nil, fmt.Errorf("%w: hello allows no request", ErrProtocol)
	}
	h.quiet, early, err = parseExtensions(b[helloFixed:])
	return h, early, err
}

// maxSkew keeps nonsense in a clock from overflowing a Duration.
const maxSkew = 100 * 365 * 24 * time.Hour

// skew is how far the peer's clock is ahead of now.
func (h hello) skew(now time.Time) time.Duration {
	ours := now.UnixMilli()
	limit := maxSkew.Milliseconds()
	switch {
	case h.clock > ours && uint64(h.clock-ours) > uint64(limit):
		return maxSkew
	case h.clock < ours && uint64(ours-h.clock) > uint64(limit):
		return -maxSkew
	}
	return time.Duration(h.clock-ours) * time.Millisecond
}
