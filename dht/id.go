package dht

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math/bits"

	"filippo.io/edwards25519"
)

// Key is an agent's Ed25519 public key (RFC 8032, 32 bytes, sign bit 0).
type Key [ed25519.PublicKeySize]byte

// String is the first 8 bytes in hexadecimal: enough for logs and traces.
func (k Key) String() string { return hex.EncodeToString(k[:8]) }

// top is the first 64 bits.
func (k *Key) top() uint64 { return binary.BigEndian.Uint64(k[:]) }

var errKey = errors.New("not an agent key")

// valid refuses keys that no agent has: another encoding than the canonical
// one, sign bit 1, points of low order (for which anyone can make signatures).
func (k Key) valid() error {
	p, err := new(edwards25519.Point).SetBytes(k[:])
	if err != nil || k[31]&0x80 != 0 || !bytes.Equal(p.Bytes(), k[:]) {
		return errKey
	}
	if p.MultByCofactor(p).Equal(edwards25519.NewIdentityPoint()) == 1 {
		return errKey
	}
	return nil
}

// ID is a position in the DHT's key space of 256 bits, of nodes and records
// alike. Nearness is the XOR metric.
type ID [sha256.Size]byte

const idDomain = "dht-node-v1"

// NodeID is the position of an agent's node and of its address record:
// SHA-256("dht-node-v1" || key).
func NodeID(k Key) ID {
	var b [len(idDomain) + len(k)]byte
	copy(b[copy(b[:], idDomain):], k[:])
	return sha256.Sum256(b[:])
}

// String is the first 8 bytes in hexadecimal.
func (id ID) String() string { return hex.EncodeToString(id[:8]) }

// top is the first 64 bits.
func (id *ID) top() uint64 { return binary.BigEndian.Uint64(id[:]) }

// prefixLen is the number of leading bits that a and b share, 0 to 256.
func prefixLen(a, b ID) int {
	for i := 0; i < len(a); i += 8 {
		if x := binary.BigEndian.Uint64(a[i:]) ^ binary.BigEndian.Uint64(b[i:]); x != 0 {
			return 8*i + bits.LeadingZeros64(x)
		}
	}
	return 256
}

// compare is negative if a is nearer to target than b, 0 if a is b.
func compare(target, a, b ID) int {
	for i := 0; i < len(target); i += 8 {
		t := binary.BigEndian.Uint64(target[i:])
		x, y := binary.BigEndian.Uint64(a[i:])^t, binary.BigEndian.Uint64(b[i:])^t
		if x != y {
			return cmp.Compare(x, y)
		}
	}
	return 0
}
