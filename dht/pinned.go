package dht

import "slices"

// pinnedPerBucket is how many contacts of each bucket that is no sibling's are
// worth an open session.
const pinnedPerBucket = 2

// Pinned are the contacts to dial where there is no session, and to keep it, since
// every lookup begins with them: the siblings, and of each further bucket the
// longest-lived that answered last time. A sibling whose last call failed is among
// them: that may be why there is no session.
func (d *DHT) Pinned() []Contact {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []Contact
	d.core.table.pinned(func(e *entry) { out = append(out, e.contact()) })
	return out
}

// Kept are the contacts whose sessions should stay open where there are any, though
// nobody dials for it: all, those that are Pinned too. One with a session needs no
// check, and its end tells of most deaths.
func (d *DHT) Kept() []Key {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.core.table.kept()
}

func (t *table) kept() []Key {
	all := make([]Key, 0, t.n)
	t.each(func(e *entry) { all = append(all, e.key()) })
	return all
}

// pinned calls f for each.
func (t *table) pinned(f func(*entry)) {
	siblings := t.closest(t.self, t.near, nil)
	for _, e := range siblings {
		f(e)
	}
	for i := range t.buckets {
		entries, n := t.buckets[i].entries, 0
		for j := range entries { // the longest-lived first
			if n == pinnedPerBucket {
				break
			}
			if e := &entries[j]; e.fails == 0 && (i < t.sibling || !slices.Contains(siblings, e)) {
				f(e)
				n++
			}
		}
	}
}
