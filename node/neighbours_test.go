package node

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/parley-p2p/parley/dht"
	"github.com/parley-p2p/parley/transport"
)

func TestNeighboursDue(t *testing.T) {
	t.Parallel()
	var pinned []dht.Contact
	for i := range 20 {
		pinned = append(pinned, dht.Contact{Key: dht.Key{byte(i)}})
	}
	live := map[dht.Key]bool{{0}: true, {1}: true}
	now := time.Unix(1e9, 0)
	var ns neighbours
	look := func(after time.Duration, pinned []dht.Contact) (keys []byte) {
		now = now.Add(after)
		for _, c := range ns.due(now, pinned, func(c dht.Contact) bool { return live[c.Key] }) {
			keys = append(keys, c.Key[0])
		}
		return keys
	}
	for i, step := range []struct {
		after  time.Duration
		pinned []dht.Contact
		end    byte // whose session has ended before; 0 = nobody's
		want   []byte
	}{
		{0, pinned, 0, []byte{2, 3, 4, 5, 6, 7, 8, 9}},
		{neighboursEvery, pinned, 0, []byte{10, 11, 12, 13, 14, 15, 16, 17}},
		{neighboursEvery, pinned, 1, []byte{1, 18, 19}}, // who was live all the time, at once
		{neighboursEvery, pinned, 2, nil},               // who was dialled not long ago, not
		{redialEvery - 3*neighboursEvery - 1, pinned, 0, nil},
		{1, pinned[:4], 0, []byte{2, 3}},
		{neighboursEvery, pinned[3:], 0, []byte{4, 5, 6, 7, 8, 9, 10, 11}}, // new ones again
	} {
		delete(live, dht.Key{step.end})
		if step.end == 0 {
			live[dht.Key{0}] = true
		}
		if got := look(step.after, step.pinned); !slices.Equal(got, step.want) {
			t.Errorf("step %d: %v, want %v", i, got, step.want)
		}
	}
	if len(ns.seen) != 17 {
		t.Errorf("%d are remembered", len(ns.seen))
	}
}

// A neighbour whose session has broken is dialled again without anybody asking.
func TestNeighbourIsDialledAgain(t *testing.T) {
	t.Parallel()
	w := newTestNetwork(t, testDNA)
	p := newProxy(t)
	w.base.Advertise = []netip.AddrPort{p.addr()}
	alice := w.start("alice")
	p.forward(alice.Addr())
	w.base.Advertise, w.first = nil, []Peer{{Agent: alice.Agent(), Host: p.addr().String()}}
	w.base.Listen = "" // the proxy is the only way between them
	bob := w.start("bob")
	peer := transport.PeerKey(alice.Agent())
	if pinned := bob.dht.Pinned(); len(pinned) != 1 || pinned[0].Key != dht.Key(peer) {
		t.Fatalf("pinned: %v", pinned)
	}
	before, ok := bob.endpoint.Live(peer)
	if !ok {
		t.Fatal("no session")
	}
	var ns neighbours
	bob.tendNeighbours(t.Context(), &ns)
	if len(ns.seen) != 1 || !ns.seen[dht.Key(peer)].IsZero() {
		t.Errorf("dialled while there was a session: %v", ns.seen)
	}
	p.cut()
	<-before.Done()
	bob.tendNeighbours(t.Context(), &ns)
	again, ok := bob.endpoint.Live(peer)
	if !ok || again == before {
		t.Fatal("not dialled again")
	}
}

// A neighbour that does not answer is left alone, until its pause is over.
func TestNeighbourIsLeftAlone(t *testing.T) {
	t.Parallel()
	w := newTestNetwork(t, testDNA)
	n := w.start("n")
	dead := dht.Contact{Key: dht.Key(newIdentity(testPrivateKey(50)).agent), Addrs: []netip.AddrPort{closedPort(t)}}
	if n.leaveAlone(dead) {
		t.Error("left alone before it was dialled")
	}
	if !n.dialNeighbour(t.Context(), dead) || !n.leaveAlone(dead) {
		t.Error("not left alone")
	}
	n.backoff.worked(dead.Addrs[0])
	if n.leaveAlone(dead) {
		t.Error("left alone though its pause is over")
	}
	_, addr := listening(t, 51)
	live := dht.Contact{Key: dht.Key(newIdentity(testPrivateKey(51)).agent), Addrs: []netip.AddrPort{addr}}
	if n.dialNeighbour(t.Context(), live) || !n.leaveAlone(live) {
		t.Error("one that answers has no session, or is to be dialled again")
	}
}

// Sessions beat seldom where others have found that the node can be dialled.
func TestNeighbourSessionsBeatSeldom(t *testing.T) {
	t.Parallel()
	w := newTestNetwork(t, testDNA)
	alice, bob := w.start("alice"), w.start("bob")
	await(t, func() bool { d := bob.dht.Stats(); return d.Server && d.Proven })
	bob.endpoint.Dialable(false) // as before it was found
	var ns neighbours
	bob.tendNeighbours(t.Context(), &ns)
	all := bob.endpoint.Sessions()
	if len(all) == 0 || all[0].Peer != transport.PeerKey(alice.Agent()) || all[0].Beat != 15*time.Minute {
		t.Errorf("%+v", all)
	}
}
