package sdk

import (
	"bytes"
	"encoding"
	"encoding/base64"
	"math"
	"reflect"
	"strconv"
	"time"
)

func (d *decoder) bool(it item, v reflect.Value) { v.SetBool(it.u == 1) }

// integer takes a str if it is a map's key.
func (d *decoder) integer(it item, v reflect.Value) {
	n := it
	if it.kind == kindStr {
		n = parseInteger(string(d.content(it)))
	}
	switch {
	case v.CanUint() && n.kind == kindUint && !v.OverflowUint(n.u):
		v.SetUint(n.u)
	case v.CanInt() && (n.kind == kindInt || n.kind == kindUint && n.u <= math.MaxInt64) && !v.OverflowInt(int64(n.u)):
		v.SetInt(int64(n.u))
	case it.kind == kindStr:
		d.fail("expected a key that fits into %s", v.Type())
	default:
		d.fail("%s does not fit into %s", it.number(), v.Type())
	}
}

// parseInteger is the item that s stands for, of kindNone if it is no integer.
func parseInteger(s string) item {
	i, ierr := strconv.ParseInt(s, 10, 64)
	u, uerr := strconv.ParseUint(s, 10, 64)
	switch {
	case ierr == nil && i < 0:
		return item{kind: kindInt, u: uint64(i)}
	case ierr == nil:
		return item{kind: kindUint, u: uint64(i)}
	case uerr == nil:
		return item{kind: kindUint, u: u}
	}
	return item{}
}

// float takes an integer, too, if a float of v's size holds it exactly.
func (d *decoder) float(it item, v reflect.Value) {
	limit := int64(1) << 53
	if v.Kind() == reflect.Float32 {
		limit = 1 << 24
	}
	f := math.Float64frombits(it.u)
	switch {
	case it.kind == kindFloat && v.OverflowFloat(f):
		d.fail("%v does not fit into %s", f, v.Type())
	case it.kind == kindUint && it.u > uint64(limit), it.kind == kindInt && int64(it.u) < -limit:
		d.fail("%s does not fit exactly into %s; write it with a decimal point", it.number(), v.Type())
	case it.kind != kindFloat:
		f = float64(int64(it.u))
	}
	v.SetFloat(f)
}

var strictBase64 = base64.StdEncoding.Strict()

// raw is what a bin holds, or a str in its place. It may be part of the payload.
func (d *decoder) raw(it item) []byte {
	d.take(it.n, 1)
	if it.kind == kindBin {
		return d.content(it)
	}
	b, err := strictBase64.AppendDecode([]byte{}, d.content(it))
	if err != nil {
		d.fail("expected bytes as base64 (RFC 4648, padded)")
	}
	return b
}

func (d *decoder) bytes(it item, v reflect.Value) {
	b := d.raw(it)
	switch {
	case v.Kind() == reflect.Slice && it.kind == kindBin:
		v.SetBytes(bytes.Clone(b))
	case v.Kind() == reflect.Slice:
		v.SetBytes(b)
	case len(b) != v.Len():
		d.fail("expected %d bytes, got %d", v.Len(), len(b))
	default:
		copy(v.Bytes(), b)
	}
}

func (d *decoder) string(it item, v reflect.Value) {
	d.take(it.n, 1)
	v.SetString(string(d.content(it)))
}

func (d *decoder) binary(it item, v reflect.Value) {
	if err := v.Addr().Interface().(encoding.BinaryUnmarshaler).UnmarshalBinary(d.raw(it)); err != nil {
		panic(err)
	}
}

func (d *decoder) id(it item, v reflect.Value) {
	if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText(d.content(it)); err != nil {
		panic(err)
	}
}

func (d *decoder) time(it item, v reflect.Value) {
	t, err := time.Time{}, error(nil)
	if it.kind == kindTime {
		t = time.Unix(timeParts(d.content(it)))
	} else if t, err = time.Parse(time.RFC3339Nano, string(d.content(it))); err != nil {
		d.fail("expected a time as RFC 3339, such as 2026-01-31T12:00:00Z")
	}
	*v.Addr().Interface().(*time.Time) = t.UTC()
}

func (d *decoder) duration(it item, v reflect.Value) {
	if it.kind != kindStr {
		d.integer(it, v)
		return
	}
	t, err := time.ParseDuration(string(d.content(it)))
	if err != nil {
		d.fail("expected a duration, such as \"1m30s\"")
	}
	v.SetInt(int64(t))
}

// What arrays and maps become in an any.
var anySlice, anyMap = reflect.TypeFor[[]any](), reflect.TypeFor[map[string]any]()

// free reads it into an any, in Go's type for it.
func (d *decoder) free(it item, v reflect.Value) {
	d.take(1, int(v.Type().Size())+8)
	var x any
	switch it.kind {
	case kindBool:
		x = it.u == 1
	case kindUint, kindInt:
		if it.kind == kindUint && it.u > math.MaxInt64 {
			d.fail("%d does not fit into int64, which an untyped number becomes", it.u)
		}
		x = int64(it.u)
	case kindFloat:
		x = math.Float64frombits(it.u)
	case kindTime:
		x = time.Unix(timeParts(d.content(it))).UTC()
	case kindStr:
		d.take(it.n, 1)
		x = string(d.content(it))
	case kindBin:
		x = bytes.Clone(d.raw(it))
	default:
		t := anySlice
		if it.kind == kindMap {
			t = anyMap
		}
		p, _ := planOf(t)
		p.read(d, it, v)
		return
	}
	v.Set(reflect.ValueOf(x))
}
