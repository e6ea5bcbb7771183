package sdk

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

type inner struct {
	Name  string `json:"name"`
	Count int32  `json:"count,omitempty"`
}

type embedded struct {
	Deep string `json:"deep"`
}

type everything struct {
	embedded
	Bool    bool             `json:"bool"`
	Int     int64            `json:"int"`
	Uint    uint64           `json:"uint"`
	Small   int8             `json:"small"`
	Float   float64          `json:"float"`
	Narrow  float32          `json:"narrow"`
	Text    string           `json:"text"`
	Bytes   []byte           `json:"bytes"`
	Fixed   [4]byte          `json:"fixed"`
	At      time.Time        `json:"at"`
	Wait    time.Duration    `json:"wait"`
	Agent   AgentID          `json:"agent"`
	Hash    Hash             `json:"hash"`
	DNA     DNAHash          `json:"dna"`
	Message MessageID        `json:"message"`
	List    []inner          `json:"list"`
	Pair    [2]string        `json:"pair"`
	Map     map[string]inner `json:"map"`
	Numbers map[int16]bool   `json:"numbers"`
	ByAgent map[AgentID]int  `json:"by_agent"`
	Pointer *inner           `json:"pointer"`
	Nothing *inner           `json:"nothing"`
	Free    any              `json:"free"`
	Addr    netip.Addr       `json:"addr"`
	Codec   string           `codec:"codec_name" json:"other"`
	Hidden  string           `json:"-"`
	Bare    string
}

func sample() everything {
	return everything{
		embedded: embedded{"down"}, Bool: true, Int: math.MinInt64, Uint: math.MaxUint64, Small: -128,
		Float: 0.1, Narrow: 0.5, Text: "velvet „clown“ 🤡", Bytes: []byte{0, 255}, Fixed: [4]byte{1, 2, 3, 4},
		At: time.Date(2026, 11, 20, 14, 0, 0, 123456789, time.UTC), Wait: 90 * time.Second,
		Agent: AgentID{1, 2}, Hash: Hash{3}, DNA: DNAHash{4}, Message: MessageID{5},
		List: []inner{{"a", 1}, {"b", 0}}, Pair: [2]string{"x", "y"}, Map: map[string]inner{"k": {"v", 2}},
		Numbers: map[int16]bool{-3: true, 300: false}, ByAgent: map[AgentID]int{{9}: 1, {8}: 2},
		Pointer: &inner{"p", 3}, Free: map[string]any{"n": int64(200), "l": []any{"s", nil}},
		Addr: netip.MustParseAddr("2001:db8::1"), Codec: "c", Bare: "b",
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	want := sample()
	b, err := Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Marshal(&want)
	if err != nil || !bytes.Equal(b, again) {
		t.Fatalf("a pointer encodes differently, or not: %v", err)
	}
	var got everything
	if err := UnmarshalStrict(b, &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got  %+v\nwant %+v", got, want)
	}
	// The same by way of JSON, which knows neither bytes nor times.
	j, err := PayloadToJSON(b)
	if err != nil {
		t.Fatal(err)
	}
	back, err := PayloadFromJSON(j)
	if err != nil {
		t.Fatalf("%v in %s", err, j)
	}
	got = everything{}
	if err := UnmarshalStrict(back, &got); err != nil {
		t.Fatalf("%v in %s", err, j)
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got  %+v\nwant %+v\nJSON %s", got, want, j)
	}
}

// A peer chooses its keys; an error shows no more than the beginning of one.
func TestErrorsShowLittle(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("k", 1<<20) + "\n"
	for what, c := range map[string]struct{ in, out any }{
		"unknown field": {map[string]int{long: 1}, new(inner)},
		"map's path":    {map[string]string{long: "x"}, new(map[string]int)},
		"key":           {map[string]int{long: 1}, new(map[int]int)},
	} {
		b, err := Marshal(c.in)
		if err != nil {
			t.Fatal(err)
		}
		if err := UnmarshalStrict(b, c.out); err == nil || len(err.Error()) > 400 || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: an error of %d bytes", what, len(fmt.Sprint(err)))
		}
	}
	twice := append(append([]byte{0x82}, msgpackStr(long)...), 1)
	twice = append(append(twice, msgpackStr(long)...), 1)
	for what, err := range map[string]error{
		"twice":         Unmarshal(twice, new(map[string]int)),
		"twice in JSON": func() error { _, err := PayloadToJSON(twice); return err }(),
	} {
		if err == nil || len(err.Error()) > 400 {
			t.Errorf("%s: an error of %d bytes", what, len(fmt.Sprint(err)))
		}
	}
}

func msgpackStr(s string) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0xdb}, uint32(len(s))), s...)
}
