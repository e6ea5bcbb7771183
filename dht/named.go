package dht

import (
	"slices"
	"time"
)

// node returns the lookup's node for c, nil for self. What the table knows of a
// contact, and what came first, gives way only to a newer record that is
// verified: so nobody leads a lookup away from an honest node by naming it wrongly.
func (l *lookup) node(c *Contact, id ID, by uint32, hop int) *node {
	if c.Key == l.self {
		return nil
	}
	n := l.all[c.Key]
	if n == nil {
		if len(l.room) == 0 {
			l.room = make([]node, nodesAtOnce)
		}
		n, l.room = &l.room[0], l.room[1:]
		*n = node{Contact: *c, id: id, hop: hop}
		n.by = by
		l.all[c.Key] = n
		if k, called, ok := l.contact(id); ok {
			n.Contact, n.known, n.vouch = k, true, called
		}
	}
	again := n.state == nodeFailed && !n.again
	if n.state != nodeNew && !again || c.Record == nil || !c.Record.newer(n.Record) || l.verify(c.Record) != nil {
		return n
	}
	n.Contact = *c
	n.by = by
	if again { // the address that failed was an old or invented one
		n.state, n.again = nodeNew, true
	}
	return n
}

// take adds at most maxNew of the named contacts to the path that asked from,
// at most groupPerBucket of one group.
func (l *lookup) take(now time.Time, from *node, contacts []Contact, better *bool) int {
	p := l.paths[from.path]
	contacts = contacts[:min(len(contacts), MaxContacts)]
	var ids [MaxContacts]ID
	var space [MaxContacts]uint8 // places in contacts, the nearest first
	order := space[:0]
	for i := range contacts {
		ids[i] = contacts[i].id()
		order = append(order, uint8(i))
	}
	nearer := func(a, b uint8) int { return compare(p.target, ids[a], ids[b]) }
	if !slices.IsSortedFunc(order, nearer) { // an honest answer is sorted
		slices.SortStableFunc(order, nearer)
	}
	by := l.network(from.Contact)
	var groups tally
	taken := 0
	for _, i := range order {
		c := &contacts[i]
		if l.get && l.check == nil && c.Record != nil && ids[i] == l.target && !l.onlyHeld && l.record(now, from.Key, c.Record, false) {
			*better = true
		}
		if n := l.all[c.Key]; n != nil && p.has(n) && !(c.Record != nil && c.Record.newer(n.Record)) {
			continue // it says nothing new
		}
		if taken == l.maxNew || c.Record != nil && !c.Record.serves() || l.skip(c, by) || misplaced(&from.Contact, c) || l.crowded(&groups, c) {
			continue
		}
		n := l.node(c, ids[i], by, from.hop+1)
		if n == nil || p.has(n) {
			continue
		}
		p.add(n)
		taken++
	}
	return taken
}

// crowded tells whether one answer names more of c's networks than it may.
func (l *lookup) crowded(groups *tally, c *Contact) bool {
	full := false
	for _, a := range c.Addresses() {
		narrow, wide := l.group(a.Addr())
		for _, g := range [...]group{{narrow, false}, {wide, true}} {
			if g.IsValid() && groups.add(g) > g.limit(groupPerAnswer, widePerAnswer) {
				full = true
			}
		}
	}
	return full
}
