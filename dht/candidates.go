package dht

import "slices"

// mayCome tells whether one more may enter who came by himself, for whom no other
// contact vouches: a twentieth of the table, so that whoever calls often does not fill it.
func (t *table) mayCome(k Key) bool {
	if t.n < smallTable || t.get(k) != nil {
		return true
	}
	n := 0
	for i := range t.buckets {
		n += t.buckets[i].called
	}
	return n < max(smallTable/8, t.n/20)
}

// setCalled notes whether e came by itself: see entry.called.
func (t *table) setCalled(e *entry, called bool) {
	t.bucket(e.id()).called += btoi(called) - btoi(e.called)
	e.called = called
}

// hearing is one answer whose contacts are heard.
type hearing struct {
	by    uint32                      // the network of who gives it
	least int                         // the farthest bucket that it may tell of
	dead  func(*Contact, uint32) bool // whom not to keep
}

// heard keeps a contact that somebody named, to be checked when there is room, if
// it is not known to be dead. It tells whether it is new and there may be room.
func (t *table) heard(h *hearing, c *Contact) bool {
	id := c.id()
	p := prefixLen(t.self, id)
	if p == 8*len(id) || p < h.least {
		return false
	}
	if len(c.Addresses()) == 0 || c.Record != nil && !c.Record.serves() {
		return false
	}
	if p < len(t.buckets) {
		b := &t.buckets[p]
		if i := b.find(id.top(), c.Key); i >= 0 {
			if b.called > 0 { // hardly ever: else its entry need not be looked at
				t.setCalled(&b.entries[i], false)
			}
			return false
		}
	}
	b := t.bucket(id)
	i := b.spare(id.top(), c.Key)
	if i < 0 && h.dead(c, h.by) {
		return false
	}
	return b.replace(i, c, h.by, id) && (len(b.entries) < t.k || t.besides(id))
}

// replace makes c the latest of the replacements, where it was the i-th, or is new with i < 0:
// it tells whether it is.
func (b *bucket) replace(i int, c *Contact, by uint32, id ID) bool {
	var s spare
	known := i >= 0
	if known && b.replacements[i].record() != nil {
		s = b.replacements[i] // what somebody else says is no better, and may be forged
	} else {
		s = spare{newWho(c, id), id.top()}
		s.by = by
		b.barren = 0
	}
	if !known {
		if i = len(b.replacements); i == cap(b.replacements) && i < replacementSize { // not beyond it, as append
			b.replacements = append(make([]spare, 0, min(2*i+2, replacementSize)), b.replacements...)
		}
		i = min(i, replacementSize-1)
		b.replacements = b.replacements[:i+1]
	}
	copy(b.replacements[1:i+1], b.replacements[:i])
	b.replacements[0] = s
	return !known
}

// spare returns the place of k in replacements, -1 if it is not there.
func (b *bucket) spare(top uint64, k Key) int {
	for i := range b.replacements {
		s := &b.replacements[i]
		if s.top == top && s.key() == k {
			return i
		}
	}
	return -1
}

func (b *bucket) drop(id ID, k Key) {
	if i := b.spare(id.top(), k); i >= 0 {
		b.replacements = slices.Delete(b.replacements, i, i+1)
	}
}

// takeCandidates removes and returns up to n replacements that there is room for.
func (t *table) takeCandidates(n int) []Contact {
	var out []Contact
	for p := range t.buckets {
		b := &t.buckets[p]
		if len(b.replacements) == 0 || len(b.entries) >= t.k && p < t.sibling || b.barren == t.freed+1 {
			continue // no room for anyone
		}
		free, i := max(t.k-len(b.entries), 1)-b.asked, 0
		for i < len(b.replacements) && len(out) < n && free > 0 {
			c := b.replacements[i].contact()
			if !t.room(b, &c, b.replacements[i].id()) {
				i++
				continue
			}
			b.replacements = slices.Delete(b.replacements, i, i+1)
			b.asked++
			free--
			out = append(out, c)
		}
		if i > 0 && i == len(b.replacements) {
			b.barren = t.freed + 1
		}
	}
	return out
}
