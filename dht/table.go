package dht

import (
	"math"
	"slices"
	"time"
)

const (
	maxFails   = 2  // failed calls in a row after which a contact is dropped
	smallTable = 32 // with fewer contacts everybody is welcome
)

// entry is a contact that answered a call of ours. A node has hundreds, a simulation
// millions: it has 40 bytes, and stands in its bucket by value. A pointer to one holds
// until the next contact enters or leaves its bucket.
type entry struct {
	who
	rtt       uint32 // moving average, µs
	every     uint8  // minutes between two checks: doubles with age
	fails     uint8  // in a row
	moved     bool   // it has not answered since its addresses changed
	called    bool   // it came by itself, and no contact that did not has named it
	since     stamp  // in the table
	nextCheck stamp  // see table.checkAt
}

// spare is a candidate, whom somebody else named, as a bucket keeps it: there are as many of them as of
// entries, and nobody asks for most.
type spare struct {
	who
	top uint64 // ID.top
}

type bucket struct {
	tops         []uint64  // ID.top of each entry, so that a search reads one line of memory
	named        []*Record // of each entry, if others may be told of it: see live
	entries      []entry   // the longest-lived first
	replacements []spare   // the latest first
	next         stamp     // no entry is to be checked before it
	touched      time.Time // last lookup in its range
	asked        int       // candidates that were taken and have not answered yet
	called       int       // entries that came by themselves
	barren       uint64    // table.freed and 1 when no replacement fitted in; 0: some may
}

// find returns the place of k in entries, -1 if it is not there; top is ID.top of its id.
func (b *bucket) find(top uint64, k Key) int {
	for i, t := range b.tops {
		if t == top && b.entries[i].key() == k {
			return i
		}
	}
	return -1
}

// table is the routing table: for each length of the prefix shared with self a
// bucket of up to k contacts. The nearest contacts to self, the siblings, are
// kept beyond k.
//
// Invariants: an entry has answered a call of ours; a live entry is never put
// out for another, but see trimSiblings; no Group fills more than its share.
type table struct {
	self    ID
	buckets []bucket // up to the deepest that was ever used
	n       int      // entries
	k       int      // contacts of a bucket: bucketSize, or clientBucket
	near    int      // siblings: siblingSize, or clientSiblings
	sibling int      // buckets from here on may hold siblings beyond k
	asked   Key      // of the last get, and its id: a call is looked up several times. Get writes it
	askedID ID
	idOf    func(Key) ID
	group   GroupFunc
	base    time.Time // the first time that the table heard of
	next    time.Time // the earliest next of all buckets, or before it
	idle    time.Time // no bucket was touched last before it
	freed   uint64    // times that a place, or a network's share, became free
	off     Ablation
	putOut  uint64     // live entries that gave way to others
	crowd   [512]uint8 // entries by the hash of their groups: most networks have none, which needs no search
}

func newTable(self ID, f GroupFunc) *table {
	return &table{self: self, group: f, idOf: NodeID, k: bucketSize, near: siblingSize}
}

// resize sets how many contacts the table has room for. It puts out none: those beyond k that are
// no siblings go with the next contact that enters, see trimSiblings.
func (t *table) resize(client bool) {
	if t.k, t.near = bucketSize, siblingSize; client {
		t.k, t.near = clientBucket, clientSiblings
	}
	t.freed++
	t.countSiblings()
}

// bucket is the one that id belongs to. Self has none: what is noted there is lost.
func (t *table) bucket(id ID) *bucket {
	i := prefixLen(t.self, id)
	if i == 8*len(id) {
		return new(bucket)
	}
	if i >= len(t.buckets) { // seldom, and every node has them: without room for more
		more := make([]bucket, i+1)
		copy(more, t.buckets)
		t.buckets = more
	}
	return &t.buckets[i]
}

func (t *table) get(k Key) *entry { return t.getAt(t.id(k), k) }

// has is get, whose id is at hand where c has a record.
func (t *table) has(c *Contact) *entry {
	if c.Record != nil && c.Record.of(c.Key) {
		return t.getAt(c.Record.id, c.Key)
	}
	return t.get(c.Key)
}

// id is NodeID(k).
func (t *table) id(k Key) ID {
	if k != t.asked || t.askedID == (ID{}) {
		t.asked, t.askedID = k, t.idOf(k)
	}
	return t.askedID
}

// getAt is get of a key whose id is known.
func (t *table) getAt(id ID, k Key) *entry {
	if p := prefixLen(t.self, id); p < len(t.buckets) {
		b := &t.buckets[p]
		if i := b.find(id.top(), k); i >= 0 {
			return &b.entries[i]
		}
	}
	return nil
}

// getID is get where the id is all that is known.
func (t *table) getID(id ID) *entry {
	if p := prefixLen(t.self, id); p < len(t.buckets) {
		b, top := &t.buckets[p], id.top()
		for i, t := range b.tops {
			if t == top && b.entries[i].id() == id {
				return &b.entries[i]
			}
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
	if e := t.getAt(id, c.Key); e != nil {
		t.ok(now, e, rtt)
		t.learn(e, c)
		return false
	}
	b := t.bucket(id)
	b.drop(id, c.Key)
	if len(c.Addresses()) == 0 || c.Record != nil && !c.Record.serves() {
		return false
	}
	if t.off.KeepLive && len(b.entries) >= bucketSize {
		t.putOut += uint64(btoi(b.entries[0].fails == 0))
		t.remove(b, 0)
	}
	if !t.room(b, &c, id) {
		b.replace(-1, &c, c.by, id)
		return false
	}
	e := entry{who: newWho(&c, id), since: t.stamp(now), every: uint8(every / time.Minute)}
	t.ok(now, &e, rtt)
	t.thinner(b)
	t.insert(b, e)
	t.sooner(b, &e)
	t.trimSiblings()
	return t.getAt(id, c.Key) != nil
}

func (t *table) ok(now time.Time, e *entry, rtt time.Duration) {
	e.moved = false
	if e.fails > 0 {
		t.fail(e, 0)
	}
	us := int64(min(max(rtt/time.Microsecond, 1), math.MaxUint32))
	if e.rtt == 0 {
		e.rtt = uint32(us)
	}
	e.rtt = uint32(int64(e.rtt) + (us-int64(e.rtt))/4)
	before := e.nextCheck
	if t.checkAt(e, now.Add(time.Duration(e.every)*time.Minute)); e.nextCheck < before {
		t.sooner(t.bucket(e.id()), e)
	}
}

// roundTrip is the moving average of e's round trips.
func (e *entry) roundTrip() time.Duration { return time.Duration(e.rtt) * time.Microsecond }

// learn takes over the newer record of c. Where its addresses would break a
// group's limit the old ones stay.
func (t *table) learn(e *entry, c Contact) {
	if c.Record == nil || !c.Record.newer(e.record()) {
		return
	}
	if !c.Record.serves() {
		t.forget(e.key())
		return
	}
	nets := e.nets
	if !slices.Equal(c.Addresses(), e.ref().Addresses()) {
		var space [maxGroups]group
		if !t.groupsFit(t.bucket(e.id()), groupsOf(space[:0], t.group, &c), e) {
			return
		}
		t.count(e.ref(), -1)
		nets = t.count(&c, 1)
		e.moved = true
		t.freed++
	}
	e.who = newWho(&c, e.id())
	e.nets = nets
	t.mark(e)
}

// room tells whether a contact fits in: as one of k, or as a sibling.
func (t *table) room(b *bucket, c *Contact, id ID) bool {
	if len(b.entries) >= t.k && !t.besides(id) {
		return false
	}
	var space [maxGroups]group
	return t.groupsFit(b, groupsOf(space[:0], t.group, c), nil)
}

// besides tells whether id would be a sibling, of whom there may be more in a bucket.
func (t *table) besides(id ID) bool {
	return prefixLen(t.self, id) >= t.sibling && t.nearer(id) < t.near
}

// nearer counts the entries nearer to self than id, up to t.near or more.
func (t *table) nearer(id ID) int {
	own := prefixLen(t.self, id)
	n := 0
	for i := own + 1; i < len(t.buckets); i++ {
		n += len(t.buckets[i].tops)
	}
	if own < len(t.buckets) && n < t.near {
		n += t.buckets[own].nearer(t.self, id)
	}
	return n
}

// nearer counts the entries nearer to target than id.
func (b *bucket) nearer(target, id ID) (n int) {
	top := target.top()
	far := id.top() ^ top
	for i, t := range b.tops {
		if x := t ^ top; x < far || x == far && compare(target, b.entries[i].id(), id) < 0 {
			n++
		}
	}
	return n
}

// trimSiblings moves entries beyond k that are no siblings to the replacements, the
// latest first. They were kept for their nearness only, or this node was a server and is a client now.
func (t *table) trimSiblings() {
	for p := range t.buckets {
		b := &t.buckets[p]
		for i := len(b.entries) - 1; i >= 0 && len(b.entries) > t.k; i-- {
			if e := b.entries[i]; t.nearer(e.id()) >= t.near {
				t.remove(b, i)
				b.replace(b.spare(e.top(), e.key()), e.ref(), e.by, e.id())
			}
		}
	}
}

// grow makes room for up to four contacts more: append would double it.
func (b *bucket) grow() {
	n := len(b.tops)
	n += min(max(n, 1), 4)
	b.tops, b.named = append(make([]uint64, 0, n), b.tops...), append(make([]*Record, 0, n), b.named...)
	b.entries = append(make([]entry, 0, n), b.entries...)
}

func (t *table) insert(b *bucket, e entry) {
	if len(b.tops) == cap(b.tops) {
		b.grow()
	}
	e.nets = t.count(e.ref(), 1)
	b.entries, b.tops, b.named = append(b.entries, e), append(b.tops, e.top()), append(b.named, nil)
	b.mark(len(b.entries) - 1)
	t.n++
	t.countSiblings()
}

func (t *table) remove(b *bucket, i int) {
	t.count(b.entries[i].ref(), -1)
	t.setCalled(&b.entries[i], false)
	t.thinner(b)
	b.entries, b.tops, b.named = slices.Delete(b.entries, i, i+1), slices.Delete(b.tops, i, i+1), slices.Delete(b.named, i, i+1)
	t.n--
	t.freed++
	t.countSiblings()
}

func (t *table) countSiblings() {
	n := 0
	for t.sibling = len(t.buckets) - 1; t.sibling > 0; t.sibling-- {
		if n += len(t.buckets[t.sibling].tops); n >= t.near {
			return
		}
	}
}

// failed notes that a call of ours to k was not answered, and tells whether the
// contact was dropped for it. Else it is soon asked again.
func (t *table) failed(now time.Time, k Key) (dropped bool) {
	id := t.id(k)
	b := t.bucket(id)
	b.drop(id, k)
	if i := b.find(id.top(), k); i >= 0 {
		e := &b.entries[i]
		if t.fail(e, e.fails+1); e.fails >= maxFails {
			t.remove(b, i)
			return true
		}
		if again := t.stamp(now.Add(checkRetry)); again < e.nextCheck {
			e.nextCheck = again
			t.sooner(b, e)
		}
	}
	return false
}

// forget removes a contact that is no server any more.
func (t *table) forget(k Key) {
	id := t.id(k)
	b := t.bucket(id)
	b.drop(id, k)
	if i := b.find(id.top(), k); i >= 0 {
		t.remove(b, i)
	}
}

// each calls f for every entry.
func (t *table) each(f func(*entry)) {
	for p := range t.buckets {
		entries := t.buckets[p].entries
		for i := range entries {
			f(&entries[i])
		}
	}
}

// shallow estimates the number of nodes from the first buckets that are not full,
// where this table knows everybody: whoever gathers around this node's own id is
// deeper. While the table still fills it is too low, which makes regions larger.
func (t *table) shallow() int {
	for i := range t.buckets {
		n, share := 0, 0.0
		for j := i; j < i+3; j++ {
			share += math.Ldexp(1, -j-1)
			if j < len(t.buckets) {
				n += len(t.buckets[j].tops)
			}
		}
		if len(t.buckets[i].tops) < t.k {
			return max(t.n+1, int(float64(n)/share))
		}
	}
	return t.n + 1
}
