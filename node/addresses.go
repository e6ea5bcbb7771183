package node

import (
	"container/list"
	"context"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// Bounds of the address cache.
const (
	maxAddresses = 4096
	addressAge   = 24 * time.Hour
)

// addressCache remembers where agents answered. Its loss costs a look-up.
type addressCache struct {
	mu     sync.Mutex // guards what follows
	byID   map[sdk.AgentID]*list.Element
	recent *list.List // of *knownAddress, the newest first
}

type knownAddress struct {
	agent sdk.AgentID
	addr  netip.AddrPort
	at    time.Time
}

func newAddressCache() *addressCache {
	return &addressCache{byID: map[sdk.AgentID]*list.Element{}, recent: list.New()}
}

func (c *addressCache) get(now time.Time, id sdk.AgentID) []netip.AddrPort {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.byID[id]
	if e == nil {
		return nil
	}
	k := e.Value.(*knownAddress)
	if now.Sub(k.at) > addressAge {
		c.removeLocked(e)
		return nil
	}
	return []netip.AddrPort{k.addr}
}

// worked notes that an agent answered at an address that this node dialled.
func (c *addressCache) worked(now time.Time, id sdk.AgentID, addr netip.AddrPort) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.byID[id]; e != nil {
		c.removeLocked(e)
	}
	c.byID[id] = c.recent.PushFront(&knownAddress{agent: id, addr: addr, at: now})
	if c.recent.Len() > maxAddresses {
		c.removeLocked(c.recent.Back())
	}
}

func (c *addressCache) failed(id sdk.AgentID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.byID[id]; e != nil {
		c.removeLocked(e)
	}
}

func (c *addressCache) removeLocked(e *list.Element) {
	delete(c.byID, e.Value.(*knownAddress).agent)
	c.recent.Remove(e)
}

// all returns the entries, the oldest first.
func (c *addressCache) all() []knownAddress {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]knownAddress, 0, c.recent.Len())
	for e := c.recent.Back(); e != nil; e = e.Prev() {
		out = append(out, *e.Value.(*knownAddress))
	}
	return out
}

const resolveLimit = 5 * time.Second

// resolveHost looks up "HOST:PORT"; what can't be looked up has no addresses.
func resolveHost(ctx context.Context, hostport string) []netip.AddrPort {
	if ap, err := netip.ParseAddrPort(hostport); err == nil {
		return []netip.AddrPort{ap}
	}
	host, portText, err := net.SplitHostPort(hostport)
	if err != nil {
		return nil
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, resolveLimit)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil
	}
	out := make([]netip.AddrPort, 0, len(ips))
	for _, ip := range ips {
		out = append(out, netip.AddrPortFrom(ip.Unmap(), uint16(port)))
	}
	return out
}

// advertised are the addresses to publish: those set by the operator; else the
// one listened on; else, where that is a wildcard, the machine's own, and the
// loopback ones only where there are no others.
func advertised(set []netip.AddrPort, bound netip.AddrPort, own []netip.Addr) []netip.AddrPort {
	if len(set) > 0 || !bound.IsValid() {
		return set
	}
	if !bound.Addr().IsUnspecified() {
		return []netip.AddrPort{bound}
	}
	var public, loopback []netip.AddrPort
	for _, ip := range own {
		ip = ip.Unmap().WithZone("")
		ap := netip.AddrPortFrom(ip, bound.Port())
		switch {
		case bound.Addr().Is4() && !ip.Is4():
		case ip.IsLoopback():
			loopback = append(loopback, ap)
		case ip.IsGlobalUnicast():
			public = append(public, ap)
		}
	}
	if len(public) == 0 {
		public = loopback
	}
	return public[:min(len(public), maxAdvertised)]
}

// maxAdvertised is how many addresses a record holds (docs/wire.md).
const maxAdvertised = 8

func interfaceAddrs() []netip.Addr {
	nets, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var out []netip.Addr
	for _, a := range nets {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			out = append(out, p.Addr())
		}
	}
	return out
}
