package transport

import (
	"context"
	"net/netip"
	"sync/atomic"
	"time"
)

// Handler serves what peers send. Its methods run concurrently, at most
// MaxRequests calls for each session; a call never waits for another one. A
// panic is logged with its stack, and the peer gets Unsupported. The goroutine
// is not the handler's: runtime.Goexit must not be called.
type Handler interface {
	// ServeRequest answers a request. ctx ends at the request's deadline, when
	// the peer cancels, or when Run ends; not when the session breaks, as the
	// peer may repeat the request over a new session. A *PeerError travels as it
	// is; any other error reaches the peer as Unsupported, without its text.
	// The reply must not be changed after the return. Where replies that the
	// peer does not read take MaxQueued, it is dropped for Busy, Served.
	ServeRequest(ctx context.Context, r *Request) (reply []byte, err error)
	// ServeNotify takes a one-way message. One that exceeds a limit is dropped. ctx ends at the deadline or when Run ends.
	ServeNotify(ctx context.Context, r *Request)
}

// SessionBeginner is a Handler that wants to know of new sessions.
type SessionBeginner interface {
	// SessionBegan tells that a session with peer has begun. dialled is the address
	// that this side dialled, zero where the peer did. It must not wait.
	SessionBegan(peer PeerKey, dialled netip.AddrPort)
}

// SessionEnder is a Handler that wants to know which peers were lost.
type SessionEnder interface {
	// SessionLost tells that the last session with peer has ended without a goodbye.
	// It must not wait.
	SessionLost(peer PeerKey)
}

// Request is what arrived. Its slices belong to the handler.
type Request struct {
	Peer PeerKey
	// Addr is the other end of the session, as this side sees it.
	Addr   netip.AddrPort
	Kind   uint8
	ID     [16]byte
	Header []byte
	Body   []byte

	ctx *serveCtx
	in  atomic.Pointer[incoming] // of a request that StartRequest has taken, until Reply
}

// Cancel ends the context with which the request is served, as if the peer had
// given up. It may be called at any time; the first end counts.
func (r *Request) Cancel(cause error) { r.ctx.end(cause) }

// Outgoing is what is to be sent. Its slices must not change until the call returns.
type Outgoing struct {
	// Kind tells the receiver what the message is: 1 for the DHT, 2 for messages.
	Kind uint8
	// ID names the message across sessions.
	ID [16]byte
	// Header is opaque, at most MaxHeader bytes.
	Header []byte
	// Body is at most MaxMessage bytes.
	Body []byte
	// Answer is how many bytes of an answer Ask hopes for in message 2, which is never
	// longer than message 1; 0: as many as there is room for. It is not sent.
	Answer int
}

// SessionInfo describes a session for people.
type SessionInfo struct {
	Peer      PeerKey
	Addr      netip.AddrPort
	Initiator bool // this side dialled
	Draining  bool // finishing what is in flight
	Opened    time.Time
	LastHeard time.Time
	// BytesIn and BytesOut count what was read and written, records and handshake.
	BytesIn, BytesOut uint64
	// Outgoing and Incoming count the requests in flight.
	Outgoing, Incoming int
	RTT                time.Duration // of the last ping or handshake
	// Skew is the peer's clock less ours at the handshake, to within a round trip.
	Skew time.Duration
	// Beat is how often this side sends on the session when it is quiet, at least.
	Beat time.Duration
	// Background tells that only Background requests went over it, and over those that it renews.
	Background bool
}
