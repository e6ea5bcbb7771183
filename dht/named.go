package dht

import (
	"slices"
	"time"
)

// named returns the place of the lookup's node for c, whose id this is, -1 for self; i is what
// find says. What the table knows of a contact, and what came first, gives way only to a newer record that is
// verified: so nobody leads a lookup away from an honest node by naming it wrongly.
func (l *lookup) named(i int32, c *Contact, id *ID, by uint32, hop uint16) int32 {
	if c.Key == l.self {
		return -1
	}
	if i < 0 {
		n := node{who: newWho(c, *id), hop: hop}
		n.by = by
		if k, called, ok := l.contact(*id); ok {
			n.who, n.known, n.vouch = newWho(&k, *id), true, called
		}
		i = l.append(n)
	}
	n := &l.nodes[i]
	again := n.state == nodeFailed && !n.again
	if n.state != nodeNew && !again || !n.older(c.Record) || l.verify(c.Record) != nil {
		return i
	}
	n.who = newWho(c, *id)
	n.by = by
	if again { // the address that failed was an old or invented one
		n.state, n.again = nodeNew, true
	}
	return i
}

// older tells whether r, if it is a record, is newer than what n is known by.
func (n *node) older(r *Record) bool {
	known := n.contact().Record
	return r != nil && r != known && r.newer(known)
}

// seed is named for who a lookup starts from.
func (l *lookup) seed(s *seed) int32 {
	c := s.contact()
	id := s.id()
	i := l.find(id.top(), &c.Key)
	if i >= 0 || !s.known {
		return l.named(i, &c, &id, s.by, 1)
	}
	return l.append(node{who: s.who, hop: 1, known: true, vouch: s.called})
}

// take adds at most maxNew of the named contacts to the path that asked from,
// at most groupPerBucket of one group.
func (l *lookup) take(now time.Time, from int32, contacts []Contact, better *bool) int {
	p, hop, asked := &l.paths[l.nodes[from].path], l.nodes[from].hop+1, l.nodes[from].contact()
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
	by := l.network(asked)
	var groups tally
	taken := 0
	for _, i := range order {
		c, id := &contacts[i], &ids[i]
		if l.get && l.check == nil && c.Record != nil && *id == l.target && !l.onlyHeld && l.record(now, nil, c.Record) {
			*better = true
		}
		n := l.find(id.top(), &c.Key)
		if n >= 0 && p.has(n) && !l.nodes[n].older(c.Record) {
			continue // it says nothing new
		}
		if taken == l.maxNew || c.Record != nil && !c.Record.serves() || l.isDead(l.start, c, by) || misplaced(&asked, c) || l.crowded(&groups, c) {
			continue
		}
		if n = l.named(n, c, id, by, hop); n >= 0 && !p.has(n) {
			l.add(p, n)
			taken++
		}
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
