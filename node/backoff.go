package node

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

const (
	backoffFirst = time.Second
	backoffMost  = 10 * time.Minute
	// backoffKept is how long a failure is remembered after its pause is over.
	backoffKept = 2 * backoffMost
	maxBackoffs = 4096
)

// backoff are the pauses of addresses at which nobody answered, for what the node
// dials of its own accord. Who is sent something is dialled at once, whatever is
// here.
type backoff struct {
	mu     sync.Mutex // guards what follows
	byAddr map[netip.AddrPort]*pause
	swept  time.Time
}

// pause is how long one address is left alone.
type pause struct {
	agent sdk.AgentID   // who was looked for there
	last  time.Duration // doubles with each failure
	until time.Time
}

func newBackoff() *backoff { return &backoff{byAddr: map[netip.AddrPort]*pause{}} }

// due returns those of addrs that may be dialled now.
func (b *backoff) due(now time.Time, addrs []netip.AddrPort) []netip.AddrPort {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(addrs), func(a netip.AddrPort) bool {
		p := b.byAddr[a]
		return p != nil && now.Before(p.until)
	})
}

// failed notes that nobody answered as agent at addrs.
func (b *backoff) failed(now time.Time, agent sdk.AgentID, addrs []netip.AddrPort) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, a := range addrs {
		p := b.byAddr[a]
		if p == nil {
			if len(b.byAddr) >= maxBackoffs && !b.sweepLocked(now) {
				return
			}
			p = &pause{}
			b.byAddr[a] = p
		}
		p.agent, p.last = agent, min(max(2*p.last, backoffFirst), backoffMost)
		p.until = now.Add(p.last - p.last/10 + rand.N(p.last/5+1))
	}
}

// sweepLocked forgets what is over, at most once a second. It tells whether there
// is room now.
func (b *backoff) sweepLocked(now time.Time) bool {
	if now.Sub(b.swept) < time.Second {
		return false
	}
	b.swept = now
	for a, p := range b.byAddr {
		if now.Sub(p.until) > backoffKept {
			delete(b.byAddr, a)
		}
	}
	return len(b.byAddr) < maxBackoffs
}

// worked ends an address's pause.
func (b *backoff) worked(addr netip.AddrPort) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.byAddr, addr)
}

// clear ends the pauses of an agent's addresses: it has told of itself anew.
func (b *backoff) clear(agent sdk.AgentID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for a, p := range b.byAddr {
		if p.agent == agent {
			delete(b.byAddr, a)
		}
	}
}
