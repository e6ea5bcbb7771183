package transport

import (
	"errors"
	"net/netip"
	"testing"
)

// Reach proves an address, whether a session is open or not, and leaves nothing.
func TestReach(t *testing.T) {
	t.Parallel()
	a, b, c := startNode(t, testConfig(t, nil)), startNode(t, testConfig(t, nil)), startNode(t, testConfig(t, nil))
	for range 2 {
		if err := a.Reach(t.Context(), b.key(), b.Addr()); err != nil {
			t.Error(err)
		}
		var dial *DialError
		if err := a.Reach(t.Context(), b.key(), c.Addr()); !errors.As(err, &dial) || !errors.Is(err, ErrNoAnswer) {
			t.Errorf("another agent at the address: %v", err)
		}
		if err := a.Reach(t.Context(), PeerKey{}, c.Addr()); !errors.Is(err, ErrKey) {
			t.Errorf("no key: %v", err)
		}
		if n := len(a.Sessions()) + len(b.Sessions()); n > 2 {
			t.Errorf("%d sessions", n)
		}
		a.to(t, b)
	}
	b.stop()
	if err := a.Reach(t.Context(), b.key(), b.Addr()); err == nil {
		t.Error("a node that has stopped is reached")
	}
	if err := a.Reach(t.Context(), b.key(), netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), 1)); err == nil {
		t.Error("an address where nobody listens is reached")
	}
}
