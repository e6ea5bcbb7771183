package transport

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"testing"

	"filippo.io/edwards25519"
)

// testKey is the i-th of a fixed series of agent keys.
func testKey(t testing.TB, i int) ed25519.PrivateKey {
	t.Helper()
	for n := uint64(0); ; n++ {
		seed := sha256.Sum256(binary.BigEndian.AppendUint64([]byte{byte(i)}, n))
		if key := ed25519.NewKeyFromSeed(seed[:]); key[63]&0x80 == 0 {
			return key
		}
	}
}

func TestKeyMapIsOneToOne(t *testing.T) {
	t.Parallel()
	for i := range 50 {
		key := testKey(t, i)
		agent := PeerKey(key[32:])
		id, err := newIdentity(key, "n")
		if err != nil {
			t.Fatal(err)
		}
		back, err := agentKey(id.static.Public)
		if err != nil || back != agent {
			t.Fatalf("%s came back as %s: %v", agent, back, err)
		}
	}
}

func TestGenerateKey(t *testing.T) {
	t.Parallel()
	for range 20 {
		key, err := GenerateKey(nil)
		if err != nil || ValidKey(PeerKey(key[32:])) != nil {
			t.Fatalf("%x: %v", key[32:], err)
		}
	}
	if _, err := GenerateKey(bytes.NewReader(nil)); err == nil {
		t.Fatal("a key from nothing")
	}
}

func key32(t *testing.T, s string) (k PeerKey) {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 32 {
		t.Fatal(s, err)
	}
	return PeerKey(b)
}

func TestValidKeyRefuses(t *testing.T) {
	t.Parallel()
	good := PeerKey(testKey(t, 1)[32:])
	odd := good
	odd[31] |= 0x80
	torsion, err := new(edwards25519.Point).SetBytes(key32order8[:])
	if err != nil {
		t.Fatal(err)
	}
	p, _ := new(edwards25519.Point).SetBytes(good[:])
	mixed := PeerKey(new(edwards25519.Point).Add(p, torsion).Bytes())
	mixed2 := PeerKey(new(edwards25519.Point).Subtract(p, torsion).Bytes())
	for name, k := range map[string]PeerKey{
		"sign bit":            odd,
		"identity":            key32(t, "0100000000000000000000000000000000000000000000000000000000000000"),
		"order 2":             key32(t, "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
		"order 4":             {},
		"order 8":             key32order8,
		"y = p, not reduced":  key32(t, "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
		"y = p+1":             key32(t, "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
		"no point":            key32(t, "0200000000000000000000000000000000000000000000000000000000000000"),
		"torsion component":   mixed,
		"torsion component 2": mixed2,
	} {
		if err := ValidKey(k); !errors.Is(err, ErrKey) {
			t.Errorf("%s: %x: %v", name, k[:], err)
		}
	}
	if err := ValidKey(good); err != nil {
		t.Error(err)
	}
}

// key32order8 is a point of order 8 with sign bit 0.
var key32order8 = PeerKey{0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0,
	0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05}

func TestAgentKeyRefuses(t *testing.T) {
	t.Parallel()
	for name, u := range map[string]string{
		"u = 0":           "0000000000000000000000000000000000000000000000000000000000000000",
		"u = 1":           "0100000000000000000000000000000000000000000000000000000000000000",
		"u = -1":          "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"u = p":           "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"u, high bit set": "0900000000000000000000000000000000000000000000000000000000000080",
		"on the twist":    "0200000000000000000000000000000000000000000000000000000000000000",
		"low order":       "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
	} {
		k := key32(t, u)
		if got, err := agentKey(k[:]); !errors.Is(err, ErrKey) {
			t.Errorf("%s became %s: %v", name, got, err)
		}
	}
	if _, err := agentKey(make([]byte, 31)); !errors.Is(err, ErrKey) {
		t.Error("31 bytes")
	}
}
