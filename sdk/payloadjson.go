package sdk

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
)

// PayloadFromJSON makes a payload of one JSON value (RFC 8259). Whole numbers
// within int64 and uint64 stay exact; larger ones, numbers that overflow a
// float64, duplicate keys and trailing data are refused with their position.
// Strings stay strings: the type that decodes the payload reads identifiers,
// bytes, times and durations out of them (see Marshal). Empty input and null
// are no value.
func PayloadFromJSON(text []byte) ([]byte, error) {
	if len(bytes.TrimLeft(text, " \t\r\n")) == 0 {
		return nil, nil
	}
	r := &jsonReader{text: text, d: json.NewDecoder(bytes.NewReader(text))}
	r.d.UseNumber()
	v, err := r.value(0)
	if err != nil {
		return nil, err
	}
	if _, err := r.d.Token(); !errors.Is(err, io.EOF) {
		return nil, r.errorf("data follows the value")
	}
	if v == nil {
		return nil, nil
	}
	b, err := encodePayload(v)
	if err != nil {
		return nil, fmt.Errorf("JSON: %w", err)
	}
	return b, nil
}

type jsonReader struct {
	text []byte
	d    *json.Decoder
}

// errorf tells where the last token ended, as line and column from 1.
func (r *jsonReader) errorf(format string, args ...any) error {
	before := r.text[:min(int(r.d.InputOffset()), len(r.text))]
	line := 1 + bytes.Count(before, []byte("\n"))
	column := len(before) - bytes.LastIndexByte(before, '\n')
	return fmt.Errorf("JSON, line %d, column %d: %s", line, column, fmt.Sprintf(format, args...))
}

func (r *jsonReader) value(depth int) (any, error) {
	t, err := r.d.Token()
	if err != nil {
		return nil, r.fault(err)
	}
	switch t := t.(type) {
	case json.Delim:
		if depth == MaxPayloadDepth {
			return nil, r.errorf("nested more than %d deep", MaxPayloadDepth)
		}
		if t == '[' {
			return r.array(depth + 1)
		}
		return r.object(depth + 1)
	case json.Number:
		return r.number(string(t))
	}
	return t, nil // string, bool, nil
}

func (r *jsonReader) fault(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return r.errorf("it ends too early")
	}
	return r.errorf("%s", strings.TrimPrefix(err.Error(), "json: "))
}

func (r *jsonReader) array(depth int) (any, error) {
	a := []any{}
	for r.d.More() {
		v, err := r.value(depth)
		if err != nil {
			return nil, err
		}
		a = append(a, v)
	}
	_, err := r.d.Token() // ']'
	if err != nil {
		return nil, r.fault(err)
	}
	return a, nil
}

func (r *jsonReader) object(depth int) (any, error) {
	o := map[string]any{}
	for r.d.More() {
		k, err := r.d.Token()
		if err != nil {
			return nil, r.fault(err)
		}
		key, ok := k.(string)
		if !ok {
			return nil, r.errorf("an object's key must be a string")
		}
		if _, twice := o[key]; twice {
			return nil, r.errorf("key %q occurs twice", key)
		}
		if o[key], err = r.value(depth); err != nil {
			return nil, err
		}
	}
	_, err := r.d.Token() // '}'
	if err != nil {
		return nil, r.fault(err)
	}
	return o, nil
}

func (r *jsonReader) number(s string) (any, error) {
	if !strings.ContainsAny(s, ".eE") {
		if i, err := strconv.ParseInt(s, 10, 64); err == nil {
			return i, nil
		}
		if u, err := strconv.ParseUint(s, 10, 64); err == nil {
			return u, nil
		}
		return nil, r.errorf("%.40s is beyond 64 bits; write it as a string", s)
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return nil, r.errorf("%.40s is beyond a float64", s)
	}
	return f, nil
}

// PayloadToJSON writes a payload as compact JSON: bytes as base64, times as RFC
// 3339, map keys as strings. What JSON has no form for (NaN, infinities, times
// outside the years 0 to 9999) is refused. No value gives null.
func PayloadToJSON(payload []byte) ([]byte, error) {
	if len(payload) == 0 {
		return []byte("null"), nil
	}
	var w jsonWriter
	if err := readPayload(payload, false, w.value); err != nil {
		return nil, fmt.Errorf("payload: %w", err)
	}
	return w.out, nil
}

type jsonWriter struct{ out []byte }

func (w *jsonWriter) value(d *decoder) {
	switch it := d.next(); it.kind {
	case kindNil:
		w.out = append(w.out, "null"...)
	case kindBool:
		w.out = strconv.AppendBool(w.out, it.u == 1)
	case kindUint, kindInt:
		w.out = append(w.out, it.number()...)
	case kindFloat:
		w.float(d, math.Float64frombits(it.u))
	case kindStr:
		w.string(string(d.content(it)))
	case kindBin:
		w.string(base64.StdEncoding.EncodeToString(d.content(it)))
	case kindTime:
		t := time.Unix(timeParts(d.content(it))).UTC()
		if y := t.Year(); y < 0 || y > 9999 {
			d.fail("a time in the year %d has no form in JSON", y)
		}
		w.string(t.Format(time.RFC3339Nano))
	case kindArray:
		w.array(d, it)
	case kindMap:
		w.object(d, it)
	}
}

func (w *jsonWriter) float(d *decoder, f float64) {
	b, err := json.Marshal(f)
	if err != nil {
		d.fail("%v has no form in JSON", f)
	}
	// A float stays one when it is read back: 5 would become an integer.
	if !bytes.ContainsAny(b, ".e") {
		b = append(b, ".0"...)
	}
	w.out = append(w.out, b...)
}

func (w *jsonWriter) string(s string) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		panic(err)
	}
	w.out = append(w.out, bytes.TrimRight(b.Bytes(), "\n")...)
}

func (w *jsonWriter) array(d *decoder, it item) {
	d.enter(it)
	w.out = append(w.out, '[')
	for i := range it.n {
		if i > 0 {
			w.out = append(w.out, ',')
		}
		d.way[d.depth-1] = ^i
		w.value(d)
	}
	w.out = append(w.out, ']')
	d.depth--
}

func (w *jsonWriter) object(d *decoder, it item) {
	d.enter(it)
	w.out = append(w.out, '{')
	seen := make(map[string]bool, it.n)
	for i := range it.n {
		if i > 0 {
			w.out = append(w.out, ',')
		}
		key := d.key()
		name := key.number()
		if key.kind == kindStr {
			name = string(d.content(key))
		}
		if seen[name] {
			d.failKey("key %q occurs twice")
		}
		seen[name] = true
		w.string(name)
		w.out = append(w.out, ':')
		w.value(d)
	}
	w.out = append(w.out, '}')
	d.depth--
}
