package dht

import (
	"math"
	"slices"
	"time"
)

// flight is a call of a lookup: there is one for each node that is asked and has neither
// answered nor failed. Its times are counted from lookup.start.
type flight struct {
	key   uint64 // Key.top of the node
	node  int32  // in lookup.nodes
	path  int32
	asked time.Duration
	hedge time.Duration // after it the path goes on without waiting
	until time.Duration // after it the lookup may end without waiting, see tire
}

// land takes out the flight of k, which has answered or failed, or was never asked after all. It
// is false if k is not asked.
func (l *lookup) land(k *Key) (flight, bool) {
	for i, f := range l.flying {
		if f.key == k.top() && l.nodes[f.node].key() == *k {
			l.flying = slices.Delete(l.flying, i, i+1)
			return f, true
		}
	}
	return flight{}, false
}

// inFlight counts the calls that path waits for.
func (l *lookup) inFlight(at time.Duration, path int) int {
	c := 0
	for i := range l.flying {
		if f := &l.flying[i]; f.path == int32(path) && at < f.hedge {
			c++
		}
	}
	return c
}

// late is when an answer is not expected any more, though it is still waited for: it is far away,
// or this machine is busy, where the hedge is later than usual.
func (f *flight) late() time.Duration { return max(f.asked+firstHedge, f.hedge) }

// late tells whether a node that is asked is late.
func (l *lookup) late(at time.Duration, node int32) bool {
	i := slices.IndexFunc(l.flying, func(f flight) bool { return f.node == node })
	return at >= l.flying[i].late()
}

// wake is when next should be asked again though nothing came; zero if it need not be.
func (l *lookup) wake(now time.Time) time.Time {
	at, next := now.Sub(l.start), time.Duration(math.MaxInt64)
	for i := range l.flying {
		f := &l.flying[i]
		for _, t := range [...]time.Duration{f.hedge, f.late(), f.until} {
			if t > at {
				next = min(next, t)
			}
		}
	}
	if next == math.MaxInt64 {
		return time.Time{}
	}
	return l.start.Add(next)
}

// tire lets go of the nodes whose answers can't be expected any more. The calls go on: what
// they bring counts as long as the lookup lasts, and nobody is blamed before their own time is up.
func (l *lookup) tire(now time.Time) {
	if !l.letGo {
		return
	}
	at := now.Sub(l.start)
	for i := range l.flying {
		if f := &l.flying[i]; at >= f.until {
			l.nodes[f.node].over = true
		}
	}
}

// likely tells whether n is where the holders are.
func (l *lookup) likely(n int32) bool { return share(l.target.top(), l.tops[n]) <= l.region }

// missed notes that n has no record, or not the newest one: where it was likely, another is asked for it.
func (l *lookup) missed(n int32) { l.misses += btoi(l.likely(n)) }

// enough tells whether as many likely holders are asked, by all paths together, as the quorum lacks: who is no
// contact would be dialled for nothing. Each one that has not got it, or is late, makes room for two others, so
// that where many disappoint all paths soon have alpha calls in flight, as in any lookup. One path's liars can't hold up
// the others: they have alpha places at most, fewer than the quorum; those of two paths can for as long as it takes two of
// them to be late. Where the region is not known, or all are to be asked, there is never enough.
func (l *lookup) enough(at time.Duration) bool {
	if l.region == 0 || l.quorum == 0 {
		return false
	}
	lacks := l.quorum - l.holders + l.misses
	for i := range l.flying {
		switch f := &l.flying[i]; {
		case !l.likely(f.node):
		case at < f.hedge:
			lacks--
		default:
			lacks++
		}
	}
	return lacks <= 0
}
