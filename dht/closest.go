package dht

import "slices"

// place is where an entry stands: entries[i] of its bucket, which it does for as long as nothing changes.
type place struct {
	*bucket
	i int
}

// ranked is an entry while nearest sorts.
type ranked struct {
	far uint64 // the first 64 bits of its distance
	place
}

func (a *ranked) nearer(b *ranked, target *ID) bool {
	return a.far < b.far || a.far == b.far && compare(*target, a.entries[a.i].id, b.entries[b.i].id) < 0
}

// sortRanked sorts by insertion while they are few, as those of one bucket are:
// every answer to a search does this.
func sortRanked(target ID, near []ranked) {
	if len(near) > 2*siblingSize {
		slices.SortFunc(near, func(a, b ranked) int {
			if a.nearer(&b, &target) {
				return -1
			}
			return btoi(b.nearer(&a, &target))
		})
		return
	}
	for i := 1; i < len(near); i++ {
		r, j := near[i], i
		for ; j > 0 && r.nearer(&near[j-1], &target); j-- {
			near[j] = near[j-1]
		}
		near[j] = r
	}
}

// nearest calls f with the entries from the nearest to target on, until f has enough.
func (t *table) nearest(target ID, f func(place) (enough bool)) {
	own := min(prefixLen(t.self, target), len(t.buckets))
	var space [64]ranked
	top, enough := target.top(), false
	// Nearest are the entries that share more bits with target than self does,
	// then those that share as many as self, then ever fewer.
	take := func(lo, hi int) {
		near := space[:0]
		for i := lo; i < hi; i++ {
			if b := t.buckets[i]; b != nil {
				for j := range b.tops {
					near = append(near, ranked{b.tops[j] ^ top, place{b, j}})
				}
			}
		}
		sortRanked(target, near)
		for i := 0; i < len(near) && !enough; i++ {
			enough = f(near[i].place)
		}
	}
	take(own, min(own+1, len(t.buckets)))
	if !enough {
		take(min(own+1, len(t.buckets)), len(t.buckets))
	}
	for i := own - 1; i >= 0 && !enough; i-- {
		take(i, i+1)
	}
}

// closest returns up to n entries nearest to target, the nearest first, of
// those that ok accepts.
func (t *table) closest(target ID, n int, ok func(*entry) bool) []*entry {
	out := make([]*entry, 0, n)
	t.nearest(target, func(p place) bool {
		if e := p.entries[p.i]; len(out) < n && (ok == nil || ok(e)) {
			out = append(out, e)
		}
		return len(out) >= n
	})
	return out
}

// live is the filter for contacts that may be named to others: they answered
// the last call, and say themselves where they are.
func live(e *entry) bool { return e.fails == 0 && e.Record != nil }

// fail sets how many calls in a row e has not answered.
func (t *table) fail(e *entry, n uint8) {
	e.fails = n
	t.mark(e)
}

// mark follows what changes whether e may be named, or how.
func (t *table) mark(e *entry) {
	b := t.bucket(e.id)
	if i := b.find(e.id); i >= 0 {
		b.mark(i)
	}
}

func (b *bucket) mark(i int) {
	b.named[i] = nil
	if e := b.entries[i]; live(e) {
		b.named[i] = e.Record
	}
}
