package dht

import (
	"cmp"
	"slices"
	"time"
)

const maxFails = 3 // failed calls in a row after which a contact is dropped

// entry is a contact that answered a call of ours.
type entry struct {
	Contact
	id     ID
	groups []group
	rtt    time.Duration // moving average
	since  time.Time     // in the table
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

// spare is a candidate as a bucket keeps it: there are as many of them as of
// entries, and nobody asks for most.
type spare struct {
	top  uint64   // ID.top
	rec  *Record  // nil: see bare
	bare *Contact // without a record
}

func (s *spare) contact() Contact {
	if s.rec != nil {
		return Contact{Key: s.rec.Key, Record: s.rec}
	}
	return *s.bare
}

type bucket struct {
	entries      []*entry  // the longest-lived first
	tops         []uint64  // ID.top of each entry, so that a search reads one line of memory
	replacements []spare   // the latest first
	touched      time.Time // last lookup in its range
}

// find returns the place of id in entries, -1 if it is not there.
func (b *bucket) find(id ID) int {
	top := id.top()
	for i, t := range b.tops {
		if t == top && b.entries[i].id == id {
			return i
		}
	}
	return -1
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
	off     Ablation
	buckets []*bucket // up to the deepest that was ever used
	own     bucket    // of self, always empty
	n       int       // entries
	next    time.Time // no entry is to be checked before it
	idle    time.Time // no bucket was touched last before it
	sibling int       // buckets from here on may hold siblings beyond k
	idOf    func(Key) ID
	asked   Key // of the last get, and its id: a call is looked up several times
	askedID ID
}

func newTable(self ID, f GroupFunc) *table {
	return &table{self: self, group: f, idOf: NodeID}
}

func (t *table) bucket(id ID) *bucket {
	i := prefixLen(t.self, id)
	if i == 8*len(id) {
		return &t.own
	}
	for i >= len(t.buckets) {
		t.buckets = append(t.buckets, nil)
	}
	if t.buckets[i] == nil {
		t.buckets[i] = &bucket{}
	}
	return t.buckets[i]
}

func (t *table) get(k Key) *entry { return t.getID(t.id(k)) }

// id is NodeID(k).
func (t *table) id(k Key) ID {
	if k != t.asked || t.askedID == (ID{}) {
		t.asked, t.askedID = k, t.idOf(k)
	}
	return t.askedID
}

func (t *table) getID(id ID) *entry {
	if p := prefixLen(t.self, id); p < len(t.buckets) && t.buckets[p] != nil {
		if i := t.buckets[p].find(id); i >= 0 {
			return t.buckets[p].entries[i]
		}
	}
	return nil
}

// succeeded notes that c answered a call of ours. It tells whether c is in the
// table now and was not before.
func (t *table) succeeded(now time.Time, c Contact, rtt time.Duration, every time.Duration) bool {
	id := c.id()
	if id == t.self {
		return false
	}
	if e := t.getID(id); e != nil {
		e.ok(now, rtt)
		t.learn(e, c)
		return false
	}
	b := t.bucket(id)
	b.drop(id, c.Key)
	if len(c.Addresses()) == 0 {
		return false
	}
	groups := groupsOf(t.group, c)
	if t.off.KeepLive && len(b.entries) >= bucketSize {
		t.remove(b, 0)
	}
	if !t.room(b, id, groups) {
		b.replace(c, id)
		return false
	}
	e := &entry{Contact: c, id: id, groups: groups, since: now, checkEvery: every}
	e.ok(now, rtt)
	t.next, t.idle = time.Time{}, time.Time{}
	t.insert(b, e)
	t.trimSiblings()
	return t.getID(id) != nil
}

func (e *entry) ok(now time.Time, rtt time.Duration) {
	e.fails, e.moved = 0, false
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
	if slices.Equal(c.Addresses(), e.Addresses()) {
		e.Contact = c
		return
	}
	old := e.groups
	e.groups = nil // its own places count for it
	if groups := groupsOf(t.group, c); t.groupsFit(t.bucket(e.id), groups) {
		e.Contact, e.groups, e.moved = c, groups, true
	} else {
		e.groups = old
	}
}

// room tells whether a contact fits in: as one of k, or as a sibling.
func (t *table) room(b *bucket, id ID, groups []group) bool {
	return (len(b.entries) < bucketSize || t.nearer(id) < siblingSize) && t.groupsFit(b, groups)
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
	if own < len(t.buckets) && t.buckets[own] != nil && n < siblingSize {
		for _, e := range t.buckets[own].entries {
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
				b.replace(e.Contact, e.id)
			}
		}
	}
}

func (t *table) insert(b *bucket, e *entry) {
	b.entries, b.tops = append(b.entries, e), append(b.tops, e.id.top())
	t.n++
	t.countSiblings()
}

func (t *table) remove(b *bucket, i int) {
	b.entries, b.tops = slices.Delete(b.entries, i, i+1), slices.Delete(b.tops, i, i+1)
	t.n--
	t.countSiblings()
}

func (t *table) countSiblings() {
	n := 0
	for t.sibling = len(t.buckets) - 1; t.sibling > 0; t.sibling-- {
		if b := t.buckets[t.sibling]; b != nil {
			if n += len(b.entries); n >= siblingSize {
				return
			}
		}
	}
}

// groupsFit tells whether a contact more of these groups breaks no limit.
func (t *table) groupsFit(b *bucket, groups []group) bool {
	for _, g := range groups {
		inBucket, inTable := 0, 0
		for _, o := range t.buckets {
			if o == nil {
				continue
			}
			for _, e := range o.entries {
				if slices.Contains(e.groups, g) {
					inTable++
					if o == b {
						inBucket++
					}
				}
			}
		}
		if inBucket >= g.limit(groupPerBucket, widePerBucket) || inTable >= g.limit(groupPerTable, widePerTable) {
			return false
		}
	}
	return true
}

// failed notes that a call of ours to k was not answered, and tells whether the
// contact was dropped for it.
func (t *table) failed(k Key) (dropped bool) {
	id := t.id(k)
	b := t.bucket(id)
	b.drop(id, k)
	if i := b.find(id); i >= 0 {
		e := b.entries[i]
		if e.fails++; e.fails >= maxFails {
			t.remove(b, i)
			return true
		}
	}
	return false
}

// heard keeps a contact that somebody named, to be checked when there is room.
// It tells whether there may be.
func (t *table) heard(c Contact) bool {
	id := c.id()
	p := prefixLen(t.self, id)
	if p == 8*len(id) {
		return false
	}
	if p < len(t.buckets) && t.buckets[p] != nil && t.buckets[p].find(id) >= 0 || len(c.Addresses()) == 0 {
		return false
	}
	b := t.bucket(id)
	b.replace(c, id)
	return len(b.entries) < bucketSize || p >= t.sibling
}

func (b *bucket) replace(c Contact, id ID) {
	s := spare{top: id.top(), rec: c.Record}
	if c.Record == nil {
		s.bare = &c
	}
	i := b.spare(s.top, c.Key)
	switch {
	case i >= 0:
	case len(b.replacements) < replacementSize:
		i = len(b.replacements)
		b.replacements = append(b.replacements, spare{})
	default:
		i = replacementSize - 1
	}
	copy(b.replacements[1:i+1], b.replacements[:i])
	b.replacements[0] = s
}

// spare returns the place of k in replacements, -1 if it is not there.
func (b *bucket) spare(top uint64, k Key) int {
	for i := range b.replacements {
		s := &b.replacements[i]
		if s.top == top && (s.rec != nil && s.rec.Key == k || s.bare != nil && s.bare.Key == k) {
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
	for p, b := range t.buckets {
		if b == nil || len(b.replacements) == 0 || len(b.entries) >= bucketSize && p < t.sibling {
			continue // no room for anyone
		}
		for i := 0; i < len(b.replacements) && len(out) < n; {
			c := b.replacements[i].contact()
			if !t.room(b, c.id(), groupsOf(t.group, c)) {
				i++
				continue
			}
			b.replacements = slices.Delete(b.replacements, i, i+1)
			out = append(out, c)
		}
	}
	return out
}

// ranked is an entry while closest sorts.
type ranked struct {
	far uint64 // the first 64 bits of its distance
	e   *entry
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
		slices.SortFunc(near, func(a, b ranked) int {
			if a.far != b.far {
				return cmp.Compare(a.far, b.far)
			}
			return compare(target, a.e.id, b.e.id)
		})
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

// due calls f for every entry that is to be checked at now, and may move its check.
func (t *table) due(now time.Time, f func(*entry)) {
	if now.Before(t.next) {
		return
	}
	t.next = now.Add(checkMost)
	t.each(func(e *entry) {
		if !now.Before(e.nextCheck) {
			f(e)
		}
		if e.nextCheck.Before(t.next) {
			t.next = e.nextCheck
		}
	})
}

// untouched returns a bucket that was not touched for long, -1 if there is none.
func (t *table) untouched(now time.Time, long time.Duration) int {
	if now.Sub(t.idle) < long {
		return -1
	}
	t.idle = now
	for i, b := range t.buckets {
		if b == nil || len(b.entries) == 0 {
			continue
		}
		if b.touched.Before(t.idle) {
			t.idle = b.touched
		}
		if now.Sub(b.touched) >= long {
			return i
		}
	}
	return -1
}

// tally counts the addresses of each network among the contacts of one answer.
type tally struct {
	space  [2 * MaxContacts]group
	groups []group
	n      [2 * MaxContacts * MaxAddrs]uint8
}

// add counts one more of g and returns how many there are.
func (t *tally) add(g group) int {
	i := slices.Index(t.groups, g)
	if i < 0 {
		if i = len(t.groups); i == 0 {
			t.groups = t.space[:0]
		}
		t.groups = append(t.groups, g)
	}
	t.n[i]++
	return int(t.n[i])
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
