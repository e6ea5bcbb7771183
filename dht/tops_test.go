package dht

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"
)

// alike are ids that share their first 64 bits, but for a few that don't.
func alike(rnd *rand.Rand, n int) (ids []ID) {
	for i := range n {
		id := ID{0x80, byte(i % 3)}
		for j := 8; j < len(id); j++ {
			id[j] = byte(rnd.Uint32())
		}
		ids = append(ids, id)
	}
	return ids
}

// A shelf is a map, in order, also where ids share their first 64 bits.
func TestShelfIsAMap(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	ids := alike(rnd, 40)
	var s shelf
	want := map[ID]*held{}
	for step := range 4000 {
		id := ids[rnd.IntN(len(ids))]
		switch {
		case rnd.IntN(2) == 0:
			s.remove(id)
			delete(want, id)
		case want[id] == nil:
			want[id] = &held{rec: &Record{raw: []byte{1}, id: id}}
			s.add(id, want[id])
		}
		firsts := map[uint64]bool{}
		for _, id := range ids {
			if s.at(id) != want[id] {
				t.Fatalf("step %d: at %x", step, id)
			}
			firsts[id.top()] = firsts[id.top()] || want[id] != nil
		}
		for top, some := range firsts {
			if h := s.first(top); (h != nil) != some || some && h.rec.id.top() != top {
				t.Fatalf("step %d: the first of %x is %v", step, top, h)
			}
		}
		all := slices.Collect(s.ids())
		inOrder := slices.IsSortedFunc(all, func(a, b ID) int { return cmp.Compare(a.top(), b.top()) })
		if len(all) != len(want) || s.len() != len(want) || len(s.tops) != len(want) || !inOrder {
			t.Fatalf("step %d: %d of %d are kept, in order: %t", step, len(all), len(want), inOrder)
		}
	}
}

// Contacts whose ids share their first 64 bits are told apart.
func TestTableAlike(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(3, 4))
	tb := newTable(ID{}, noGroups)
	ids := alike(rnd, 12)
	for i, id := range ids {
		c := at(Key{byte(i)}, "127.0.0.1:1")
		tb.insert(tb.bucket(id), entry{who: newWho(&c, id)})
	}
	checkTable(t, tb)
	for i, id := range ids {
		if e := tb.getAt(id, Key{byte(i)}); e == nil || e.id() != id || tb.getID(id) != e {
			t.Errorf("contact %d: %v, %v", i, e, tb.getID(id))
		}
		if tb.getAt(id, Key{99}) != nil {
			t.Error("another key's contact")
		}
		farther := 0
		for _, o := range ids {
			farther += btoi(compare(ids[0], o, id) < 0)
		}
		if n := tb.bucket(id).nearer(ids[0], id); n != farther {
			t.Errorf("contact %d: %d are nearer, want %d", i, n, farther)
		}
	}
	for i, e := range tb.closest(ids[0], len(ids), nil) {
		if n := tb.bucket(ids[0]).nearer(ids[0], e.id()); n != i {
			t.Errorf("the %dth nearest is the %dth", i, n)
		}
	}
	b := tb.bucket(ids[5])
	tb.remove(b, b.find(ids[5].top(), Key{5}))
	if tb.getID(ids[5]) != nil || tb.n != len(ids)-1 || tb.getID(ids[2]).key() != (Key{2}) {
		t.Error("another one was removed")
	}
}

// So are the nodes of a lookup.
func TestLookupAlike(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(5, 6))
	ids := alike(rnd, 12)
	l, _ := testLookup(false, 1, 0, ids[0])
	for i, id := range ids {
		c := at(Key{byte(i)}, "127.0.0.1:1")
		l.add(&l.paths[0], l.append(node{who: newWho(&c, id)}))
	}
	for i, id := range ids {
		k := Key{byte(i)}
		if n := l.find(id.top(), &k); n != int32(i) {
			t.Errorf("node %d is the %dth", i, n)
		}
	}
	if k := (Key{99}); l.find(ids[0].top(), &k) >= 0 {
		t.Error("another key's node")
	}
	list := l.paths[0].list
	if !slices.IsSortedFunc(list, func(a, b int32) int { return compare(ids[0], ids[a], ids[b]) }) || list[0] != 0 {
		t.Errorf("order %v", list)
	}
	l.next(epoch, 100, nil)
	k := Key{0}
	if f, ok := l.land(&k); !ok || f.node != 0 {
		t.Errorf("landed: node %d, %t", f.node, ok)
	}
}
