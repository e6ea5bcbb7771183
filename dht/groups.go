package dht

import (
	"net/netip"
	"slices"
)

// Limits on contacts of one network: a narrow one (what one host or customer
// has, geth's limits) and the wide one around it (libp2p's rule is 3 per table;
// with ours an operator of a whole /16 has at most a twentieth of a full table).
const (
	groupPerBucket = 2
	groupPerTable  = 10
	groupPerAnswer = 2
	widePerBucket  = 3
	widePerTable   = 10
	widePerAnswer  = 3
	dialsPerGroup  = 2 // of one lookup, to contacts that the table does not have
)

// GroupFunc says which networks an address belongs to, a narrow and a wide one.
// The zero Prefix is not limited.
type GroupFunc func(netip.Addr) (narrow, wide netip.Prefix)

// DefaultGroup is the /24 and the /16 of an IPv4 address, the /48 and the /32 of
// an IPv6 address. Loopback, private and link-local addresses have none: nobody
// can fill a table from there who is not on this machine's own network.
func DefaultGroup(a netip.Addr) (narrow, wide netip.Prefix) {
	a = a.Unmap()
	if local(a) {
		return narrow, wide
	}
	n, w := 48, 32
	if a.Is4() {
		n, w = 24, 16
	}
	narrow, _ = a.Prefix(n) // of a valid address there is one
	wide, _ = a.Prefix(w)
	return narrow, wide
}

// local tells whether an address means something else on another network.
func local(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast()
}

type group struct {
	netip.Prefix
	wide bool
}

func (g group) limit(narrow, wide int) int {
	if g.wide {
		return wide
	}
	return narrow
}

// groupsOf are the networks of c's addresses.
func groupsOf(f GroupFunc, c Contact) []group {
	var gs []group
	for _, a := range c.Addresses() {
		narrow, wide := f(a.Addr())
		for _, g := range [...]group{{narrow, false}, {wide, true}} {
			if g.IsValid() && !slices.Contains(gs, g) {
				gs = append(gs, g)
			}
		}
	}
	return gs
}

// misplaced tells whether a node that is reached at a public address names one
// that has only local addresses: they would lead into our own network.
func misplaced(from, named Contact) bool {
	addrs := from.Addresses()
	public := func(a netip.AddrPort) bool { return !local(a.Addr()) }
	return slices.ContainsFunc(addrs, public) && !slices.ContainsFunc(named.Addresses(), public)
}
