package dht

import (
	"slices"
	"time"
)

// landed notes that n has answered or failed, or was never asked.
func (l *lookup) landed(n *node) {
	if i := slices.Index(l.flying, n); i >= 0 {
		l.flying = slices.Delete(l.flying, i, i+1)
	}
}

// inFlight counts the calls that path waits for.
func (l *lookup) inFlight(now time.Time, path int) int {
	c := 0
	for _, n := range l.flying {
		if n.path == path && now.Before(n.hedge) {
			c++
		}
	}
	return c
}

// likely tells whether n is where the holders are.
func (l *lookup) likely(n *node) bool { return fraction(l.target, n.id) <= l.region }

// missed notes that n has no record, or not the newest one: where it was likely, another is asked for it.
func (l *lookup) missed(n *node) { l.misses += btoi(l.likely(n)) }

// enough tells whether as many likely holders are asked, by all paths together, as the quorum lacks: who is no
// contact would be dialled for nothing. Each one that has not got it, or is late, makes room for two others, so
// that where many disappoint all paths soon have alpha calls in flight, as in any lookup. One path's liars can't hold up
// the others: they have alpha places at most, fewer than the quorum; those of two paths can for as long as it takes two of
// them to be late. Where the region is not known, or all are to be asked, there is never enough.
func (l *lookup) enough(now time.Time) bool {
	if l.region == 0 || l.quorum == 0 {
		return false
	}
	lacks := l.quorum - len(l.holders) + l.misses
	for _, n := range l.flying {
		switch {
		case !l.likely(n):
		case now.Before(n.hedge):
			lacks--
		default:
			lacks++
		}
	}
	return lacks <= 0
}
