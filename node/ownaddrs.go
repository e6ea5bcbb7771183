package node

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"
)

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
	if ip := bound.Addr(); !ip.IsUnspecified() {
		if len(own) > 0 && !ip.IsLoopback() && !slices.ContainsFunc(own, func(o netip.Addr) bool { return o.Unmap().WithZone("") == ip.Unmap().WithZone("") }) {
			return nil // the machine had it once
		}
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
