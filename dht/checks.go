package dht

import (
	"math"
	"time"
)

// stamp is a time as nanoseconds since table.base.
type stamp int64

func (t *table) stamp(at time.Time) stamp {
	if t.base.IsZero() {
		t.base = at
	}
	return stamp(at.Sub(t.base))
}

func (t *table) time(s stamp) time.Time { return t.base.Add(time.Duration(s)) }

// checkAt sets the time of e's next check. If it is sooner than before, sooner
// must follow.
func (t *table) checkAt(e *entry, at time.Time) { e.nextCheck = t.stamp(at) }

// due calls f for every entry that is to be checked at now, and may move its check.
func (t *table) due(now time.Time, f func(*entry)) {
	if now.Before(t.next) {
		return
	}
	at := t.stamp(now)
	late := at + stamp(checkMost)
	next := late
	for p := range t.buckets {
		b := &t.buckets[p]
		if len(b.entries) == 0 {
			continue
		}
		if at >= b.next {
			b.next = late
			for i := range b.entries {
				e := &b.entries[i]
				if at >= e.nextCheck {
					f(e)
				}
				b.next = min(b.next, e.nextCheck)
			}
		}
		next = min(next, b.next)
	}
	t.next = t.time(next)
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// sooner must follow when the check of e, an entry in b, was moved forward.
func (t *table) sooner(b *bucket, e *entry) {
	b.next = min(b.next, e.nextCheck)
	t.next = earlier(t.next, t.time(e.nextCheck))
}

// lookAtAll is sooner for all entries.
func (t *table) lookAtAll() {
	t.next = time.Time{}
	for i := range t.buckets {
		t.buckets[i].next = math.MinInt64
	}
}

// thinner must follow when b may lack entries, which untouched then looks for sooner.
func (t *table) thinner(b *bucket) { t.idle = earlier(t.idle, b.touched.Add(-refreshAfter*3/4)) }

// untouched returns a bucket that was not touched for long, -1 if there is none.
func (t *table) untouched(now time.Time, long time.Duration) int {
	if now.Sub(t.idle) < long {
		return -1
	}
	t.idle = now
	for i := range t.buckets {
		b := &t.buckets[i]
		if len(b.entries) == 0 {
			continue
		}
		touched := b.touched
		if len(b.entries) < t.k && len(b.replacements) == 0 && i < t.sibling {
			touched = touched.Add(-long * 3 / 4) // it lacks what there is
		}
		if touched.Before(t.idle) {
			t.idle = touched
		}
		if now.Sub(touched) >= long {
			return i
		}
	}
	return -1
}
