package dht

import (
	"cmp"
	"encoding/binary"
	"slices"
)

type nodeState uint8

const (
	nodeNew nodeState = iota
	nodeAsked
	nodeAnswered
	nodeFailed
	nodePassed // not asked: too many of its network were
	nodeForged // see forged: it is not there any more
)

type node struct {
	who
	gave  uint64 // seq of the record that it gave
	hop   uint16
	path  uint8 // that asked it
	state nodeState
	again bool // it is asked a second time, by a newer record
	known bool // the table has it
	vouch bool // but nobody has named it yet: see entry.called
	over  bool // it may be let go: see tire
	holds bool // exactly lookup.best, or entry
}

// seed is a node that a lookup starts from.
type seed struct {
	who
	known, called bool // see node.known and vouch
}

// find returns the place of k, the top of whose id this is, in nodes: -1 if it is not there.
func (l *lookup) find(top uint64, k *Key) int32 {
	for i, t := range l.tops {
		if t == top && l.nodes[i].state != nodeForged && l.nodes[i].key() == *k {
			return int32(i)
		}
	}
	return -1
}

// append adds a node that find does not find. It returns its place.
func (l *lookup) append(n node) int32 {
	l.nodes, l.tops = append(l.nodes, n), append(l.tops, n.top())
	return int32(len(l.nodes) - 1)
}

// nearer orders two nodes by their distance to target.
func (l *lookup) nearer(target *ID, a, b int32) int {
	top := target.top()
	if x, y := l.tops[a]^top, l.tops[b]^top; x != y {
		return cmp.Compare(x, y)
	}
	return compare(*target, l.nodes[a].id(), l.nodes[b].id())
}

// sorted are the lookup's nodes for seeds, the nearest to target first.
func (l *lookup) sorted(seeds []seed, target *ID) []int32 {
	nodes := make([]int32, 0, len(seeds))
	for i := range seeds {
		if n := l.seed(&seeds[i]); n >= 0 && !slices.Contains(nodes, n) {
			nodes = append(nodes, n)
		}
	}
	l.sort(nodes, target)
	return nodes
}

func (l *lookup) sort(nodes []int32, target *ID) {
	order := func(a, b int32) int { return l.nearer(target, a, b) }
	if !slices.IsSortedFunc(nodes, order) { // a table's contacts are
		slices.SortFunc(nodes, order)
	}
}

// nobody tells whether it knows no node.
func (l *lookup) nobody() bool {
	return !slices.ContainsFunc(l.nodes, func(n node) bool { return n.state != nodeForged })
}

// nearest returns the k nearest nodes that answered.
func (l *lookup) nearest(k int) []*node {
	var space [nodesMore + 2*bucketSize]int32
	near := space[:0]
	for i := range l.nodes {
		if l.nodes[i].state == nodeAnswered {
			near = append(near, int32(i))
		}
	}
	l.sort(near, &l.target)
	nodes := make([]*node, min(k, len(near)))
	for i := range nodes {
		nodes[i] = &l.nodes[near[i]]
	}
	return nodes
}

// nearestKnown are the nodes around target that need not be named again: those that answered,
// now or at an earlier time. Who was only named may have been named wrongly, and who has failed may have moved.
func (l *lookup) nearestKnown(target *ID) []byte {
	var space [2 * MaxKnown]int32
	near := space[:0]
	for i := range l.paths {
		list := l.paths[i].list
		for _, i := range list[:min(len(list), 2*MaxKnown)] {
			if n := &l.nodes[i]; (n.known || n.state == nodeAnswered) && n.state != nodeFailed && !n.vouch {
				near = append(near, i)
			}
		}
	}
	if len(l.paths) > 1 { // which may know the same
		l.sort(near, target)
		near = slices.Compact(near)
	}
	near = near[:min(len(near), MaxKnown)]
	b := make([]byte, 0, len(near)*KnownSize)
	for _, i := range near {
		b = binary.BigEndian.AppendUint64(b, l.tops[i])
	}
	return b
}
