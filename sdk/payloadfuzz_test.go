package sdk

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"
)

// FuzzUnmarshal: no payload makes the decoder panic, what the checker passes
// decodes, what does not leaves no trace, and what was decoded encodes to
// something that decodes to the same.
func FuzzUnmarshal(f *testing.F) {
	for _, v := range []any{sample(), tree{Left: &tree{Leaf: "a"}, Named: map[string]*tree{"b": {Rest: []tree{{}}}}},
		embeds{Middle: &Middle{Deeper: &Deeper{}}}, map[int8][2]float32{1: {2}}} {
		b, err := Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte{0xdd, 0, 0, 0, 2, 0xc0, 0xc0})
	f.Add([]byte{0x81, 0xa4, 'f', 'r', 'e', 'e', 0xd6, 0xff, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		own := bytes.Clone(b)
		var free any
		if err, sound := Unmarshal(b, &free), checkPayload(b); len(b) > 0 && (err == nil) != (sound == nil) && !(sound == nil && expectedFree(err)) {
			t.Fatalf("% x: the checker says %v, the decoder %v", b, sound, err)
		}
		for _, v := range []any{new(everything), new(tree), new(embeds), new(map[int8][2]float32), new(map[MessageID]time.Duration)} {
			strict, rv := UnmarshalStrict(b, v), reflect.ValueOf(v).Elem()
			if strict != nil && !rv.IsZero() {
				t.Fatalf("% x is refused, and %+v is left: %v", b, rv, strict)
			}
			if err := Unmarshal(b, v); err != nil && strict == nil {
				t.Fatalf("% x fits, and then not: %v", b, err)
			} else if err == nil {
				encodesAgain(t, v)
			}
		}
		if !bytes.Equal(b, own) {
			t.Fatalf("% x becomes % x", own, b)
		}
	})
}

func encodesAgain(t *testing.T, v any) {
	t.Helper()
	once, err := Marshal(v)
	if err != nil {
		t.Fatalf("%+v is decoded and not encoded: %v", v, err)
	}
	again := reflect.New(reflect.TypeOf(v).Elem()).Interface()
	if err := Unmarshal(once, again); err != nil {
		t.Fatalf("% x: %v", once, err)
	}
	if twice, err := Marshal(again); err != nil || !bytes.Equal(once, twice) {
		t.Fatalf("% x becomes % x, %v", once, twice, err)
	}
}

// expectedFree are the reasons for which a sound payload does not fit into any.
func expectedFree(err error) bool {
	for _, s := range []string{"does not fit into int64", "occurs twice", "more than 32 times the memory", "expected a string"} {
		if strings.Contains(err.Error(), s) {
			return true
		}
	}
	return false
}

// FuzzJSON: what PayloadFromJSON accepts is a sound payload, whose JSON is read
// as the same payload.
func FuzzJSON(f *testing.F) {
	for _, v := range readVectors(f, "payloads.txt") {
		f.Add([]byte(v.left))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		b, err := PayloadFromJSON(text)
		if err != nil {
			return
		}
		j, err := PayloadToJSON(b)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		again, err := PayloadFromJSON(j)
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%s becomes %s: % x, %v, want % x", text, j, again, err, b)
		}
	})
}
