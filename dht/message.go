package dht

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"time"
	"unicode/utf8"
)

// Bounds of messages.
const (
	// MaxContacts is how many contacts a Response names at most.
	MaxContacts = 16
	// MaxReason is the greatest length of Response.Reason in bytes.
	MaxReason = 200
	// MaxEntry is the greatest length of a public entry's body in bytes.
	MaxEntry = 4096
	// MaxDigests is how many records one SYNC compares at most.
	MaxDigests = 128
	// DigestSize is the length of one record's digest in a SYNC in bytes: the first
	// 8 of its ID, its seq, and the first 8 of the SHA-256 of its encoding.
	DigestSize = 24
	// MaxKnown is how many contacts a FIND or GET says it knows at most, KnownSize what each
	// takes in bytes: the first of its ID.
	MaxKnown  = 32
	KnownSize = 8
	// MaxBrief is how many contacts are named to who says so.
	MaxBrief = 8
)

// Op is what a Request asks for.
type Op uint8

const (
	// OpPing asks for the other node's own record.
	OpPing Op = 1 + iota
	// OpFind asks for the contacts nearest to Target.
	OpFind
	// OpGet asks for the record at Target, and for the contacts nearest to it.
	OpGet
	// OpPut asks to keep Record, or Entry.
	OpPut
	// OpSync compares records that both should keep.
	OpSync
	// OpDialBack asks to be dialled at Addr, anew.
	OpDialBack
	opEnd
)

func (o Op) String() string {
	if o < OpPing || o >= opEnd {
		return fmt.Sprintf("op %d", uint8(o))
	}
	return [...]string{"PING", "FIND", "GET", "PUT", "SYNC", "DIALBACK"}[o-OpPing]
}

// Request is one question to another node. Who asks is proven by the session.
// The codec tags are the names on the wire (docs/wire.md).
type Request struct {
	Op       Op             `codec:"o"`
	Target   ID             `codec:"t"` // FIND, GET; else zero
	Seq      uint64         `codec:"q"` // of the asker's own record; 0 if it has none
	KnownSeq uint64         `codec:"k"` // GET: a record with this seq or a lower one is not sent
	Record   *Record        `codec:"r"` // PUT of a record; else nil
	Near     ID             `codec:"i"` // GET: contacts nearest to it are wanted, if not zero, and not to Target
	Entry    []byte         `codec:"b"` // PUT of an entry; else nil
	Known    []byte         `codec:"x"` // FIND, GET: contacts that need not be named, at most MaxKnown
	Have     []byte         `codec:"d"` // SYNC: the asker's records' digests, at most MaxDigests
	Addr     netip.AddrPort `codec:"a"` // DIALBACK: of the asker
	Age      uint32         `codec:"g"` // PUT of an entry: seconds since its author published it, at most a day
}

// Validate checks a Request that came from the network, but not the signature.
func (r *Request) Validate() error {
	if r == nil {
		return messageErrorf("no request")
	}
	targeted := r.Op == OpFind || r.Op == OpGet
	switch {
	case r.Op < OpPing || r.Op >= opEnd:
		return messageErrorf("unknown operation %d", uint8(r.Op))
	case !targeted && r.Target != ID{}:
		return messageErrorf("%s with a target", r.Op)
	case r.Op != OpGet && (r.KnownSeq != 0 || r.Near != ID{}):
		return messageErrorf("%s with a known seq or a place near", r.Op)
	case !targeted && len(r.Known) > 0:
		return messageErrorf("%s with known contacts", r.Op)
	case len(r.Known)%KnownSize != 0 || len(r.Known) > MaxKnown*KnownSize:
		return messageErrorf("known contacts of %d bytes, at most %d of %d each", len(r.Known), MaxKnown, KnownSize)
	case r.Op != OpPut && (r.Record != nil || r.Entry != nil):
		return messageErrorf("%s with something to keep", r.Op)
	case r.Op == OpPut && (r.Record != nil) == (r.Entry != nil):
		return messageErrorf("PUT of a record: %t, of an entry: %t", r.Record != nil, r.Entry != nil)
	case len(r.Entry) > MaxEntry:
		return messageErrorf("entry of %d bytes, at most %d", len(r.Entry), MaxEntry)
	case r.Age != 0 && (r.Entry == nil || r.Age > uint32(entryKept/time.Second)):
		return messageErrorf("%s with an age of %d s", r.Op, r.Age)
	case (r.Op == OpSync) != (len(r.Have) > 0):
		return messageErrorf("%s with digests: %t", r.Op, len(r.Have) > 0)
	case len(r.Have)%DigestSize != 0 || len(r.Have) > MaxDigests*DigestSize:
		return messageErrorf("digests of %d bytes, at most %d of %d each", len(r.Have), MaxDigests, DigestSize)
	case (r.Op == OpDialBack) != r.Addr.IsValid():
		return messageErrorf("%s with an address: %t", r.Op, r.Addr.IsValid())
	}
	if r.Op == OpDialBack {
		if err := checkAddrs([]netip.AddrPort{r.Addr}); err != nil {
			return messageErrorf("%w", err)
		}
	}
	return checkRecord(r.Record)
}

// Status is the answer to a Request in one word.
type Status uint8

const (
	// StatusOK: done; a GET's record is in Record.
	StatusOK Status = iota
	// StatusNone: GET: nothing here. DIALBACK: the address did not answer as the asker.
	StatusNone
	// StatusNotNewer: GET: the record here is not newer than KnownSeq.
	StatusNotNewer
	// StatusNewer: PUT: a newer one is known here, and in Record if it is still valid.
	StatusNewer
	// StatusExpired: PUT: the record has expired by this node's clock.
	StatusExpired
	// StatusFuture: PUT: issued too far ahead of this node's clock.
	StatusFuture
	// StatusInvalid: PUT: forged or malformed.
	StatusInvalid
	// StatusNotClose: PUT: too far from this node, or no room and all that is here
	// is nearer to it.
	StatusNotClose
	// StatusBusy: a limit was reached; RetryAfter says when to try again.
	StatusBusy
	statusEnd
)

func (s Status) String() string {
	if s >= statusEnd {
		return fmt.Sprintf("status %d", uint8(s))
	}
	return [...]string{"ok", "none", "not newer", "newer is known", "expired", "from the future",
		"invalid", "not close", "busy"}[s]
}

// Response is the answer to one Request.
type Response struct {
	Status     Status    `codec:"s"`
	Seq        uint64    `codec:"q"` // of the answerer's own record; 0 if it has none
	Time       uint64    `codec:"n"` // the answerer's clock, Unix time, ms
	Record     *Record   `codec:"r"` // PING: the answerer's own; GET, PUT: see Status
	Contacts   []Contact `codec:"c"` // FIND, GET: nearest to the target first, at most MaxContacts
	RetryAfter uint32    `codec:"w"` // ms, with StatusBusy
	Reason     string    `codec:"e"` // for people; at most MaxReason bytes of UTF-8
	Entry      []byte    `codec:"b"` // GET: the body of a public entry
	Want       []byte    `codec:"d"` // SYNC: for each digest what SyncSame, SyncWant and SyncNewer say
}

// What a SYNC's answer says of one record.
const (
	SyncSame  = 0 // it is the same here, or none of this node's
	SyncWant  = 1 // older or none here: a PUT is welcome
	SyncNewer = 2 // newer here
)

// Validate checks a Response that came from the network, but no signatures.
func (r *Response) Validate() error {
	switch {
	case r == nil:
		return messageErrorf("no response")
	case r.Status >= statusEnd:
		return messageErrorf("unknown status %d", uint8(r.Status))
	case len(r.Contacts) > MaxContacts:
		return messageErrorf("%d contacts, at most %d", len(r.Contacts), MaxContacts)
	case len(r.Reason) > MaxReason || !utf8.ValidString(r.Reason):
		return messageErrorf("reason of %d bytes, at most %d of UTF-8", len(r.Reason), MaxReason)
	case r.Time >= 1<<48:
		return messageErrorf("time %d ms", r.Time)
	case len(r.Entry) > MaxEntry || r.Entry != nil && r.Record != nil:
		return messageErrorf("entry of %d bytes, at most %d; with a record: %t", len(r.Entry), MaxEntry, r.Record != nil)
	case len(r.Want) > MaxDigests:
		return messageErrorf("%d verdicts, at most %d", len(r.Want), MaxDigests)
	}
	var heads [MaxContacts]uint64 // of the keys: most differ in them
	for i := range r.Contacts {
		if err := r.Contacts[i].Validate(); err != nil {
			return messageErrorf("contact %d: %w", i, err)
		}
		heads[i] = binary.BigEndian.Uint64(r.Contacts[i].Key[:])
		for j := range i {
			if heads[i] == heads[j] && r.Contacts[i].Key == r.Contacts[j].Key {
				return messageErrorf("contacts %d and %d are the same agent", j, i)
			}
		}
	}
	return checkRecord(r.Record)
}

func checkRecord(r *Record) error {
	if r == nil {
		return nil
	}
	if len(r.raw) == 0 || len(r.raw) > MaxRecord {
		return messageErrorf("record that is not encoded")
	}
	if r.sound {
		return nil
	}
	if err := r.check(); err != nil {
		return messageErrorf("%w", err)
	}
	return nil
}

// Contact is an agent and where it can be reached: by Record, or by Addrs that
// nobody signed. A wrong address costs a failed dial and no more, since a
// session proves the key.
type Contact struct {
	Key    Key              `codec:"k"`
	Addrs  []netip.AddrPort `codec:"a"` // without a Record only, at most MaxAddrs
	Record *Record          `codec:"r"`

	by uint32 // the network of who named it; 0: not known
}

// Addresses are where to dial: those of the record, else Addrs. They can be
// missing in a Contact that this node made: then its agent can be reached over a
// session that is open already, or the Network knows its addresses by itself.
func (c Contact) Addresses() []netip.AddrPort {
	if c.Record != nil {
		return c.Record.Addrs
	}
	return c.Addrs
}

// id is NodeID(c.Key), without the hashing where the record has it.
func (c *Contact) id() ID {
	if c.Record != nil && c.Record.of(c.Key) {
		return c.Record.id
	}
	return NodeID(c.Key)
}

// of tells whether r is finished, and k's.
func (r *Record) of(k Key) bool { return len(r.raw) > 0 && r.Key == k }

// position is NodeID(r.Key).
func (r *Record) position() ID {
	if len(r.raw) > 0 {
		return r.id
	}
	return NodeID(r.Key)
}

// Validate checks a Contact that came from the network, but not the signature.
func (c *Contact) Validate() error {
	if c.Record == nil {
		if len(c.Addrs) == 0 {
			return messageErrorf("contact without an address")
		}
		return checkAddrs(c.Addrs)
	}
	switch {
	case c.Record.Key != c.Key:
		return messageErrorf("contact with the record of another agent")
	case len(c.Addrs) != 0:
		return messageErrorf("contact with a record and other addresses")
	case c.Record.tombstone():
		return messageErrorf("contact with a withdrawn record")
	}
	return checkRecord(c.Record)
}

// checkAddrs refuses what nobody can dial, and second spellings of an address.
func checkAddrs(addrs []netip.AddrPort) error {
	if len(addrs) > MaxAddrs {
		return fmt.Errorf("%d addresses, at most %d", len(addrs), MaxAddrs)
	}
	for i, a := range addrs {
		ip := a.Addr()
		if !a.IsValid() || a.Port() == 0 || ip.IsUnspecified() || ip.IsMulticast() || ip.Zone() != "" || ip.Is4In6() {
			return fmt.Errorf("address %d can't be dialled", i)
		}
		if slices.Contains(addrs[:i], a) {
			return fmt.Errorf("address %d is there twice", i)
		}
	}
	return nil
}
