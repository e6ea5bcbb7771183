package sdk

import (
	"encoding"
	"encoding/base64"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"
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
	if err := f.value(t, nil); err != nil {
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
	out    []byte
	copied int // b[:copied] is in out, with replacements
}

// path is the way to the value at hand, innermost first: no allocation unless
// an error needs it.
type path struct {
	up    *path
	field string
	index int
}

func (p *path) String() string {
	if p == nil {
		return ""
	}
	s := p.up.String()
	switch {
	case p.field == "":
		return s + "[" + strconv.Itoa(p.index) + "]"
	case s == "":
		return p.field
	}
	return s + "." + p.field
}

func (p *path) errorf(format string, args ...any) error {
	if p == nil {
		return fmt.Errorf(format, args...)
	}
	return fmt.Errorf("field %q: %s", p.String(), fmt.Sprintf(format, args...))
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

func (f *fitter) take(n int, p *path) error {
	if f.memory -= n; f.memory < 0 {
		return p.errorf("the value needs more than %d times the memory of its payload", payloadGrowth)
	}
	return nil
}

var (
	binaryMarshaler   = reflect.TypeFor[encoding.BinaryMarshaler]()
	binaryUnmarshaler = reflect.TypeFor[encoding.BinaryUnmarshaler]()
)

// isBinary tells whether the codec leaves t's form to t's own methods.
func isBinary(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return t != timeType && p.Implements(binaryMarshaler) && p.Implements(binaryUnmarshaler)
}

func (f *fitter) value(t reflect.Type, p *path) error {
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
		if err := f.take(int(t.Elem().Size()), p); err != nil {
			return err
		}
		return f.value(t.Elem(), p)
	case t == timeType:
		return f.time(it, p)
	case t == durationType && it.kind == kindStr:
		return f.duration(it, p)
	case idTypes[t]:
		return f.id(it, t, p)
	case isBinary(t):
		return f.bytes(it, -1, p)
	}
	switch t.Kind() {
	case reflect.Bool:
		return f.scalar(it, it.kind == kindBool, t, p)
	case reflect.String:
		return f.scalar(it, it.kind == kindStr, t, p)
	case reflect.Float32, reflect.Float64:
		return f.scalar(it, it.kind == kindFloat || it.exactFloat(t.Bits()), t, p)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return f.integer(it, t, p)
	case reflect.Struct:
		return f.fields(it, t, p)
	case reflect.Slice, reflect.Array:
		return f.elements(it, t, p)
	case reflect.Map:
		return f.entries(it, t, p)
	}
	return f.free(p)
}

func (f *fitter) scalar(it item, fits bool, t reflect.Type, p *path) error {
	if !fits && (it.kind == kindInt || it.kind == kindUint) && describeType(t) == "a number" {
		return p.errorf("%s does not fit exactly into %s; write it with a decimal point", it.number(), t)
	}
	if !fits {
		return p.errorf("expected %s, got %s", describeType(t), it.kind)
	}
	f.at += it.size()
	return f.take(it.n, p)
}

func (f *fitter) integer(it item, t reflect.Type, p *path) error {
	if it.kind != kindInt && it.kind != kindUint {
		return p.errorf("expected %s, got %s", describeType(t), it.kind)
	}
	if !it.fits(t) {
		return p.errorf("%s does not fit into %s", it.number(), t)
	}
	f.at += it.size()
	return nil
}

// fits tells whether an integer fits into t, an integer type.
func (it item) fits(t reflect.Type) bool {
	signed := t.Kind() >= reflect.Int && t.Kind() <= reflect.Int64
	switch negative := it.kind == kindInt && int64(it.u) < 0; {
	case negative:
		return signed && int64(it.u) >= -1<<(t.Bits()-1)
	case signed:
		return it.u <= 1<<(t.Bits()-1)-1
	}
	return it.u <= math.MaxUint64>>(64-t.Bits())
}

// exactFloat tells whether an integer can stand for a float of so many bits.
func (it item) exactFloat(bits int) bool {
	limit := uint64(1) << 53
	if bits == 32 {
		limit = 1 << 24
	}
	switch it.kind {
	case kindUint:
		return it.u <= limit
	case kindInt:
		i := int64(it.u)
		return i >= -int64(limit) && i <= int64(limit)
	}
	return false
}

func (it item) number() string {
	if it.kind == kindUint {
		return strconv.FormatUint(it.u, 10)
	}
	return strconv.FormatInt(int64(it.u), 10)
}

func (f *fitter) text(it item) string { return string(f.b[f.at+it.head : f.at+it.head+it.n]) }

func (f *fitter) time(it item, p *path) error {
	switch it.kind {
	case kindTime:
		f.at += it.size()
		return nil
	case kindStr:
		t, err := time.Parse(time.RFC3339Nano, f.text(it))
		if err != nil {
			return p.errorf("expected a time as RFC 3339, such as 2026-01-31T12:00:00Z")
		}
		f.replace(it.size(), encodeScalar(t))
		return nil
	}
	return p.errorf("expected a time, got %s", it.kind)
}

func (f *fitter) duration(it item, p *path) error {
	d, err := time.ParseDuration(f.text(it))
	if err != nil {
		return p.errorf("expected a duration, such as \"1m30s\"")
	}
	f.replace(it.size(), encodeScalar(int64(d)))
	return nil
}

func (f *fitter) id(it item, t reflect.Type, p *path) error {
	if it.kind != kindStr {
		return p.errorf("expected %s as text, got %s", t.Name(), it.kind)
	}
	if err := reflect.New(t).Interface().(textUnmarshaler).UnmarshalText([]byte(f.text(it))); err != nil {
		return p.errorf("%v", err)
	}
	f.at += it.size()
	return nil
}

// bytes passes a bin of n bytes, of any length if n < 0.
func (f *fitter) bytes(it item, n int, p *path) error {
	var with []byte
	switch got := it.n; it.kind {
	case kindStr:
		b, err := base64.StdEncoding.Strict().DecodeString(f.text(it))
		if err != nil {
			return p.errorf("expected bytes as base64 (RFC 4648, padded)")
		}
		with, got = encodeScalar(b), len(b)
		fallthrough
	case kindBin:
		if n >= 0 && got != n {
			return p.errorf("expected %d bytes, got %d", n, got)
		}
	default:
		return p.errorf("expected bytes, got %s", it.kind)
	}
	if err := f.take(it.n, p); err != nil {
		return err
	}
	if with != nil {
		f.replace(it.size(), with)
	} else {
		f.at += it.size()
	}
	return nil
}

// encodeScalar encodes a time, an int64 or bytes, which can't fail.
func encodeScalar(v any) []byte {
	var b []byte
	if err := encodeMsgpack(&b, v); err != nil {
		panic(err)
	}
	return b
}

func (f *fitter) elements(it item, t reflect.Type, p *path) error {
	n := -1
	if t.Kind() == reflect.Array {
		n = t.Len()
	}
	if t.Elem() == byteType {
		return f.bytes(it, n, p)
	}
	if it.kind != kindArray {
		return p.errorf("expected an array, got %s", it.kind)
	}
	if n >= 0 && it.n != n {
		return p.errorf("expected %d elements, got %d", n, it.n)
	}
	if err := f.take(it.n*int(t.Elem().Size()), p); err != nil {
		return err
	}
	f.at += it.size()
	for i := range it.n {
		if err := f.value(t.Elem(), &path{up: p, index: i}); err != nil {
			return err
		}
	}
	return nil
}

// mapEntry is what Go's maps need beside key and value, generously.
const mapEntry = 16

func (f *fitter) entries(it item, t reflect.Type, p *path) error {
	if it.kind != kindMap {
		return p.errorf("expected a map, got %s", it.kind)
	}
	if err := f.take(it.n*(int(t.Key().Size()+t.Elem().Size())+mapEntry), p); err != nil {
		return err
	}
	f.at += it.size()
	seen := make(map[string]bool, it.n)
	for i := range it.n {
		key, err := f.next()
		if err != nil {
			return err
		}
		name := key.number()
		if key.kind == kindStr {
			name = f.text(key)
		}
		if seen[name] {
			return p.errorf("key %q occurs twice", name)
		}
		seen[name] = true
		at := &path{up: p, field: name, index: i}
		if err := f.key(key, t.Key(), at); err != nil {
			return err
		}
		if err := f.value(t.Elem(), at); err != nil {
			return err
		}
	}
	return nil
}

// key passes a map's key. JSON has no integer keys, so a str can stand for one.
func (f *fitter) key(it item, t reflect.Type, p *path) error {
	if it.kind != kindStr || t.Kind() == reflect.String || idTypes[t] {
		return f.value(t, p)
	}
	s := f.text(it)
	if i, err := strconv.ParseInt(s, 10, 64); err == nil {
		s, it = "", item{kind: kindInt, u: uint64(i)}
	} else if u, err := strconv.ParseUint(s, 10, 64); err == nil {
		s, it = "", item{kind: kindUint, u: u}
	}
	if s != "" || !it.fits(t) {
		return p.errorf("expected a key that fits into %s", t)
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

func (f *fitter) fields(it item, t reflect.Type, p *path) error {
	if it.kind != kindMap {
		return p.errorf("expected %s, got %s", describeType(t), it.kind)
	}
	f.at += it.size()
	plan := structPlan(t)
	seen := make(map[string]bool, it.n)
	for range it.n {
		key, err := f.next()
		if err != nil {
			return err
		}
		if key.kind != kindStr {
			return p.errorf("a number as a field's name")
		}
		name := f.text(key)
		if seen[name] {
			return p.errorf("key %q occurs twice", name)
		}
		seen[name] = true
		f.at += key.size()
		ft, ok := plan.types[name]
		switch {
		case ok:
			err = f.value(ft, &path{up: p, field: name})
		case f.strict:
			err = p.errorf("there is no field %q; the fields are %s", name, strings.Join(plan.names, ", "))
		default:
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
func (f *fitter) free(p *path) error {
	it, err := f.next()
	if err != nil {
		return err
	}
	if err := f.take(int(anyType.Size())+8, p); err != nil {
		return err
	}
	switch it.kind {
	case kindArray:
		return f.elements(it, anySliceType, p)
	case kindMap:
		return f.entries(it, anyMapType, p)
	case kindUint:
		if it.u > math.MaxInt64 {
			return p.errorf("%d does not fit into int64, which an untyped number becomes", it.u)
		}
	}
	f.at += it.size()
	return f.take(it.n, p)
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

func describeType(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a string"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Struct:
		return "an object"
	}
	return "a whole number"
}

// plan is what the codec knows as the fields of a struct.
type plan struct {
	names []string // in Go's order
	types map[string]reflect.Type
}

var plans sync.Map // reflect.Type -> *plan

func structPlan(t reflect.Type) *plan {
	if p, ok := plans.Load(t); ok {
		return p.(*plan)
	}
	p := &plan{types: map[string]reflect.Type{}}
	p.add(t, 0, map[string]int{})
	got, _ := plans.LoadOrStore(t, p)
	return got.(*plan)
}

// add takes the fields of t; of two with one name the outer one counts.
func (p *plan) add(t reflect.Type, depth int, at map[string]int) {
	if depth > MaxPayloadDepth {
		return
	}
	for i := range t.NumField() {
		sf := t.Field(i)
		name, inline := fieldName(sf)
		if name == "-" || (!sf.IsExported() && !inline) {
			continue
		}
		if inline {
			et := sf.Type
			if et.Kind() == reflect.Pointer {
				et = et.Elem()
			}
			p.add(et, depth+1, at)
			continue
		}
		if d, ok := at[name]; ok && d <= depth {
			continue
		} else if !ok {
			p.names = append(p.names, name)
		}
		at[name], p.types[name] = depth, sf.Type
	}
}

// fieldName follows the codec: tag codec, else json, else Go's name; an
// embedded struct without a name is inlined.
func fieldName(sf reflect.StructField) (name string, inline bool) {
	tag := sf.Tag.Get("codec")
	if tag == "" {
		tag = sf.Tag.Get("json")
	}
	name, _, _ = strings.Cut(tag, ",")
	if name != "" {
		return name, false
	}
	et := sf.Type
	if et.Kind() == reflect.Pointer {
		et = et.Elem()
	}
	if sf.Anonymous && et.Kind() == reflect.Struct && et != timeType && !isBinary(et) {
		return "", true
	}
	return sf.Name, false
}
