package dht

import "slices"

// ranked is an entry while closest sorts.
type ranked struct {
	far uint64 // the first 64 bits of its distance
	e   *entry
}

func (a *ranked) nearer(b *ranked, target *ID) bool {
	return a.far < b.far || a.far == b.far && compare(*target, a.e.id, b.e.id) < 0
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

// closest returns up to n entries nearest to target, the nearest first, of
// those that ok accepts.
func (t *table) closest(target ID, n int, ok func(*entry) bool) []*entry {
	own := min(prefixLen(t.self, target), len(t.buckets))
	out := make([]*entry, 0, n)
	var space [64]ranked
	top := target.top()
	// Nearest are the entries that share more bits with target than self does,
	// then those that share as many as self, then ever fewer.
	take := func(lo, hi int) {
		near := space[:0]
		for i := lo; i < hi; i++ {
			if b := t.buckets[i]; b != nil {
				for j, e := range b.entries {
					near = append(near, ranked{b.tops[j] ^ top, e})
				}
			}
		}
		sortRanked(target, near)
		for _, r := range near {
			if len(out) < n && (ok == nil || ok(r.e)) {
				out = append(out, r.e)
			}
		}
	}
	take(own, min(own+1, len(t.buckets)))
	if len(out) < n {
		take(min(own+1, len(t.buckets)), len(t.buckets))
	}
	for i := own - 1; i >= 0 && len(out) < n; i-- {
		take(i, i+1)
	}
	return out
}

// live is the filter for contacts that may be named to others: they answered
// the last call, and say themselves where they are.
func live(e *entry) bool { return e.fails == 0 && e.Record != nil }
