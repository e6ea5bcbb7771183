package node

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/parley-p2p/parley/dht"
	"github.com/parley-p2p/parley/transport"
)

// A changed record goes to all at once, a renewed one to those with whom messages were
// exchanged, and no record twice.
func TestWhomToPushTo(t *testing.T) {
	t.Parallel()
	talked, quiet := transport.PeerKey{1}, transport.PeerKey{2}
	all := []transport.PeerKey{talked, quiet}
	sessions := []transport.SessionInfo{{Peer: talked, Background: true}, {Peer: quiet, Background: true}, {Peer: talked}, {Peer: quiet, Background: true}}
	here, there := netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.2:1")
	first := freshRecord(t, 1, 10, here)
	p := newPusher()
	for i, c := range []struct {
		rec  *dht.Record
		want []transport.PeerKey
	}{
		{nil, nil},
		{first, all}, // nobody has any
		{first, nil},
		{freshRecord(t, 1, 11, here), all[:1]},
		{freshRecord(t, 1, 12, here, there), all},
		{freshRecord(t, 1, 13, there, here), all}, // another preferred address
		{freshRecord(t, 1, 14, there, here), all[:1]},
		{freshRecord(t, 1, 15), all}, // it goes
		{freshRecord(t, 1, 16, here), all},
	} {
		if got := p.due(c.rec, sessions); !slices.Equal(got, c.want) {
			t.Errorf("%d: to %v, want %v", i, got, c.want)
		}
	}
}
