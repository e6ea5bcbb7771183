package chain

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/parley-p2p/parley/sdk"
)

// linker walks a chain from record 0 and checks what one record must be after
// the one before it: everything but the signature. It is pure; Open, Verify
// and VerifyExport use the same one.
type linker struct {
	dna    sdk.DNAHash
	author sdk.AgentID
	next   uint64   // sequence number that must come
	prev   sdk.Hash // hash of the record before it

	name, integrity string // of the genesis entry, once next > 0
}

// step checks the next record: its canonical header and its content, nil where
// it was withheld. It returns the record's hash.
func (l *linker) step(header, content []byte, withheld bool) (sdk.Header, sdk.Hash, error) {
	h, err := sdk.ParseHeader(header)
	if err != nil {
		return h, sdk.Hash{}, err
	}
	hash := sdk.Hash(sha256.Sum256(header))
	if err := l.place(&h); err != nil {
		return h, hash, err
	}
	if !withheld && sdk.EntryHash(content) != h.Entry {
		return h, hash, errors.New("wrong hash: its entry's hash is not the one in the header")
	}
	if l.next == 0 {
		if withheld {
			return h, hash, errors.New("the genesis entry is missing")
		}
		if l.name, l.integrity, err = parseGenesis(content); err != nil {
			return h, hash, err
		}
	}
	l.next, l.prev = l.next+1, hash
	return h, hash, nil
}

func (l *linker) place(h *sdk.Header) error {
	genesis := h.Kind == sdk.KindGenesis
	switch {
	case h.DNA != l.dna:
		return fmt.Errorf("it belongs to another DNA, %s", h.DNA)
	case h.Author != l.author:
		return fmt.Errorf("wrong author: %s", h.Author)
	case h.Seq != l.next:
		return fmt.Errorf("gap: its sequence number is %d", h.Seq)
	case !bytes.Equal(h.Prev[:], l.prev[:]):
		return errors.New("broken link: it does not name the hash of the record before it")
	case genesis != (h.Seq == 0):
		return fmt.Errorf("a record of kind %d can't stand here", h.Kind)
	case genesis != (h.Cause.Kind == 0):
		return fmt.Errorf("a record of this kind can't have cause %d", h.Cause.Kind)
	case genesis && (h.EntryType != genesisType || h.Visibility != sdk.Public || h.Cause != sdk.Cause{}):
		return errors.New("it is no genesis record")
	}
	return nil
}

func signedBy(author sdk.AgentID, hash sdk.Hash, signature []byte) bool {
	return ed25519.Verify(author[:], sdk.SigningBytes(hash), signature)
}
