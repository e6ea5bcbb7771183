package dht

// place is where an entry stands: entries[i] of its bucket, which it does for as long as nothing changes.
type place struct {
	*bucket
	i int
}

// ranked is an entry of a bucket while nearest sorts.
type ranked struct {
	far uint64 // the first 64 bits of its distance
	i   int
}

// nearest calls f with the entries from the nearest to target on, until f has enough.
//
// No two buckets overlap in their distances to target, so that each is sorted only when
// its turn has come: first the one that target itself would be in. Then those deeper
// down: at bit i an entry of bucket i is unlike self, and all that are deeper are like it.
// Where target is unlike self, too, the bucket comes before the deeper ones, else after
// them. Then the others, the deepest first.
func (t *table) nearest(target ID, f func(place) (enough bool)) {
	own := min(prefixLen(t.self, target), len(t.buckets))
	if t.sorted(own, &target, f) {
		return
	}
	unlike := func(i int) bool { return (t.self[i/8]^target[i/8])&(0x80>>(i%8)) != 0 }
	for i := own + 1; i < len(t.buckets); i++ {
		if unlike(i) && t.sorted(i, &target, f) {
			return
		}
	}
	for i := len(t.buckets) - 1; i >= 0; i-- {
		if (i < own || i > own && !unlike(i)) && t.sorted(i, &target, f) {
			return
		}
	}
}

// sorted calls f with the entries of bucket i, the nearest to target first, until f has enough.
// It sorts by insertion: they are few.
func (t *table) sorted(i int, target *ID, f func(place) (enough bool)) (enough bool) {
	if i >= len(t.buckets) {
		return false
	}
	b, top := &t.buckets[i], target.top()
	var space [2 * bucketSize]ranked
	near := space[:0]
	for i, t := range b.tops {
		r := ranked{t ^ top, i}
		near = append(near, r)
		j := i
		for ; j > 0 && (r.far < near[j-1].far || r.far == near[j-1].far && compare(*target, b.entries[i].id(), b.entries[near[j-1].i].id()) < 0); j-- {
			near[j] = near[j-1]
		}
		near[j] = r
	}
	for _, r := range near {
		if f(place{b, r.i}) {
			return true
		}
	}
	return false
}

// closest returns up to n entries nearest to target, the nearest first, of
// those that ok accepts. They hold until the table changes.
func (t *table) closest(target ID, n int, ok func(*entry) bool) []*entry {
	out := make([]*entry, 0, n)
	t.nearest(target, func(p place) bool {
		if e := &p.entries[p.i]; len(out) < n && (ok == nil || ok(e)) {
			out = append(out, e)
		}
		return len(out) >= n
	})
	return out
}

// live is the filter for contacts that may be named to others: they answered
// the last call, and say themselves where they are.
func live(e *entry) bool { return e.fails == 0 && e.record() != nil }

// fail sets how many calls in a row e has not answered.
func (t *table) fail(e *entry, n uint8) {
	e.fails = n
	t.mark(e)
}

// mark follows what changes whether e may be named, or how.
func (t *table) mark(e *entry) {
	b := t.bucket(e.id())
	if i := b.find(e.top(), e.key()); i >= 0 {
		b.mark(i)
	}
}

func (b *bucket) mark(i int) {
	b.named[i] = nil
	if e := &b.entries[i]; e.fails == 0 {
		b.named[i] = e.record()
	}
}
