package sdk

import (
	"encoding/hex"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"
)

// Types that embed others in every way; the fields of each are unlike.

type Outer struct {
	Shared string `json:"shared"`
	O      int
}

type Deeper struct {
	Shared string `json:"shared"`
	Deep   int    `json:"deep"`
}

type Middle struct {
	*Deeper
	M []int
}

type hiddenPart struct{ H, _ int }

type Renamed struct{ R int }

type Cyclic struct {
	*Cyclic
	C int
}

type DeepLast struct {
	Middle        // its shared comes first, and is deeper
	Shared string `json:"shared"`
}

// Level4's fields lie four deep.
type Level1 struct{ Level2 }

type Level2 struct{ Level3 }

type Level3 struct{ Level4 }

type Level4 struct{ X, Y, Z int }

// The codec looks at a type twice: of three Level4, the last one, though the
// outermost, does not travel.
type three struct {
	Level3
	Level2
	Level4
}

type Number int

type embeds struct {
	Outer
	*Middle
	hiddenPart
	Renamed `json:"renamed"`
	*Cyclic
	Number
	Dash    int `codec:"-,"`
	Left    int `json:"-"`
	Options int `json:",omitempty"`
	_       int
}

// What is embedded here by pointer can't be set, so it does not travel.
type hiddenPointer struct {
	*hiddenPart
	Seen int
}

// time.Time and netip.Addr have the same methods, so that neither's are this
// type's own; and neither has a field that travels.
type twoForms struct {
	time.Time
	netip.Addr
	Own int
}

// TestFieldsAreThoseOfMarshal: the plan of a struct has exactly the fields that
// go-msgpack writes, and each is read back to where it came from.
func TestFieldsAreThoseOfMarshal(t *testing.T) {
	t.Parallel()
	full := embeds{Outer: Outer{"s", 1}, Middle: &Middle{&Deeper{"", 2}, []int{3}}, hiddenPart: hiddenPart{H: 4},
		Renamed: Renamed{5}, Cyclic: &Cyclic{C: 6}, Number: 7, Dash: 8, Options: 9}
	for _, v := range []any{full, DeepLast{Middle{&Deeper{Deep: 1}, []int{1}}, "s"}, hiddenPointer{Seen: 1}, twoForms{Own: 1},
		Level1{Level2{Level3{Level4{1, 2, 3}}}}, three{Level3: Level3{Level4{1, 2, 3}}}, sample()} {
		b, err := Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		p, err := planOf(reflect.TypeOf(v))
		if err != nil {
			t.Fatal(err)
		}
		if got, want := slices.Sorted(maps.Keys(p.index)), keysOf(t, b); !slices.Equal(got, want) {
			t.Errorf("%T: fields %v, Marshal writes %v", v, got, want)
		}
		got := reflect.New(reflect.TypeOf(v))
		if err := UnmarshalStrict(b, got.Interface()); err != nil || !reflect.DeepEqual(got.Elem().Interface(), v) {
			t.Errorf("%T: got %+v, %v, want %+v", v, got.Elem().Interface(), err, v)
		}
	}
}

// keysOf are the keys of the map that a payload holds.
func keysOf(t *testing.T, b []byte) (keys []string) {
	t.Helper()
	if err := readPayload(b, false, func(d *decoder) {
		it := d.next()
		d.enter(it)
		for range it.n {
			keys = append(keys, string(d.content(d.key())))
			d.skip()
		}
	}); err != nil {
		t.Fatal(err)
	}
	return keys
}

// An embedded pointer is set where a field of it comes, and only there.
func TestEmbeddedPointers(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]embeds{
		`{"deep":null,"C":null,"M":null}`: {},
		`{"deep":1}`:                      {Middle: &Middle{Deeper: &Deeper{Deep: 1}}},
		`{"M":[],"C":2}`:                  {Middle: &Middle{M: []int{}}, Cyclic: &Cyclic{C: 2}},
		`{"shared":"outer"}`:              {Outer: Outer{Shared: "outer"}},
	} {
		b, err := PayloadFromJSON([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		var got embeds
		if err := UnmarshalStrict(b, &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s is %+v, %v", text, got, err)
		}
	}
	var h hiddenPointer
	if err := UnmarshalStrict(unhex(t, "81 a1 48 01"), &h); err == nil || h.hiddenPart != nil {
		t.Errorf("a field that can't be set is set: %+v", h)
	}
}

func TestTypesThatCannotTravel(t *testing.T) {
	t.Parallel()
	type part struct{ C []chan int }
	type twice struct {
		A int `codec:"x"`
		B int `codec:"x"`
	}
	type Left struct{ Level4 }
	type Right struct{ Level4 }
	type diamond struct {
		Left
		Right
	}
	type labelled struct {
		AgentID
		Lost string
	}
	type speaker interface{ Speak() }
	for _, c := range []struct {
		t    reflect.Type
		want string
	}{
		{reflect.TypeFor[map[string]struct{ A part }](), `field "A.C[0]": values of type chan int can't travel`},
		{reflect.TypeFor[[]*func()](), `field "[0]": values of type func() can't travel`},
		{reflect.TypeFor[struct{ F speaker }](), `field "F": type sdk.speaker: of interfaces only any can be decoded`},
		{reflect.TypeFor[struct{ A map[float64]int }](), `field "A": type map[float64]int: keys are strings, integers or identifiers`},
		{reflect.TypeFor[[2]map[string]complex64](), `field "[0]": values of type complex64 can't travel`},
		{reflect.TypeFor[twice](), `type sdk.twice has two fields that travel as "x"`},
		{reflect.TypeFor[diamond](), `type sdk.diamond has two fields that travel as "X"`},
		{reflect.TypeFor[struct{ hidden int }](), `type struct { hidden int } has no exported field: nothing of it would travel`},
		{reflect.TypeFor[labelled](), `type sdk.labelled has, or gets from an embedded field, CodecEncodeSelf, which payloads have no use for`},
	} {
		for range 2 { // the answer is kept
			if err := checkType(c.t); err == nil || err.Error() != c.want {
				t.Errorf("%s: %v, want %s", c.t, err, c.want)
			}
		}
		if err := Unmarshal([]byte{0xc0}, reflect.New(c.t).Interface()); err == nil {
			t.Errorf("%s is decoded", c.t)
		}
		if b, err := Marshal(reflect.New(c.t).Elem().Interface()); err == nil && len(b) > 0 {
			t.Errorf("%s is encoded", c.t)
		}
	}
}

type tree struct {
	Leaf  string           `json:"leaf,omitempty"`
	Left  *tree            `json:"left,omitempty"`
	Rest  []tree           `json:"rest,omitempty"`
	Named map[string]*tree `json:"named,omitempty"`
}

// TestPlansAreShared: many calls at once that meet a recursive type for the
// first time see a complete plan or none.
func TestPlansAreShared(t *testing.T) {
	t.Parallel()
	want := tree{Left: &tree{Leaf: "a"}, Rest: []tree{{Leaf: "b"}, {Named: map[string]*tree{"x": {Leaf: "c"}, "y": nil}}}}
	b := unhex(t, hex.EncodeToString([]byte("\x82\xa4left\x81\xa4leaf\xa1a\xa4rest\x92\x81\xa4leaf\xa1b\x81\xa5named\x82\xa1x\x81\xa4leaf\xa1c\xa1y\xc0")))
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			var got tree
			if err := Unmarshal(b, &got); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
	wg.Wait()
}
