package sdk

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"
)

// Types of the entries by which a source chain holds what is done in an agent's
// name. Only TypeRevocation is public.
const (
	TypeDelegation = "parley.delegation" // a Proof that the chain's agent has signed the last link of
	TypeRevocation = "parley.revocation" // a Revocation of one of those
	TypeBehalf     = "parley.behalf"     // a BehalfEntry: in whose name the other records of the same cause came about
	TypeReceipt    = "parley.receipt"    // a Receipt
)

// Revocation is the end of a delegation of its record's author.
type Revocation struct {
	Delegation Hash      // Link.ID
	Expires    time.Time // when the delegation would end by itself: to the microsecond, UTC
}

const (
	revocationVersion = 1
	revocationSize    = 1 + 32 + 8
)

// AppendRevocation appends the one encoding of r:
//
//	version 1 | delegation 32 | expires 8 (unix µs, big-endian)
func AppendRevocation(b []byte, r *Revocation) []byte {
	b = append(b, revocationVersion)
	b = append(b, r.Delegation[:]...)
	return binary.BigEndian.AppendUint64(b, linkTime(r.Expires))
}

// ParseRevocation reads one that fills all of b.
func ParseRevocation(b []byte) (r Revocation, err error) {
	switch {
	case len(b) != revocationSize:
		return r, fmt.Errorf("revocation: %d bytes, %d expected", len(b), revocationSize)
	case b[0] != revocationVersion:
		return r, fmt.Errorf("revocation: version %d, only %d is known", b[0], revocationVersion)
	}
	copy(r.Delegation[:], b[1:])
	µs := binary.BigEndian.Uint64(b[33:])
	if µs == 0 || µs > math.MaxInt64 {
		return r, fmt.Errorf("revocation: %d is no time", µs)
	}
	r.Expires = time.UnixMicro(int64(µs)).UTC()
	return r, nil
}
