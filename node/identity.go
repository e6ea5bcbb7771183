package node

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/transport"
)

// The key file is text, so that a person who opens it sees what it is:
//
//	parley agent key 1
//	agent agent1…            the public key, which also shows damage
//	seed <64 hex digits>     the Ed25519 seed (RFC 8032, section 5.1.5)
const (
	keyFile    = "agent.key"
	keyHeader  = "parley agent key 1"
	maxKeyFile = 1024
)

// identity is the node's one agent key. It never leaves the process.
type identity struct {
	key   ed25519.PrivateKey
	agent sdk.AgentID
}

func newIdentity(key ed25519.PrivateKey) identity {
	return identity{key: key, agent: sdk.AgentID(key.Public().(ed25519.PublicKey))}
}

// String keeps the key out of logs that print a whole struct.
func (id identity) String() string   { return id.agent.String() }
func (id identity) GoString() string { return id.agent.String() }

// Init makes the data directory (mode 0700) and its agent key if they are not
// there, and returns the agent's id. An existing key is checked, never replaced.
func Init(dir string) (sdk.AgentID, error) {
	id, err := openIdentity(dir)
	return id.agent, err
}

// ReadID returns the id of the agent whose key is in dir. It changes nothing.
func ReadID(dir string) (sdk.AgentID, error) {
	id, err := readIdentity(filepath.Join(dir, keyFile))
	return id.agent, err
}

// openIdentity reads the key of dir, making it at first start.
func openIdentity(dir string) (identity, error) {
	if err := makeDataDir(dir); err != nil {
		return identity{}, err
	}
	path := filepath.Join(dir, keyFile)
	id, err := readIdentity(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return id, err
	}
	if chains, err := os.ReadDir(filepath.Join(dir, "chains")); len(chains) > 0 || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return identity{}, errors.Join(fmt.Errorf("agent key %s is missing, and there may be source chains that it signed: "+
			"restore it from a backup, or choose another data directory to start as a new agent", path), err)
	}
	key, err := transport.GenerateKey(rand.Reader)
	if err != nil {
		return identity{}, fmt.Errorf("make agent key: %w", err)
	}
	if err := writeIdentity(path, newIdentity(key)); err != nil && !errors.Is(err, fs.ErrExist) {
		return identity{}, fmt.Errorf("write agent key: %w", err)
	}
	return readIdentity(path) // ours, or the one of whoever was first
}

func makeDataDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("data directory %s: others may write to it (mode %04o); run: chmod 700 %s",
			dir, info.Mode().Perm(), dir)
	}
	return nil
}

func readIdentity(path string) (identity, error) {
	f, err := os.Open(path)
	if err != nil {
		return identity{}, fmt.Errorf("agent key: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return identity{}, fmt.Errorf("agent key: %w", err)
	}
	if !info.Mode().IsRegular() {
		return identity{}, fmt.Errorf("agent key %s: not a regular file", path)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return identity{}, fmt.Errorf("agent key %s: others may read it (mode %04o); if nobody has, run: chmod 600 %s",
			path, info.Mode().Perm(), path)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return identity{}, fmt.Errorf("agent key %s: %w", path, err)
	}
	id, err := parseIdentity(b)
	if err != nil {
		return identity{}, fmt.Errorf("agent key %s: %w; nothing was changed: restore it from a backup, or move it away to start as a new agent", path, err)
	}
	return id, nil
}

// parseIdentity reads a key file's content. Its errors never quote the content.
func parseIdentity(b []byte) (identity, error) {
	if len(b) > maxKeyFile {
		return identity{}, fmt.Errorf("not an agent key file: longer than %d bytes", maxKeyFile)
	}
	if !strings.HasPrefix(string(b), keyHeader+"\n") {
		return identity{}, fmt.Errorf("not an agent key file: it does not begin with %q", keyHeader)
	}
	lines := strings.Split(string(b), "\n")
	if len(lines) != 4 || lines[3] != "" {
		return identity{}, errors.New("damaged: three lines expected")
	}
	agentText, ok1 := strings.CutPrefix(lines[1], "agent ")
	seedText, ok2 := strings.CutPrefix(lines[2], "seed ")
	if !ok1 || !ok2 {
		return identity{}, errors.New("damaged: lines \"agent …\" and \"seed …\" expected")
	}
	agent, err := sdk.ParseAgentID(agentText)
	if err != nil {
		return identity{}, errors.New("damaged: the agent line holds no AgentID")
	}
	seed, err := hex.DecodeString(seedText)
	if err != nil || len(seed) != ed25519.SeedSize {
		return identity{}, errors.New("damaged: the seed is not 64 hexadecimal digits")
	}
	id := newIdentity(ed25519.NewKeyFromSeed(seed))
	if id.agent != agent {
		return identity{}, errors.New("damaged: the seed is not that of the agent named in the file")
	}
	if err := transport.ValidKey(transport.PeerKey(agent)); err != nil {
		return identity{}, fmt.Errorf("not an agent's key: %w", err)
	}
	return id, nil
}

func formatIdentity(id identity) []byte {
	return fmt.Appendf(nil, "%s\nagent %s\nseed %x\n", keyHeader, id.agent, id.key.Seed())
}

// writeIdentity creates path, whole and durable or not at all. It fails with
// fs.ErrExist where the file is there already.
func writeIdentity(path string, id identity) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".agent-key-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(formatIdentity(id))
	if err == nil {
		err = tmp.Sync()
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if err := os.Link(tmp.Name(), path); err != nil { // unlike rename, never replaces
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
