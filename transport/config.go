package transport

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"time"
)

// Config is what an Endpoint is made of. Key, Network and Handler are
// required; for all others the zero value means the default.
type Config struct {
	// Key is the agent's key; its public half has sign bit 0 (GenerateKey).
	Key ed25519.PrivateKey
	// Network is the name of the network, 1 to 64 bytes. Nodes of different
	// networks can't talk to one another.
	Network string
	// Handler serves what peers send.
	Handler Handler

	// Background is the kind of requests that alone don't keep a session open for
	// ever; 0 means that there is none, and no session is closed for being unused.
	Background uint8
	// Group names the network that an address belongs to, for MaxInboundPerNet;
	// "" is not limited. nil means DefaultGroup. It is called for each connection.
	Group func(netip.Addr) string

	// Listen is the "host:port" to listen on; empty means to dial only.
	Listen string
	// Log gets what an operator should know; nil means nowhere.
	Log *slog.Logger
	// Dial opens a connection; nil means a net.Dialer.
	Dial func(ctx context.Context, to netip.AddrPort) (net.Conn, error)
	// Listener makes the listener for Listen; nil means net.Listen.
	Listener func(address string) (net.Listener, error)

	Limits
	Times
}

// Limits bound what peers and callers can make an endpoint hold.
type Limits struct {
	// MaxMessage bounds a request's or reply's body, in bytes (16 MiB).
	MaxMessage int
	// MaxSessions bounds the sessions (16,384). One more is refused.
	MaxSessions int
	// MaxInbound bounds those of them that peers have dialled (three quarters), and
	// MaxInboundPerNet those from one network (256; see Config.Group). One more is
	// refused. When an eighth or less is left, the longest unused ones are closed.
	MaxInbound, MaxInboundPerNet int
	// MaxBackground bounds the sessions that this node has dialled and that carried only
	// Background requests (256), MaxBackgroundInbound such that peers have
	// dialled (1,024). Beyond it the longest unused ones are closed, strangers' first (Pin).
	MaxBackground, MaxBackgroundInbound int
	// MaxRequests bounds the requests of one peer that are being served on one
	// session (256). The peer learns it in the handshake and holds more back.
	MaxRequests int
	// MaxWaiting bounds the requests that wait for their turn on one session (4,096).
	MaxWaiting int
	// MaxRequestsTotal bounds the requests that are being served for all peers
	// together (65,536). One more is refused.
	MaxRequestsTotal int
	// MaxServing bounds the bytes of the requests that are being served on one
	// session (64 MiB), those of up to 8 KiB not counted; MaxServingTotal
	// those of all sessions together (256 MiB).
	MaxServing, MaxServingTotal int
	// MaxQueued bounds the bytes that wait to be written on one session (64 MiB).
	// Our further requests wait. Where replies of more than 8 KiB take half of
	// it, the peer's further requests wait too; such a reply that does not
	// fit any more is dropped and its request answered with Busy.
	MaxQueued int
	// MaxQueuedTotal bounds the bytes of such replies of all sessions together
	// (256 MiB). When three quarters are taken, the session that has the most ends.
	MaxQueuedTotal int
	// MaxReassembly bounds the bytes of incomplete messages of one session (64 MiB).
	MaxReassembly int
	// MaxReassemblyTotal bounds those of all sessions together (256 MiB).
	MaxReassemblyTotal int
	// MaxHandshakes bounds the half-open incoming handshakes (1,024). One more
	// evicts one of the address that has the most.
	MaxHandshakes int
	// MaxHandshakesPerIP bounds those of one IPv4 address or IPv6 /64 (64).
	MaxHandshakesPerIP int
	// HandshakeRatePerIP is how many incoming handshakes per second one such
	// address may begin in the long run (32), HandshakeBurstPerIP how many at once (256).
	HandshakeRatePerIP, HandshakeBurstPerIP int
	// MaxDials bounds the peers that are being dialled at once (256).
	MaxDials int
	// MaxAddresses bounds the addresses that one dial tries (16); four times as
	// many where others join it with theirs.
	MaxAddresses int
}

// Times are the durations that an endpoint keeps to.
type Times struct {
	// HandshakeTimeout bounds an incoming handshake (10 s).
	HandshakeTimeout time.Duration
	// DialTimeout bounds the attempt at one address, connect and handshake (5 s).
	DialTimeout time.Duration
	// DialStagger is the time between the starts of attempts (250 ms).
	DialStagger time.Duration
	// PingAfter is how long a session may send nothing before it sends a ping (8 s).
	PingAfter time.Duration
	// DeadAfter is how long nothing may be heard, or one write may take, before
	// the peer counts as dead (20 s). It is noticed within DeadAfter + Tick, on a session
	// that was quiet DeadAfter + 2*Tick after something is sent, if it is a message 5 s + 2*Tick.
	DeadAfter time.Duration
	// QuietPingAfter takes the place of PingAfter on a quiet session (100 s, 15 min at
	// most). A silent death is noticed there when a ping has had no answer for
	// DeadAfter; one is sent, too, when the peer is a quarter overdue.
	QuietPingAfter time.Duration
	// BackgroundPingAfter takes the place of QuietPingAfter on a quiet session that has carried
	// only Background requests, while this node is Dialable or has learned that idle
	// connections last so long (15 min, and at most).
	BackgroundPingAfter time.Duration
	// RenewAfter is the age at which the side that dialled renews a session (1 h),
	// RenewBackgroundAfter that of one that has carried only Background requests (24 h).
	RenewAfter, RenewBackgroundAfter time.Duration
	// RenewBytes is how many bytes, both ways, do the same (64 GiB).
	RenewBytes uint64
	// BackgroundIdle is how long a session that this node has dialled and that carried only
	// Background requests stays without one (10 min); see Pin.
	BackgroundIdle time.Duration
	// DrainTimeout bounds how long a replaced session may finish what is in
	// flight, counted anew with each part of a message that passes (2 min).
	DrainTimeout time.Duration
	// CloseTimeout bounds the goodbye at the end of Run (2 s).
	CloseTimeout time.Duration
	// Tick is how often sessions are looked at (1 s).
	Tick time.Duration
}

const (
	// MaxHeader bounds Outgoing.Header, in bytes. It is part of the protocol.
	MaxHeader = 1024
	// MaxNetwork bounds Config.Network, in bytes.
	MaxNetwork = 64
	// maxMessageLimit is the largest MaxMessage: lengths on the wire are 32 bits.
	maxMessageLimit = math.MaxInt32
)

func or[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

func (c Config) withDefaults() Config {
	or(&c.MaxMessage, 16<<20)
	or(&c.MaxSessions, 16384)
	or(&c.MaxInbound, max(1, c.MaxSessions-max(1, c.MaxSessions/4)))
	or(&c.MaxInboundPerNet, 256)
	or(&c.MaxBackground, 256)
	or(&c.MaxBackgroundInbound, 1024)
	or(&c.BackgroundIdle, 10*time.Minute)
	or(&c.MaxRequests, 256)
	or(&c.MaxWaiting, 4096)
	or(&c.MaxQueued, max(64<<20, c.MaxMessage))
	or(&c.MaxQueuedTotal, max(256<<20, c.MaxQueued))
	or(&c.MaxRequestsTotal, max(65536, c.MaxRequests))
	or(&c.MaxServing, max(64<<20, c.MaxMessage))
	or(&c.MaxServingTotal, max(256<<20, c.MaxServing))
	or(&c.MaxReassembly, max(64<<20, c.MaxMessage))
	or(&c.MaxReassemblyTotal, max(256<<20, c.MaxReassembly))
	or(&c.MaxHandshakes, 1024)
	or(&c.MaxHandshakesPerIP, 64)
	or(&c.HandshakeRatePerIP, 32)
	or(&c.HandshakeBurstPerIP, 256)
	or(&c.MaxDials, 256)
	or(&c.MaxAddresses, 16)
	or(&c.HandshakeTimeout, 10*time.Second)
	or(&c.DialTimeout, 5*time.Second)
	or(&c.DialStagger, 250*time.Millisecond)
	or(&c.PingAfter, 8*time.Second)
	or(&c.DeadAfter, 20*time.Second)
	or(&c.QuietPingAfter, max(100*time.Second, c.PingAfter))
	or(&c.BackgroundPingAfter, max(maxQuiet, c.QuietPingAfter))
	or(&c.RenewAfter, time.Hour)
	or(&c.RenewBackgroundAfter, max(24*time.Hour, c.RenewAfter))
	or(&c.RenewBytes, 64<<30)
	or(&c.DrainTimeout, 2*time.Minute)
	or(&c.CloseTimeout, 2*time.Second)
	or(&c.Tick, time.Second)
	if c.Group == nil {
		c.Group = DefaultGroup
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Dial == nil {
		c.Dial = dialTCP
	}
	if c.Listener == nil {
		c.Listener = listenTCP
	}
	return c
}

// dialTCP and listenTCP leave TCP's keep-alive off: it would send something every
// 15 s on sessions that are kept quiet, and sessions have their own.
func dialTCP(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{KeepAlive: -1}
	return d.DialContext(ctx, "tcp", to.String())
}

func listenTCP(address string) (net.Listener, error) {
	l := net.ListenConfig{KeepAlive: -1}
	return l.Listen(context.Background(), "tcp", address)
}

func (c *Config) validate() error {
	var errs []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	if len(c.Key) != ed25519.PrivateKeySize {
		fault(true, "Key: %d bytes, an Ed25519 private key has %d", len(c.Key), ed25519.PrivateKeySize)
	} else if err := ValidKey(PeerKey(c.Key[32:])); err != nil {
		fault(true, "Key: %w", err)
	}
	fault(c.Network == "" || len(c.Network) > MaxNetwork, "Network: %d bytes, 1 to %d are allowed", len(c.Network), MaxNetwork)
	fault(c.Handler == nil, "Handler: required")
	fault(c.MaxMessage < 0 || c.MaxMessage > maxMessageLimit, "MaxMessage: %d, at most %d is possible", c.MaxMessage, maxMessageLimit)
	fault(c.MaxReassembly < c.MaxMessage, "MaxReassembly: %d is less than MaxMessage %d", c.MaxReassembly, c.MaxMessage)
	fault(c.MaxReassemblyTotal < c.MaxReassembly, "MaxReassemblyTotal: %d is less than MaxReassembly %d", c.MaxReassemblyTotal, c.MaxReassembly)
	fault(c.MaxServing < c.MaxMessage, "MaxServing: %d is less than MaxMessage %d", c.MaxServing, c.MaxMessage)
	fault(c.MaxServingTotal < c.MaxServing, "MaxServingTotal: %d is less than MaxServing %d", c.MaxServingTotal, c.MaxServing)
	fault(c.MaxQueuedTotal < c.MaxQueued, "MaxQueuedTotal: %d is less than MaxQueued %d", c.MaxQueuedTotal, c.MaxQueued)
	fault(c.MaxRequestsTotal < c.MaxRequests, "MaxRequestsTotal: %d is less than MaxRequests %d", c.MaxRequestsTotal, c.MaxRequests)
	fault(c.MaxQueued < c.MaxMessage, "MaxQueued: %d is less than MaxMessage %d", c.MaxQueued, c.MaxMessage)
	fault(c.DeadAfter < 2*c.PingAfter, "DeadAfter: %s is less than twice PingAfter %s", c.DeadAfter, c.PingAfter)
	fault(c.RenewBackgroundAfter < c.RenewAfter, "RenewBackgroundAfter: %s is less than RenewAfter %s", c.RenewBackgroundAfter, c.RenewAfter)
	fault(c.BackgroundPingAfter < c.QuietPingAfter || c.BackgroundPingAfter > maxQuiet, "BackgroundPingAfter: %s, QuietPingAfter %s to %s are allowed", c.BackgroundPingAfter, c.QuietPingAfter, maxQuiet)
	fault(c.QuietPingAfter < c.PingAfter || c.QuietPingAfter > maxQuiet, "QuietPingAfter: %s, PingAfter %s to %s are allowed", c.QuietPingAfter, c.PingAfter, maxQuiet)
	for _, l := range c.positive() {
		fault(l.value <= 0, "%s: %d is not positive", l.name, l.value)
	}
	return errors.Join(errs...)
}

type namedLimit struct {
	name  string
	value int64
}

func (c *Config) positive() []namedLimit {
	return []namedLimit{
		{"MaxSessions", int64(c.MaxSessions)}, {"MaxRequests", int64(c.MaxRequests)},
		{"MaxInbound", int64(c.MaxInbound)}, {"MaxInboundPerNet", int64(c.MaxInboundPerNet)},
		{"MaxBackground", int64(c.MaxBackground)}, {"MaxBackgroundInbound", int64(c.MaxBackgroundInbound)},
		{"BackgroundIdle", int64(c.BackgroundIdle)},
		{"MaxWaiting", int64(c.MaxWaiting)}, {"MaxHandshakes", int64(c.MaxHandshakes)},
		{"MaxHandshakesPerIP", int64(c.MaxHandshakesPerIP)}, {"HandshakeRatePerIP", int64(c.HandshakeRatePerIP)},
		{"HandshakeBurstPerIP", int64(c.HandshakeBurstPerIP)}, {"MaxDials", int64(c.MaxDials)},
		{"MaxAddresses", int64(c.MaxAddresses)}, {"HandshakeTimeout", int64(c.HandshakeTimeout)},
		{"DialTimeout", int64(c.DialTimeout)}, {"DialStagger", int64(c.DialStagger)},
		{"PingAfter", int64(c.PingAfter)}, {"RenewAfter", int64(c.RenewAfter)},
		{"DrainTimeout", int64(c.DrainTimeout)}, {"CloseTimeout", int64(c.CloseTimeout)}, {"Tick", int64(c.Tick)},
	}
}
