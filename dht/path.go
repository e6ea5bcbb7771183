package dht

import (
	"slices"
	"time"
)

// path is one of a lookup's disjoint paths: the nodes that it knows, the nearest first.
type path struct {
	target ID
	width  int // the path ends when so many of the nearest have answered
	list   []*node
	asked  int  // of at most maxAsked
	apart  bool // only nodes that it asked itself end it
	number int  // in lookup.paths, where apart
}

// counts tells whether n, which was asked, is one of those that end the path.
func (p *path) counts(n *node) bool { return !p.apart || n.path == p.number }

func (p *path) has(n *node) bool { return slices.Contains(p.list, n) }

func (p *path) add(n *node) {
	i, _ := slices.BinarySearchFunc(p.list, n.id, func(o *node, id ID) int { return compare(p.target, o.id, id) })
	p.list = slices.Insert(p.list, i, n)
}

// pick returns the nearest node that nobody asked, among the path's nearest, and
// passes over those whose network this lookup has dialled often enough; none if it is no contact
// and enough are asked. One that is late in a get has no place among the nearest until it answers: where many are
// dead, waiting for one batch of them after the other would take seconds.
func (l *lookup) pick(now time.Time, p *path) *node {
	if p.asked >= maxAsked {
		return nil
	}
	seen := 0
	for _, n := range p.list {
		if n.state == nodeNew {
			if !n.known && l.enough(now) {
				return nil
			}
			if l.mayDial(n) {
				return n
			}
		}
		if n.state != nodeFailed && n.state != nodePassed && !(l.get && n.state == nodeAsked && !now.Before(n.late())) && p.counts(n) {
			if seen++; seen == p.width {
				return nil
			}
		}
	}
	return nil
}

// late is when an answer is not expected any more, though it is still waited for.
func (n *node) late() time.Time {
	if late := n.asked.Add(firstHedge); late.After(n.hedge) {
		return late
	}
	return n.hedge // it is far away, or this machine is busy
}

// mayDial counts the dials of one lookup by network: nobody can aim many nodes'
// dials at a network that he does not own by naming addresses in it (docs/dht.md, A10).
func (l *lookup) mayDial(n *node) bool {
	if n.known || l.dialAll {
		return true
	}
	var space [maxGroups]group
	groups := groupsOf(space[:0], l.group, &n.Contact)
	for _, g := range groups {
		if !g.wide && l.dials[g] >= dialsPerGroup {
			n.state = nodePassed
			return false
		}
	}
	for _, g := range groups {
		if !g.wide {
			if l.dials == nil {
				l.dials = map[group]int{}
			}
			l.dials[g]++
		}
	}
	return true
}

// done tells whether the nearest nodes that the path knows have answered, or
// all that it asked where it may ask no more. A content lookup does not wait for who is overdue.
func (p *path) done(content bool) bool {
	seen := 0
	for _, n := range p.list {
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
