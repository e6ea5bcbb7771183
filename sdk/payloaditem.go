package sdk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"
)

// kind is what a msgpack head announces.
type kind uint8

const (
	kindNone kind = iota // a first byte that does not occur in payloads
	kindNil
	kindBool
	kindUint // an integer of 0 or more, however it is encoded
	kindInt  // an integer below 0
	kindFloat
	kindStr
	kindBin
	kindArray
	kindMap
	kindTime
)

var kindNames = [...]string{"nothing", "nil", "a bool", "a number", "a number", "a fraction", "a string", "bytes", "an array", "a map", "a time"}

func (k kind) String() string { return kindNames[k] }

// item is one msgpack head. A str, bin or time has its content at the end of its
// size; arrays and maps count their elements or pairs behind it.
type item struct {
	kind kind
	size int    // bytes, without the elements
	n    int    // bytes of the content, or count
	u    uint64 // the value of bools, integers (two's complement) and floats (bits of a float64)
}

// content is what the str, bin or time at the start of b holds.
func (it item) content(b []byte) []byte { return b[it.size-it.n : it.size] }

// number is an integer in digits.
func (it item) number() string {
	if it.kind == kindUint {
		return strconv.FormatUint(it.u, 10)
	}
	return strconv.FormatInt(int64(it.u), 10)
}

type head struct {
	kind  kind
	bytes uint8 // of a value or a length that follow the first byte
	mask  uint8 // the bits of the first byte that hold it where none follow
}

// heads tells of each first byte what it announces. What has a length is followed
// by it; a time by its type, in ext 8 (0xc7) behind its length.
var heads = func() (h [256]head) {
	for _, r := range [...]struct {
		from, to int
		head     head
	}{
		{0x00, 0x7f, head{kindUint, 0, 0x7f}}, {0x80, 0x8f, head{kindMap, 0, 0x0f}}, {0x90, 0x9f, head{kindArray, 0, 0x0f}},
		{0xa0, 0xbf, head{kindStr, 0, 0x1f}}, {0xc0, 0xc0, head{kindNil, 0, 0}}, {0xc2, 0xc3, head{kindBool, 0, 1}},
		{0xc4, 0xc4, head{kindBin, 1, 0}}, {0xc5, 0xc5, head{kindBin, 2, 0}}, {0xc6, 0xc6, head{kindBin, 4, 0}},
		{0xc7, 0xc7, head{kindTime, 2, 0}}, {0xca, 0xca, head{kindFloat, 4, 0}}, {0xcb, 0xcb, head{kindFloat, 8, 0}},
		{0xcc, 0xcc, head{kindUint, 1, 0}}, {0xcd, 0xcd, head{kindUint, 2, 0}}, {0xce, 0xce, head{kindUint, 4, 0}}, {0xcf, 0xcf, head{kindUint, 8, 0}},
		{0xd0, 0xd0, head{kindInt, 1, 0}}, {0xd1, 0xd1, head{kindInt, 2, 0}}, {0xd2, 0xd2, head{kindInt, 4, 0}}, {0xd3, 0xd3, head{kindInt, 8, 0}},
		{0xd6, 0xd7, head{kindTime, 1, 0}}, {0xd9, 0xd9, head{kindStr, 1, 0}}, {0xda, 0xda, head{kindStr, 2, 0}}, {0xdb, 0xdb, head{kindStr, 4, 0}},
		{0xdc, 0xdc, head{kindArray, 2, 0}}, {0xdd, 0xdd, head{kindArray, 4, 0}}, {0xde, 0xde, head{kindMap, 2, 0}}, {0xdf, 0xdf, head{kindMap, 4, 0}},
		{0xe0, 0xff, head{kindInt, 0, 0xff}},
	} {
		for c := r.from; c <= r.to; c++ {
			h[c] = r.head
		}
	}
	return h
}()

// readItem reads the head at the start of b and makes sure that the bytes it
// announces are there: an element takes at least one byte.
func readItem(b []byte) (item, error) {
	if len(b) == 0 {
		return item{}, errors.New("the bytes end where a value should begin")
	}
	h := &heads[b[0]]
	it := item{kind: h.kind, size: 1 + int(h.bytes), u: uint64(b[0] & h.mask)}
	if len(b) < it.size {
		return it, fmt.Errorf("the bytes end inside of %s", it.kind)
	}
	for _, c := range b[1:it.size] {
		it.u = it.u<<8 | uint64(c)
	}
	switch it.kind {
	case kindNone:
		return it, fmt.Errorf("type byte 0x%02x does not occur in payloads", b[0])
	case kindInt:
		shift := 64 - 8*max(1, h.bytes)
		if it.u = uint64(int64(it.u<<shift) >> shift); int64(it.u) >= 0 {
			it.kind = kindUint
		}
	case kindFloat:
		if h.bytes == 4 {
			it.u = math.Float64bits(float64(math.Float32frombits(uint32(it.u))))
		}
	case kindStr, kindBin, kindArray, kindMap:
		return it.measured(b, it.u)
	case kindTime:
		return it.timestamp(b)
	}
	return it, nil
}

// measured is it with the length n, if that much of b is left.
func (it item) measured(b []byte, n uint64) (item, error) {
	need, left := n, uint64(len(b)-it.size)
	if it.kind == kindMap {
		need *= 2
	}
	if need > left {
		return it, fmt.Errorf("%s of length %d, and %d bytes are left", it.kind, n, left)
	}
	if it.n = int(n); it.kind != kindArray && it.kind != kindMap {
		it.size += it.n
	}
	if it.kind == kindStr && !utf8.Valid(it.content(b)) {
		return it, errors.New("a string that is not UTF-8")
	}
	return it, nil
}

// timestamp is it as the timestamp extension, type -1: fixext 4, fixext 8 and
// ext 8 of 12 bytes. No other extension occurs.
func (it item) timestamp(b []byte) (item, error) {
	length, want := uint64(4)<<(b[0]&1), uint64(0xff)
	if b[0] == 0xc7 {
		length, want = 12, 12<<8|0xff
	}
	if it.u != want {
		return it, errors.New("an extension that is no timestamp")
	}
	it, err := it.measured(b, length)
	if err != nil {
		return it, err
	}
	if _, nsec := timeParts(it.content(b)); nsec > 999_999_999 {
		return it, fmt.Errorf("a time with %d nanoseconds", nsec)
	}
	return it, nil
}

// timeParts are the seconds since 1970 and the nanoseconds that a timestamp holds.
func timeParts(b []byte) (sec, nsec int64) {
	switch len(b) {
	case 4:
		return int64(binary.BigEndian.Uint32(b)), 0
	case 8:
		v := binary.BigEndian.Uint64(b)
		return int64(v & (1<<34 - 1)), int64(v >> 34)
	}
	return int64(binary.BigEndian.Uint64(b[4:])), int64(binary.BigEndian.Uint32(b))
}
