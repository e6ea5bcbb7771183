package sim

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"slices"

	"github.com/parley-p2p/parley/dht"
)

// directory is a set of nodes sorted by id: who is nearest to what.
type directory struct {
	tops []uint64 // the first 64 bits of each id
	ids  []dht.ID
	who  []int32
}

func top(id dht.ID) uint64 { return binary.BigEndian.Uint64(id[:]) }

// newDirectory is of the nodes that in accepts.
func newDirectory(nodes []node, in func(*node) bool) *directory {
	d := &directory{}
	for i := range nodes {
		if in(&nodes[i]) {
			d.who = append(d.who, nodes[i].id)
		}
	}
	slices.SortFunc(d.who, func(a, b int32) int { return bytes.Compare(nodes[a].nid[:], nodes[b].nid[:]) })
	for _, w := range d.who {
		d.tops, d.ids = append(d.tops, top(nodes[w].nid)), append(d.ids, nodes[w].nid)
	}
	return d
}

// prefix is the range of those whose first n bits, at most 64, are id's.
func (d *directory) prefix(id uint64, n int) (lo, hi int) {
	if n == 0 {
		return 0, len(d.tops)
	}
	mask := ^uint64(0) << (64 - n)
	lo, _ = slices.BinarySearch(d.tops, id&mask)
	last := id | ^mask
	hi, found := slices.BinarySearch(d.tops[lo:], last)
	for hi += lo; found && hi < len(d.tops) && d.tops[hi] == last; hi++ {
	}
	return lo, hi
}

// bucket is the range of those who share exactly n leading bits with id.
func (d *directory) bucket(id uint64, n int) (lo, hi int) {
	return d.prefix(id^1<<(63-n), n+1)
}

// closest returns the n nodes nearest to target, the nearest first.
func (d *directory) closest(target dht.ID, n int) []int32 {
	t := top(target)
	lo, hi := 0, len(d.tops)
	depth := bits.Len(uint(len(d.tops)/max(n, 1))) + 1
	for ; depth > 0; depth-- {
		if l, h := d.prefix(t, min(depth, 64)); h-l >= n {
			lo, hi = l, h
			break
		}
	}
	near := make([]int, hi-lo)
	for i := range near {
		near[i] = lo + i
	}
	slices.SortFunc(near, func(a, b int) int {
		if x, y := d.tops[a]^t, d.tops[b]^t; x != y {
			if x < y {
				return -1
			}
			return 1
		}
		return compareFrom(target, d.ids[a], d.ids[b])
	})
	out := make([]int32, 0, n)
	for _, i := range near[:min(n, len(near))] {
		out = append(out, d.who[i])
	}
	return out
}

func compareFrom(target, a, b dht.ID) int {
	for i := range target {
		if x, y := a[i]^target[i], b[i]^target[i]; x != y {
			return int(x) - int(y)
		}
	}
	return 0
}

// within tells whether n is among the nearest to k's record of all servers that are online. It reads only
// what does not change within a window.
func (s *sim) within(n *node, k dht.Key) bool {
	id, nearer := s.nodeID(k), 0
	far := top(id) ^ top(n.nid)
	for i := range s.nodes {
		if o := &s.nodes[i]; s.public[i].up && !o.nat && o.liar == nil && o.key != k && top(id)^top(o.nid) < far {
			if nearer++; nearer == nearest {
				return false
			}
		}
	}
	return true
}
