package sdk

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// RecordKind says what a record is.
type RecordKind uint8

const (
	KindGenesis RecordKind = iota + 1 // sequence 0; its entry is the DNA's name and integrity version
	KindEntry                         // an entry that a call committed
)

// Cause says why a record was appended.
type Cause struct {
	// Kind is one that Commits; 0 in the genesis record.
	Kind CallKind
	// Message and From are those of the Call.
	Message MessageID
	From    AgentID
}

// Header is a record's signed part.
type Header struct {
	Version    uint8 // HeaderVersion
	DNA        DNAHash
	Author     AgentID
	Seq        uint64
	Prev       Hash      // hash of the previous record; zero at sequence 0
	Time       time.Time // of the append, by the node's clock, to the microsecond, UTC
	Kind       RecordKind
	EntryType  string // 1 to 64 bytes
	Visibility Visibility
	Entry      Hash // EntryHash of the entry's content
	Cause      Cause
}

// Record is one link of a source chain. Its hash is that of its header, so an
// entry can be withheld and the chain still be verified.
type Record struct {
	Header    Header
	Signature [64]byte // Ed25519 by the author over SigningBytes of the hash
	Content   []byte   // the entry; nil where it was withheld
}

const (
	// HeaderVersion is the only version of the header's encoding so far.
	HeaderVersion = 1
	// MaxEntryType bounds Header.EntryType, in bytes.
	MaxEntryType = 64
	// headerFixed is the length of a header without its entry type.
	headerFixed     = 1 + 32 + 32 + 8 + 32 + 8 + 1 + 1 + 1 + 32 + 1 + 16 + 32
	signatureDomain = "parley-record-v1"
	// MaxPublic bounds a public entry as it is published, in bytes: header,
	// signature and content (PublicSize).
	MaxPublic = 4096
)

// PublicSize is how long a public entry is as it is published.
func PublicSize(entryType string, content []byte) int {
	return headerFixed + len(entryType) + len(Record{}.Signature) + len(content)
}

// EntryHash is the hash under which a header names its entry: SHA-256 of
// "parley-entry-v1", then the content.
func EntryHash(content []byte) Hash {
	h := sha256.New()
	h.Write([]byte("parley-entry-v1"))
	h.Write(content)
	return Hash(h.Sum(nil))
}

// AppendHeader appends the canonical encoding of h. Integers are big-endian.
//
//	 version 1 | DNA 32 | author 32 | seq 8 | prev 32 | time 8 (unix µs, signed)
//	| kind 1 | visibility 1 | cause kind 1 | cause message 16 | cause from 32
//	| entry hash 32 | type length 1 | type
func AppendHeader(b []byte, h *Header) []byte {
	b = append(b, h.Version)
	b = append(b, h.DNA[:]...)
	b = append(b, h.Author[:]...)
	b = binary.BigEndian.AppendUint64(b, h.Seq)
	b = append(b, h.Prev[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(h.Time.UnixMicro()))
	b = append(b, byte(h.Kind), byte(h.Visibility), byte(h.Cause.Kind))
	b = append(b, h.Cause.Message[:]...)
	b = append(b, h.Cause.From[:]...)
	b = append(b, h.Entry[:]...)
	b = append(b, byte(len(h.EntryType)))
	return append(b, h.EntryType...)
}

// ParseHeader reads one header that fills all of b. There is one encoding of
// each header: ParseHeader accepts what AppendHeader writes and nothing else.
func ParseHeader(b []byte) (Header, error) {
	var h Header
	if len(b) < headerFixed {
		return h, fmt.Errorf("record header: %d bytes, at least %d expected", len(b), headerFixed)
	}
	take := func(n int) []byte { f := b[:n]; b = b[n:]; return f }
	h.Version = take(1)[0]
	if h.Version != HeaderVersion {
		return h, fmt.Errorf("record header: version %d, only %d is known", h.Version, HeaderVersion)
	}
	copy(h.DNA[:], take(32))
	copy(h.Author[:], take(32))
	h.Seq = binary.BigEndian.Uint64(take(8))
	copy(h.Prev[:], take(32))
	h.Time = time.UnixMicro(int64(binary.BigEndian.Uint64(take(8)))).UTC()
	h.Kind = RecordKind(take(1)[0])
	h.Visibility = Visibility(take(1)[0])
	h.Cause.Kind = CallKind(take(1)[0])
	copy(h.Cause.Message[:], take(16))
	copy(h.Cause.From[:], take(32))
	copy(h.Entry[:], take(32))
	n := int(take(1)[0])
	switch {
	case h.Kind != KindGenesis && h.Kind != KindEntry:
		return h, fmt.Errorf("record header: kind %d is unknown", h.Kind)
	case h.Visibility > Public:
		return h, fmt.Errorf("record header: visibility %d is unknown", h.Visibility)
	case h.Cause.Kind != 0 && !h.Cause.Kind.Commits():
		return h, fmt.Errorf("record header: cause %d is unknown", h.Cause.Kind)
	case n == 0 || n > MaxEntryType || n != len(b):
		return h, fmt.Errorf("record header: entry type of %d bytes, %d are there, 1 to %d allowed", n, len(b), MaxEntryType)
	}
	h.EntryType = string(b)
	return h, nil
}

// Hash is the record's hash: SHA-256 of the canonical header.
func (r *Record) Hash() Hash {
	return sha256.Sum256(AppendHeader(make([]byte, 0, headerFixed+MaxEntryType), &r.Header))
}

// SigningBytes is what an author signs for a record of hash h.
func SigningBytes(h Hash) []byte { return append([]byte(signatureDomain), h[:]...) }

// Verify checks what can be seen from the record alone: its signature, and its
// entry's hash unless the entry was withheld.
func (r *Record) Verify() error {
	if !ed25519.Verify(r.Header.Author[:], SigningBytes(r.Hash()), r.Signature[:]) {
		return errors.New("bad signature")
	}
	if r.Content != nil && EntryHash(r.Content) != r.Header.Entry {
		return errors.New("the entry's hash is not the one in the header")
	}
	return nil
}
