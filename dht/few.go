package dht

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// fewMost is how many keys a few keeps in a list.
const fewMost = 16

// few is a map that is asked often and has next to nothing in it as a rule: most questions are
// answered without a look at what it has, which is somewhere else in memory. Every method is told the key's hash.
type few[K comparable, V any] struct {
	bits [2]uint64 // the hashes' bits of all keys that it has, and of some that it had: all 0 when it has none
	list []pair[K, V]
	m    map[K]V // not nil: all are here, since they were more than fewMost, and none in list
}

type pair[K comparable, V any] struct {
	key   K
	value V
}

func (f *few[K, V]) len() int { return len(f.list) + len(f.m) }

// bit is where a hash stands in few.bits.
func bit(hash uint64) (word int, mask uint64) {
	b := hash * 0x9e3779b97f4a7c15 >> 57
	return int(b >> 6), 1 << (b & 63)
}

// may tells whether the bit of hash is set: if not, no key of that hash is here.
func (f *few[K, V]) may(hash uint64) bool {
	w, b := bit(hash)
	return f.bits[w]&b != 0
}

func (f *few[K, V]) mark(hash uint64) {
	w, b := bit(hash)
	f.bits[w] |= b
}

// place is where k is in list, -1 if it is not there.
func (f *few[K, V]) place(k K) int {
	for i := range f.list {
		if f.list[i].key == k {
			return i
		}
	}
	return -1
}

func (f *few[K, V]) get(hash uint64, k K) (v V, ok bool) {
	if !f.may(hash) {
		return v, false
	}
	if i := f.place(k); i >= 0 {
		return f.list[i].value, true
	}
	v, ok = f.m[k]
	return v, ok
}

func (f *few[K, V]) set(hash uint64, k K, v V) {
	f.mark(hash)
	i := f.place(k)
	switch {
	case i >= 0:
		f.list[i].value = v
	case f.m == nil && len(f.list) < fewMost:
		f.list = append(f.list, pair[K, V]{k, v})
	default:
		if f.m == nil {
			f.m = make(map[K]V, 2*fewMost)
		}
		for _, p := range f.list {
			f.m[p.key] = p.value
		}
		f.list, f.m[k] = nil, v
	}
}

// del tells whether k was there.
func (f *few[K, V]) del(hash uint64, k K) bool {
	if !f.may(hash) {
		return false
	}
	before := f.len()
	if i := f.place(k); i >= 0 {
		f.list = slices.Delete(f.list, i, i+1)
	} else {
		delete(f.m, k)
	}
	if f.len() == 0 {
		f.bits, f.m = [2]uint64{}, nil
	}
	return f.len() < before
}

// sweep deletes what is over.
func (f *few[K, V]) sweep(hash func(K) uint64, over func(V) bool) {
	f.list = slices.DeleteFunc(f.list, func(p pair[K, V]) bool { return over(p.value) })
	f.bits = [2]uint64{}
	for _, p := range f.list {
		f.mark(hash(p.key))
	}
	for k, v := range f.m {
		if over(v) {
			delete(f.m, k)
		} else {
			f.mark(hash(k))
		}
	}
	if f.len() == 0 {
		f.clear()
	}
}

func (f *few[K, V]) clear() { *f = few[K, V]{} }

// pop takes the first of list off, which has one. An empty list keeps room for a few.
func pop[T any](list *[]T) T {
	first := (*list)[0]
	if *list = slices.Delete(*list, 0, 1); len(*list) == 0 && cap(*list) > 4 {
		*list = nil
	}
	return first
}

// hash is a part of the key: keys that have it in common make a few as slow as a map, and no slower.
func (k Key) hash() uint64 { return binary.LittleEndian.Uint64(k[:]) }

func addrHash(a netip.AddrPort) uint64 {
	b := a.Addr().As16()
	return binary.BigEndian.Uint64(b[:]) ^ binary.BigEndian.Uint64(b[8:])<<16 ^ uint64(a.Port())
}
