package sdk

import (
	"fmt"
	"reflect"
	"sync"
)

// decoder reads a payload into a value, in one pass: each item is checked, held
// against the type, paid for in memory, and set. What is wrong is a panic, which
// readPayload makes an error; it does so with those of authors' own methods, too,
// since the bytes come from a peer.
type decoder struct {
	b      []byte
	at     int
	memory int // bytes that may still be allocated
	strict bool
	depth  int                      // arrays and maps that hold the value at hand
	way    [MaxPayloadDepth + 1]int // the step to it in each: where its key is, or ^index, or 0 for none
}

// decodePayload decodes b, which holds one value and nothing behind it, into v.
// An error leaves v as it was.
func decodePayload(b []byte, v reflect.Value, strict bool) error {
	p, err := planOf(v.Type())
	if err != nil {
		return err
	}
	into := v
	if !v.IsZero() {
		into = reflect.New(v.Type()).Elem()
	}
	if err := readPayload(b, strict, func(d *decoder) { d.value(p, into) }); err != nil {
		into.SetZero()
		return err
	}
	v.Set(into)
	return nil
}

// checkPayload makes sure that b holds one value and nothing behind it.
func checkPayload(b []byte) error { return readPayload(b, false, (*decoder).skip) }

var decoders = sync.Pool{New: func() any { return new(decoder) }}

// readPayload runs read, which has to pass all of b.
func readPayload(b []byte, strict bool, read func(*decoder)) (err error) {
	d := decoders.Get().(*decoder)
	d.b, d.at, d.depth, d.strict, d.memory = b, 0, 0, strict, payloadFloor+payloadGrowth*len(b)
	defer func() {
		if r := recover(); r != nil {
			err = fieldError(d.where(), fmt.Sprint(r))
		}
		d.b = nil
		decoders.Put(d)
	}()
	if read(d); d.at != len(b) {
		d.fail("byte %d: %d bytes follow the value", d.at, len(b)-d.at)
	}
	return nil
}

// skip checks the value at hand and passes it.
func (d *decoder) skip() {
	it := d.next()
	if it.kind != kindArray && it.kind != kindMap {
		return
	}
	d.enter(it)
	for i := range it.n {
		if d.way[d.depth-1] = ^i; it.kind == kindMap {
			d.key()
		}
		d.skip()
	}
	d.depth--
}

func (d *decoder) fail(format string, args ...any) { panic(fmt.Errorf(format, args...)) }

// where is the way to the value at hand.
func (d *decoder) where() (way string) {
	for _, step := range d.way[:d.depth] {
		switch {
		case step > 0:
			way += "." + keyText(d.b[step:])
		case step < 0:
			way += fmt.Sprintf("[%d]", ^step)
		}
	}
	return way
}

// keyText is the map's key at the start of b as errors show it.
func keyText(b []byte) string {
	it, err := readItem(b)
	if err != nil || it.kind != kindStr {
		return it.number()
	}
	return cleanText(string(it.content(b)), maxShown)
}

// next reads the head at hand, and passes the item but for its elements.
func (d *decoder) next() item {
	it, err := readItem(d.b[d.at:])
	if err != nil {
		d.fail("byte %d: %w", d.at, err)
	}
	d.at += it.size
	return it
}

// key is next where a map's key has to be. What follows lies at it.
func (d *decoder) key() item {
	d.way[d.depth-1] = 0
	at := d.at
	it := d.next()
	if it.kind != kindStr && it.kind != kindUint && it.kind != kindInt {
		d.fail("byte %d: %s as a map's key; only strings and integers can be", at, it.kind)
	}
	d.way[d.depth-1] = at
	return it
}

// failKey fails because of the key at hand.
func (d *decoder) failKey(format string, args ...any) {
	at := &d.way[d.depth-1]
	key := keyText(d.b[*at:])
	*at = 0
	d.fail(format, append([]any{key}, args...)...)
}

// content is what the str, bin or time that next has just passed holds.
func (d *decoder) content(it item) []byte { return d.b[d.at-it.n : d.at : d.at] }

// take pays for n values of so many bytes, before they are allocated.
func (d *decoder) take(n, size int) {
	if size > 0 && n > d.memory/size {
		d.fail("the value needs more than %d times the memory of its payload", payloadGrowth)
	}
	d.memory -= n * size
}

// enter begins the elements of it. An empty array or map has no depth.
func (d *decoder) enter(it item) {
	if it.n > 0 && d.depth >= MaxPayloadDepth {
		d.fail("byte %d: nested more than %d deep", d.at-it.size, MaxPayloadDepth)
	}
	d.way[d.depth] = 0
	d.depth++
}

// value reads the value at hand into v, which is zero: so is what nil stands for.
func (d *decoder) value(p *plan, v reflect.Value) {
	if it := d.next(); it.kind != kindNil {
		d.set(p, it, v)
	}
}

func (d *decoder) set(p *plan, it item, v reflect.Value) {
	if p.takes>>it.kind&1 == 0 {
		d.fail("expected %s, got %s", p.want, it.kind)
	}
	p.read(d, it, v)
}

// pointer sets v, and what it points to. Of type P *P that has no end but the
// memory's.
func (p *plan) pointer(d *decoder, it item, v reflect.Value) {
	for ; p.t.Kind() == reflect.Pointer; p = p.elem {
		d.take(1, p.elem.size)
		v.Set(reflect.New(p.elem.t))
		v = v.Elem()
	}
	d.set(p, it, v)
}

// elements sets v: an array, a slice, or an any, which becomes a []any.
func (p *plan) elements(d *decoder, it item, v reflect.Value) {
	d.enter(it)
	switch {
	case p.t.Kind() == reflect.Array:
		if it.n != v.Len() {
			d.fail("expected %d elements, got %d", v.Len(), it.n)
		}
	case it.n == 0:
		v.Set(p.empty)
	default:
		d.take(it.n, p.elem.size)
		if v.Kind() == reflect.Slice {
			v.Grow(it.n)
			v.SetLen(it.n)
			break
		}
		s := reflect.MakeSlice(p.t, it.n, it.n)
		v.Set(s)
		v = s
	}
	for i := range it.n {
		d.way[d.depth-1] = ^i
		d.value(p.elem, v.Index(i))
	}
	d.depth--
}

// mapHead is what a Go map takes beside its slots.
const mapHead = 64

// entries sets v, a map or an any, which becomes a map[string]any.
func (p *plan) entries(d *decoder, it item, v reflect.Value) {
	d.enter(it)
	slots := 8 * min(it.n, 1) // doubled until an eighth of them stays free
	for it.n > 8 && it.n > slots/8*7 {
		slots *= 2
	}
	d.take(slots, 1+p.key.size+p.elem.size)
	d.take(1, mapHead+p.key.size+p.elem.size)
	m := reflect.MakeMapWithSize(p.t, it.n)
	k, e := reflect.New(p.key.t).Elem(), reflect.New(p.elem.t).Elem()
	for i := range it.n {
		d.set(p.key, d.key(), k)
		e.SetZero() // nothing of the entry before
		d.value(p.elem, e)
		if m.SetMapIndex(k, e); m.Len() == i {
			d.failKey("key %q occurs twice")
		}
	}
	v.Set(m)
	d.depth--
}

// members sets the fields of v, a struct.
func (p *plan) members(d *decoder, it item, v reflect.Value) {
	d.enter(it)
	var few [32]bool // most structs have no more fields: no allocation
	seen := few[:]
	if len(p.fields) > len(few) {
		seen = make([]bool, len(p.fields))
	}
	next := 0 // Marshal writes the fields in order
	for range it.n {
		key := d.key()
		name := d.content(key)
		i, ok := next, next < len(p.fields) && p.fields[next].name == string(name)
		if !ok {
			i, ok = p.index[string(name)]
		}
		switch {
		case key.kind != kindStr:
			d.failKey("the number %s as a field's name")
		case !ok && d.strict:
			d.failKey("there is no field %q; the fields are %s", p.known)
		case !ok:
			d.skip()
			continue
		case seen[i]:
			d.failKey("key %q occurs twice")
		}
		seen[i], next = true, i+1
		if it := d.next(); it.kind != kindNil {
			d.set(p.fields[i].plan, it, d.field(v, p.fields[i].path))
		}
	}
	d.depth--
}

// field is the one at path. Embedded pointers on the way to it are set.
func (d *decoder) field(v reflect.Value, path []int) reflect.Value {
	for i, x := range path {
		if i > 0 && v.Kind() == reflect.Pointer {
			if v.IsNil() {
				d.take(1, int(v.Type().Elem().Size()))
				v.Set(reflect.New(v.Type().Elem()))
			}
			v = v.Elem()
		}
		v = v.Field(x)
	}
	return v
}
