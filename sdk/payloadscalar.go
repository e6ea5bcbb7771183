package sdk

import (
	"encoding/base64"
	"math"
	"reflect"
	"strconv"
	"time"
)

func (f *fitter) scalar(it item, fits bool, t reflect.Type) error {
	if !fits && (it.kind == kindInt || it.kind == kindUint) && describeType(t) == "a number" {
		return f.way.errorf("%s does not fit exactly into %s; write it with a decimal point", it.number(), t)
	}
	if !fits {
		return f.way.errorf("expected %s, got %s", describeType(t), it.kind)
	}
	f.at += it.size()
	return f.take(it.n)
}

func (f *fitter) integer(it item, t reflect.Type) error {
	if it.kind != kindInt && it.kind != kindUint {
		return f.way.errorf("expected %s, got %s", describeType(t), it.kind)
	}
	if !it.fits(t) {
		return f.way.errorf("%s does not fit into %s", it.number(), t)
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

func (f *fitter) time(it item) error {
	switch it.kind {
	case kindTime:
		f.at += it.size()
		return nil
	case kindStr:
		t, err := time.Parse(time.RFC3339Nano, f.text(it))
		if err != nil {
			return f.way.errorf("expected a time as RFC 3339, such as 2026-01-31T12:00:00Z")
		}
		f.replace(it.size(), encodeScalar(t))
		return nil
	}
	return f.way.errorf("expected a time, got %s", it.kind)
}

func (f *fitter) duration(it item) error {
	d, err := time.ParseDuration(f.text(it))
	if err != nil {
		return f.way.errorf("expected a duration, such as \"1m30s\"")
	}
	f.replace(it.size(), encodeScalar(int64(d)))
	return nil
}

func (f *fitter) id(it item, t reflect.Type) error {
	if it.kind != kindStr {
		return f.way.errorf("expected %s as text, got %s", t.Name(), it.kind)
	}
	if err := reflect.New(t).Interface().(textUnmarshaler).UnmarshalText(f.content(it)); err != nil {
		return f.way.errorf("%v", err)
	}
	f.at += it.size()
	return nil
}

// bytes passes a bin of n bytes, of any length if n < 0.
func (f *fitter) bytes(it item, n int) error {
	var with []byte
	switch got := it.n; it.kind {
	case kindStr:
		b, err := base64.StdEncoding.Strict().DecodeString(f.text(it))
		if err != nil {
			return f.way.errorf("expected bytes as base64 (RFC 4648, padded)")
		}
		with, got = encodeScalar(b), len(b)
		fallthrough
	case kindBin:
		if n >= 0 && got != n {
			return f.way.errorf("expected %d bytes, got %d", n, got)
		}
	default:
		return f.way.errorf("expected bytes, got %s", it.kind)
	}
	if err := f.take(it.n); err != nil {
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
