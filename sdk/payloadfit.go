package sdk

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
)

// fitPayload holds a checked payload against the type that it is to be decoded
// into. It names the field that does not fit, bounds the memory that decoding
// will take, and returns the bytes with each str that stands for bytes, a time
// or a duration replaced by that value. In msgpack a container tells how many
// elements it has and not how many bytes, so that a replacement stays local.
func fitPayload(b []byte, t reflect.Type, strict bool) ([]byte, error) {
	if err := checkType(t); err != nil {
		return nil, err
	}
	f := &fitter{b: b, strict: strict, memory: payloadFloor + payloadGrowth*len(b)}
	if err := f.value(t); err != nil {
		return nil, err
	}
	if f.out == nil {
		return b, nil
	}
	return append(f.out, b[f.copied:]...), nil
}

type fitter struct {
	b      []byte
	at     int
	strict bool
	memory int // bytes that may still be allocated
	way    way
	out    []byte
	copied int // b[:copied] is in out, with replacements
}

// step is one part of the way to the value at hand: a field, or an index.
type step struct {
	field string
	index int
}

// maxShown bounds how much of a key an error shows: a peer chose it.
const maxShown = 80

// way is the path to a value within a payload, outermost first. It is kept as a
// stack, so that the walk allocates nothing unless an error needs it.
type way []step

func (w way) String() string {
	var s strings.Builder
	for _, p := range w {
		switch {
		case p.field == "":
			s.WriteString("[" + strconv.Itoa(p.index) + "]")
		case s.Len() == 0:
			s.WriteString(cleanText(p.field, maxShown))
		default:
			s.WriteString("." + cleanText(p.field, maxShown))
		}
	}
	return s.String()
}

func (w way) errorf(format string, args ...any) error {
	if len(w) == 0 {
		return fmt.Errorf(format, args...)
	}
	return fmt.Errorf("field %q: %s", w.String(), fmt.Sprintf(format, args...))
}

// next reads the head at hand. The payload has been checked, so it can't fail
// but for a fault of the checker.
func (f *fitter) next() (item, error) { return readItem(f.b[f.at:]) }

// replace puts with in the place of the n bytes at hand, and passes them.
func (f *fitter) replace(n int, with []byte) {
	f.out = append(append(f.out, f.b[f.copied:f.at]...), with...)
	f.at += n
	f.copied = f.at
}

func (f *fitter) take(n int) error {
	if f.memory -= n; f.memory < 0 {
		return f.way.errorf("the value needs more than %d times the memory of its payload", payloadGrowth)
	}
	return nil
}

func (f *fitter) value(t reflect.Type) error {
	it, err := f.next()
	if err != nil {
		return err
	}
	if it.kind == kindNil {
		f.at += it.size()
		return nil
	}
	switch {
	case t.Kind() == reflect.Pointer:
		if err := f.take(int(t.Elem().Size())); err != nil {
			return err
		}
		return f.value(t.Elem())
	case t == timeType:
		return f.time(it)
	case t == durationType && it.kind == kindStr:
		return f.duration(it)
	case idTypes[t]:
		return f.id(it, t)
	case isBinary(t):
		return f.bytes(it, -1)
	}
	switch t.Kind() {
	case reflect.Bool:
		return f.scalar(it, it.kind == kindBool, t)
	case reflect.String:
		return f.scalar(it, it.kind == kindStr, t)
	case reflect.Float32, reflect.Float64:
		return f.scalar(it, it.kind == kindFloat || it.exactFloat(t.Bits()), t)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return f.integer(it, t)
	case reflect.Struct:
		return f.fields(it, t)
	case reflect.Slice, reflect.Array:
		return f.elements(it, t)
	case reflect.Map:
		return f.entries(it, t)
	}
	return f.free()
}

// content is what a str, bin or time at hand holds.
func (f *fitter) content(it item) []byte { return f.b[f.at+it.head : f.at+it.head+it.n] }

func (f *fitter) text(it item) string { return string(f.content(it)) }

func (f *fitter) elements(it item, t reflect.Type) error {
	n := -1
	if t.Kind() == reflect.Array {
		n = t.Len()
	}
	if t.Elem() == byteType {
		return f.bytes(it, n)
	}
	if it.kind != kindArray {
		return f.way.errorf("expected an array, got %s", it.kind)
	}
	if n >= 0 && it.n != n {
		return f.way.errorf("expected %d elements, got %d", n, it.n)
	}
	if err := f.take(it.n * int(t.Elem().Size())); err != nil {
		return err
	}
	f.at += it.size()
	f.way = append(f.way, step{})
	for i := range it.n {
		f.way[len(f.way)-1].index = i
		if err := f.value(t.Elem()); err != nil {
			return err
		}
	}
	f.way = f.way[:len(f.way)-1]
	return nil
}

// mapEntry is what Go's maps need beside key and value, generously.
const mapEntry = 16

func (f *fitter) entries(it item, t reflect.Type) error {
	if it.kind != kindMap {
		return f.way.errorf("expected a map, got %s", it.kind)
	}
	if err := f.take(it.n * (int(t.Key().Size()+t.Elem().Size()) + mapEntry)); err != nil {
		return err
	}
	f.at += it.size()
	seen := make(map[string]bool, it.n)
	f.way = append(f.way, step{})
	for range it.n {
		key, err := f.next()
		if err != nil {
			return err
		}
		name := key.number()
		if key.kind == kindStr {
			name = f.text(key)
		}
		if seen[name] {
			return f.way.errorf("key %q occurs twice", cleanText(name, maxShown))
		}
		seen[name] = true
		f.way[len(f.way)-1].field = name
		if err := f.key(key, t.Key()); err != nil {
			return err
		}
		if err := f.value(t.Elem()); err != nil {
			return err
		}
	}
	f.way = f.way[:len(f.way)-1]
	return nil
}

// key passes a map's key. JSON has no integer keys, so a str can stand for one.
func (f *fitter) key(it item, t reflect.Type) error {
	if it.kind != kindStr || t.Kind() == reflect.String || idTypes[t] {
		return f.value(t)
	}
	s := f.text(it)
	if i, err := strconv.ParseInt(s, 10, 64); err == nil {
		s, it = "", item{kind: kindInt, u: uint64(i)}
	} else if u, err := strconv.ParseUint(s, 10, 64); err == nil {
		s, it = "", item{kind: kindUint, u: u}
	}
	if s != "" || !it.fits(t) {
		return f.way.errorf("expected a key that fits into %s", t)
	}
	with := encodeScalar(int64(it.u))
	if it.kind == kindUint {
		with = encodeScalar(it.u)
	}
	head, err := f.next()
	if err == nil {
		f.replace(head.size(), with)
	}
	return err
}

func (f *fitter) fields(it item, t reflect.Type) error {
	if it.kind != kindMap {
		return f.way.errorf("expected %s, got %s", describeType(t), it.kind)
	}
	f.at += it.size()
	plan := structPlan(t)
	var few [32]bool // most structs have no more fields: no allocation
	seen := few[:]
	if len(plan.names) > len(few) {
		seen = make([]bool, len(plan.names))
	}
	for range it.n {
		key, err := f.next()
		if err != nil {
			return err
		}
		if key.kind != kindStr {
			return f.way.errorf("a number as a field's name")
		}
		i, ok := plan.index[string(f.content(key))]
		switch {
		case ok && seen[i]:
			return f.way.errorf("key %q occurs twice", plan.names[i])
		case ok:
			seen[i] = true
			f.at += key.size()
			f.way = append(f.way, step{field: plan.names[i]})
			err = f.value(plan.types[i])
			f.way = f.way[:len(f.way)-1]
		case f.strict:
			return f.way.errorf("there is no field %q; the fields are %s", cleanText(f.text(key), maxShown), strings.Join(plan.names, ", "))
		default:
			f.at += key.size()
			err = f.skip()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

var byteType = reflect.TypeFor[byte]()
var anyType = reflect.TypeFor[any]()
var anyMapType, anySliceType = reflect.TypeFor[map[string]any](), reflect.TypeFor[[]any]()

// free passes a value that is decoded into an interface.
func (f *fitter) free() error {
	it, err := f.next()
	if err != nil {
		return err
	}
	if err := f.take(int(anyType.Size()) + 8); err != nil {
		return err
	}
	switch it.kind {
	case kindArray:
		return f.elements(it, anySliceType)
	case kindMap:
		return f.entries(it, anyMapType)
	case kindUint:
		if it.u > math.MaxInt64 {
			return f.way.errorf("%d does not fit into int64, which an untyped number becomes", it.u)
		}
	}
	f.at += it.size()
	return f.take(it.n)
}

// skip passes a value of any shape. Its depth is bounded by the checker.
func (f *fitter) skip() error {
	for left := 1; left > 0; left-- {
		it, err := f.next()
		if err != nil {
			return err
		}
		f.at += it.size()
		left += it.children()
	}
	return nil
}
