package dht

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"slices"
	"time"
)

// Bounds of a Record.
const (
	// MaxRecord is the greatest length of an encoded Record in bytes.
	MaxRecord = 1024
	// MaxAddrs is how many addresses a Record or Contact names at most.
	MaxAddrs = 8
	// MaxExt is the greatest length of Record.Ext in bytes.
	MaxExt = 512
	// MinTTL and MaxTTL bound Record.TTL.
	MinTTL = time.Minute
	MaxTTL = 24 * time.Hour

	maxFuture = 10 * time.Minute // how far issued_at may lie ahead of the reader's clock
)

const (
	recordVersion = 1
	recordAddress = 1 // kinds 2 and 3 are reserved for public entries
	protoTCP      = 1
	recordDomain  = "dht-record-v1"
	recordFixed   = 1 + 1 + 1 + 32 + 8 + 8 + 4 + 1 // up to and with the number of addresses
)

// Flags say what an agent's node is. Exactly one of FlagServer and FlagClient is set.
type Flags uint8

const (
	FlagServer    Flags = 1 << iota // takes part in the DHT and can be dialled
	FlagClient                      // asks, but answers nobody's requests
	FlagTombstone                   // withdrawn: no addresses
)

// Record says where an agent's node can be reached: signed by the agent, valid
// from IssuedAt for TTL. It must not be changed once it is made or parsed.
//
// There is one encoding, integers big-endian, at most MaxRecord bytes:
//
//	version    1   1
//	kind       1   1 = agent address
//	flags      1   bit 0 server, 1 client, 2 tombstone; one of the first two
//	key       32   the agent's
//	seq        8   greater in each newer record of the agent; not 0
//	issued_at  8   Unix time, ms
//	ttl        4   seconds, 60 to 86,400
//	n          1   number of addresses, 1 to 8; 0 with tombstone
//	n times:       proto 1 (1 = TCP), family 1 (4 or 6), ip 4 or 16, port 2
//	ext_len    2   0 to 512
//	ext            bytes for later versions: signed, kept, not read
//	sig       64   Ed25519 over "dht-record-v1" || everything before
//
// The fields are in the order of their use: a node reads the first 128 bytes of thousands.
type Record struct {
	Key   Key
	raw   []byte // the encoding with its signature
	Seq   uint64
	id    ID // NodeID(Key); set with raw
	Flags Flags
	sound bool             // check found no fault; set with raw
	Addrs []netip.AddrPort // the preferred one first

	IssuedAt time.Time // whole milliseconds
	TTL      time.Duration
	Ext      []byte
}

// Sign encodes and signs r, whose Key, Flags, Seq, IssuedAt, TTL, Addrs and Ext
// are set, and returns the finished Record. It fails if a field is outside its bounds.
func (r Record) Sign(key ed25519.PrivateKey) (*Record, error) {
	r.IssuedAt = time.UnixMilli(r.IssuedAt.UnixMilli())
	r.TTL = r.TTL.Truncate(time.Second)
	if err := r.check(); err != nil {
		return nil, err
	}
	if !slices.Equal(key.Public().(ed25519.PublicKey), r.Key[:]) {
		return nil, recordErrorf("signed with another agent's key")
	}
	body := r.appendBody(make([]byte, 0, 256))
	r.raw, r.id, r.sound = append(body, ed25519.Sign(key, signed(body))...), NodeID(r.Key), true
	return &r, nil
}

func signed(body []byte) []byte {
	return append([]byte(recordDomain), body...)
}

func (r *Record) appendBody(b []byte) []byte {
	b = append(b, recordVersion, recordAddress, byte(r.Flags))
	b = append(b, r.Key[:]...)
	b = binary.BigEndian.AppendUint64(b, r.Seq)
	b = binary.BigEndian.AppendUint64(b, uint64(r.IssuedAt.UnixMilli()))
	b = binary.BigEndian.AppendUint32(b, uint32(r.TTL/time.Second))
	b = append(b, byte(len(r.Addrs)))
	for _, a := range r.Addrs {
		family := byte(4)
		if a.Addr().Is6() {
			family = 6
		}
		b = append(b, protoTCP, family)
		b = append(b, a.Addr().AsSlice()...)
		b = binary.BigEndian.AppendUint16(b, a.Port())
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(r.Ext)))
	return append(b, r.Ext...)
}

// check holds the fields against their bounds.
func (r *Record) check() error {
	ms := r.IssuedAt.UnixMilli()
	switch f := r.Flags; {
	case f&^(FlagServer|FlagClient|FlagTombstone) != 0:
		return recordErrorf("unknown flags %#x", f)
	case f&FlagServer != 0 == (f&FlagClient != 0):
		return recordErrorf("flags %#x: exactly one of server and client must be set", f)
	case f&FlagTombstone != 0 != (len(r.Addrs) == 0):
		return recordErrorf("%d addresses with flags %#x", len(r.Addrs), f)
	case r.Seq == 0:
		return recordErrorf("sequence number 0")
	case ms <= 0 || ms >= 1<<48:
		return recordErrorf("issued at %d ms", ms)
	case r.TTL < MinTTL || r.TTL > MaxTTL:
		return recordErrorf("ttl %s, allowed are %s to %s", r.TTL, MinTTL, MaxTTL)
	case len(r.Ext) > MaxExt:
		return recordErrorf("extension of %d bytes, at most %d", len(r.Ext), MaxExt)
	}
	if err := checkAddrs(r.Addrs); err != nil {
		return recordErrorf("%w", err)
	}
	return nil
}

// ParseRecord decodes a Record strictly. It checks everything but the signature
// and the time: see Verify and Current. b is not kept.
func ParseRecord(b []byte) (*Record, error) {
	if len(b) > MaxRecord {
		return nil, recordErrorf("%d bytes, at most %d", len(b), MaxRecord)
	}
	if len(b) < recordFixed+2+ed25519.SignatureSize {
		return nil, recordErrorf("%d bytes: cut short", len(b))
	}
	if b[0] != recordVersion || b[1] != recordAddress {
		return nil, recordErrorf("version %d, kind %d; only 1, 1 is known", b[0], b[1])
	}
	r := &Record{raw: slices.Clone(b), Flags: Flags(b[2])}
	b = r.raw[3:]
	b = b[copy(r.Key[:], b):]
	r.Seq = binary.BigEndian.Uint64(b)
	ms := binary.BigEndian.Uint64(b[8:])
	if ms >= 1<<48 {
		return nil, recordErrorf("issued at %d ms", ms)
	}
	r.IssuedAt = time.UnixMilli(int64(ms))
	r.TTL = time.Duration(binary.BigEndian.Uint32(b[16:])) * time.Second
	n := int(b[20])
	if b = b[21:]; n > MaxAddrs {
		return nil, recordErrorf("%d addresses, at most %d", n, MaxAddrs)
	}
	for range n {
		a, rest, err := parseAddr(b)
		if err != nil {
			return nil, err
		}
		r.Addrs, b = append(r.Addrs, a), rest
	}
	if len(b) < 2 {
		return nil, recordErrorf("cut short")
	}
	ext := int(binary.BigEndian.Uint16(b))
	if b = b[2:]; len(b) != ext+ed25519.SignatureSize {
		return nil, recordErrorf("%d bytes after the addresses, expected %d", len(b), ext+ed25519.SignatureSize)
	}
	if ext > 0 {
		r.Ext = b[:ext:ext]
	}
	r.id = NodeID(r.Key)
	err := r.check()
	r.sound = err == nil
	return r, err
}

func parseAddr(b []byte) (netip.AddrPort, []byte, error) {
	if len(b) < 2 || b[0] != protoTCP || b[1] != 4 && b[1] != 6 {
		return netip.AddrPort{}, nil, recordErrorf("unknown kind of address")
	}
	n := 4
	if b[1] == 6 {
		n = 16
	}
	if b = b[2:]; len(b) < n+2 {
		return netip.AddrPort{}, nil, recordErrorf("cut short in an address")
	}
	ip, _ := netip.AddrFromSlice(b[:n])
	return netip.AddrPortFrom(ip, binary.BigEndian.Uint16(b[n:])), b[n+2:], nil
}

// Verify checks that the agent made the record: a valid key and its signature.
func (r *Record) Verify() error {
	if err := r.Key.valid(); err != nil {
		return recordErrorf("%w", err)
	}
	n := len(r.raw) - ed25519.SignatureSize
	if n <= 0 || !ed25519.Verify(r.Key[:], signed(r.raw[:n]), r.raw[n:]) {
		return recordErrorf("wrong signature")
	}
	return nil
}

// Expires is when the record ends by the author's clock.
func (r *Record) Expires() time.Time { return r.IssuedAt.Add(r.TTL) }

// SameAs tells whether r says the same as o of the same agent's node: only seq, time and
// signature may differ.
func (r *Record) SameAs(o *Record) bool {
	return r.Key == o.Key && r.Flags == o.Flags && slices.Equal(r.Addrs, o.Addrs) && bytes.Equal(r.Ext, o.Ext)
}

// Current tells whether the record is valid at now: not expired, and issued no
// more than 10 minutes ahead.
func (r *Record) Current(now time.Time) error {
	switch {
	case !now.Before(r.Expires()):
		return recordErrorf("expired at %s", r.Expires().UTC().Format(time.RFC3339))
	case r.IssuedAt.Sub(now) > maxFuture:
		return recordErrorf("issued %s ahead of this clock, allowed are %s", r.IssuedAt.Sub(now).Round(time.Second), maxFuture)
	}
	return nil
}

// Bytes is the encoding with its signature. It must not be changed.
func (r *Record) Bytes() []byte { return r.raw }

// MarshalBinary returns a copy of Bytes.
func (r *Record) MarshalBinary() ([]byte, error) { return slices.Clone(r.raw), nil }

// UnmarshalBinary is ParseRecord: it does not check the signature.
func (r *Record) UnmarshalBinary(b []byte) error {
	p, err := ParseRecord(b)
	if err != nil {
		return err
	}
	*r = *p
	return nil
}

// serves tells whether the agent's node can be a contact.
func (r *Record) serves() bool { return r.Flags&FlagServer != 0 && !r.tombstone() }

func (r *Record) tombstone() bool { return r.Flags&FlagTombstone != 0 }

// newer is the conflict rule between two verified records of one agent: the
// higher seq wins, and of two with the same seq the greater SHA-256.
func (r *Record) newer(old *Record) bool {
	if old == nil || r.Seq != old.Seq {
		return old == nil || r.Seq > old.Seq
	}
	if bytes.Equal(r.raw, old.raw) {
		return false
	}
	a, b := sha256.Sum256(r.raw), sha256.Sum256(old.raw)
	return slices.Compare(a[:], b[:]) > 0
}

// seqOf is r's sequence number, 0 without a record.
func seqOf(r *Record) uint64 {
	if r == nil {
		return 0
	}
	return r.Seq
}
