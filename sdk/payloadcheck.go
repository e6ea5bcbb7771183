package sdk

import (
	"encoding/binary"
	"fmt"
	"math"
	"unicode/utf8"
)

// kind is what a msgpack head announces.
type kind uint8

const (
	kindNil kind = iota
	kindBool
	kindInt
	kindUint
	kindFloat
	kindStr
	kindBin
	kindArray
	kindMap
	kindTime
)

var kindNames = [...]string{"nil", "a bool", "a number", "a number", "a fraction", "a string", "bytes", "an array", "a map", "a time"}

func (k kind) String() string { return kindNames[k] }

// item is one msgpack head. For str, bin and time its content is
// b[head:head+n]; for arrays and maps n counts the elements or pairs.
type item struct {
	kind kind
	head int    // bytes of the head
	n    int    // length or count
	u    uint64 // the value of bools, integers (two's complement) and floats (bits of a float64)
}

// size is the length of the item's own bytes, without the elements.
func (it item) size() int {
	if it.kind == kindStr || it.kind == kindBin || it.kind == kindTime {
		return it.head + it.n
	}
	return it.head
}

// readItem reads the head at the start of b and makes sure that the bytes it
// announces are there: an element takes at least one byte.
func readItem(b []byte) (item, error) {
	if len(b) == 0 {
		return item{}, fmt.Errorf("the bytes end where a value should begin")
	}
	it, err := readHead(b[0], b[1:])
	if err != nil {
		return it, err
	}
	need, left := it.n, len(b)-it.head
	if it.kind == kindMap {
		need *= 2
	}
	if need > left {
		return it, fmt.Errorf("%s of length %d, and %d bytes are left", it.kind, it.n, left)
	}
	if it.kind == kindStr && !utf8.Valid(b[it.head:it.head+it.n]) {
		return it, fmt.Errorf("a string that is not UTF-8")
	}
	if it.kind == kindTime {
		return it, checkTime(b[it.head : it.head+it.n])
	}
	return it, nil
}

// heads with a fixed number of bytes behind them.
var fixedHeads = map[byte]struct {
	kind  kind
	bytes int
}{
	0xca: {kindFloat, 4}, 0xcb: {kindFloat, 8},
	0xcc: {kindUint, 1}, 0xcd: {kindUint, 2}, 0xce: {kindUint, 4}, 0xcf: {kindUint, 8},
	0xd0: {kindInt, 1}, 0xd1: {kindInt, 2}, 0xd2: {kindInt, 4}, 0xd3: {kindInt, 8},
	0xc4: {kindBin, 1}, 0xc5: {kindBin, 2}, 0xc6: {kindBin, 4},
	0xd9: {kindStr, 1}, 0xda: {kindStr, 2}, 0xdb: {kindStr, 4},
	0xdc: {kindArray, 2}, 0xdd: {kindArray, 4}, 0xde: {kindMap, 2}, 0xdf: {kindMap, 4},
}

func readHead(c byte, rest []byte) (item, error) {
	switch {
	case c <= 0x7f:
		return item{kind: kindUint, head: 1, u: uint64(c)}, nil
	case c <= 0x8f:
		return item{kind: kindMap, head: 1, n: int(c & 0x0f)}, nil
	case c <= 0x9f:
		return item{kind: kindArray, head: 1, n: int(c & 0x0f)}, nil
	case c <= 0xbf:
		return item{kind: kindStr, head: 1, n: int(c & 0x1f)}, nil
	case c == 0xc0:
		return item{kind: kindNil, head: 1}, nil
	case c == 0xc2, c == 0xc3:
		return item{kind: kindBool, head: 1, u: uint64(c & 1)}, nil
	case c >= 0xe0:
		return item{kind: kindInt, head: 1, u: uint64(int64(int8(c)))}, nil
	case c == 0xd6, c == 0xd7, c == 0xc7:
		return readTimeHead(c, rest)
	}
	f, ok := fixedHeads[c]
	if !ok {
		return item{}, fmt.Errorf("type byte 0x%02x does not occur in payloads", c)
	}
	if len(rest) < f.bytes {
		return item{}, fmt.Errorf("the bytes end inside of %s", f.kind)
	}
	v := bigEndian(rest[:f.bytes])
	it := item{kind: f.kind, head: 1 + f.bytes}
	switch f.kind {
	case kindUint:
		it.u = v
	case kindInt:
		shift := 64 - 8*f.bytes
		it.u = uint64(int64(v<<shift) >> shift)
	case kindFloat:
		it.u = float64Bits(v, f.bytes)
	default:
		it.n = int(v) // at most 2^32-1, and int has 64 bits or readItem refuses it
		if it.n < 0 || it.n > maxLength {
			return it, fmt.Errorf("%s of length %d", f.kind, v)
		}
	}
	return it, nil
}

// maxLength keeps 2*n within a 32-bit int.
const maxLength = 1<<30 - 1

// readTimeHead reads the heads of the timestamp extension, type -1: fixext 4,
// fixext 8 and ext 8 of 12 bytes. No other extension occurs.
func readTimeHead(c byte, rest []byte) (item, error) {
	it := item{kind: kindTime, head: 2}
	switch c {
	case 0xd6:
		it.n = 4
	case 0xd7:
		it.n = 8
	default:
		if len(rest) == 0 || rest[0] != 12 {
			return it, fmt.Errorf("an extension that is no timestamp")
		}
		it.n, it.head, rest = 12, 3, rest[1:]
	}
	if len(rest) == 0 || rest[0] != 0xff {
		return it, fmt.Errorf("an extension that is no timestamp")
	}
	return it, nil
}

func checkTime(b []byte) error {
	nsec := uint64(0)
	switch len(b) {
	case 8:
		nsec = binary.BigEndian.Uint64(b) >> 34
	case 12:
		nsec = uint64(binary.BigEndian.Uint32(b))
	}
	if nsec > 999_999_999 {
		return fmt.Errorf("a time with %d nanoseconds", nsec)
	}
	return nil
}

// checkPayload walks b, which holds one value and nothing behind it, without
// recursion: whatever a peer sends, it takes len(b) steps and no memory.
func checkPayload(b []byte) error {
	var left [MaxPayloadDepth]int // left[d] counts the items still to come at depth d+1
	var pairs [MaxPayloadDepth]bool
	depth, at := 0, 0
	for {
		it, err := readItem(b[at:])
		if err != nil {
			return fmt.Errorf("byte %d: %w", at, err)
		}
		if depth > 0 && pairs[depth-1] && left[depth-1]%2 == 0 && !it.isKey() {
			return fmt.Errorf("byte %d: %s as a map's key; only strings and integers can be", at, it.kind)
		}
		at += it.size()
		if n := it.children(); n > 0 {
			if depth == MaxPayloadDepth {
				return fmt.Errorf("byte %d: nested more than %d deep", at, MaxPayloadDepth)
			}
			left[depth], pairs[depth] = n, it.kind == kindMap
			depth++
			continue
		}
		for depth > 0 {
			if left[depth-1]--; left[depth-1] > 0 {
				break
			}
			depth--
		}
		if depth == 0 {
			if at != len(b) {
				return fmt.Errorf("byte %d: %d bytes follow the value", at, len(b)-at)
			}
			return nil
		}
	}
}

func (it item) isKey() bool {
	return it.kind == kindStr || it.kind == kindInt || it.kind == kindUint
}

// children is the number of items that follow as it's elements.
func (it item) children() int {
	switch it.kind {
	case kindArray:
		return it.n
	case kindMap:
		return 2 * it.n
	}
	return 0
}

func bigEndian(b []byte) (v uint64) {
	for _, c := range b {
		v = v<<8 | uint64(c)
	}
	return v
}

// float64Bits widens a float of n bytes.
func float64Bits(v uint64, n int) uint64 {
	if n == 4 {
		return math.Float64bits(float64(math.Float32frombits(uint32(v))))
	}
	return v
}
