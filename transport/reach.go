package transport

import (
	"context"
	"net/netip"
)

// Reach tells whether peer answers at addr: it connects, shakes hands, which
// proves the peer's key, and closes. No session comes of it, and none that is
// open is used or touched. Errors are those of a dial; DialTimeout bounds it.
func (e *Endpoint) Reach(ctx context.Context, peer PeerKey, addr netip.AddrPort) error {
	if err := ValidKey(peer); err != nil {
		return err
	}
	s, err := e.attempt(ctx, peer, addr, nil)
	if err != nil {
		return &DialError{Peer: peer, Attempts: []Attempt{{addr, err}}}
	}
	return s.conn.Close()
}
