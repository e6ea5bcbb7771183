package sdk

import (
	"crypto/sha256"
	"encoding/binary"
)

// DNA is what makes an application one: agents whose DNA has the same hash can
// message one another in it. Name and Integrity come from the handler,
// NetworkSeed and Properties from the operator's settings, so that two groups
// can run the same handler apart. A handler's binary is no part of it.
type DNA struct {
	// Name of the application: 1 to 64 bytes of a-z, 0-9, '-' and '_'.
	Name string
	// Integrity is the version of the rules: at most 64 bytes. It changes when
	// agents of the old and of the new rules must not meet.
	Integrity string
	// NetworkSeed keeps groups apart: at most 256 bytes.
	NetworkSeed string
	// Properties are the operator's, readable by the handler: at most 64 KiB.
	Properties []byte
}

const dnaDomain = "parley-dna-v1"

// Hash is SHA-256 over the domain "parley-dna-v1" and the four fields, each
// preceded by its length as 4 bytes big-endian.
func (d DNA) Hash() DNAHash {
	b := []byte(dnaDomain)
	for _, f := range [][]byte{[]byte(d.Name), []byte(d.Integrity), []byte(d.NetworkSeed), d.Properties} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(f)))
		b = append(b, f...)
	}
	return sha256.Sum256(b)
}
