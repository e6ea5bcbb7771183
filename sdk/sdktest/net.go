package sdktest

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/agency"
)

// Options are the limits of a Net. The zero value has a node's defaults.
type Options struct {
	// MaxPayload bounds each message and answer, and the entries of one call
	// together, in bytes. Default 16 MiB.
	MaxPayload int
	// MaxEntries bounds the entries of one call. Default 1024.
	MaxEntries int
	// MaxEntry bounds one entry, in bytes. Default 4 MiB.
	MaxEntry int
	// MaxCalls bounds the calls that run at once in one node; more get Busy.
	// Default 1024.
	MaxCalls int
	// Timeout is the deadline of a call that has none. Default 60 s.
	Timeout time.Duration
}

func (o Options) withDefaults() Options {
	if o.MaxPayload == 0 {
		o.MaxPayload = 16 << 20
	}
	if o.MaxEntries == 0 {
		o.MaxEntries = 1024
	}
	if o.MaxEntry == 0 {
		o.MaxEntry = 4 << 20
	}
	if o.MaxCalls == 0 {
		o.MaxCalls = 1024
	}
	if o.Timeout == 0 {
		o.Timeout = time.Minute
	}
	return o
}

func (o *Options) commitLimits() sdk.CommitLimits {
	return sdk.CommitLimits{Entries: o.MaxEntries, Entry: o.MaxEntry, Bytes: o.MaxPayload}
}

// Net is a network of nodes within a test. Its methods may be called
// concurrently. When the test ends, running calls are cancelled and waited for.
type Net struct {
	t       testing.TB
	options Options
	ctx     context.Context // ends with the test
	calls   sync.WaitGroup  // every goroutine that runs a handler

	// mu guards what follows, and nothing of it is held while a handler runs.
	mu     sync.Mutex
	ending bool
	nodes  map[sdk.AgentID]*Node
	links  map[link]*linkState
	// revocations are the revoked delegations of all nodes.
	revocations map[revocation]bool

	posts *sync.Cond // its lock guards each Node's posted; it is taken before all others
}

// New makes a network without nodes. Options may be left out.
func New(t testing.TB, options ...Options) *Net {
	t.Helper()
	var o Options
	if len(options) > 0 {
		o = options[0]
	}
	ctx, cancel := context.WithCancel(context.Background())
	n := &Net{t: t, options: o.withDefaults(), ctx: ctx, nodes: map[sdk.AgentID]*Node{}, links: map[link]*linkState{}, revocations: map[revocation]bool{}, posts: sync.NewCond(new(sync.Mutex))}
	t.Cleanup(func() {
		n.mu.Lock()
		n.ending = true // from here on begin refuses, so that Wait is not overtaken by Add
		n.mu.Unlock()
		cancel()
		n.changed()
		n.calls.Wait()
	})
	return n
}

// begin counts a goroutine that will run a handler; false when the test is over.
func (n *Net) begin() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ending {
		return false
	}
	n.calls.Add(1)
	return true
}

// NodeOptions are an operator's settings for one node.
type NodeOptions struct {
	NetworkSeed string
	Properties  []byte // JSON, see sdk.Context.Properties
}

// Node adds an agent that runs h. Its key follows from the name alone, so that
// ids are the same in every run. A *sdk.Definition is cloned: one can be given
// to any number of nodes. Other handlers are one node's, since Setup is called.
// The DNA's init has run when Node returns; if it fails, the test has failed.
func (n *Net) Node(name string, h sdk.Handler, options ...NodeOptions) *Node {
	n.t.Helper()
	x, err := n.TryNode(name, h, options...)
	if err != nil {
		n.t.Fatal(err)
	}
	return x
}

func (n *Net) newNode(name string, h sdk.Handler, options []NodeOptions) (*Node, error) {
	if d, ok := h.(*sdk.Definition); ok {
		h = d.Clone()
	}
	desc, err := h.Describe(n.ctx)
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", name, err)
	}
	var o NodeOptions
	if len(options) > 0 {
		o = options[0]
	}
	key := Key(name)
	x := &Node{net: n, name: name, handler: h, desc: desc, posted: 1, initializing: desc.Init, running: map[*running]bool{}, load: agency.NewLoad(),
		book: agency.NewBook(maxGrants), delegated: agency.NewDelegated(maxDelegated), claims: agency.NewClaims(maxClaims, maxClaimsPerOne),
		dna: sdk.DNA{Name: desc.Name, Integrity: desc.Integrity, NetworkSeed: o.NetworkSeed, Properties: o.Properties}}
	copy(x.id[:], key.Public().(ed25519.PublicKey))
	x.chain = newChain(key, x.dna)
	if err := h.Setup(n.ctx, sdk.Setup{Agent: x.id, DNA: x.dna.Hash(), Properties: o.Properties, Commits: n.options.commitLimits()}); err != nil {
		return nil, fmt.Errorf("node %s: setup: %w", name, err)
	}
	return x, nil
}

// Key is the secret key of the node of this name: the first of SHA-256
// ("parley-sdktest-v1" || name || counter byte) whose public key has sign bit 0.
func Key(name string) ed25519.PrivateKey {
	for i := range 256 {
		seed := sha256.Sum256(append([]byte("parley-sdktest-v1"+name), byte(i)))
		key := ed25519.NewKeyFromSeed(seed[:])
		if key.Public().(ed25519.PublicKey)[31]&0x80 == 0 {
			return key
		}
	}
	panic(fmt.Sprintf("no key for %q within 256 tries", name)) // probability 2^-256
}

// ID is the agent of the node of this name, whether or not there is one.
func ID(name string) (id sdk.AgentID) {
	copy(id[:], Key(name).Public().(ed25519.PublicKey))
	return id
}
