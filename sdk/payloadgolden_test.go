package sdk

import (
	"bytes"
	"encoding/hex"
	"math"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestPayloadGolden(t *testing.T) {
	t.Parallel()
	for _, v := range readVectors(t, "payloads.txt") {
		want := unhex(t, v.right)
		got, err := PayloadFromJSON([]byte(v.left))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is % x, %v, want % x", v.left, got, err, want)
		}
		if j, err := PayloadToJSON(want); err != nil || string(j) != v.left {
			t.Errorf("% x is %s, %v, want %s", want, j, err, v.left)
		}
	}
}

// TestMarshalGolden freezes how Go's types travel.
func TestMarshalGolden(t *testing.T) {
	t.Parallel()
	type pair struct {
		B string `json:"b"`
		A int    `json:"a"`
	}
	id := MessageID{0xab}
	for _, c := range []struct {
		v    any
		want string
		json string
	}{
		{nil, "", `null`},
		{None{}, "", `null`},
		{&None{}, "", `null`},
		{(*pair)(nil), "", `null`},
		{pair{"x", 1}, "82a16101a162a178", `{"a":1,"b":"x"}`},
		{map[string]int{"b": 2, "a": 1, "c": 3}, "83a16101a16202a16303", `{"a":1,"b":2,"c":3}`},
		{map[int8]bool{2: true, -1: false}, "82ffc202c3", `{"-1":false,"2":true}`},
		{[]byte{1, 2}, "c4020102", `"AQI="`},
		{[2]byte{1, 2}, "c4020102", `"AQI="`},
		{[]int{1, -1}, "9201ff", `[1,-1]`},
		{int64(5), "05", `5`},
		{uint8(5), "05", `5`},
		{float32(0.5), "ca3f000000", `0.5`},
		{2 * time.Second, "ce77359400", `2000000000`},
		{time.Unix(1, 0), "d6ff00000001", `"1970-01-01T00:00:01Z"`},
		{time.Unix(1, 5), "d7ff0000001400000001", `"1970-01-01T00:00:01.000000005Z"`},
		{time.Unix(-1, 5), "c70cff00000005ffffffffffffffff", `"1969-12-31T23:59:59.000000005Z"`},
		{time.Time{}, "c0", `null`},
		{id, "d920" + hex.EncodeToString([]byte(id.String())), `"` + id.String() + `"`},
	} {
		b, err := Marshal(c.v)
		if err != nil || hex.EncodeToString(b) != c.want {
			t.Errorf("%T %v is %x, %v, want %s", c.v, c.v, b, err, c.want)
			continue
		}
		if j, err := PayloadToJSON(b); err != nil || string(j) != c.json {
			t.Errorf("%T %v in JSON is %s, %v, want %s", c.v, c.v, j, err, c.json)
		}
	}
}

func TestMarshalRefuses(t *testing.T) {
	t.Parallel()
	type loop struct{ Next *loop }
	ring := &loop{}
	ring.Next = ring
	deep := any("x")
	for range MaxPayloadDepth + 1 {
		deep = []any{deep}
	}
	for what, v := range map[string]any{
		"a channel": make(chan int), "a function in a struct": struct{ F func() }{}, "a complex number": 1i,
		"a struct without exported fields": struct{ a int }{1}, "keys that are structs": map[struct{ A int }]int{},
		"not UTF-8": "\xff", "a key that is not UTF-8": map[string]int{"\xff": 1}, "a ring": ring, "too deep": deep,
		"an interface with methods": struct{ E error }{},
	} {
		if b, err := Marshal(v); err == nil {
			t.Errorf("%s: % x", what, b)
		}
	}
}

// unsound is what no payload is.
var unsound = map[string]string{
	"trailing byte": "c0c0", "cut string": "a2 61", "cut head": "cd 00", "cut map": "81 a1 61", "cut array": "92 01",
	"never used": "c1", "array longer than the bytes": "dd ff ff ff ff", "map longer than the bytes": "df ff ff ff ff",
	"map of pairs that can't be there": "82 01 01 02", "str longer than the bytes": "db ff ff ff ff 61",
	"bin longer than the bytes": "c6 7f ff ff ff", "not UTF-8": "a1 ff", "nil as key": "81 c0 01", "map as key": "81 80 01",
	"bytes as key": "81 c4 01 61 01", "fraction as key": "81 cb 3f e0 00 00 00 00 00 00 01", "bool as key": "81 c3 01",
	"other extension": "d6 01 00 00 00 00", "ext 16": "c8 00 01 ff 00", "fixext 1": "d4 ff 00", "ext 8 of 4": "c7 04 ff 00 00 00 00",
	"too many nanoseconds": "d7 ff ff ff ff ff 00 00 00 00", "cut time": "d6 ff 00",
	"too many nanoseconds of 12 bytes": "c7 0c ff 3b 9a ca 00 00 00 00 00 00 00 00 00",
	"33 deep":                          strings.Repeat("91", MaxPayloadDepth+1) + "c0",
}

func TestCheckPayloadRefuses(t *testing.T) {
	t.Parallel()
	for what, h := range unsound {
		if err := checkPayload(unhex(t, h)); err == nil {
			t.Errorf("%s is accepted", what)
		}
	}
	for what, h := range map[string]string{
		"32 deep": strings.Repeat("91", MaxPayloadDepth) + "c0", "empty array in depth": "92 90 91 90", "map in map": "81 a1 61 81 a1 62 c0",
		"32 maps deep": strings.Repeat("81 01", MaxPayloadDepth) + "c0",
	} {
		if err := checkPayload(unhex(t, h)); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestUnmarshalNames: an error says which field does not fit, and why.
func TestUnmarshalNames(t *testing.T) {
	t.Parallel()
	type lot struct {
		Item   string  `json:"item"`
		Amount uint8   `json:"amount"`
		To     AgentID `json:"to"`
	}
	type auction struct {
		Lots  []lot            `json:"lots"`
		Named map[string]lot   `json:"named"`
		Ptr   *lot             `json:"ptr"`
		Key   [2]byte          `json:"key"`
		When  time.Time        `json:"when"`
		Wait  time.Duration    `json:"wait"`
		Ratio float32          `json:"ratio"`
		Pair  [2]int           `json:"pair"`
		Free  any              `json:"free"`
		By    map[uint8]string `json:"by"`
		OK    bool             `json:"ok"`
		Small int8             `json:"narrow"`
	}
	for _, c := range []struct{ json, want string }{
		{`{"lots":[{"item":"a"},{"amount":256}]}`, `field "lots[1].amount": 256 does not fit into uint8`},
		{`{"lots":[{"amount":-1}]}`, `field "lots[0].amount": -1 does not fit into uint8`},
		{`{"pair":[1,-9223372036854775808],"narrow":-129}`, `field "narrow": -129 does not fit into int8`},
		{`{"lots":[{"amount":1.5}]}`, `field "lots[0].amount": expected a whole number, got a fraction`},
		{`{"lots":[{"item":5}]}`, `field "lots[0].item": expected a string, got a number`},
		{`{"lots":[{"to":"agent1x"}]}`, `field "lots[0].to": not an AgentID: it has 7 characters instead of 64`},
		{`{"lots":{}}`, `field "lots": expected an array, got a map`},
		{`{"named":{"x":{"tiem":"a"}}}`, `field "named.x": there is no field "tiem"; the fields are item, amount, to`},
		{`{"ptr":[]}`, `field "ptr": expected an object, got an array`},
		{`{"key":"AQID"}`, `field "key": expected 2 bytes, got 3`},
		{`{"key":"%"}`, `field "key": expected bytes as base64 (RFC 4648, padded)`},
		{`{"when":"today"}`, `field "when": expected a time as RFC 3339, such as 2026-01-31T12:00:00Z`},
		{`{"wait":"5 s"}`, `field "wait": expected a duration, such as "1m30s"`},
		{`{"ratio":16777217}`, `field "ratio": 16777217 does not fit exactly into float32; write it with a decimal point`},
		{`{"pair":[1]}`, `field "pair": expected 2 elements, got 1`},
		{`{"free":[18446744073709551615]}`, `field "free[0]": 18446744073709551615 does not fit into int64, which an untyped number becomes`},
		{`{"by":{"256":""}}`, `field "by.256": expected a key that fits into uint8`},
		{`{"by":{"x":""}}`, `field "by.x": expected a key that fits into uint8`},
		{`{"ok":1}`, `field "ok": expected true or false, got a number`},
		{`[]`, `expected an object, got an array`},
	} {
		b, err := PayloadFromJSON([]byte(c.json))
		if err != nil {
			t.Fatal(err)
		}
		got := auction{Lots: []lot{{Item: "before"}}}
		err = UnmarshalStrict(b, &got)
		if err == nil || err.Error() != "decode payload: "+c.want {
			t.Errorf("%s\ngot  %v\nwant %s", c.json, err, c.want)
		}
		if len(got.Lots) != 1 {
			t.Errorf("%s: the value was touched by a refused payload", c.json)
		}
	}
	var got auction
	for _, bad := range [][]byte{unhex(t, "82 a2 6f 6b c3 a2 6f 6b c3"), unhex(t, "81 a2 62 79 82 01 a0 01 a0")} {
		if err := Unmarshal(bad, &got); err == nil || !strings.Contains(err.Error(), "occurs twice") {
			t.Errorf("% x: %v", bad, err)
		}
	}
	if err := Unmarshal(unhex(t, "82 a3 6e 65 77 91 81 01 02 a2 6f 6b c3"), &got); err != nil || !got.OK {
		t.Errorf("an unknown field is not left aside: %v", err)
	}
	if err := Unmarshal([]byte{1}, got); err == nil {
		t.Error("no pointer, and no error")
	}
}

// TestUnmarshalMemory: a small payload can't make a large value.
func TestUnmarshalMemory(t *testing.T) {
	t.Parallel()
	type wide struct{ A, B, C, D, E, F, G, H [16]uint64 }
	nils := append([]byte{0xdd, 0, 1, 0, 0}, bytes.Repeat([]byte{0xc0}, 1<<16)...) // 64 MiB as []wide
	var many []wide
	if err := Unmarshal(nils, &many); err == nil || !strings.Contains(err.Error(), "memory") {
		t.Errorf("%d bytes became %d elements: %v", len(nils), len(many), err)
	}
	var ptrs []*wide
	if err := Unmarshal(nils, &ptrs); err != nil || len(ptrs) != 1<<16 {
		t.Errorf("nil pointers: %v", err)
	}
	maps := append([]byte{0xdd, 0, 1, 0, 0}, bytes.Repeat([]byte{0x80}, 1<<16)...)
	if err := Unmarshal(maps, &ptrs); err == nil || !strings.Contains(err.Error(), "memory") {
		t.Errorf("%d bytes became %d structs: %v", len(maps), len(ptrs), err)
	}
}

func TestUnmarshalResets(t *testing.T) {
	t.Parallel()
	old := map[string]int{"old": 1}
	v := struct {
		M map[string]int
		S []int
		P *int
	}{old, []int{1, 2, 3}, new(int)}
	b, err := Marshal(map[string]any{"M": map[string]int{"new": 2}, "S": []int{9}})
	if err != nil {
		t.Fatal(err)
	}
	if err := Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.M) != 1 || len(v.S) != 1 || v.P != nil || len(old) != 1 {
		t.Errorf("what was there before shines through: %+v, %v", v, old)
	}
	if err := Unmarshal(nil, &v); err != nil || v.M != nil || v.S != nil {
		t.Errorf("no value leaves %+v, %v", v, err)
	}
}

func TestFromJSONRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ json, want string }{
		{`{"a":1,"a":2}`, `JSON, line 1, column 11: key "a" occurs twice`},
		{"{\n \"a\": 1\n} x", `JSON, line 3, column`},
		{`1 2`, `data follows the value`},
		{`{"a":`, `it ends too early`},
		{`[1,]`, `JSON, line 1`},
		{`[1 2]`, `JSON, line 1`},
		{`{"a" 1}`, `JSON, line 1`},
		{`{1:2}`, `JSON, line 1`},
		{`nul`, `JSON, line 1`},
		{`18446744073709551616`, `beyond 64 bits`},
		{`-9223372036854775809`, `beyond 64 bits`},
		{`1e400`, `beyond a float64`},
		{`01`, `JSON, line 1`},
		{`NaN`, `JSON, line 1`},
		{strings.Repeat("[", MaxPayloadDepth+1) + strings.Repeat("]", MaxPayloadDepth+1), `nested more than 32 deep`},
	} {
		b, err := PayloadFromJSON([]byte(c.json))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: % x, %v, want %q", c.json, b, err, c.want)
		}
	}
	for _, v := range []any{math.NaN(), math.Inf(1), time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC)} {
		b, err := Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if j, err := PayloadToJSON(b); err == nil {
			t.Errorf("%v is %s in JSON", v, j)
		}
	}
	if j, err := PayloadToJSON(unhex(t, "82 01 c0 a1 31 c0")); err == nil {
		t.Errorf("keys 1 and \"1\" become %s", j)
	}
}

// TestToJSONRefuses: an error names the field; what lies side by side is not deep.
func TestToJSONRefuses(t *testing.T) {
	t.Parallel()
	for b, want := range map[string]string{
		"\x81\xa1k\x92\x00\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00": `payload: field "k[1]": NaN has no form in JSON`,
		"\x91\x82\x01\x00\xa11\x00":                             `payload: field "[0]": key "1" occurs twice`,
		"\x92\x00\xc1":                                          `payload: field "[1]": byte 2: type byte 0xc1 does not occur in payloads`,
		"\x00\x00":                                              `payload: byte 1: 1 bytes follow the value`,
		strings.Repeat("\x91", MaxPayloadDepth+1) + "\x00":      `byte 32: nested more than 32 deep`,
	} {
		if j, err := PayloadToJSON([]byte(b)); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%q: %s, %v, want %s", b, j, err, want)
		}
	}
	wide := "[" + strings.Repeat(`[0],{"k":0},`, 100) + "0]"
	b, err := PayloadFromJSON([]byte(wide))
	if err != nil {
		t.Fatal(err)
	}
	if j, err := PayloadToJSON(b); err != nil || string(j) != wide {
		t.Errorf("%s becomes %s, %v", wide, j, err)
	}
}

// TestUnmarshalCopies: a decoded value shares nothing with the payload, whose
// buffer the caller may use again, nor with values decoded at the same time.
func TestUnmarshalCopies(t *testing.T) {
	t.Parallel()
	b, err := Marshal(sample())
	if err != nil {
		t.Fatal(err)
	}
	untyped, err := Marshal(map[string]any{"bytes": []byte{0, 255}, "text": "clown"})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			own, ownUntyped := bytes.Clone(b), bytes.Clone(untyped)
			var v everything
			var free any
			err1, err2 := Unmarshal(own, &v), Unmarshal(ownUntyped, &free)
			clear(own)
			clear(ownUntyped)
			again, err3 := Marshal(v)
			if err1 != nil || err2 != nil || err3 != nil || !bytes.Equal(again, b) {
				t.Errorf("%v %v %v: the value changed with its payload", err1, err2, err3)
			}
			m, _ := free.(map[string]any)
			if got, _ := m["bytes"].([]byte); !bytes.Equal(got, []byte{0, 255}) || m["text"] != "clown" {
				t.Errorf("the untyped value changed with its payload: %v", m)
			}
		})
	}
	wg.Wait()
}
