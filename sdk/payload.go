package sdk

import (
	"bytes"
	"encoding"
	"fmt"
	"reflect"
	"sync"

	"github.com/hashicorp/go-msgpack/v2/codec"
)

// A payload is one value in msgpack (msgpack.org, specification 2.0), or no
// bytes at all, which is "no value". How Go types travel:
//
//	bool, integers, floats     as such; an integer may stand for a float that holds it exactly
//	string                     str, valid UTF-8
//	[]byte, [N]byte            bin; a str in its place is read as base64
//	time.Time                  timestamp extension (-1), UTC; a str is read as RFC 3339; the zero time is nil
//	time.Duration              integer nanoseconds; a str is read as by time.ParseDuration
//	AgentID, Hash, DNAHash,    str: their text form, so that they look the same in Go, in JSON
//	MessageID                  and in a chain's export
//	slice, array               array
//	map                        map with str or integer keys, sorted; a str can stand for an integer
//	any                        bool, int64, float64, string, []byte, time.Time, []any, map[string]any
//	struct                     map by field name: tag `codec:"…"`, else `json:"…"`, else Go's name
//	pointer, interface         what it points to, or nil
//	encoding.BinaryMarshaler   bin
//
// The readings of a str exist so that a client that only has JSON can write
// every value. Channels, functions and complex numbers don't travel.

const (
	// MaxPayloadDepth bounds how deep arrays and maps nest in a payload.
	MaxPayloadDepth = 32
	// A decoded value may take payloadGrowth times the bytes of its payload,
	// plus payloadFloor: a byte of msgpack must not become a kilobyte of Go.
	payloadGrowth = 32
	payloadFloor  = 1 << 20
)

// None is the input of a function that takes nothing, and the output of one
// that returns nothing. It travels as no value.
type None = struct{}

var payloadHandle = func() *codec.MsgpackHandle {
	h := new(codec.MsgpackHandle)
	h.WriteExt = true            // bin, str8 and timestamps of specification 2.0
	h.PositiveIntUnsigned = true // one encoding per number, whatever Go's type
	h.Canonical = true           // sorted map keys
	h.CheckCircularRef = true
	return h
}()

// Marshal encodes v as a payload. The same value always gives the same bytes.
// A nil v and a struct without fields are "no value": nil bytes.
func Marshal(v any) ([]byte, error) {
	rv := reflect.ValueOf(v)
	for rv.Kind() == reflect.Pointer && !rv.IsNil() {
		rv = rv.Elem()
	}
	if !rv.IsValid() || rv.Kind() == reflect.Pointer || isNone(rv.Type()) {
		return nil, nil
	}
	err := checkType(rv.Type())
	var b []byte
	if err == nil {
		b, err = encodePayload(v)
	}
	if err != nil {
		return nil, fmt.Errorf("encode payload: %w", err)
	}
	return b, nil
}

// Unmarshal decodes a payload into *v. Map keys that *v has no field for are
// left aside, so that a newer sender can add some. No value decodes to the zero
// value. Errors name the field, such as "bids[3].amount", and leave *v as it was.
func Unmarshal(payload []byte, v any) error { return unmarshal(payload, v, false) }

// UnmarshalStrict is Unmarshal that refuses keys that *v has no field for. A
// Function's input is decoded by it, since there an unknown key is a typing error.
func UnmarshalStrict(payload []byte, v any) error { return unmarshal(payload, v, true) }

func unmarshal(payload []byte, v any, strict bool) error {
	rv := reflect.ValueOf(v)
	if rv.Kind() != reflect.Pointer || rv.IsNil() {
		return fmt.Errorf("decode payload: %T is no pointer to decode into", v)
	}
	if len(payload) == 0 {
		rv.Elem().SetZero()
		return nil
	}
	if err := decodePayload(payload, rv.Elem(), strict); err != nil {
		return fmt.Errorf("decode payload: %w", err)
	}
	return nil
}

// Encoders are kept, with their buffers: making one costs more than a small
// value. One that failed is not used again.
var encoders = sync.Pool{New: func() any { return &encoder{codec: codec.NewEncoder(nil, payloadHandle), buf: make([]byte, 0, 512)} }}

type encoder struct {
	codec *codec.Encoder
	buf   []byte
}

// maxKeptBuffer keeps one large payload from holding its memory for ever.
const maxKeptBuffer = 64 << 10

// encodePayload makes sure that what it writes can be read. The codec makes its
// panics on what it can't handle, and those of v's own methods, errors.
func encodePayload(v any) ([]byte, error) {
	e := encoders.Get().(*encoder)
	e.buf = e.buf[:0]
	e.codec.ResetBytes(&e.buf)
	if err := e.codec.Encode(v); err != nil {
		return nil, err
	}
	b := bytes.Clone(e.buf)
	if cap(e.buf) <= maxKeptBuffer {
		encoders.Put(e)
	}
	return b, checkPayload(b)
}

func isNone(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && t.NumField() == 0
}

// Identifiers travel as text: see the table above. The codec takes a type's own
// form if the type can also decode it.

func (a AgentID) CodecEncodeSelf(e *codec.Encoder)   { e.MustEncode(a.String()) }
func (h Hash) CodecEncodeSelf(e *codec.Encoder)      { e.MustEncode(h.String()) }
func (h DNAHash) CodecEncodeSelf(e *codec.Encoder)   { e.MustEncode(h.String()) }
func (m MessageID) CodecEncodeSelf(e *codec.Encoder) { e.MustEncode(m.String()) }

func (a *AgentID) CodecDecodeSelf(d *codec.Decoder)   { decodeSelf(d, a) }
func (h *Hash) CodecDecodeSelf(d *codec.Decoder)      { decodeSelf(d, h) }
func (h *DNAHash) CodecDecodeSelf(d *codec.Decoder)   { decodeSelf(d, h) }
func (m *MessageID) CodecDecodeSelf(d *codec.Decoder) { decodeSelf(d, m) }

// decodeSelf panics on a fault, as Decoder.MustDecode does: the codec recovers.
func decodeSelf(d *codec.Decoder, id encoding.TextUnmarshaler) {
	var s string
	d.MustDecode(&s)
	if err := id.UnmarshalText([]byte(s)); err != nil {
		panic(err)
	}
}
