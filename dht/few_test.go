package dht

import (
	"maps"
	"math/rand/v2"
	"testing"
)

// A few says what a map says, with few keys and with many, also where their hashes are the same.
func TestFewIsAMap(t *testing.T) {
	for name, hash := range map[string]func(Key) uint64{"keys": Key.hash, "one hash": func(Key) uint64 { return 7 }} {
		t.Run(name, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(1, 2))
			var f few[Key, int]
			want := map[Key]int{}
			for i, keys := range []int{3, fewMost, 10 * fewMost, 5, 10 * fewMost} {
				for range 2000 {
					k := Key{byte(rnd.IntN(keys)), 1}
					h := hash(k)
					switch was, had := want[k]; rnd.IntN(8) {
					case 0, 1, 2:
						v := rnd.IntN(100)
						f.set(h, k, v)
						want[k] = v
					case 3, 4:
						if f.del(h, k) != had {
							t.Fatalf("%d keys: deleted %t, want %t", keys, !had, had)
						}
						delete(want, k)
					default:
						if v, ok := f.get(h, k); ok != had || v != was {
							t.Fatalf("%d keys: %d %t, want %d %t", keys, v, ok, was, had)
						}
					}
					if f.len() != len(want) {
						t.Fatalf("%d keys: %d, want %d", keys, f.len(), len(want))
					}
				}
				if i%2 == 0 {
					over := func(v int) bool { return v < 50 }
					f.sweep(hash, over)
					maps.DeleteFunc(want, func(_ Key, v int) bool { return over(v) })
					continue
				}
				for k := range want {
					if !f.del(hash(k), k) {
						t.Fatalf("%d keys: one was not deleted", keys)
					}
				}
				clear(want)
				if f.len() != 0 || f.bits != [2]uint64{} {
					t.Fatalf("%d left, bits %v", f.len(), f.bits)
				}
			}
		})
	}
}
