package dht

import (
	"slices"
	"time"
)

const maxFails = 3 // failed calls in a row after which a contact is dropped

// entry is a contact that answered a call of ours.
type entry struct {
	Contact
	id     ID
	groups []group
	added  time.Time
	lastOK time.Time
	rtt    time.Duration // moving average
	fails  int           // in a row
	moved  bool          // it has not answered since its addresses changed

	checkEvery time.Duration // doubles with age
	nextCheck  time.Time
}

// candidate is a contact that somebody else named.
type candidate struct {
	Contact
	id ID
}

type bucket struct {
	entries      []*entry    // the longest-lived first
	replacements []candidate // the latest first
	touched      time.Time   // last lookup in its range
}

// table is the routing table: for each length of the prefix shared with self a
// bucket of up to k contacts. The s nearest contacts to self, the siblings, are
// kept beyond k.
//
// Invariants: an entry has answered a call of ours; a live entry is never put
// out for another; no Group fills more than its share.
type table struct {
	self    ID
	group   GroupFunc
	buckets [257]*bucket
	n       int           // entries
	groups  map[group]int // entries by network
}

func newTable(self ID, f GroupFunc) *table {
	return &table{self: self, group: f, groups: map[group]int{}}
}

func (t *table) bucket(id ID) *bucket {
	i := prefixLen(t.self, id)
	if t.buckets[i] == nil {
		t.buckets[i] = &bucket{}
	}
	return t.buckets[i]
}

func (t *table) get(k Key) *entry { return t.getID(NodeID(k)) }

func (t *table) getID(id ID) *entry {
	if b := t.buckets[prefixLen(t.self, id)]; b != nil {
		for _, e := range b.entries {
			if e.id == id {
				return e
			}
		}
	}
	return nil
}

// succeeded notes that c answered a call of ours. It tells whether c is in the
// table now and was not before.
func (t *table) succeeded(now time.Time, c Contact, rtt time.Duration, every time.Duration) bool {
	id := NodeID(c.Key)
	if id == t.self {
		return false
	}
	b := t.bucket(id)
	if e := t.getID(id); e != nil {
		e.ok(now, rtt)
		t.learn(e, c)
		return false
	}
	b.drop(id)
	if len(c.Addresses()) == 0 {
		return false
	}
	e := &entry{Contact: c, id: id, added: now, groups: groupsOf(t.group, c)}
	if !t.room(b, e) {
		b.replace(candidate{c, id})
		return false
	}
	e.checkEvery = every
	e.ok(now, rtt)
	t.insert(b, e)
	t.trimSiblings()
	return t.getID(id) != nil
}

func (e *entry) ok(now time.Time, rtt time.Duration) {
	e.fails, e.lastOK, e.moved = 0, now, false
	if e.rtt == 0 {
		e.rtt = rtt
	}
	e.rtt += (rtt - e.rtt) / 4
	e.nextCheck = now.Add(e.checkEvery)
}

// learn takes over the newer record of c. Where its addresses would break a
// group's limit the old ones stay.
func (t *table) learn(e *entry, c Contact) {
	if c.Record == nil || !c.Record.newer(e.Record) || c.Record.tombstone() {
		return
	}
	t.count(e, -1)
	old, oldGroups := e.Contact, e.groups
	e.Contact, e.groups = c, groupsOf(t.group, c)
	if !t.groupsFit(t.bucket(e.id), e) {
		e.Contact, e.groups = old, oldGroups
	} else if !slices.Equal(old.Addresses(), c.Addresses()) {
		e.moved = true
	}
	t.count(e, 1)
}

// room tells whether e fits in: as one of k, or as a sibling.
func (t *table) room(b *bucket, e *entry) bool {
	return t.groupsFit(b, e) && (len(b.entries) < bucketSize || t.nearer(e.id) < siblingSize)
}

// nearer counts the entries nearer to self than id, up to siblingSize or more.
func (t *table) nearer(id ID) int {
	own := prefixLen(t.self, id)
	n := 0
	for i := own + 1; i < len(t.buckets); i++ {
		if t.buckets[i] != nil {
			n += len(t.buckets[i].entries)
		}
	}
	if b := t.buckets[own]; b != nil && n < siblingSize {
		for _, e := range b.entries {
			if compare(t.self, e.id, id) < 0 {
				n++
			}
		}
	}
	return n
}

// trimSiblings moves entries beyond k that are no siblings any more to the
// replacements. They were kept for their nearness only.
func (t *table) trimSiblings() {
	for _, b := range t.buckets {
		if b == nil || len(b.entries) <= bucketSize {
			continue
		}
		for i := len(b.entries) - 1; i >= 0 && len(b.entries) > bucketSize; i-- {
			if e := b.entries[i]; t.nearer(e.id) >= siblingSize {
				t.remove(b, i)
				b.replace(candidate{e.Contact, e.id})
			}
		}
	}
}

func (t *table) insert(b *bucket, e *entry) {
	b.entries = append(b.entries, e)
	t.n++
	t.count(e, 1)
}

func (t *table) remove(b *bucket, i int) {
	t.count(b.entries[i], -1)
	b.entries = slices.Delete(b.entries, i, i+1)
	t.n--
}

func (t *table) count(e *entry, d int) {
	for _, g := range e.groups {
		if t.groups[g] += d; t.groups[g] == 0 {
			delete(t.groups, g)
		}
	}
}

func (t *table) groupsFit(b *bucket, e *entry) bool {
	for _, g := range e.groups {
		n := 0
		for _, o := range b.entries {
			if o != e && slices.Contains(o.groups, g) {
				n++
			}
		}
		if n >= g.limit(groupPerBucket, widePerBucket) || t.groups[g] >= g.limit(groupPerTable, widePerTable) {
			return false
		}
	}
	return true
}

// failed notes that a call of ours to k was not answered, and tells whether the
// contact was dropped for it.
func (t *table) failed(k Key) (dropped bool) {
	id := NodeID(k)
	b := t.bucket(id)
	b.drop(id)
	for i, e := range b.entries {
		if e.id != id {
			continue
		}
		if e.fails++; e.fails >= maxFails {
			t.remove(b, i)
			return true
		}
	}
	return false
}

// heard keeps a contact that somebody named, to be checked when there is room.
func (t *table) heard(c Contact) {
	id := NodeID(c.Key)
	if id == t.self || t.getID(id) != nil || len(c.Addresses()) == 0 {
		return
	}
	t.bucket(id).replace(candidate{c, id})
}

func (b *bucket) replace(c candidate) {
	b.drop(c.id)
	b.replacements = slices.Insert(b.replacements, 0, c)
	if len(b.replacements) > replacementSize {
		b.replacements = b.replacements[:replacementSize]
	}
}

func (b *bucket) drop(id ID) {
	b.replacements = slices.DeleteFunc(b.replacements, func(c candidate) bool { return c.id == id })
}

// takeCandidates removes and returns up to n replacements that there is room for.
func (t *table) takeCandidates(n int) []Contact {
	var out []Contact
	for _, b := range t.buckets {
		if b == nil {
			continue
		}
		for i := 0; i < len(b.replacements) && len(out) < n; {
			c := b.replacements[i]
			if !t.room(b, &entry{id: c.id, groups: groupsOf(t.group, c.Contact)}) {
				i++
				continue
			}
			b.replacements = slices.Delete(b.replacements, i, i+1)
			out = append(out, c.Contact)
		}
	}
	return out
}

// closest returns up to n entries nearest to target, the nearest first, of
// those that ok accepts.
func (t *table) closest(target ID, n int, ok func(*entry) bool) []*entry {
	own := prefixLen(t.self, target)
	out := make([]*entry, 0, n)
	// Nearest are the entries that share more bits with target than self does,
	// then those that share as many as self, then ever fewer.
	take := func(lo, hi int) {
		start := len(out)
		for i := lo; i < hi; i++ {
			if b := t.buckets[i]; b != nil {
				for _, e := range b.entries {
					if ok == nil || ok(e) {
						out = append(out, e)
					}
				}
			}
		}
		slices.SortFunc(out[start:], func(a, b *entry) int { return compare(target, a.id, b.id) })
	}
	take(own, min(own+1, len(t.buckets)))
	if len(out) < n {
		take(own+1, len(t.buckets))
	}
	for i := min(own, len(t.buckets)) - 1; i >= 0 && len(out) < n; i-- {
		take(i, i+1)
	}
	return out[:min(n, len(out))]
}

// live is the filter for contacts that may be named to others: they answered
// the last call, and say themselves where they are.
func live(e *entry) bool { return e.fails == 0 && e.Record != nil }

// each calls f for every entry.
func (t *table) each(f func(*entry)) {
	for _, b := range t.buckets {
		if b != nil {
			for _, e := range b.entries {
				f(e)
			}
		}
	}
}

// size estimates the number of nodes from the distance of the k-th nearest
// entry: k nodes in a share of 2^-x of the space make k·2^x in all.
func (t *table) size() int {
	near := t.closest(t.self, bucketSize, nil)
	if len(near) < bucketSize {
		return t.n + 1
	}
	far := near[len(near)-1].id
	x := 0.0
	for i := range 8 {
		x = x*256 + float64(far[i]^t.self[i])
	}
	if x == 0 {
		return t.n + 1
	}
	return max(t.n+1, int(bucketSize*(18446744073709551616/x)))
}
