package sdk

import (
	"encoding/hex"
	"fmt"
)

// AgentID is an agent's Ed25519 public key (RFC 8032, 32 bytes, sign bit 0).
// It is the agent's only name and address. Its text form is
// "agent1" followed by 52 data and 6 checksum characters (see text.go).
type AgentID [32]byte

// Hash is the SHA-256 of a record's canonical header or of an entry's bytes.
// Text form: "hash1…".
type Hash [32]byte

// DNAHash identifies a DNA: see DNA.Hash. Text form: "dna1…".
type DNAHash [32]byte

// MessageID names one message of the message cycle: 16 random bytes drawn by
// the sending node. A message that is sent again keeps its id. Text form: 32
// hexadecimal digits.
type MessageID [16]byte

const (
	agentPrefix = "agent"
	hashPrefix  = "hash"
	dnaPrefix   = "dna"
)

// ParseAgentID reads the text form of an AgentID. It refuses any other prefix
// or length, any character outside the alphabet, a wrong checksum, and a key
// whose sign bit is 1, which no agent has. Whether the key is a point of the
// curve's prime-order group is checked where it is dialled.
func ParseAgentID(s string) (AgentID, error) { return parseAgentID(s) }

func parseAgentID[S string | []byte](s S) (AgentID, error) {
	id, err := decodeText(agentPrefix, s)
	if err != nil {
		return AgentID{}, fmt.Errorf("not an AgentID: %w", err)
	}
	if id[31]&0x80 != 0 {
		return AgentID{}, fmt.Errorf("not an AgentID: the key's sign bit is 1; agent keys have sign bit 0")
	}
	return id, nil
}

// ParseHash reads the text form of a Hash.
func ParseHash(s string) (Hash, error) { return parseHash(s) }

func parseHash[S string | []byte](s S) (Hash, error) {
	h, err := decodeText(hashPrefix, s)
	if err != nil {
		return Hash{}, fmt.Errorf("not a hash: %w", err)
	}
	return h, nil
}

// ParseDNAHash reads the text form of a DNAHash.
func ParseDNAHash(s string) (DNAHash, error) { return parseDNAHash(s) }

func parseDNAHash[S string | []byte](s S) (DNAHash, error) {
	h, err := decodeText(dnaPrefix, s)
	if err != nil {
		return DNAHash{}, fmt.Errorf("not a DNA hash: %w", err)
	}
	return h, nil
}

// ParseMessageID reads the text form of a MessageID.
func ParseMessageID(s string) (MessageID, error) {
	var id MessageID
	if len(s) != 2*len(id) {
		return MessageID{}, fmt.Errorf("not a message id: %d characters instead of %d", len(s), 2*len(id))
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return MessageID{}, fmt.Errorf("not a message id: %w", err)
	}
	return id, nil
}

func (a AgentID) String() string   { return encodeText(agentPrefix, a) }
func (h Hash) String() string      { return encodeText(hashPrefix, h) }
func (h DNAHash) String() string   { return encodeText(dnaPrefix, h) }
func (m MessageID) String() string { return hex.EncodeToString(m[:]) }

// Short is a form for log lines and tables: unmistakable to a reader's eye,
// not to a program.
func (a AgentID) Short() string { return a.String()[:14] }

// IsZero tells whether a is unset. The zero value is no agent's key.
func (a AgentID) IsZero() bool   { return a == AgentID{} }
func (h Hash) IsZero() bool      { return h == Hash{} }
func (h DNAHash) IsZero() bool   { return h == DNAHash{} }
func (m MessageID) IsZero() bool { return m == MessageID{} }

func (a AgentID) MarshalText() ([]byte, error)   { return []byte(a.String()), nil }
func (h Hash) MarshalText() ([]byte, error)      { return []byte(h.String()), nil }
func (h DNAHash) MarshalText() ([]byte, error)   { return []byte(h.String()), nil }
func (m MessageID) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

func (a *AgentID) UnmarshalText(b []byte) (err error) { *a, err = parseAgentID(b); return err }
func (h *Hash) UnmarshalText(b []byte) (err error)    { *h, err = parseHash(b); return err }
func (h *DNAHash) UnmarshalText(b []byte) (err error) { *h, err = parseDNAHash(b); return err }
func (m *MessageID) UnmarshalText(b []byte) (err error) {
	*m, err = ParseMessageID(string(b))
	return err
}
