package node

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/parley-p2p/parley/sdk"
)

func TestIdentityIsMadeOnceAndKept(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	var wg sync.WaitGroup
	ids := make([]sdk.AgentID, 8)
	for i := range ids {
		wg.Go(func() {
			id, err := Init(dir)
			if err != nil {
				t.Error(err)
			}
			ids[i] = id
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] || id.IsZero() || id[31]&0x80 != 0 {
			t.Fatalf("agents %v", ids)
		}
	}
	for name, want := range map[string]os.FileMode{"": 0o700, keyFile: 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != want {
			t.Errorf("mode of %q is %04o instead of %04o", name, info.Mode().Perm(), want)
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, ".agent-key-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	if id, err := ReadID(dir); err != nil || id != ids[0] {
		t.Errorf("ReadID: %v, %v", id, err)
	}
}

func TestIdentityRefused(t *testing.T) {
	t.Parallel()
	good := newIdentity(testPrivateKey(1))
	other := newIdentity(testPrivateKey(2))
	text := string(formatIdentity(good))
	seed := fmt.Sprintf("%x", good.key.Seed())
	tests := []struct {
		name, content string
		mode          os.FileMode
		want          string
	}{
		{"readable by the group", text, 0o640, "chmod 600"},
		{"readable by all", text, 0o604, "chmod 600"},
		{"empty", "", 0o600, "not an agent key file"},
		{"foreign", "-----BEGIN OPENSSH PRIVATE KEY-----\n", 0o600, "not an agent key file"},
		{"newer version", strings.Replace(text, "key 1", "key 2", 1), 0o600, "not an agent key file"},
		{"cut short", text[:len(text)-10], 0o600, "damaged"},
		{"another agent's line", strings.Replace(text, good.agent.String(), other.agent.String(), 1), 0o600, "damaged"},
		{"mistyped agent", strings.Replace(text, "agent1", "agent2", 1), 0o600, "damaged"},
		{"flipped seed", strings.Replace(text, seed[:2], flip(seed[:2]), 1), 0o600, "damaged"},
		{"no hexadecimal", strings.Replace(text, seed, strings.Repeat("g", 64), 1), 0o600, "damaged"},
		{"something after it", text + "x", 0o600, "damaged"},
		{"long", text + strings.Repeat("\n", maxKeyFile), 0o600, "longer than"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, keyFile)
			if err := os.WriteFile(path, []byte(tt.content), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, tt.mode); err != nil {
				t.Fatal(err)
			}
			_, err := Init(dir)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %q in it", err, tt.want)
			}
			if strings.Contains(err.Error(), seed[:16]) {
				t.Error("the error shows the seed")
			}
			after, err := os.ReadFile(path)
			if err != nil || string(after) != tt.content {
				t.Errorf("the file was changed: %v", err)
			}
		})
	}
}

func flip(s string) string {
	if s == "00" {
		return "01"
	}
	return "00"
}

// TestLostKeyIsNotReplaced: chains without their key are no reason to become
// another agent.
func TestLostKeyIsNotReplaced(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	chains := filepath.Join(dir, "chains")
	if err := os.Mkdir(chains, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(chains, "auction-00.db"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Init(dir); err == nil || !strings.Contains(err.Error(), "restore it from a backup") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Lstat(filepath.Join(dir, keyFile)); !os.IsNotExist(err) {
		t.Errorf("a key was made: %v", err)
	}
	if err := os.Remove(filepath.Join(chains, "auction-00.db")); err != nil {
		t.Fatal(err)
	}
	if _, err := Init(dir); err != nil {
		t.Errorf("an empty directory of chains: %v", err)
	}
}

func TestDataDirWritableByOthersIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Init(dir); err == nil || !strings.Contains(err.Error(), "chmod 700") {
		t.Fatalf("got %v", err)
	}
}

func TestIdentityIsNotPrinted(t *testing.T) {
	t.Parallel()
	id := newIdentity(testPrivateKey(3))
	seed := hex.EncodeToString(id.key.Seed())
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if s := fmt.Sprintf(verb, id); s != id.agent.String() || strings.Contains(s, seed) {
			t.Errorf("%s prints %q", verb, s)
		}
	}
}

func FuzzParseIdentity(f *testing.F) {
	f.Add(formatIdentity(newIdentity(testPrivateKey(1))))
	f.Add([]byte(keyHeader + "\nagent \nseed \n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		id, err := parseIdentity(b)
		if err == nil && !bytes.EqualFold(formatIdentity(id), b) {
			t.Fatalf("%q is taken for %v", b, id)
		}
	})
}

func TestSecondNodeOnADataDirectoryIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	unlock, err := lockDataDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockDataDir(dir); err == nil || !strings.Contains(err.Error(), "another node runs on it") {
		t.Fatalf("a second lock: %v", err)
	}
	unlock()
	unlock, err = lockDataDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}

// testPrivateKey is a fixed agent key: the first after n whose sign bit is 0.
func testPrivateKey(n byte) ed25519.PrivateKey {
	seed := bytes.Repeat([]byte{n}, ed25519.SeedSize)
	for {
		key := ed25519.NewKeyFromSeed(seed)
		if key[63]&0x80 == 0 {
			return key
		}
		seed[0]++
		seed[1] += 7
	}
}
