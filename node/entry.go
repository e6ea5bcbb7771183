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

const (
	entryDomain      = "dht-entry-v1"
	revocationDomain = "dht-revocation-v1"
	revocationShare  = "dht-revocations-v1"
)

// entryID is the position of a public entry in the DHT:
// SHA-256("dht-entry-v1" || DNA hash || record hash).
func entryID(dna sdk.DNAHash, record sdk.Hash) dht.ID {
	b := append([]byte(entryDomain), dna[:]...)
	return sha256.Sum256(append(b, record[:]...))
}

// revocationID is where the revocation of an agent's delegation is found by who
// knows no more than the delegation:
// SHA-256("dht-revocation-v1" || author || delegation). The author's signature is
// over both, so that nobody else can put anything there.
func revocationID(author sdk.AgentID, delegation sdk.Hash) dht.ID {
	b := append([]byte(revocationDomain), author[:]...)
	return sha256.Sum256(append(b, delegation[:]...))
}

// share is against whose part of a holder's room an author's entry counts. Its
// revocations have one of their own, which its other entries can't use up.
func share(author sdk.AgentID, revocation bool) dht.Key {
	if !revocation {
		return dht.Key(author)
	}
	return sha256.Sum256(append([]byte(revocationShare), author[:]...))
}

// checkEntry is what a holder knows of a body, whether it runs the DNA or not: it
// is one public entry, whole, in its one encoding, signed by an agent. What the
// DNA's rules say of it is the reader's to find out. of is against whose share it
// counts.
func checkEntry(body []byte) (id dht.ID, of dht.Key, err error) {
	id, of, _, err = readEntry(body)
	return id, of, err
}

// readEntry is checkEntry that shows the entry.
func readEntry(body []byte) (id dht.ID, of dht.Key, r *sdk.Record, err error) {
	if r, err = chain.ParsePublic(body); err != nil {
		return id, of, nil, err
	}
	author := r.Header.Author
	if err := transport.ValidKey(transport.PeerKey(author)); err != nil {
		return id, of, nil, fmt.Errorf("public entry: its author is no agent: %w", err)
	}
	if r.Header.EntryType == sdk.TypeRevocation {
		revoked, err := sdk.ParseRevocation(r.Content)
		return revocationID(author, revoked.Delegation), share(author, true), r, err
	}
	return entryID(r.Header.DNA, r.Hash()), share(author, false), r, nil
}
