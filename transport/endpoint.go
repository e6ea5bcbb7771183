package transport

import (
	"context"
	"errors"
	"net/netip"
	"time"
)

// Endpoint is one node's end of all its sessions.
type Endpoint struct{ cfg Config }

var errStub = errors.New("transport: not built yet")

// New checks the configuration. It starts nothing.
func New(c Config) (*Endpoint, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	return &Endpoint{cfg: c}, nil
}

// Bind binds the listener.
func (e *Endpoint) Bind() error { return errStub }

// Addr is the address that Bind bound.
func (e *Endpoint) Addr() netip.AddrPort { return netip.AddrPort{} }

// Run keeps the sessions.
func (e *Endpoint) Run(ctx context.Context) error { return errStub }

// Live is the session to a peer, if there is one.
func (e *Endpoint) Live(PeerKey) (*Session, bool) { return nil, false }

// Session returns the live session or dials.
func (e *Endpoint) Session(ctx context.Context, peer PeerKey, addrs []netip.AddrPort) (s *Session, reused bool, err error) {
	return nil, false, errStub
}

// Sessions describes all sessions.
func (e *Endpoint) Sessions() []SessionInfo { return nil }

// Session is one encrypted connection.
type Session struct{}

func (s *Session) Peer() PeerKey              { return PeerKey{} }
func (s *Session) RemoteAddr() netip.AddrPort { return netip.AddrPort{} }
func (s *Session) RTT() time.Duration         { return 0 }
func (s *Session) Done() <-chan struct{}      { return nil }
func (s *Session) Err() error                 { return errStub }
func (s *Session) Request(ctx context.Context, o Outgoing) ([]byte, error) {
	return nil, errStub
}
func (s *Session) Notify(ctx context.Context, o Outgoing) error    { return errStub }
func (s *Session) Ping(ctx context.Context) (time.Duration, error) { return 0, errStub }
