package chain

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// MaxIndexedPublic bounds the public entries of one chain that are found by their
// hash: the newest ones, in up to 200 bytes of memory each.
const MaxIndexedPublic = 1 << 16

// Public is a durable public entry that can be published.
type Public struct {
	Seq  uint64
	Hash sdk.Hash // of the record
	Time time.Time
	Size int // as it is published
	// Revoked is the delegation whose end this is, Expires when it would end by
	// itself; zero for the entry of a call.
	Revoked sdk.Hash
	Expires time.Time
}

// publicIndex knows the newest public entries.
type publicIndex struct {
	list  []Public // oldest first
	at    map[sdk.Hash]uint64
	total uint64 // of the chain, those that are no longer in the list too
	// revoked are the revocations of delegations: nobody gets them by their hash.
	revoked []Public
}

// appendPublic appends a record if it may leave the node. What is too large was
// committed before there was a bound.
func appendPublic(list []Public, h *sdk.Header, hash sdk.Hash, content []byte) []Public {
	if h.Kind != sdk.KindEntry || h.Visibility != sdk.Public || checkPublicType(h.EntryType) != nil {
		return list
	}
	p := Public{Seq: h.Seq, Hash: hash, Time: h.Time}
	if h.EntryType == sdk.TypeRevocation {
		r, err := sdk.ParseRevocation(content)
		if err != nil {
			return list
		}
		p.Revoked, p.Expires = r.Delegation, r.Expires
	}
	if p.Size = sdk.PublicSize(h.EntryType, content); p.Size > sdk.MaxPublic {
		return list
	}
	return append(list, p)
}

// add takes in what comes next on the chain.
func (x *publicIndex) add(list []Public) {
	for _, p := range list {
		if !p.Revoked.IsZero() {
			x.revoked = append(x.revoked, p)
			x.revoked = x.revoked[max(0, len(x.revoked)-MaxIndexedPublic):]
			continue
		}
		if x.at == nil {
			x.at = map[sdk.Hash]uint64{}
		}
		x.list = append(x.list, p)
		x.at[p.Hash] = p.Seq
		x.total++
		if len(x.list) > MaxIndexedPublic {
			delete(x.at, x.list[0].Hash)
			x.list = x.list[1:]
		}
	}
}

// NewestPublic lists the newest durable public entries, the newest first, at most
// n, and counts all of the chain. Genesis and what is the node's own are not
// among them: see Revocations.
func (c *Chain) NewestPublic(n int) (list []Public, total uint64) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	from := max(0, len(c.public.list)-max(0, n))
	for i := len(c.public.list) - 1; i >= from; i-- {
		list = append(list, c.public.list[i])
	}
	return list, c.public.total
}

// Revocations lists the durable revocations of delegations that would not have
// ended by themselves before now, the newest last, of each delegation one.
func (c *Chain) Revocations(now time.Time) (list []Public) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, p := range c.public.revoked {
		twice := slices.ContainsFunc(list, func(q Public) bool { return q.Revoked == p.Revoked })
		if now.Before(p.Expires) && !twice {
			list = append(list, p)
		}
	}
	return list
}

// PublicByHash is the durable public entry whose record has this hash, or
// ErrNotFound. It never finds a private one.
func (c *Chain) PublicByHash(record sdk.Hash) (sdk.Record, error) {
	c.mu.RLock()
	seq, ok := c.public.at[record]
	c.mu.RUnlock()
	if !ok {
		return sdk.Record{}, ErrNotFound
	}
	return c.Record(seq)
}

// AppendPublic appends a public entry as it is published, or says why it can't be:
//
//	header | signature 64 | content
//
// The header's length follows from its last field. It verifies no signature.
func AppendPublic(b []byte, r *sdk.Record) ([]byte, error) {
	if err := checkPublic(r); err != nil {
		return nil, err
	}
	b = sdk.AppendHeader(b, &r.Header)
	b = append(b, r.Signature[:]...)
	return append(b, r.Content...), nil
}

// publicHeader is where a header's last field begins: the length of the type.
const publicHeader = 196

// ParsePublic reads what AppendPublic writes and nothing else, and verifies it, the
// signature last. The record shares no memory with b.
func ParsePublic(b []byte) (*sdk.Record, error) {
	if len(b) > sdk.MaxPublic {
		return nil, fmt.Errorf("public entry: %d bytes, at most %d allowed", len(b), sdk.MaxPublic)
	}
	if len(b) <= publicHeader {
		return nil, fmt.Errorf("public entry: %d bytes are no header", len(b))
	}
	n := publicHeader + 1 + int(b[publicHeader])
	if len(b) < n+signatureLen {
		return nil, fmt.Errorf("public entry: %d bytes, header and signature have %d", len(b), n+signatureLen)
	}
	h, err := sdk.ParseHeader(b[:n])
	if err != nil {
		return nil, fmt.Errorf("public entry: %w", err)
	}
	r := &sdk.Record{Header: h, Content: append([]byte{}, b[n+signatureLen:]...)}
	copy(r.Signature[:], b[n:])
	if err := checkPublic(r); err != nil {
		return nil, err
	}
	if !ed25519.Verify(h.Author[:], sdk.SigningBytes(r.Hash()), r.Signature[:]) {
		return nil, errors.New("public entry: bad signature")
	}
	return r, nil
}

// checkPublic holds a record against what is published: everything but its
// signature.
func checkPublic(r *sdk.Record) error {
	h := &r.Header
	switch {
	case h.Version != sdk.HeaderVersion:
		return fmt.Errorf("public entry: header version %d", h.Version)
	case h.Visibility != sdk.Public:
		return errors.New("public entry: it is private")
	case h.Kind != sdk.KindEntry || h.Seq == 0 || h.Cause.Kind == 0:
		return errors.New("public entry: it is no entry that a call committed")
	case r.Content == nil:
		return errors.New("public entry: its content is withheld")
	}
	if err := checkPublicType(h.EntryType); err != nil {
		return fmt.Errorf("public entry: %w", err)
	}
	if h.EntryType == sdk.TypeRevocation {
		if _, err := sdk.ParseRevocation(r.Content); err != nil {
			return fmt.Errorf("public entry: %w", err)
		}
	}
	if n := sdk.PublicSize(h.EntryType, r.Content); n > sdk.MaxPublic {
		return fmt.Errorf("public entry: %d bytes, at most %d allowed", n, sdk.MaxPublic)
	}
	if sdk.EntryHash(r.Content) != h.Entry {
		return errors.New("public entry: the entry's hash is not the one in the header")
	}
	return nil
}

// checkPublicType is of what may leave the node: what a call committed, and the
// one type of its own entries that others have to find.
func checkPublicType(t string) error {
	if t == sdk.TypeRevocation {
		return nil
	}
	return sdk.CheckEntryType(t)
}
