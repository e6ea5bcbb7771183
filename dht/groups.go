package dht

import (
	"math"
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

// maxGroups is how many networks a contact with one address has: room that most
// need no more than.
const maxGroups = 2

// groupsOf appends the networks of c's addresses to gs.
func groupsOf(gs []group, f GroupFunc, c *Contact) []group {
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
func misplaced(from, named *Contact) bool {
	addrs := from.Addresses()
	public := func(a netip.AddrPort) bool { return !local(a.Addr()) }
	return slices.ContainsFunc(addrs, public) && !slices.ContainsFunc(named.Addresses(), public)
}

// groupHash is a cheap hash: most groups differ by it, without a look at both.
func groupHash(g group) uint32 {
	h := uint32(2166136261)
	if a := g.Addr(); a.Is4() {
		for _, b := range a.As4() {
			h = (h ^ uint32(b)) * 16777619
		}
	} else {
		for _, b := range a.As16() {
			h = (h ^ uint32(b)) * 16777619
		}
	}
	return (h ^ uint32(g.Bits())) * 16777619
}

// crowdOf is the place in table.crowd of a group with hash h, and groupBits are two bits of
// other parts of h: of those who share a place few share both.
func crowdOf(h uint32) uint32   { return h >> 23 }
func groupBits(h uint32) uint32 { return 1<<(h>>9&31) | 1<<(h>>14&31) }

// count adds n, 1 or -1, to the crowd of each network of c, and returns the groupBits of all.
// A crowd that was too large to count stays so: that costs searches, and nothing is missed.
func (t *table) count(c *Contact, n int) (bits uint32) {
	var space [maxGroups]group
	for _, g := range groupsOf(space[:0], t.group, c) {
		h := groupHash(g)
		if crowd := &t.crowd[crowdOf(h)]; *crowd < math.MaxUint8 {
			*crowd += uint8(n)
		}
		bits |= groupBits(h)
	}
	return bits
}

// groupsFit tells whether a contact more of these groups breaks no limit, where
// own does not count: it is the contact's entry, nil if it has none.
func (t *table) groupsFit(b *bucket, groups []group, own *entry) bool {
	var space [maxGroups]group
	for _, g := range groups {
		h := groupHash(g)
		if int(t.crowd[crowdOf(h)]) < g.limit(groupPerBucket, widePerBucket) {
			continue
		}
		inBucket, inTable, bits := 0, 0, groupBits(h)
		for p := range t.buckets {
			o := &t.buckets[p]
			for i := range o.entries {
				if e := &o.entries[i]; e.nets&bits == bits && e != own && slices.Contains(groupsOf(space[:0], t.group, e.ref()), g) {
					inTable++
					if o == b {
						inBucket++
					}
				}
			}
		}
		if inBucket >= g.limit(groupPerBucket, widePerBucket) || inTable >= g.limit(groupPerTable, widePerTable) {
			return false
		}
	}
	return true
}

// tally counts the addresses of each network among the contacts of one answer. It has no
// pointer to itself, which would move it to the heap: every answer to a lookup needs one.
type tally struct {
	n    int // of seen
	seen [2 * MaxContacts]tallied
	more []tallied // few contacts have more than one address
}

type tallied struct {
	group
	hash uint32
	n    int
}

// add counts one more of g and returns how many there are.
func (t *tally) add(g group) int {
	h := groupHash(g)
	for _, seen := range [...][]tallied{t.seen[:t.n], t.more} {
		for i := range seen {
			if o := &seen[i]; o.hash == h && o.group == g {
				o.n++
				return o.n
			}
		}
	}
	if t.n < len(t.seen) {
		t.seen[t.n] = tallied{g, h, 1}
		t.n++
	} else {
		t.more = append(t.more, tallied{g, h, 1})
	}
	return 1
}
