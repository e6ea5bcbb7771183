package dht

// pinnedPerBucket is how many contacts of each bucket that is no sibling's are
// worth an open session.
const pinnedPerBucket = 2

// Pinned are the contacts whose sessions should be kept open, since every lookup
// begins with them: the siblings, and of each further bucket the longest-lived
// that answered last time. A sibling whose last call failed is among them: that
// may be why there is no session.
func (d *DHT) Pinned() []Contact {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.core.table.pinned()
}

func (t *table) pinned() []Contact {
	var out []Contact
	siblings := make(map[ID]bool, siblingSize)
	for _, e := range t.closest(t.self, siblingSize, nil) {
		siblings[e.id] = true
		out = append(out, e.Contact)
	}
	for _, b := range t.buckets {
		if b == nil {
			continue
		}
		n := 0
		for _, e := range b.entries { // the longest-lived first
			if n < pinnedPerBucket && e.fails == 0 && !siblings[e.id] {
				out = append(out, e.Contact)
				n++
			}
		}
	}
	return out
}
