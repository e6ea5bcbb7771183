package dht

import "slices"

func (t *table) groupsOf(c Contact) []string {
	var gs []string
	for _, a := range c.Addresses() {
		if g := t.group(a.Addr()); g != "" && !slices.Contains(gs, g) {
			gs = append(gs, g)
		}
	}
	return gs
}

// groupHash is a cheap hash: most groups differ by it, without a look at both.
func groupHash(g string) uint32 {
	h := uint32(2166136261)
	for i := range len(g) {
		h = (h ^ uint32(g[i])) * 16777619
	}
	return h
}

func groupBit(h uint32) uint64 { return 1 << (h >> 26) }

// groupBits has the bit of each group.
func groupBits(groups []string) (bits uint64) {
	for _, g := range groups {
		bits |= groupBit(groupHash(g))
	}
	return bits
}

// groupsFit tells whether a contact more of these groups breaks no limit.
func (t *table) groupsFit(b *bucket, groups []string) bool {
	for _, g := range groups {
		inBucket, inTable, bit := 0, 0, groupBit(groupHash(g))
		for _, o := range t.buckets {
			if o == nil {
				continue
			}
			for i, e := range o.entries {
				if o.nets[i]&bit != 0 && slices.Contains(e.groups, g) {
					inTable++
					if o == b {
						inBucket++
					}
				}
			}
		}
		if inBucket >= groupPerBucket || inTable >= groupPerTable {
			return false
		}
	}
	return true
}

// tally counts the addresses of each group among the contacts of one answer.
type tally struct {
	seen   int
	hashes [MaxContacts * MaxAddrs]uint32
	groups [MaxContacts * MaxAddrs]string
	n      [MaxContacts * MaxAddrs]uint8
}

// add counts one more of g and returns how many there are.
func (t *tally) add(g string) int {
	h, i := groupHash(g), 0
	for i < t.seen && (t.hashes[i] != h || t.groups[i] != g) {
		i++
	}
	if i == t.seen {
		t.hashes[i], t.groups[i] = h, g
		t.seen++
	}
	t.n[i]++
	return int(t.n[i])
}
