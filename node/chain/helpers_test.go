package chain

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

var testDNA = sdk.DNA{Name: "auction", Integrity: "1"}

// testKey is an agent's key: the first of its seeds with sign bit 0.
func testKey(name string) ed25519.PrivateKey {
	for i := 0; ; i++ {
		seed := sha256.Sum256(fmt.Appendf(nil, "%s %d", name, i))
		if key := ed25519.NewKeyFromSeed(seed[:]); key[63]&0x80 == 0 {
			return key
		}
	}
}

var alice, bob = testKey("alice"), testKey("bob")

// clock is a time that only a test moves; each look takes a microsecond.
type clock struct{ micro int64 }

func (c *clock) now() time.Time { c.micro++; return time.UnixMicro(c.micro).UTC() }

func testOptions(t testing.TB) Options {
	c := &clock{micro: 1_700_000_000_000_000}
	return Options{Path: filepath.Join(t.TempDir(), "auction.chain"), DNA: testDNA, Key: alice, Now: c.now,
		LockTimeout: time.Nanosecond, walHalf: 32 << 10}
}

func mustOpen(t testing.TB, o Options) *Chain {
	t.Helper()
	c, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return c
}

func mustClose(t testing.TB, c *Chain) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

// entries are n entries of type typ that differ from one another.
func entries(typ string, n, size int) []sdk.Entry {
	out := make([]sdk.Entry, n)
	for i := range out {
		content := bytes.Repeat([]byte{byte('a' + i%26)}, size)
		out[i] = sdk.Entry{Type: typ, Content: content, Visibility: sdk.Visibility(i % 2)}
	}
	return out
}

func messageID(n uint64) (id sdk.MessageID) {
	h := sha256.Sum256(fmt.Appendf(nil, "message %d", n))
	copy(id[:], h[:])
	return id
}

func function(n uint64) sdk.Cause {
	return sdk.Cause{Kind: sdk.CallFunction, Message: messageID(n), From: agentOf(alice)}
}

func receive(n uint64) sdk.Cause {
	return sdk.Cause{Kind: sdk.CallReceive, Message: messageID(n), From: agentOf(bob)}
}

func agentOf(key ed25519.PrivateKey) (a sdk.AgentID) {
	copy(a[:], key.Public().(ed25519.PublicKey))
	return a
}

func mustAppend(t testing.TB, c *Chain, b Batch) uint64 {
	t.Helper()
	first, err := c.Append(context.Background(), b)
	if err != nil {
		t.Fatal(err)
	}
	return first
}

// mustVerify checks a chain whole, with its signatures.
func mustVerify(t testing.TB, c *Chain, want uint64) {
	t.Helper()
	n, err := c.Verify(context.Background())
	if err != nil || n != want {
		t.Fatalf("verify: %d records, %v; want %d", n, err, want)
	}
}

func mustRead(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
