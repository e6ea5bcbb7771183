package dht

import (
	"encoding/binary"
	"net/netip"
)

// few is a map that is asked often and has next to nothing in it as a rule: most questions are
// answered without a look at the map, which is somewhere else in memory. Every method is told the key's hash.
type few[K comparable, V any] struct {
	bits [2]uint64 // the hashes' bits of all keys that are in m, and of some that were: all 0 when none is
	n    int
	m    map[K]V
}

// bit is where a hash stands in few.bits.
func bit(hash uint64) (word int, mask uint64) {
	b := hash * 0x9e3779b97f4a7c15 >> 57
	return int(b >> 6), 1 << (b & 63)
}

func (f *few[K, V]) get(hash uint64, k K) (v V, ok bool) {
	if w, b := bit(hash); f.bits[w]&b != 0 {
		v, ok = f.m[k]
	}
	return v, ok
}

func (f *few[K, V]) set(hash uint64, k K, v V) {
	if f.m == nil {
		f.m = map[K]V{}
	}
	f.m[k] = v
	f.n = len(f.m)
	w, b := bit(hash)
	f.bits[w] |= b
}

// del tells whether k was there.
func (f *few[K, V]) del(hash uint64, k K) bool {
	if w, b := bit(hash); f.bits[w]&b == 0 {
		return false
	}
	before := f.n
	delete(f.m, k)
	if f.n = len(f.m); f.n == 0 {
		f.bits = [2]uint64{}
	}
	return f.n < before
}

// sweep deletes what is over.
func (f *few[K, V]) sweep(hash func(K) uint64, over func(V) bool) {
	f.bits = [2]uint64{}
	for k, v := range f.m {
		if over(v) {
			delete(f.m, k)
			continue
		}
		w, b := bit(hash(k))
		f.bits[w] |= b
	}
	if f.n = len(f.m); f.n == 0 {
		f.m = nil
	}
}

func (f *few[K, V]) clear() { *f = few[K, V]{} }

// hash is a part of the key: whoever makes keys that have it in common makes few slow as a map, no slower.
func (k Key) hash() uint64 { return binary.LittleEndian.Uint64(k[:]) }

func addrHash(a netip.AddrPort) uint64 {
	b := a.Addr().As16()
	return binary.BigEndian.Uint64(b[:]) ^ binary.BigEndian.Uint64(b[8:])<<16 ^ uint64(a.Port())
}
