package dht

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"time"
)

// Network asks other nodes. It must prove that the answer comes from to.Key,
// must end when ctx ends, and is called by many goroutines at once. Neither
// side may change a message afterwards. Without addresses in to it uses an open
// session, or what it knows by itself.
type Network interface {
	Call(ctx context.Context, to Contact, req *Request) (*Response, error)
}

// Config is what a DHT is made of.
type Config struct {
	Key     ed25519.PrivateKey // required: the agent's; its public key has sign bit 0
	Network Network            // required

	// Addrs returns where this node can be dialled now, the preferred address
	// first. None, or nil: this node only asks, and what it published is withdrawn. It is asked
	// every 10 s and at AddrsChanged; it must not block.
	Addrs func() []netip.AddrPort
	// Bootstrap are the nodes to join the network by, tried again for ever while
	// no other is known. None: this node is the first of its network. Addresses
	// may be missing where the Network knows them.
	Bootstrap []Contact
	Log       *slog.Logger // nil: none
	// Rand is the source of all randomness but key material; nil: a fresh seed.
	// It is used under the DHT's lock.
	Rand rand.Source
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	// Group names the networks that an address belongs to, for the limits on how
	// many contacts of one network are taken. nil: DefaultGroup.
	Group GroupFunc
	// CheckEntry checks the body of a public entry: its encoding, that its author
	// signed it, and that it is meant to be public; and says where it belongs and
	// whose it is. It is called under the DHT's lock and must not block. nil: this
	// node neither keeps nor asks for entries.
	CheckEntry func(body []byte) (ID, Key, error)

	TTL        time.Duration // of the own record; default DefaultTTL, MinTTL to MaxTTL
	MaxCalls   int           // calls to others at once; default 64
	MaxLookups int           // searches at once; default MaxLookups
	MaxRecords int           // records kept for others; default 4,096
	MaxBytes   int           // their bytes; default 2 MiB
	MaxFloors  int           // sequence floors kept; default 16,384

	MaxEntries      int // public entries kept for others; default 4,096
	MaxEntryBytes   int // their bytes; default 8 MiB
	EntriesByAuthor int // entries of one author kept; default 64

	dialBack bool           // Network is a DialBacker
	linked   func(Key) bool // tells whether a session is open
	sessions bool           // linked knows that: who has none must be dialled
}

// MaxLookups is the default of Config.MaxLookups.
const MaxLookups = 256

// DefaultTTL is the default of Config.TTL.
const DefaultTTL = 4 * time.Hour

// Parameters of the protocol (docs/dht.md gives the reasons).
const (
	bucketSize      = 16 // k
	replacementSize = 10
	siblingSize     = 32
	clientBucket    = 8 // k and siblings in the table of a client
	clientSiblings  = 16
	pathsGet        = 3
	pathsPut        = 4
	pathsHardened   = 8
	alpha           = 2 // calls in flight per path
	alphaStrict     = 4 // and where all are asked, whatever the first ones say
	quorum          = 3 // distinct holders that make a GET final
	maxNew          = 8 // contacts taken of one response
	// maxAsked bounds the nodes that one path asks, eight times the k that end it:
	// Sybils could name ever nearer ones without end. It is no bound of the whole
	// lookup, which a single lying path would use up.
	maxAsked = 8 * bucketSize
)

func (c Config) withDefaults() Config {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&c.MaxCalls, 64)
	def(&c.MaxLookups, MaxLookups)
	def(&c.MaxRecords, 4096)
	def(&c.MaxBytes, 2<<20)
	def(&c.MaxFloors, 16384)
	def(&c.MaxEntries, 4096)
	def(&c.MaxEntryBytes, 8<<20)
	def(&c.EntriesByAuthor, 64)
	if c.TTL == 0 {
		c.TTL = DefaultTTL
	}
	if c.Addrs == nil {
		c.Addrs = func() []netip.AddrPort { return nil }
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Rand == nil {
		c.Rand = rand.NewPCG(rand.Uint64(), rand.Uint64())
	}
	_, c.dialBack = c.Network.(DialBacker)
	if l, ok := c.Network.(Linker); ok {
		c.linked = l.Linked
	}
	if c.sessions = c.linked != nil; !c.sessions {
		c.linked = func(Key) bool { return false }
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Group == nil {
		c.Group = DefaultGroup
	}
	return c
}

func (c Config) validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if len(c.Key) != ed25519.PrivateKeySize {
		fault("Key: %d bytes, not %d", len(c.Key), ed25519.PrivateKeySize)
	} else if Key(c.Key.Public().(ed25519.PublicKey)).valid() != nil {
		fault("Key: %w", errKey)
	}
	if c.Network == nil {
		fault("Network: missing")
	}
	if c.TTL < MinTTL || c.TTL > MaxTTL {
		fault("TTL: %s, allowed are %s to %s", c.TTL, MinTTL, MaxTTL)
	}
	for _, n := range []struct {
		name  string
		value int
		max   int
	}{{"MaxCalls", c.MaxCalls, 1 << 30}, {"MaxLookups", c.MaxLookups, 1 << 30}, {"MaxRecords", c.MaxRecords, 1 << 30},
		{"MaxBytes", c.MaxBytes, 1 << 30}, {"MaxFloors", c.MaxFloors, maxSnapFloors},
		{"MaxEntries", c.MaxEntries, 1 << 30}, {"MaxEntryBytes", c.MaxEntryBytes, 1 << 30}, {"EntriesByAuthor", c.EntriesByAuthor, 1 << 30}} {
		if n.value < 1 || n.value > n.max {
			fault("%s: %d, allowed are 1 to %d", n.name, n.value, n.max)
		}
	}
	for i, b := range c.Bootstrap {
		if err := checkAddrs(b.Addresses()); err != nil {
			fault("Bootstrap %d: %w", i, err)
		}
		if b.Key.valid() != nil {
			fault("Bootstrap %d: %w", i, errKey)
		}
	}
	if len(faults) == 0 {
		return nil
	}
	return fmt.Errorf("dht: settings: %w", errors.Join(faults...))
}
