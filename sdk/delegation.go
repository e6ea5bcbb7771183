package sdk

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// Link is one delegation as From has signed it: docs/delegation.md. Times are to
// the microsecond, UTC. What is zero does not limit, but for Functions, Messages
// and Expires.
type Link struct {
	From, To           AgentID
	DNA                DNAHash
	Nonce              [16]byte
	Parent             Hash // id of the link before; zero in the first
	NotBefore, Expires time.Time
	Depth              int // how many more times it may be handed on
	All                bool
	Messages           bool
	Functions          []string  // ascending
	Agents             []AgentID // ascending
	Uses               int
	Rate               Rate
	MaxPayload         int
	Signature          [64]byte
}

const (
	proofVersion     = 1
	linkVersion      = 1
	linkFixed        = 1 + 32 + 32 + 32 + 16 + 32 + 8 + 8 + 1 + 1 + 4 + 4 + 8 + 4 + 1
	linkAll          = 1 << 0
	linkMessages     = 1 << 1
	delegationDomain = "parley-delegation-v1"
	delegationSigned = "parley-delegation-signature-v1"
	maxLinkDuration  = math.MaxInt64 / int64(time.Microsecond) // in µs
	// DelegationSkew is how far a link's NotBefore may lie in the future of who
	// verifies it. An end is an end: Expires has none.
	DelegationSkew = 30 * time.Second
)

// ID is the link's name: SHA-256 over "parley-delegation-v1" and the link without
// its signature. So terms that are signed twice have one name, and whoever
// revokes it has revoked both.
func (l *Link) ID() Hash {
	return sha256.Sum256(appendTerms([]byte(delegationDomain), l))
}

// LinkSigningBytes is what From signs for a link of this id.
func LinkSigningBytes(id Hash) []byte { return append([]byte(delegationSigned), id[:]...) }

// AppendLink appends the canonical encoding of a link. Integers are big-endian.
//
//	 version 1 | from 32 | to 32 | DNA 32 | nonce 16 | parent 32
//	| not before 8 | expires 8 (unix µs; not before may be 0: none)
//	| depth 1 | flags 1 (1 all functions, 2 messages)
//	| uses 4 | rate's number 4 | rate's period 8 (µs) | payload 4
//	| functions 1, each: length 1 | name      ascending by bytes
//	| agents 2, each 32                       ascending by bytes
//	| signature 64
func AppendLink(b []byte, l *Link) []byte {
	return append(appendTerms(b, l), l.Signature[:]...)
}

// appendTerms is what is signed.
func appendTerms(b []byte, l *Link) []byte {
	b = append(b, linkVersion)
	b = append(b, l.From[:]...)
	b = append(b, l.To[:]...)
	b = append(b, l.DNA[:]...)
	b = append(b, l.Nonce[:]...)
	b = append(b, l.Parent[:]...)
	b = binary.BigEndian.AppendUint64(b, linkTime(l.NotBefore))
	b = binary.BigEndian.AppendUint64(b, linkTime(l.Expires))
	flags := byte(0)
	if l.All {
		flags |= linkAll
	}
	if l.Messages {
		flags |= linkMessages
	}
	b = append(b, byte(l.Depth), flags)
	b = binary.BigEndian.AppendUint32(b, uint32(l.Uses))
	b = binary.BigEndian.AppendUint32(b, uint32(l.Rate.N))
	b = binary.BigEndian.AppendUint64(b, uint64(l.Rate.Per/time.Microsecond))
	b = binary.BigEndian.AppendUint32(b, uint32(l.MaxPayload))
	b = append(b, byte(len(l.Functions)))
	for _, f := range l.Functions {
		b = append(append(b, byte(len(f))), f...)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(l.Agents)))
	for _, a := range l.Agents {
		b = append(b, a[:]...)
	}
	return b
}

func linkTime(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(t.UnixMicro())
}

// linkReader takes the fields of a link; the first fault sticks.
type linkReader struct {
	b   []byte
	err error
}

func (r *linkReader) take(n int) []byte {
	if r.err == nil && len(r.b) < n {
		r.err = fmt.Errorf("%d bytes are left where %d are needed", len(r.b), n)
	}
	if r.err != nil {
		return make([]byte, n)
	}
	f := r.b[:n]
	r.b = r.b[n:]
	return f
}

func (r *linkReader) fault(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

func (r *linkReader) time(what string) time.Time {
	µs := binary.BigEndian.Uint64(r.take(8))
	switch {
	case µs > math.MaxInt64:
		r.fault("%s is no time", what)
	case µs > 0:
		return time.UnixMicro(int64(µs)).UTC()
	}
	return time.Time{}
}

func (r *linkReader) uint32() int { return int(binary.BigEndian.Uint32(r.take(4))) }

// parseLink reads the link that b begins with, and only what AppendLink writes.
func parseLink(b []byte) (l Link, rest []byte, err error) {
	r := &linkReader{b: b}
	if v := r.take(1)[0]; v != linkVersion {
		r.fault("version %d, only %d is known", v, linkVersion)
	}
	copy(l.From[:], r.take(32))
	copy(l.To[:], r.take(32))
	copy(l.DNA[:], r.take(32))
	copy(l.Nonce[:], r.take(16))
	copy(l.Parent[:], r.take(32))
	l.NotBefore, l.Expires = r.time("its beginning"), r.time("its end")
	l.Depth = int(r.take(1)[0])
	flags := r.take(1)[0]
	if flags&^(linkAll|linkMessages) != 0 {
		r.fault("flags %#x are unknown", flags)
	}
	l.All, l.Messages = flags&linkAll != 0, flags&linkMessages != 0
	l.Uses, l.Rate.N = r.uint32(), r.uint32()
	per := binary.BigEndian.Uint64(r.take(8))
	if per > uint64(maxLinkDuration) {
		r.fault("a rate's period of %d µs", per)
	} else {
		l.Rate.Per = time.Duration(per) * time.Microsecond
	}
	l.MaxPayload = r.uint32()
	for range r.take(1)[0] {
		l.Functions = append(l.Functions, string(r.take(int(r.take(1)[0]))))
		if r.err != nil {
			break
		}
	}
	agents := int(binary.BigEndian.Uint16(r.take(2)))
	if agents > MaxGrantAgents {
		r.fault("%d agents, at most %d", agents, MaxGrantAgents)
	}
	for range agents {
		if r.err != nil {
			break
		}
		l.Agents = append(l.Agents, AgentID(r.take(32)))
	}
	copy(l.Signature[:], r.take(64))
	if r.err == nil {
		r.err = l.check()
	}
	return l, r.b, r.err
}

// check tells what is wrong with a link, whatever stands before it and whenever it
// is: what no signature makes right.
func (l *Link) check() error {
	switch {
	case l.Expires.IsZero():
		return errors.New("it has no end")
	case !l.NotBefore.IsZero() && !l.NotBefore.Before(l.Expires):
		return errors.New("it ends before it begins")
	case l.Depth < 0 || l.Depth >= MaxDelegations:
		return fmt.Errorf("depth %d, 0 to %d", l.Depth, MaxDelegations-1)
	case !l.All && !l.Messages && len(l.Functions) == 0:
		return errors.New("it allows nothing")
	case l.All && len(l.Functions) > 0:
		return errors.New("it allows all functions and names some")
	case l.Uses > math.MaxUint32 || l.MaxPayload > math.MaxUint32 || l.Rate.N > math.MaxUint32:
		return fmt.Errorf("a limit of more than %d", uint32(math.MaxUint32))
	}
	if err := checkScope(l.Functions, len(l.Agents), l.Uses, l.MaxPayload, l.Rate); err != nil {
		return err
	}
	if !slices.IsSorted(l.Functions) { // none is there twice: checkScope
		return errors.New("its functions are not in ascending order")
	}
	for i := range l.Agents[min(1, len(l.Agents)):] {
		if compareAgents(l.Agents[i], l.Agents[i+1]) >= 0 {
			return errors.New("its agents are not in ascending order, or one is there twice")
		}
	}
	return nil
}

func compareAgents(a, b AgentID) int { return bytes.Compare(a[:], b[:]) }

// appendProof is the encoding of a Proof: version 1, the number of links, 1 to
// MaxDelegations, and the links, the principal's first.
func appendProof(links []Link) Proof {
	b := []byte{proofVersion, byte(len(links))}
	for i := range links {
		b = AppendLink(b, &links[i])
	}
	return b
}

// Links reads a proof. It checks the encoding, of which each proof has one, and
// nothing else: no signature and no time.
func (p Proof) Links() ([]Link, error) {
	links, err := p.links()
	if err != nil {
		return nil, err
	}
	return links, nil
}

func (p Proof) links() ([]Link, *ProofError) {
	whole := func(format string, args ...any) *ProofError {
		return &ProofError{Link: -1, Rule: RuleFormat, Text: fmt.Sprintf(format, args...)}
	}
	switch {
	case len(p) < 2:
		return nil, whole("%d bytes are no proof", len(p))
	case len(p) > MaxProof:
		return nil, whole("%d bytes, at most %d", len(p), MaxProof)
	case p[0] != proofVersion:
		return nil, whole("version %d, only %d is known", p[0], proofVersion)
	case p[1] == 0 || p[1] > MaxDelegations:
		return nil, whole("%d links, 1 to %d", p[1], MaxDelegations)
	}
	links, rest := make([]Link, p[1]), []byte(p[2:])
	var err error
	for i := range links {
		if links[i], rest, err = parseLink(rest); err != nil {
			return nil, &ProofError{Link: i, Rule: RuleFormat, Text: err.Error()}
		}
	}
	if len(rest) > 0 {
		return nil, whole("%d bytes follow the last link", len(rest))
	}
	return links, nil
}

// ID is the name of the proof's last link, by which its From revokes it.
func (p Proof) ID() (Hash, error) {
	links, err := p.links()
	if err != nil {
		return Hash{}, err
	}
	return links[len(links)-1].ID(), nil
}
