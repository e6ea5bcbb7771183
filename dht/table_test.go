package dht

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
	"unsafe"
)

// keyAt is a key, not of an agent, whose id shares exactly n bits with id.
func allAlive(*Contact, uint32) bool { return false }

func keyAt(rnd *rand.Rand, id ID, n int) Key {
	for {
		var k Key
		for i := range k {
			k[i] = byte(rnd.Uint32())
		}
		if prefixLen(id, NodeID(k)) == n {
			return k
		}
	}
}

func at(k Key, addr string) Contact {
	return Contact{Key: k, Addrs: []netip.AddrPort{netip.MustParseAddrPort(addr)}}
}

func checkTable(t *testing.T, tb *table) {
	t.Helper()
	n, groups := 0, map[group]int{}
	for i := range tb.buckets {
		b := &tb.buckets[i]
		n += len(b.entries)
		if len(b.replacements) > replacementSize {
			t.Errorf("bucket %d: %d replacements", i, len(b.replacements))
		}
		perBucket, called := map[group]int{}, 0
		for j := range b.entries {
			e := &b.entries[j]
			if r := b.named[j]; b.tops[j] != e.top() || live(e) && r != e.record() || !live(e) && r != nil {
				t.Errorf("bucket %d: entry %d is not what the arrays beside it say", i, j)
			}
			if prefixLen(tb.self, e.id()) != i {
				t.Errorf("bucket %d holds %s", i, e.id())
			}
			for _, g := range groupsOf(nil, tb.group, e.ref()) {
				groups[g]++
				if bits := groupBits(groupHash(g)); e.nets&bits != bits {
					t.Errorf("bucket %d: entry %d is not marked with %s", i, j, g)
				}
				if perBucket[g]++; perBucket[g] > g.limit(groupPerBucket, widePerBucket) {
					t.Errorf("bucket %d: %d of %s", i, perBucket[g], g)
				}
			}
			called += btoi(e.called)
			if len(b.entries) > bucketSize && tb.nearer(b.entries[bucketSize].id()) > n+siblingSize {
				t.Errorf("bucket %d: %d entries", i, len(b.entries))
			}
		}
		if called != b.called {
			t.Errorf("bucket %d: %d came by themselves, counted %d", i, called, b.called)
		}
	}
	if n != tb.n {
		t.Errorf("%d entries, counted %d", n, tb.n)
	}
	for g, c := range groups {
		if c > g.limit(groupPerTable, widePerTable) {
			t.Errorf("group %s: %d entries", g, c)
		}
	}
}

func TestTableKeepsLive(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 1))
	tb := newTable(ID{}, noGroups)
	// 40 near nodes: the far bucket holds no siblings.
	for range 40 {
		tb.succeeded(epoch, at(keyAt(rnd, tb.self, 1+rnd.IntN(8)), "192.0.2.1:1"), time.Millisecond, time.Minute)
	}
	var first []Key
	for i := range 3 * bucketSize {
		k := keyAt(rnd, tb.self, 0)
		in := tb.succeeded(epoch, at(k, "192.0.2.1:1"), time.Millisecond, time.Minute)
		if in != (i < bucketSize) {
			t.Errorf("contact %d is in: %t", i, in)
		}
		if in {
			first = append(first, k)
		}
	}
	checkTable(t, tb)
	for _, k := range first {
		if tb.get(k) == nil {
			t.Errorf("the live contact %s was put out", k)
		}
	}
	if got := tb.takeCandidates(100); slices.ContainsFunc(got, func(c Contact) bool { return prefixLen(tb.self, NodeID(c.Key)) == 0 }) {
		t.Error("candidates for a full bucket")
	}
	for i := range maxFails {
		if dropped := tb.failed(epoch, first[0]); dropped != (i == maxFails-1) {
			t.Errorf("failure %d: dropped %t", i+1, dropped)
		}
	}
	if got := tb.takeCandidates(100); len(got) != 1 {
		t.Errorf("%d candidates for one place", len(got))
	}
	if got := tb.takeCandidates(100); len(got) != 0 {
		t.Errorf("%d more before the first has answered", len(got))
	}
	checkTable(t, tb)
}

func TestTableHearsay(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(2, 1))
	tb := newTable(ID{}, DefaultGroup)
	for range 1000 {
		named := at(keyAt(rnd, tb.self, rnd.IntN(6)), "198.51.100.1:1")
		tb.heard(&hearing{dead: allAlive}, &named)
	}
	if tb.n != 0 {
		t.Errorf("%d contacts on hearsay", tb.n)
	}
	checkTable(t, tb)
}

// A contact counts for its networks also when it has renewed its record, and for new ones when it has moved.
func TestTableGroupsOfRenewed(t *testing.T) {
	t.Parallel()
	tb := newTable(ID{}, DefaultGroup)
	record := func(n int, seq uint64, addrs ...string) Contact {
		r := Record{Key: pub(testKey(n)), Flags: FlagServer, Seq: seq, IssuedAt: epoch, TTL: time.Hour}
		for _, a := range addrs {
			r.Addrs = append(r.Addrs, netip.MustParseAddrPort(a))
		}
		signed, err := r.Sign(testKey(n))
		if err != nil {
			t.Fatal(err)
		}
		return Contact{Key: r.Key, Record: signed}
	}
	var same []int // agents whose ids are in bucket 0
	for i := 100; len(same) < 6; i++ {
		if id := NodeID(pub(testKey(i))); prefixLen(tb.self, id) == 0 {
			same = append(same, i)
		}
	}
	meet := func(c Contact, want bool) {
		t.Helper()
		tb.succeeded(epoch, c, time.Millisecond, time.Minute)
		e := tb.get(c.Key)
		if in := e != nil && e.record() == c.Record; in != want {
			t.Errorf("%v is in: %t", c.Addresses(), in)
		}
		checkTable(t, tb)
	}
	a, b, c, d := same[0], same[1], same[2], same[3]
	meet(record(a, 1, "203.0.113.1:1"), true)
	meet(record(b, 1, "203.0.113.2:1", "[2001:db8::1]:1"), true)
	meet(record(a, 2, "203.0.113.1:1"), true)
	meet(record(b, 2, "203.0.113.2:1", "[2001:db8::1]:1"), true)
	meet(record(c, 1, "203.0.113.3:1"), false)
	meet(record(c, 2, "[2001:db8::2]:1"), true)
	meet(record(d, 1, "198.51.100.1:1", "[2001:db8::3]:1"), false)
	meet(record(b, 3, "198.51.100.2:1"), true) // it moves: there is room in both networks that it was in
	meet(record(c, 3, "[2001:db8::2]:1", "203.0.113.3:1"), true)
	meet(record(d, 2, "203.0.113.4:1"), false)
	meet(record(d, 3, "198.51.100.1:1", "[2001:db8::3]:1"), true)
	meet(record(a, 3, "198.51.100.3:1"), false) // the old addresses stay where the new ones find no room
}

// Whom there was no room for is asked when there is, and another one at once.
func TestTableBarren(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(8, 1))
	tb := newTable(ID{}, DefaultGroup)
	hear := func(addr string) Key {
		named := at(keyAt(rnd, tb.self, 0), addr)
		tb.heard(&hearing{dead: allAlive}, &named)
		return named.Key
	}
	taken := func() (keys []Key) {
		for _, c := range tb.takeCandidates(100) {
			tb.bucket(NodeID(c.Key)).asked--
			keys = append(keys, c.Key)
		}
		return keys
	}
	var in []Key
	for range groupPerBucket {
		in = append(in, keyAt(rnd, tb.self, 0))
		tb.succeeded(epoch, at(in[len(in)-1], "203.0.113.1:1"), time.Millisecond, time.Minute)
	}
	late := hear("203.0.113.2:1")
	for range 2 {
		if got := taken(); len(got) != 0 {
			t.Fatalf("%d candidates of a network that is full", len(got))
		}
	}
	other := hear("198.51.100.1:1")
	if got := taken(); len(got) != 1 || got[0] != other {
		t.Errorf("%v are asked, want %s", got, other)
	}
	tb.forget(in[0])
	if got := taken(); len(got) != 1 || got[0] != late {
		t.Errorf("%v are asked, want %s", got, late)
	}
}

// 10,000 ids in one /24 get at most their share, and push nobody out.
func TestTableGroups(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(3, 1))
	tb := newTable(ID{}, DefaultGroup)
	var honest []Key
	for i := range 20 {
		k := keyAt(rnd, tb.self, rnd.IntN(5))
		if tb.succeeded(epoch, at(k, fmt.Sprintf("198.%d.100.1:1", i)), time.Millisecond, time.Minute) {
			honest = append(honest, k)
		}
	}
	attackers := 0
	for i := range 10_000 {
		var k Key
		for j := range k {
			k[j] = byte(rnd.Uint32())
		}
		if tb.succeeded(epoch, at(k, fmt.Sprintf("203.0.113.%d:1", 1+i%250)), time.Millisecond, time.Minute) {
			attackers++
		}
	}
	if attackers > groupPerTable {
		t.Errorf("%d contacts of one /24, at most %d", attackers, groupPerTable)
	}
	for _, k := range honest {
		if tb.get(k) == nil {
			t.Errorf("%s was put out", k)
		}
	}
	checkTable(t, tb)
	for _, loopback := range []string{"127.0.0.1", "10.1.2.3", "::1", "fe80::1", "192.168.0.1"} {
		if g, w := DefaultGroup(netip.MustParseAddr(loopback)); g.IsValid() || w.IsValid() {
			t.Errorf("%s is in group %s", loopback, g)
		}
	}
}

// More of one network than can be counted, and all gone again, are not taken for few.
func TestTableCrowdTooLarge(t *testing.T) {
	t.Parallel()
	tb := newTable(ID{}, DefaultGroup)
	c := at(Key{1}, "203.0.113.1:1")
	most := func() (n int) {
		for _, crowd := range tb.crowd {
			n = max(n, int(crowd))
		}
		return n
	}
	for range 3 {
		tb.count(&c, 1)
	}
	tb.count(&c, -1)
	if n := most(); n != 2 {
		t.Errorf("%d are left of 3 and one gone", n)
	}
	check := func(have int) {
		t.Helper()
		if n := most(); n < min(have, groupPerTable) {
			t.Fatalf("%d are taken for %d", have, n)
		}
	}
	for have := 2; have < 300; have++ {
		tb.count(&c, 1)
		check(have + 1)
	}
	for have := 300; have > 0; have-- {
		tb.count(&c, -1)
		check(have - 1)
	}
}

// closest agrees with a search of everything.
func TestTableClosest(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(4, 1))
	for range 50 {
		self := NodeID(keyAt(rnd, ID{}, 0))
		tb := newTable(self, noGroups)
		for range rnd.IntN(400) {
			var k Key
			k[0], k[1], k[2] = byte(rnd.Uint32()), byte(rnd.Uint32()), byte(rnd.Uint32())
			tb.succeeded(epoch, at(k, "192.0.2.1:1"), time.Millisecond, time.Minute)
		}
		checkTable(t, tb)
		var all []*entry
		tb.each(func(e *entry) { all = append(all, e) })
		targets := []ID{self, NodeID(Key{9}), NodeID(Key{byte(rnd.Uint32())})}
		if len(all) > 0 {
			targets = append(targets, all[rnd.IntN(len(all))].id())
		}
		for _, target := range targets {
			slices.SortFunc(all, func(a, b *entry) int { return compare(target, a.id(), b.id()) })
			want := all[:min(20, len(all))]
			if got := tb.closest(target, 20, nil); !slices.Equal(got, want) {
				t.Fatalf("target %s of %d: wrong", target, len(all))
			}
		}
	}
}

// The 32 nearest of 1,000 nodes are all in the table.
func TestTableSiblings(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(5, 1))
	tb := newTable(ID{}, noGroups)
	var ids []ID
	for range 1000 {
		var k Key
		k[0], k[1], k[2] = byte(rnd.Uint32()), byte(rnd.Uint32()), byte(rnd.Uint32())
		ids = append(ids, NodeID(k))
		tb.succeeded(epoch, at(k, "192.0.2.1:1"), time.Millisecond, time.Minute)
	}
	slices.SortFunc(ids, func(a, b ID) int { return compare(tb.self, a, b) })
	for i, id := range ids[:siblingSize] {
		if tb.getID(id) == nil {
			t.Errorf("sibling %d is missing", i)
		}
	}
	if n := tb.shallow(); n < 500 || n > 2000 {
		t.Errorf("1000 nodes are estimated at %d", n)
	}
}

// The 32 nearest are kept beyond k, and give way to nearer ones only.
func TestTableSiblingsOfOneBucket(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(4, 1))
	tb := newTable(ID{}, noGroups)
	var ids []ID
	add := func(prefix int) {
		k := keyAt(rnd, tb.self, prefix)
		ids = append(ids, NodeID(k))
		tb.succeeded(epoch, at(k, "192.0.2.1:1"), time.Millisecond, time.Minute)
	}
	nearest := func(n int) {
		t.Helper()
		slices.SortFunc(ids, func(a, b ID) int { return compare(tb.self, a, b) })
		for i, id := range ids[:n] {
			if tb.getID(id) == nil {
				t.Errorf("of %d nodes the one %d nearest is not kept", len(ids), i)
			}
		}
		checkTable(t, tb)
	}
	for range siblingSize { // all in one bucket
		add(0)
	}
	nearest(siblingSize)
	for range siblingSize - bucketSize {
		add(1)
	}
	nearest(siblingSize)
	if n := len(tb.buckets[0].entries); n != bucketSize {
		t.Errorf("%d in a bucket whose second half are no siblings any more", n)
	}
}

// Simulated networks of 100,000 nodes have twenty million of them.
func TestEntrySize(t *testing.T) {
	t.Parallel()
	if n := unsafe.Sizeof(entry{}); n > 40 {
		t.Errorf("an entry has %d bytes", n)
	}
}
