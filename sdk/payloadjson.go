package sdk

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
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
	var b []byte
	if err := encodeMsgpack(&b, v); err != nil {
		return nil, fmt.Errorf("JSON: %w", err)
	}
	if err := checkPayload(b); err != nil {
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
	if err := checkPayload(payload); err != nil {
		return nil, fmt.Errorf("payload: %w", err)
	}
	w := &jsonWriter{b: payload}
	if err := w.value(); err != nil {
		return nil, fmt.Errorf("payload, byte %d: %w", w.at, err)
	}
	return w.out, nil
}

type jsonWriter struct {
	b   []byte
	at  int
	out []byte
}

func (w *jsonWriter) value() error {
	it, err := readItem(w.b[w.at:])
	if err != nil {
		return err
	}
	content := w.b[w.at+it.head : w.at+it.size()]
	w.at += it.size()
	switch it.kind {
	case kindNil:
		w.out = append(w.out, "null"...)
	case kindBool:
		w.out = strconv.AppendBool(w.out, it.u == 1)
	case kindInt, kindUint:
		w.out = append(w.out, it.number()...)
	case kindFloat:
		return w.float(math.Float64frombits(it.u))
	case kindStr:
		return w.string(string(content))
	case kindBin:
		return w.string(base64.StdEncoding.EncodeToString(content))
	case kindTime:
		t := timeOf(content)
		if y := t.Year(); y < 0 || y > 9999 {
			return fmt.Errorf("a time in the year %d has no form in JSON", y)
		}
		return w.string(t.Format(time.RFC3339Nano))
	case kindArray:
		return w.array(it.n)
	case kindMap:
		return w.object(it.n)
	}
	return nil
}

func (w *jsonWriter) float(f float64) error {
	b, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("%v has no form in JSON", f)
	}
	// A float stays one when it is read back: 5 would become an integer.
	if !bytes.ContainsAny(b, ".e") {
		b = append(b, ".0"...)
	}
	w.out = append(w.out, b...)
	return nil
}

func (w *jsonWriter) string(s string) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		return err
	}
	w.out = append(w.out, bytes.TrimRight(b.Bytes(), "\n")...)
	return nil
}

func (w *jsonWriter) array(n int) error {
	w.out = append(w.out, '[')
	for i := range n {
		if i > 0 {
			w.out = append(w.out, ',')
		}
		if err := w.value(); err != nil {
			return err
		}
	}
	w.out = append(w.out, ']')
	return nil
}

func (w *jsonWriter) object(n int) error {
	w.out = append(w.out, '{')
	seen := make(map[string]bool, n)
	for i := range n {
		if i > 0 {
			w.out = append(w.out, ',')
		}
		key, err := readItem(w.b[w.at:])
		if err != nil {
			return err
		}
		name := key.number()
		if key.kind == kindStr {
			name = string(w.b[w.at+key.head : w.at+key.size()])
		}
		if seen[name] {
			return fmt.Errorf("key %q occurs twice", cleanText(name, maxShown))
		}
		seen[name] = true
		w.at += key.size()
		if err := w.string(name); err != nil {
			return err
		}
		w.out = append(w.out, ':')
		if err := w.value(); err != nil {
			return err
		}
	}
	w.out = append(w.out, '}')
	return nil
}

// timeOf reads the content of a checked timestamp.
func timeOf(b []byte) time.Time {
	switch len(b) {
	case 4:
		return time.Unix(int64(binary.BigEndian.Uint32(b)), 0).UTC()
	case 8:
		v := binary.BigEndian.Uint64(b)
		return time.Unix(int64(v&(1<<34-1)), int64(v>>34)).UTC()
	}
	return time.Unix(int64(binary.BigEndian.Uint64(b[4:])), int64(binary.BigEndian.Uint32(b))).UTC()
}
