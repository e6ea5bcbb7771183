package dht

import (
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"
)

var testKeys sync.Map // n -> ed25519.PrivateKey

// testKey is a fixed agent key, different for each n.
func testKey(n int) ed25519.PrivateKey {
	if k, ok := testKeys.Load(n); ok {
		return k.(ed25519.PrivateKey)
	}
	var seed [32]byte
	binary.BigEndian.PutUint32(seed[:], uint32(n))
	for {
		k := ed25519.NewKeyFromSeed(seed[:])
		if k[63]&0x80 == 0 {
			testKeys.Store(n, k)
			return k
		}
		seed[31]++
	}
}

func pub(k ed25519.PrivateKey) Key { return Key(k.Public().(ed25519.PublicKey)) }

func testAddr(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, byte(n >> 16), byte(n >> 8), byte(n)}), 4000)
}

func testRecord(t testing.TB, n int, seq uint64, issued time.Time) *Record {
	t.Helper()
	r, err := Record{Key: pub(testKey(n)), Flags: FlagServer, Seq: seq, IssuedAt: issued, TTL: 2 * time.Hour,
		Addrs: []netip.AddrPort{testAddr(n + 1)}}.Sign(testKey(n))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

var errRefused = errors.New("connection refused")

// memNet is a network in memory with a latency of its own per pair of nodes.
// In a synctest bubble its time is virtual.
type memNet struct {
	mu       sync.Mutex
	nodes    map[netip.AddrPort]*memNode
	started  map[Key]*memNode     // the last that has started with each key
	sessions map[Key]map[Key]bool // each of two in the other's
	calls    int
	cut      map[Key]bool // has lost its uplink
	silent   map[Key]bool // takes calls and never answers
	behind   map[Key]bool // can't be dialled back
	answer   map[Key]func(from Key, req *Request) (*Response, error)
	verdicts map[string]error // of Record.Verify, by encoding
}

func newMemNet() *memNet {
	return &memNet{nodes: map[netip.AddrPort]*memNode{}, started: map[Key]*memNode{}, sessions: map[Key]map[Key]bool{}, silent: map[Key]bool{}, cut: map[Key]bool{},
		answer: map[Key]func(Key, *Request) (*Response, error){}, verdicts: map[string]error{}}
}

// verify is Record.Verify, once for each encoding: in one process every node
// would check the same signatures again, half of all time under the race detector.
func (m *memNet) verify(r *Record) error {
	m.mu.Lock()
	err, known := m.verdicts[string(r.raw)]
	m.mu.Unlock()
	if known {
		return err
	}
	err = r.Verify()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.verdicts[string(r.raw)] = err
	return err
}

// made is the number of calls made so far.
func (m *memNet) made() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.calls
}

type memNode struct {
	*DHT
	net    *memNet
	key    Key
	addr   netip.AddrPort // guarded by net.mu once it runs
	cancel context.CancelFunc
	ended  chan struct{}
}

// node makes and starts a node. edit may change its settings.
func (m *memNet) node(t testing.TB, n int, boot []Contact, edit func(*Config)) *memNode {
	t.Helper()
	mn := m.prepare(t, n, boot, edit)
	mn.run()
	return mn
}

func (m *memNet) prepare(t testing.TB, n int, boot []Contact, edit func(*Config)) *memNode {
	t.Helper()
	mn := &memNode{net: m, key: pub(testKey(n)), addr: testAddr(n + 1), ended: make(chan struct{})}
	cfg := Config{Key: testKey(n), Network: mn, Bootstrap: boot, Rand: rand.NewPCG(uint64(n), 7),
		Addrs: func() []netip.AddrPort { return []netip.AddrPort{mn.where()} }}
	if edit != nil {
		edit(&cfg)
	}
	d, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	mn.DHT = d
	d.core.verify, d.core.store.verify = m.verify, m.verify
	return mn
}

func (n *memNode) run() {
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	n.net.mu.Lock()
	n.net.nodes[n.addr], n.net.started[n.key] = n, n
	n.net.mu.Unlock()
	go func() {
		defer close(n.ended)
		n.Run(ctx)
	}()
}

// stop ends the node; calls to it are refused from now on.
func (n *memNode) stop() {
	n.net.mu.Lock()
	delete(n.net.nodes, n.addr)
	for k := range n.net.sessions[n.key] {
		delete(n.net.sessions[k], n.key)
	}
	delete(n.net.sessions, n.key)
	n.net.mu.Unlock()
	n.cancel()
	<-n.ended
}

func (n *memNode) where() netip.AddrPort {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	return n.addr
}

func (n *memNode) contact() Contact { return Contact{Key: n.key, Addrs: []netip.AddrPort{n.addr}} }

// find returns the node that a call reaches: over an open session, or by address.
func (m *memNet) find(from *memNode, to Contact) *memNode {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls++
	if m.cut[from.key] || m.cut[to.Key] {
		return nil
	}
	resolved := len(to.Addresses()) == 0 && slices.ContainsFunc(from.cfg.Bootstrap, func(b Contact) bool { return b.Key == to.Key })
	open := m.sessions[from.key][to.Key]
	if n := m.started[to.Key]; n != nil && m.nodes[n.addr] == n && (open || resolved) {
		if !open {
			m.open(from.key, to.Key)
		}
		return n
	}
	for _, a := range to.Addresses() {
		if n := m.nodes[a]; n != nil && n.key == to.Key {
			m.open(from.key, to.Key)
			return n
		}
	}
	return nil
}

// open notes a session between two nodes.
func (m *memNet) open(a, b Key) {
	for range 2 {
		if m.sessions[a] == nil {
			m.sessions[a] = map[Key]bool{}
		}
		m.sessions[a][b] = true
		a, b = b, a
	}
}

func (n *memNode) Call(ctx context.Context, to Contact, req *Request) (*Response, error) {
	there := n.net.find(n, to)
	if there == nil {
		return nil, errRefused
	}
	latency := time.Duration(5+(uint(n.key[0])*31+uint(to.Key[1])*17)%60) * time.Millisecond
	if err := wait(ctx, latency); err != nil {
		return nil, err
	}
	n.net.mu.Lock()
	silent, answer := n.net.silent[to.Key], n.net.answer[to.Key]
	n.net.mu.Unlock()
	if silent {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	var resp *Response
	var err error
	if answer != nil {
		resp, err = answer(n.key, req)
	} else {
		resp, err = there.Serve(ctx, n.key, n.where(), req)
	}
	if err != nil {
		return nil, fmt.Errorf("peer: %w", err)
	}
	return resp, wait(ctx, latency)
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// mustFind looks an agent up and checks the address.
func mustFind(t testing.TB, from, to *memNode) *Result {
	t.Helper()
	r, err := from.Lookup(t.Context(), to.key)
	if err != nil {
		t.Fatalf("%s looks up %s: %v\n%+v", from.key, to.key, err, r.Trace)
	}
	if got := r.Addrs(); len(got) != 1 || got[0] != to.addr {
		t.Fatalf("%s is said to be at %v, is at %s", to.key, got, to.addr)
	}
	return r
}

func stopAll(nodes []*memNode) {
	for _, n := range nodes {
		n.stop()
	}
}

func noGroups(netip.Addr) (narrow, wide netip.Prefix) { return narrow, wide }

// dialledNet is a memNode as the node's own Network is: it dials back, and says
// when a dial failed.
type dialledNet struct{ *memNode }

func (n dialledNet) Call(ctx context.Context, to Contact, req *Request) (*Response, error) {
	r, err := n.memNode.Call(ctx, to, req)
	if err == errRefused {
		err = fmt.Errorf("%w: %w", ErrDial, err)
	}
	return r, err
}

func (n dialledNet) DialBack(ctx context.Context, k Key, a netip.AddrPort) error {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	if m := n.net.nodes[a]; m != nil && m.key == k && !n.net.cut[n.key] && !n.net.cut[k] && !n.net.behind[k] {
		return nil
	}
	return errRefused
}

// prepareBack is prepare for a node on a dialledNet.
func (m *memNet) prepareBack(t testing.TB, n int, boot []Contact) *memNode {
	return m.prepare(t, n, boot, func(c *Config) { c.Network = dialledNet{c.Network.(*memNode)} })
}

// startBack starts n nodes that dial one another back, and bootstrap from the first.
func (m *memNet) startBack(t testing.TB, n int) []*memNode {
	boot := m.prepareBack(t, 1, nil)
	boot.run()
	nodes := []*memNode{boot}
	for i := range n - 1 {
		x := m.prepareBack(t, 10+i, []Contact{{Key: boot.key}})
		x.run()
		nodes = append(nodes, x)
	}
	return nodes
}
