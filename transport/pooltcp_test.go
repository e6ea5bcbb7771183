package transport

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// TestUnusedSessionsOverSockets: of sessions over TCP those are closed that nobody has
// asked to keep, with a goodbye that lets neither side take the other for lost. The
// clock alone is not the real one.
func TestUnusedSessionsOverSockets(t *testing.T) {
	t.Parallel()
	lost := make(chan PeerKey, 64)
	start := func() *node {
		c := testConfig(t, lossHandler{lost: lost})
		c.Background, c.MaxBackground = 1, 3
		c.Tick = 24 * time.Hour // the test is the clock
		return startNode(t, c)
	}
	a := start()
	var to [6]*node
	sessions := make(map[*node]*Session)
	for i := range to {
		to[i] = start()
		sessions[to[i]] = a.to(t, to[i])
		if _, err := sessions[to[i]].Request(t.Context(), Outgoing{Kind: 1}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := sessions[to[0]].Request(t.Context(), Outgoing{Kind: 2}); err != nil {
		t.Fatal(err)
	}
	look := func(after time.Duration) {
		t.Helper()
		a.mu.Lock()
		all := a.allLocked()
		a.mu.Unlock()
		a.pool(int64(time.Since(a.start)+after), all)
	}
	open := func(want ...*node) {
		t.Helper()
		for i, n := range to {
			s := sessions[n]
			if slices.Contains(want, n) {
				if _, err := s.Request(t.Context(), Outgoing{Kind: 1}); err != nil {
					t.Errorf("%d: %v", i, err)
				}
				continue
			}
			select {
			case <-s.Done():
			case <-time.After(20 * time.Second):
				t.Fatalf("%d is still open", i)
			}
			n.await(t, fmt.Sprintf("%d has heard of the end", i), func() bool { return len(n.Sessions()) == 0 })
		}
	}
	keys := func(ns ...*node) (keys []PeerKey) {
		for _, n := range ns {
			keys = append(keys, n.key())
		}
		return keys
	}
	a.Pin(keys(to[1]), keys(to[2:5]...))
	look(poolEvery)
	look(9 * time.Minute) // 5 of the DHT's are 2 too many: the one that is not kept, and one that is
	var left []*node
	for _, n := range to {
		if sessions[n].usable() {
			left = append(left, n)
		}
	}
	if len(left) != 4 || left[0] != to[0] || left[1] != to[1] || slices.Contains(left, to[5]) {
		t.Fatalf("%d are left", len(left))
	}
	open(left...)
	look(time.Hour)
	look(2 * time.Hour) // kept ones stay however long they are idle
	open(left...)
	a.Pin(keys(to[1]), nil)
	look(3 * time.Hour) // it sees those requests
	look(4 * time.Hour)
	open(to[0], to[1])
	for _, n := range append(to[:], a) {
		n.stop()
	}
	select {
	case p := <-lost:
		t.Errorf("%s counts as lost", p)
	default:
	}
}

// lossHandler is told of peers that are lost.
type lossHandler struct {
	handlerFunc
	lost chan<- PeerKey
}

func (h lossHandler) SessionLost(peer PeerKey) { h.lost <- peer }
