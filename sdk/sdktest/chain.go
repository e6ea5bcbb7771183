package sdktest

import (
	"crypto/ed25519"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// chain is one agent's source chain in memory: real records, linked and signed.
type chain struct {
	key    ed25519.PrivateKey
	author sdk.AgentID
	dna    sdk.DNAHash

	mu      sync.Mutex // guards what follows
	records []sdk.Record
	public  map[sdk.Hash]int // the public entries' places in records
	head    sdk.Hash
	fault   error
}

func newChain(key ed25519.PrivateKey, dna sdk.DNA) *chain {
	c := &chain{key: key, dna: dna.Hash(), public: map[sdk.Hash]int{}}
	copy(c.author[:], key.Public().(ed25519.PublicKey))
	// The genesis entry: format 1, then name and integrity, each behind its length.
	g := []byte{1, byte(len(dna.Name))}
	g = append(g, dna.Name...)
	g = append(append(g, byte(len(dna.Integrity))), dna.Integrity...)
	c.addLocked(sdk.Header{Kind: sdk.KindGenesis, EntryType: "parley.genesis", Visibility: sdk.Public}, g)
	return c
}

func (c *chain) addLocked(h sdk.Header, content []byte) {
	r := c.recordLocked(h, content)
	c.records, c.head = append(c.records, r), r.Hash()
	if h.Kind == sdk.KindEntry && h.Visibility == sdk.Public {
		c.public[c.head] = len(c.records) - 1
	}
}

// recordLocked is the record that would come next.
func (c *chain) recordLocked(h sdk.Header, content []byte) sdk.Record {
	h.Version, h.DNA, h.Author = sdk.HeaderVersion, c.dna, c.author
	h.Seq, h.Prev = uint64(len(c.records)), c.head
	h.Time = time.Now().UTC().Truncate(time.Microsecond)
	h.Entry = sdk.EntryHash(content)
	r := sdk.Record{Header: h, Content: content}
	copy(r.Signature[:], ed25519.Sign(c.key, sdk.SigningBytes(r.Hash())))
	return r
}

// published is the public entry whose record has this hash. No private one is.
func (c *chain) published(record sdk.Hash) (sdk.Record, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i, ok := c.public[record]
	if !ok {
		return sdk.Record{}, false
	}
	r := c.records[i]
	r.Content = slices.Clone(r.Content)
	return r, true
}

func (c *chain) len() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return uint64(len(c.records))
}

func (c *chain) fail(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fault = cause
}

// append adds all entries or none, and those of an init with its mark. base is the length when the call began.
func (c *chain) append(entries []sdk.Entry, cause sdk.Cause, base uint64) *sdk.Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cause.Kind == sdk.CallInit {
		entries = append(slices.Clip(entries), sdk.Entry{Type: "parley.init", Content: []byte{1}})
	}
	if len(entries) == 0 {
		return nil
	}
	strict := slices.ContainsFunc(entries, func(e sdk.Entry) bool { return e.Ordering == sdk.Strict })
	if n := uint64(len(c.records)); strict && n != base {
		return &sdk.Error{Code: sdk.ChainMoved, Side: sdk.SideNode, Delivered: sdk.DeliveredYes, Retry: true,
			Text: fmt.Sprintf("the chain grew by %d records since the call began", n-base)}
	}
	if c.fault != nil {
		return &sdk.Error{Code: sdk.HandlerFailed, Side: sdk.SideNode, Delivered: sdk.DeliveredYes, Retry: true,
			HandlerCode: sdk.HandlerCodeCommit, Text: "commit: " + c.fault.Error()}
	}
	for _, e := range entries {
		c.addLocked(sdk.Header{Kind: sdk.KindEntry, EntryType: e.Type, Visibility: e.Visibility, Cause: cause}, e.Content)
	}
	return nil
}

// appendOwn adds one entry of the node's own and returns its number.
func (c *chain) appendOwn(cause sdk.Cause, entries ...sdk.Entry) (first uint64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fault != nil {
		return 0, &sdk.Error{Code: sdk.HandlerFailed, Side: sdk.SideNode, Delivered: sdk.DeliveredYes, Retry: true,
			HandlerCode: sdk.HandlerCodeCommit, Text: "commit: " + c.fault.Error()}
	}
	first = uint64(len(c.records))
	for _, e := range entries {
		c.addLocked(sdk.Header{Kind: sdk.KindEntry, EntryType: e.Type, Visibility: e.Visibility, Cause: cause}, e.Content)
	}
	return first, nil
}

// query follows sdk.Query. It stops before the records' bytes exceed maxBytes,
// but returns at least one that matches.
func (c *chain) query(q sdk.Query, maxBytes int) []sdk.Record {
	c.mu.Lock()
	all := c.records[:len(c.records):len(c.records)]
	c.mu.Unlock()
	limit := q.Limit
	if limit <= 0 {
		limit = 100
	}
	limit = min(limit, 1000)
	to := uint64(len(all))
	if q.To > 0 {
		to = min(to, q.To)
	}
	out := []sdk.Record{}
	size := 0
	for i := range to - min(q.From, to) {
		seq := q.From + i
		if q.Reverse {
			seq = to - 1 - i
		}
		r := all[seq]
		if q.Type != "" && r.Header.EntryType != q.Type {
			continue
		}
		size += len(r.Content) + len(r.Header.EntryType) + 256
		if len(out) == limit || len(out) > 0 && size > maxBytes {
			break
		}
		r.Content = slices.Clone(r.Content)
		out = append(out, r)
	}
	return out
}
