package node

import (
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/parley-p2p/parley/dht"
	"github.com/parley-p2p/parley/node/chain"
	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/transport"
)

// entryDHT is what publishes and finds public entries. Both end when ctx ends.
type entryDHT interface {
	// PutEntry publishes a body once, and says how many nodes hold it now.
	PutEntry(ctx context.Context, id dht.ID, body []byte) (holders int, err error)
	// GetEntry finds the body of an id. Its error wraps dht.ErrNotFound,
	// dht.ErrNoAnswer, dht.ErrBusy, dht.ErrClosed or ctx's.
	GetEntry(ctx context.Context, id dht.ID) (body []byte, r *dht.Result, err error)
}

const entryDomain = "dht-entry-v1"

// entryID is the position of a public entry in the DHT:
// SHA-256("dht-entry-v1" || DNA hash || record hash).
func entryID(dna sdk.DNAHash, record sdk.Hash) dht.ID {
	b := append([]byte(entryDomain), dna[:]...)
	return sha256.Sum256(append(b, record[:]...))
}

// checkEntry is what a holder knows of a body, whether it runs the DNA or not: it
// is one public entry, whole, in its one encoding, signed by an agent. What the
// DNA's rules say of it is the reader's to find out.
func checkEntry(body []byte) (id dht.ID, author dht.Key, err error) {
	r, err := chain.ParsePublic(body)
	if err != nil {
		return id, author, err
	}
	if err := transport.ValidKey(transport.PeerKey(r.Header.Author)); err != nil {
		return id, author, fmt.Errorf("public entry: its author is no agent: %w", err)
	}
	return entryID(r.Header.DNA, r.Hash()), dht.Key(r.Header.Author), nil
}
