package dht

import (
	"slices"
	"time"
)

// path is one of a lookup's disjoint paths: the nodes that it knows, the nearest first.
type path struct {
	target ID
	list   []int32 // places in lookup.nodes
	width  int     // the path ends when so many of the nearest have answered
	asked  int     // of at most maxAsked
	apart  bool    // only nodes that it asked itself end it
	number uint8   // in lookup.paths, where apart
}

// counts tells whether n, which was asked, is one of those that end the path.
func (p *path) counts(n *node) bool { return !p.apart || n.path == p.number }

func (p *path) has(n int32) bool { return slices.Contains(p.list, n) }

func (l *lookup) add(p *path, n int32) {
	i, _ := slices.BinarySearchFunc(p.list, n, func(o, n int32) int { return l.nearer(&p.target, o, n) })
	p.list = slices.Insert(p.list, i, n)
}

// pick returns the nearest node that nobody asked, among the path's nearest, and
// passes over those whose network this lookup has dialled often enough; -1 if it is no contact
// and enough are asked. One that is late in a get has no place among the nearest until it answers: where many are
// dead, waiting for one batch of them after the other would take seconds.
func (l *lookup) pick(at time.Duration, p *path) int32 {
	if p.asked >= maxAsked {
		return -1
	}
	seen := 0
	for _, i := range p.list {
		n := &l.nodes[i]
		if n.state == nodeNew {
			if !n.known && l.enough(at) {
				return -1
			}
			if l.mayDial(n) {
				return i
			}
		}
		if n.state != nodeFailed && n.state != nodePassed && !(l.get && n.state == nodeAsked && l.late(at, i)) && p.counts(n) {
			if seen++; seen == p.width {
				return -1
			}
		}
	}
	return -1
}

// mayDial counts the dials of one lookup by network: nobody can aim many nodes'
// dials at a network that he does not own by naming addresses in it (docs/dht.md, A10).
func (l *lookup) mayDial(n *node) bool {
	if n.known || l.dialAll {
		return true
	}
	var space [maxGroups]group
	groups := groupsOf(space[:0], l.group, n.ref())
	for _, g := range groups {
		if !g.wide && l.dialled(g).n >= dialsPerGroup {
			n.state = nodePassed
			return false
		}
	}
	for _, g := range groups {
		if !g.wide {
			l.dialled(g).n++
		}
	}
	return true
}

// dialled is the count of g: good until that of another is asked for.
func (l *lookup) dialled(g group) *tallied {
	h := groupHash(g)
	for i := range l.dials {
		if t := &l.dials[i]; t.hash == h && t.group == g {
			return t
		}
	}
	l.dials = append(l.dials, tallied{g, h, 0})
	return &l.dials[len(l.dials)-1]
}

// finished tells whether the nearest nodes that the path knows have answered, or
// all that it asked where it may ask no more. A content lookup does not wait for who is overdue.
func (l *lookup) finished(p *path, content bool) bool {
	seen := 0
	for _, i := range p.list {
		n := &l.nodes[i]
		switch n.state {
		case nodeNew:
			if p.asked < maxAsked {
				return false
			}
		case nodeAsked:
			if p.counts(n) && !(content && n.over) {
				return false
			}
		case nodeAnswered:
			if !p.counts(n) {
				continue
			}
			if seen++; seen == p.width {
				return true
			}
		}
	}
	return true
}
