package sdk

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
)

// one is a map of one key.
func one(key string, value []byte) []byte {
	return append(append([]byte{0x81}, msgpackStr(key)...), value...)
}

// TestDecodeRefuses: what the checker refuses, the decoder refuses, too: in an
// any, in a field, and in what is left aside.
func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	var s struct {
		Any any
		Key map[string]any
		Int map[int]any
		OK  bool
	}
	for _, h := range unsound {
		b := unhex(t, h)
		for what, c := range map[string]struct {
			b []byte
			v any
		}{
			"any": {b, new(any)}, "a field": {one("Any", b), &s}, "left aside": {one("other", b), &s},
			"a key":          {one("Key", append([]byte{0x81}, append(bytes.Clone(b), 1)...)), &s},
			"an integer key": {one("Int", append([]byte{0x81}, append(bytes.Clone(b), 1)...)), &s},
			"a field's name": {append([]byte{0x81}, append(bytes.Clone(b), 1)...), &s},
		} {
			if strings.HasSuffix(what, "aside") && bytes.HasSuffix(b, []byte{0xc0, 0xc0}) {
				continue // two values: what follows the first one is refused as well, but as the map's
			}
			if err := Unmarshal(c.b, c.v); err == nil {
				t.Errorf("% x as %s is accepted", b, what)
			} else if !reflect.ValueOf(c.v).Elem().IsZero() {
				t.Errorf("% x as %s is refused, and a part of it is set", b, what)
			}
		}
	}
}

// TestDecodeDepth: 32 arrays and maps, whatever they are decoded into.
func TestDecodeDepth(t *testing.T) {
	t.Parallel()
	type list []list
	type link struct {
		L *link
		M map[int]link
	}
	for what, c := range map[string]struct {
		unit, core string
		v          any
	}{
		"any, arrays": {"91", "c0", new(any)}, "any, maps": {"81 a0", "c0", new(any)}, "slices": {"91", "c0", new(list)},
		"structs": {"81 a1 4c", "c0", new(link)}, "structs in maps": {"81 a1 4d 81 01", "c0", new(link)},
		"left aside": {"81 a1 78", "c0", new(link)}, "ending in an empty map": {"81 a1 4c", "80", new(link)},
	} {
		levels := strings.Count(c.unit, "81") + strings.Count(c.unit, "91")
		deep := func(n int) []byte { return unhex(t, strings.Repeat(c.unit, n/levels)+c.core) }
		if err := Unmarshal(deep(MaxPayloadDepth), c.v); err != nil {
			t.Errorf("%s, %d deep: %v", what, MaxPayloadDepth, err)
		}
		if err := Unmarshal(deep(MaxPayloadDepth+levels), c.v); err == nil || !strings.Contains(err.Error(), "nested more than 32 deep") {
			t.Errorf("%s, %d deep: %v", what, MaxPayloadDepth+levels, err)
		}
	}
	// What lies side by side is not deep.
	for unit, v := range map[string]any{"91 00": new([][]int), "81 a1 78 81 a1 79 00": new([]link), "81 a1 4d 80": new([]link), "90": new(any), "81 a1 78 91 00": new(any)} {
		if err := Unmarshal(unhex(t, "dc 00 64"+strings.Repeat(unit, 100)), v); err != nil {
			t.Errorf("100 times %s as %T: %v", unit, v, err)
		}
	}
}

// TestDecodeTouchesNothing: a refused payload leaves the value as it was, deep
// down as well.
func TestDecodeTouchesNothing(t *testing.T) {
	t.Parallel()
	list, part := []int{1, 2}, &inner{"before", 1}
	type value struct {
		List []int
		Part *inner
		Bad  bool
	}
	bad := []byte("\x83\xa4List\x92\x07\x08\xa4Part\x81\xa4name\xa1x\xa3Bad\x01")
	for _, v := range []value{{}, {List: list, Part: part}} {
		before := v
		if err := Unmarshal(bad, &v); err == nil || !reflect.DeepEqual(v, before) {
			t.Errorf("%+v, %v, want %+v", v, err, before)
		}
		for _, behind := range [][]byte{{0xc3, 0}, {0xc3, 0xc1}} {
			if err := Unmarshal(append(bad[:len(bad)-1:len(bad)-1], behind...), &v); err == nil || !reflect.DeepEqual(v, before) {
				t.Errorf("%+v, %v, want %+v", v, err, before)
			}
		}
	}
	if list[0] != 1 || part.Name != "before" {
		t.Errorf("what the value pointed to is changed: %v %v", list, part)
	}
	if err := Unmarshal(append(bad[:len(bad)-1:len(bad)-1], 0xc3), &value{List: list, Part: part}); err != nil || list[0] != 1 || part.Name != "before" {
		t.Errorf("what the value pointed to is written to: %v %v %v", list, part, err)
	}
}

// TestMapEntriesAreApart: an entry has nothing of the one before it.
func TestMapEntriesAreApart(t *testing.T) {
	t.Parallel()
	type entry struct {
		A, B int
		L    []int
		P    *int
	}
	var got map[string]entry
	if err := Unmarshal([]byte("\x83\xa1x\x83\xa1A\x01\xa1L\x91\x01\xa1P\x05\xa1y\x82\xa1B\x02\xa1L\x91\x02\xa1z\x80"), &got); err != nil {
		t.Fatal(err)
	}
	five := 5
	if want := (map[string]entry{"x": {A: 1, L: []int{1}, P: &five}, "y": {B: 2, L: []int{2}}, "z": {}}); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	var lists map[string][]int
	if err := Unmarshal([]byte("\x83\xa1x\x92\x01\x02\xa1y\x91\x03\xa1z\xc0"), &lists); err != nil ||
		!reflect.DeepEqual(lists, map[string][]int{"x": {1, 2}, "y": {3}, "z": nil}) {
		t.Errorf("got %v, %v", lists, err)
	}
}

// TestKeysOccurOnce: however they are written.
func TestKeysOccurOnce(t *testing.T) {
	t.Parallel()
	id := MessageID{0xab}.String()
	type many struct{ A0, A1, A2, A3, A4, A5, A6, A7, A8, A9, B0, B1, B2, B3, B4, B5, B6, B7, B8, B9, C0, C1, C2, C3, C4, C5, C6, C7, C8, C9, D0, D1, D2, D3 int }
	for _, c := range []struct {
		b    string
		v    any
		want string
	}{
		{"\x82\xa1x\x01\xa1x\x01", new(map[string]int), `key "x" occurs twice`},
		{"\x82\xa1x\x01\xa1x\xc0", new(map[string]*int), `key "x" occurs twice`},
		{"\x82\xa1x\x01\xa1x\x01", new(any), `key "x" occurs twice`},
		{"\x82\x01\x01\xa11\x01", new(map[int]int), `key "1" occurs twice`},
		{"\x82\xa11\x01\xa201\x01", new(map[uint8]int), `key "01" occurs twice`},
		{"\x82\x01\x01\xcc\x01\x01", new(map[int8]int), `key "1" occurs twice`},
		{"\x82\xd9\x20" + id + "\x01\xd9\x20" + strings.ToUpper(id) + "\x01", new(map[MessageID]int), `occurs twice`},
		{"\x82\xa2D3\x01\xa2D3\x01", new(many), `key "D3" occurs twice`},
		{"\x83\xa2A0\x01\xa2D3\x01\xa2A0\x01", new(many), `key "A0" occurs twice`},
		{"\x82\xa2D3\x01\xa2D3\xc0", new(many), `key "D3" occurs twice`},
		{"\x81\xa1m\x82\xa1x\x01\xa1x\x01", new(map[string]map[string]int), `field "m": key "x" occurs twice`},
	} {
		if err := Unmarshal([]byte(c.b), c.v); err == nil || !strings.HasSuffix(err.Error(), c.want) {
			t.Errorf("%q as %T: %v, want %s", c.b, c.v, err, c.want)
		}
	}
	var m many
	if err := Unmarshal([]byte("\x83\xa2D3\x01\xa2C0\x02\xa2A0\x03"), &m); err != nil || m != (many{D3: 1, C0: 2, A0: 3}) {
		t.Errorf("fields out of order: %+v, %v", m, err)
	}
}

// TestDecodeForms: what stands for a value, and what does not for one of its
// type, to the edges. Hexadecimal, or text that becomes a str.
func TestDecodeForms(t *testing.T) {
	t.Parallel()
	type bite byte
	float := func(f float64) string { return fmt.Sprintf("cb %016x", math.Float64bits(f)) }
	noon := time.Date(2026, 1, 31, 12, 0, 0, 500, time.UTC)
	local := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	for _, c := range []struct {
		want      any
		good, bad []string
	}{
		{true, []string{"c3"}, []string{"01", `"true"`}},
		{int8(127), []string{"7f", "cc 7f", "d0 7f", "d3 00 00 00 00 00 00 00 7f"}, []string{"cc 80", "d1 00 80", "c3", `"127"`, float(127)}},
		{int8(-128), []string{"d0 80", "d1 ff 80"}, []string{"d1 ff 7f"}},
		{int64(math.MaxInt64), []string{"cf 7f ff ff ff ff ff ff ff"}, []string{"cf 80 00 00 00 00 00 00 00"}},
		{int64(math.MinInt64), []string{"d3 80 00 00 00 00 00 00 00"}, nil},
		{uint8(255), []string{"cc ff", "d1 00 ff"}, []string{"cd 01 00", "ff", "d3 ff ff ff ff ff ff ff 01"}},
		{uint64(math.MaxUint64), []string{"cf ff ff ff ff ff ff ff ff"}, []string{"e0", float(1)}},
		{float32(1 << 24), []string{"ce 01 00 00 00", float(1 << 24)}, []string{"ce 01 00 00 01", "d2 fe ff ff ff", float(1e39), float(-1e39), `"1"`, "c3"}},
		{float32(-1 << 24), []string{"d2 ff 00 00 00"}, nil},
		{float32(math.Inf(-1)), []string{"ca ff 80 00 00", float(math.Inf(-1))}, nil},
		{float64(1 << 53), []string{"cf 00 20 00 00 00 00 00 00"}, []string{"cf 00 20 00 00 00 00 00 01", "cf ff ff ff ff ff ff ff ff"}},
		{float64(-1 << 53), []string{"d3 ff e0 00 00 00 00 00 00"}, []string{"d3 ff df ff ff ff ff ff ff"}},
		{0.5, []string{"ca 3f 00 00 00", float(0.5)}, nil},
		{"", []string{"a0", "d9 00"}, []string{"c4 00", "00"}},
		{121 * time.Second, []string{`"2m1s"`, "cf 0000001c2c297a00"}, []string{`"121"`, float(1), "c3"}},
		{-time.Second, []string{`"-1s"`, "d2 c4 65 36 00"}, nil},
		{time.Unix(0, 999_999_999).UTC(), []string{"d7 ff ee 6b 27 fc 00 00 00 00", "c7 0c ff 3b 9a c9 ff 00 00 00 00 00 00 00 00"},
			[]string{"d7 ff ee 6b 28 00 00 00 00 00", "c7 0c ff 3b 9a ca 00 00 00 00 00 00 00 00 00"}},
		{noon, []string{`"2026-01-31T12:00:00.0000005Z"`, `"2026-01-31T14:00:00.0000005+02:00"`, "d7 ff 000007d0697deec0"}, []string{`"2026-01-31"`, "00", "c4 00"}},
		{time.Unix(1<<34-1, 0).UTC(), []string{"d7 ff 00 00 00 03 ff ff ff ff", `"2514-05-30T01:53:03Z"`}, nil},
		{time.Time{}, []string{`"0001-01-01T00:00:00Z"`, "c0"}, nil},
		{[]byte{1, 2}, []string{"c4 02 01 02", "c5 00 02 01 02", "c6 00 00 00 02 01 02", `"AQI="`}, []string{`"AQI"`, `"AQJ="`, "92 01 02", "01"}},
		{[]byte{}, []string{"c4 00", "a0"}, nil},
		{[2]byte{1, 2}, []string{"c4 02 01 02", `"AQI="`}, []string{`"AQ=="`, `"AQID"`, "c4 01 01", "c4 03 01 02 03", "92 01 02"}},
		{[]bite{1, 2}, []string{"92 01 02", "dc 00 02 01 02", "dd 00 00 00 02 01 02"}, []string{"c4 02 01 02", `"AQI="`, "92 01 ff"}},
		{[2]bite{1, 2}, []string{"92 01 02"}, []string{"c4 02 01 02", `"AQI="`}},
		{[]int{}, []string{"90", "dd 00 00 00 00"}, []string{"80", "a0"}},
		{[]*int{nil}, []string{"91 c0"}, nil},
		{[]int(nil), []string{"c0"}, nil},
		{[2]int{1, 0}, []string{"92 01 00", "92 01 c0"}, []string{"91 01", "93 01 00 00", "90", "c4 02 01 00"}},
		{map[string]int{}, []string{"80", "de 00 00", "df 00 00 00 00"}, []string{"90", "81 05 01", "81 c0 01"}},
		{map[string]int(nil), []string{"c0"}, nil},
		{map[int8]int{-5: 1}, []string{"81 fb 01", "81 a2 2d 35 01"}, []string{"81 a3 31 32 38 01", "81 cc 80 01", "81 a0 01", "81 a3 31 2e 30 01"}},
		{map[uint8]int{5: 1}, []string{"81 05 01", "81 a1 35 01"}, []string{"81 ff 01", "81 a2 2d 31 01", "81 a3 32 35 36 01"}},
		{map[time.Duration]int{5: 1}, []string{"81 05 01", "81 a1 35 01"}, []string{"81 a2 35 73 01"}},
		{map[uint64]int{math.MaxUint64: 1}, []string{"81 b4" + hex.EncodeToString([]byte("18446744073709551615")) + "01"},
			[]string{"81 b4" + hex.EncodeToString([]byte("18446744073709551616")) + "01"}},
		{local, []string{"c4 04 7f 00 00 01", `"fwAAAQ=="`}, []string{"c4 03 7f 00 00", "94 7f 00 00 01", `"127.0.0.1"`}},
		{&local, []string{"c4 04 7f 00 00 01"}, []string{"c4 03 7f 00 00"}},
		{struct{}{}, []string{"80", "c0", "81 a1 78 05"}, []string{"90", "81 05 05"}},
	} {
		form := func(s string) []byte {
			if text, ok := strings.CutPrefix(s, `"`); ok {
				return msgpackStr(strings.TrimSuffix(text, `"`))
			}
			return unhex(t, s)
		}
		for _, s := range c.good {
			got := reflect.New(reflect.TypeOf(c.want))
			if err := Unmarshal(form(s), got.Interface()); err != nil || !reflect.DeepEqual(got.Elem().Interface(), c.want) {
				t.Errorf("%s as a %T: got %v, %v, want %v", s, c.want, got.Elem(), err, c.want)
			}
		}
		for _, s := range c.bad {
			if got := reflect.New(reflect.TypeOf(c.want)); Unmarshal(form(s), got.Interface()) == nil {
				t.Errorf("%s is %v as a %T", s, got.Elem(), c.want)
			}
		}
	}
}

// TestDecodeFree: what an any becomes.
func TestDecodeFree(t *testing.T) {
	t.Parallel()
	b := unhex(t, "9d c0 c3 05 ff cf 7f ff ff ff ff ff ff ff ca 3f 00 00 00 a1 78 c4 01 01 d6 ff 00 00 00 01 90 80 91 91 00 81 a1 6b 81 a0 c0")
	want := []any{nil, true, int64(5), int64(-1), int64(math.MaxInt64), 0.5, "x", []byte{1}, time.Unix(1, 0).UTC(),
		[]any{}, map[string]any{}, []any{[]any{int64(0)}}, map[string]any{"k": map[string]any{"": nil}}}
	var got any
	if err := Unmarshal(b, &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %#v, %v, want %#v", got, err, want)
	}
	type named any
	var n map[string]named
	if err := Unmarshal([]byte("\x81\xa1k\x91\x05"), &n); err != nil || !reflect.DeepEqual(n["k"], []any{int64(5)}) {
		t.Errorf("got %#v, %v", n, err)
	}
}

// picky is a type of an author's whose own method fails, or worse.
type picky struct{ got []byte }

func (p *picky) MarshalBinary() ([]byte, error) { return p.got, nil }
func (p *picky) UnmarshalBinary(b []byte) error {
	switch string(b) {
	case "error":
		return errors.New("not today")
	case "panic":
		panic("oh no")
	}
	p.got = append(b, "…"...) // must not write behind b
	return nil
}

func TestOwnForms(t *testing.T) {
	t.Parallel()
	type value struct{ P []*picky }
	for text, want := range map[string]string{"error": `field "P[0]": not today`, "panic": `field "P[0]": oh no`} {
		v := value{[]*picky{nil}}
		err := Unmarshal(one("P", append([]byte{0x91, 0xc4, 5}, text...)), &v)
		if err == nil || !strings.HasSuffix(err.Error(), want) || v.P[0] != nil {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	var v value
	b := one("P", []byte("\x92\xc4\x01a\xc4\x01b"))
	own := bytes.Clone(b)
	if err := Unmarshal(b, &v); err != nil || string(v.P[0].got) != "a…" || string(v.P[1].got) != "b…" || !bytes.Equal(b, own) {
		t.Errorf("%+v, %v; the payload is now %q", v, err, b)
	}
}

// TestErrorsTellWhere: within a value by its fields, within the payload by bytes.
func TestErrorsTellWhere(t *testing.T) {
	t.Parallel()
	type lot struct {
		Item string         `json:"item"`
		Sub  map[string]lot `json:"sub"`
	}
	for _, c := range []struct {
		b    string
		v    any
		want string
	}{
		{"\x92\x80\x81\xa4item\x05", new([]lot), `field "[1].item": expected a string, got a number`},
		{"\x81\xa3sub\x81\xa1k\x81\xa3sub\x81\xa3a.b\x90", new(lot), `field "sub.k.sub.a.b": expected an object, got an array`},
		{"\x81\xa3sub\x81\xa0\x90", new(lot), `field "sub.": expected an object, got an array`},
		{"\x81\xa1k\x91\x92\x00\x05", new(map[string][][]bool), `field "k[0][0]": expected true or false, got a number`},
		{"\x81\x05\xa1x", new(map[int]bool), `field "5": expected true or false, got a string`},
		{"\x81\xa4item\xa2x", new(lot), `field "item": byte 6: a string of length 2, and 1 bytes are left`},
		{"\x81\xa4item\xa2x\xff", new(lot), `field "item": byte 6: a string that is not UTF-8`},
		{"\x81\xa1x\x91\xc1", new(map[string]any), `field "x[0]": byte 4: type byte 0xc1 does not occur in payloads`},
		{"\x82\xa4item\xa1x", new(lot), `byte 8: the bytes end where a value should begin`},
		{"\x81\xc0\x05", new(lot), `byte 1: nil as a map's key; only strings and integers can be`},
		{"\x81\x05\x05", new(lot), `the number 5 as a field's name`},
		{"\x81\xa1x\x05", new(None), `there is no field "x"; the fields are none`},
		{"\x80\x80", new(None), `byte 1: 1 bytes follow the value`},
		{"\x82\x01\x01\x02", new(any), `byte 0: a map of length 2, and 3 bytes are left`},
		{"\x81\xa1k\x05", new(map[string]AgentID), `field "k": expected AgentID as text, got a number`},
		{"\xca\x00\x00\x00", new(any), `byte 0: the bytes end inside of a fraction`},
	} {
		if err := UnmarshalStrict([]byte(c.b), c.v); err == nil || err.Error() != "decode payload: "+c.want {
			t.Errorf("%q: %v, want %s", c.b, err, c.want)
		}
	}
}

// TestCodecAgrees: what Marshal writes, another decoder of msgpack reads alike.
func TestCodecAgrees(t *testing.T) {
	t.Parallel()
	b, err := Marshal(sample())
	if err != nil {
		t.Fatal(err)
	}
	var got, want everything
	h := codec.MsgpackHandle{WriteExt: true}
	h.SignedInteger, h.MapType = true, reflect.TypeFor[map[string]any]()
	if err := codec.NewDecoderBytes(b, &h).Decode(&want); err != nil {
		t.Fatal(err)
	}
	if err := Unmarshal(b, &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v, %v\nwant %+v", got, err, want)
	}
}
