package transport

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"filippo.io/edwards25519"
	"filippo.io/edwards25519/field"
)

// PeerKey is a peer's Ed25519 agent key in its canonical encoding (RFC 8032,
// section 5.1.2). The peer of a Session has proven that it holds the private half.
type PeerKey [32]byte

// String is the key in hexadecimal.
func (k PeerKey) String() string { return hex.EncodeToString(k[:]) }

// ErrKey is what every error about a key that can't be an agent's wraps.
var ErrKey = errors.New("not an agent key")

// ValidKey tells whether k can be an agent's key: the canonical encoding of a
// point on the curve, in the subgroup of prime order, with sign bit 0. The
// last rule makes the map to X25519 keys one-to-one, so that the static key of
// a handshake is the agent's key.
func ValidKey(k PeerKey) error {
	_, err := montgomery(k)
	return err
}

// GenerateKey makes an agent key: it draws Ed25519 keys from random until the
// public key's sign bit is 0 (every second one). A nil random means crypto/rand.
func GenerateKey(random io.Reader) (ed25519.PrivateKey, error) {
	if random == nil {
		random = rand.Reader
	}
	var seed [ed25519.SeedSize]byte
	for {
		if _, err := io.ReadFull(random, seed[:]); err != nil {
			return nil, fmt.Errorf("transport: generate key: %w", err)
		}
		key := ed25519.NewKeyFromSeed(seed[:])
		if key[63]&0x80 == 0 {
			return key, nil
		}
	}
}

// montgomery maps an agent key to its X25519 public key, u = (1+y)/(1-y)
// (RFC 7748, section 4.1).
func montgomery(k PeerKey) ([]byte, error) {
	if k[31]&0x80 != 0 {
		return nil, fmt.Errorf("%w: its sign bit is 1", ErrKey)
	}
	var y field.Element
	if _, err := y.SetBytes(k[:]); err != nil || [32]byte(y.Bytes()) != k {
		return nil, fmt.Errorf("%w: its encoding is not canonical", ErrKey)
	}
	p, err := new(edwards25519.Point).SetBytes(k[:])
	if err != nil {
		return nil, fmt.Errorf("%w: it is no point on the curve", ErrKey)
	}
	if !torsionFree(p) {
		return nil, fmt.Errorf("%w: it is not in the group of prime order", ErrKey)
	}
	return p.BytesMontgomery(), nil
}

// lMinusOne is the order of the prime-order subgroup less one, which is -1 as
// a scalar.
var lMinusOne = func() *edwards25519.Scalar {
	one, err := edwards25519.NewScalar().SetCanonicalBytes(append([]byte{1}, make([]byte, 31)...))
	if err != nil {
		panic(err)
	}
	return edwards25519.NewScalar().Negate(one)
}()

// torsionFree tells whether p is in the subgroup of prime order l and is not
// the identity: (l-1)p = -p.
func torsionFree(p *edwards25519.Point) bool {
	identity := edwards25519.NewIdentityPoint()
	if p.Equal(identity) == 1 {
		return false
	}
	q := new(edwards25519.Point).VarTimeDoubleScalarBaseMult(lMinusOne, p, edwards25519.NewScalar())
	return q.Add(q, p).Equal(identity) == 1
}

// agentKey maps an X25519 public key, as a handshake reveals it, back to the
// agent key with sign bit 0: y = (u-1)/(u+1).
func agentKey(u []byte) (PeerKey, error) {
	var x, num, den, one field.Element
	if len(u) != 32 {
		return PeerKey{}, fmt.Errorf("%w: %d bytes", ErrKey, len(u))
	}
	if _, err := x.SetBytes(u); err != nil || [32]byte(x.Bytes()) != [32]byte(u) {
		return PeerKey{}, fmt.Errorf("%w: its X25519 encoding is not canonical", ErrKey)
	}
	one.One()
	num.Subtract(&x, &one)
	den.Add(&x, &one)
	if den.Equal(new(field.Element).Zero()) == 1 {
		return PeerKey{}, fmt.Errorf("%w: u = -1 has no Edwards form", ErrKey)
	}
	var y field.Element
	y.Multiply(&num, den.Invert(&den))
	k := PeerKey(y.Bytes())
	return k, ValidKey(k)
}

// staticPrivate is the X25519 private key of an agent key: the first half of
// SHA-512 of the seed, clamped (RFC 8032, section 5.1.5; X25519 clamps anew).
func staticPrivate(key ed25519.PrivateKey) []byte {
	h := sha512.Sum512(key.Seed())
	h[0] &= 248
	h[31] = h[31]&127 | 64
	return append([]byte(nil), h[:32]...)
}
