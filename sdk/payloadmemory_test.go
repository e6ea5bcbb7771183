package sdk

import (
	"encoding/binary"
	"math"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestDecodeMemory: what decoding allocates, garbage included, is within the
// bound, whatever a small payload announces.
func TestDecodeMemory(t *testing.T) {
	type big struct{ A [120]byte }
	type bigger struct{ A [200]byte }
	type holder struct{ *Large }
	repeat := func(n int, unit string) []byte {
		return append(binary.BigEndian.AppendUint32([]byte{0xdd}, uint32(n)), strings.Repeat(unit, n)...)
	}
	check := func(b []byte, v any) {
		t.Helper()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := Unmarshal(b, v)
		runtime.ReadMemStats(&after)
		got, bound := int(after.TotalAlloc-before.TotalAlloc), payloadFloor+payloadGrowth*len(b)
		if got > bound+bound/8 { // the allocator rounds up
			t.Errorf("%.20q… as %T: %d bytes become %d, bound %d, %v", b[5:], v, len(b), got, bound, err)
		}
	}
	for unit, into := range map[string][]any{
		"\x80": {new(any), new([]map[string]int), new([]*big), new([]map[string]big)}, "\x90": {new(any), new([][]int8)},
		"\x81\xa0\xc0": {new(any), new([]map[string]int), new([]map[string]big), new([]map[string]bigger)},
		"\x91\xc0":     {new(any), new([][]*int)}, strings.Repeat("\x91", 31) + "\xc0": {new(any)},
		"\xa1a": {new(any), new([]string)}, "\x81\xa1k\xa1v": {new(any), new([]map[string]string)},
		"\xc4\x00": {new(any), new([][]byte)}, "\xd6\xff\x00\x00\x00\x00": {new(any), new([]*time.Time)},
		"\x01": {new([]*int8), new([]***int8)}, "\x81\xa1L\x01": {new([]holder)}, "\xc0": {new([]big), new([]*big)},
	} {
		for _, v := range into {
			check(repeat(1<<16, unit), v)
		}
	}
	// One map of so many entries that it has just doubled its slots.
	const n = 1<<16/8*7 + 1
	b := binary.BigEndian.AppendUint32([]byte{0xdf}, n)
	for i := range n {
		b = append(binary.BigEndian.AppendUint32(append(b, 0xce), uint32(i)), 0xc0)
	}
	for _, v := range []any{new(map[uint32]int), new(map[uint32][10]int), new(map[uint32]big), new(map[uint32]bigger)} {
		check(b, v)
	}
	// Nor is more counted than is taken: these stay within payloadFloor.
	for unit, v := range map[string]any{"\x80": new([]map[string]int), "\x81\xa0\xc0": new([]map[string]bigger)} {
		if err := Unmarshal(repeat(1500/3, unit), v); err != nil {
			t.Errorf("1500 times %q as %T: %v", unit, v, err)
		}
	}
	if err := Unmarshal(repeat(10_000, "\x80"), new([]map[string]int)); err != nil {
		t.Error(err)
	}
	type endless *endless
	if err := Unmarshal([]byte{0x01}, new(endless)); err == nil || !strings.Contains(err.Error(), "memory") {
		t.Errorf("a pointer without end: %v", err)
	}
	d := decoder{memory: 100}
	paid := func(n, size int) (ok bool) {
		defer func() { ok = recover() == nil }()
		d.take(n, size)
		return
	}
	if !paid(10, 9) || paid(1, 11) || paid(math.MaxInt, math.MaxInt) || !paid(math.MaxInt, 0) || !paid(1, 10) || paid(1, 1) {
		t.Errorf("%d bytes are left of 100, after 100 were taken", d.memory)
	}
}

// Large is 2 KB that 4 bytes of a payload ask for.
type Large struct {
	L int
	A [256]int64
}

// TestDecodeAllocates: what the value holds, and nothing else. The least of many
// runs counts, since a decoder may have to be made: a collection empties the pool,
// and under the race detector the pool forgets one in four.
func TestDecodeAllocates(t *testing.T) {
	long, err := Marshal(make([]int64, 1<<12))
	if err != nil {
		t.Fatal(err)
	}
	bid, err := Marshal(&benchValue)
	if err != nil {
		t.Fatal(err)
	}
	var b benchBid
	for what, c := range map[string]struct {
		f    func() error
		most float64
	}{
		"a slice":                         {func() error { var list []int64; return Unmarshal(long, &list) }, 2}, // the slice's head escapes
		"a struct's string and bytes":     {func() error { b = benchBid{}; return Unmarshal(bid, &b) }, 2},
		"the same, and a copy not to set": {func() error { return Unmarshal(bid, &b) }, 3},
	} {
		got := math.Inf(1)
		for range 50 {
			got = min(got, testing.AllocsPerRun(1, func() {
				if err := c.f(); err != nil {
					t.Fatal(err)
				}
			}))
		}
		if got > c.most {
			t.Errorf("%s: %.0f allocations, at most %.0f expected", what, got, c.most)
		}
	}
}
