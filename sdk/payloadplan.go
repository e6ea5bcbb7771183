package sdk

import (
	"cmp"
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
)

// plan tells how values of one type are decoded. It is complete before anybody
// else sees it, and never changes. That of a recursive type holds itself.
type plan struct {
	t      reflect.Type
	read   func(d *decoder, it item, v reflect.Value) // sets v, which is zero
	takes  uint16                                     // a bit for each kind of item that read can be given
	want   string                                     // what an error says was expected
	size   int                                        // bytes that a value takes, without what it points to
	key    *plan                                      // of a map
	elem   *plan                                      // of a pointer, a slice, an array or a map
	empty  reflect.Value                              // a slice that has no elements and is not nil
	fields []field                                    // sorted by name, as Marshal writes them
	index  map[string]int                             // of fields, by name
	known  string                                     // the names of fields, in Go's order
	fault  error                                      // why values of t can't travel; nothing else is set then
}

// field is what the codec knows as a field of a struct.
type field struct {
	name string
	path []int // more than one index if it is a field of an embedded struct
	plan *plan
}

var plans sync.Map // reflect.Type -> *plan

// planOf is the plan for t, or the reason for which values of t can't travel.
func planOf(t reflect.Type) (*plan, error) {
	got, ok := plans.Load(t)
	if !ok {
		m := planner{made: map[reflect.Type]*plan{}}
		p := m.plan(t, "")
		if m.fault != nil {
			p = &plan{fault: m.fault}
		}
		got, _ = plans.LoadOrStore(t, p)
	}
	p := got.(*plan)
	return p, p.fault
}

// checkType tells whether values of t can travel at all. It is asked when a
// function is defined, so that an author learns of it before the first call.
func checkType(t reflect.Type) error {
	_, err := planOf(t)
	return err
}

// planner makes the plan of one type, and of all types within it.
type planner struct {
	made  map[reflect.Type]*plan // those of recursive types are not complete yet
	fault error                  // the first one
}

func (m *planner) refuse(way, format string, args ...any) {
	if m.fault == nil {
		m.fault = fieldError(way, fmt.Sprintf(format, args...))
	}
}

var (
	timeType, durationType, byteType = reflect.TypeFor[time.Time](), reflect.TypeFor[time.Duration](), reflect.TypeFor[byte]()

	idTypes = map[reflect.Type]bool{
		reflect.TypeFor[AgentID](): true, reflect.TypeFor[Hash](): true,
		reflect.TypeFor[DNAHash](): true, reflect.TypeFor[MessageID](): true,
	}

	binaryMarshaler   = reflect.TypeFor[encoding.BinaryMarshaler]()
	binaryUnmarshaler = reflect.TypeFor[encoding.BinaryUnmarshaler]()
	codecSelfer       = reflect.TypeFor[codec.Selfer]()
)

// plan is that of t, which lies at way.
func (m *planner) plan(t reflect.Type, way string) *plan {
	if p := m.made[t]; p != nil {
		return p
	}
	p := &plan{t: t, size: int(t.Size())}
	m.made[t] = p
	switch ptr := reflect.PointerTo(t); {
	case t == timeType:
		p.is("a time", (*decoder).time, kindTime, kindStr)
	case t == durationType:
		p.is("a whole number", (*decoder).duration, kindUint, kindInt, kindStr)
	case idTypes[t]:
		p.is(t.Name()+" as text", (*decoder).id, kindStr)
	case ptr.Implements(codecSelfer): // such as a struct that embeds an AgentID: its other fields would not travel
		m.refuse(way, "type %s has, or gets from an embedded field, CodecEncodeSelf, which payloads have no use for", t)
	case ptr.Implements(binaryMarshaler) && ptr.Implements(binaryUnmarshaler):
		p.is("bytes", (*decoder).binary, kindBin, kindStr)
	default:
		m.byKind(p, way)
	}
	return p
}

func (p *plan) is(want string, read func(*decoder, item, reflect.Value), takes ...kind) {
	p.want, p.read = want, read
	for _, k := range takes {
		p.takes |= 1 << k
	}
}

func (m *planner) byKind(p *plan, way string) {
	switch t, k := p.t, p.t.Kind(); {
	case k == reflect.Bool:
		p.is("true or false", (*decoder).bool, kindBool)
	case k >= reflect.Int && k <= reflect.Uintptr:
		p.is("a whole number", (*decoder).integer, kindUint, kindInt)
	case k == reflect.Float32, k == reflect.Float64:
		p.is("a number", (*decoder).float, kindUint, kindInt, kindFloat)
	case k == reflect.String:
		p.is("a string", (*decoder).string, kindStr)
	case k == reflect.Interface && t.NumMethod() == 0:
		p.read, p.takes = (*decoder).free, ^p.takes
	case k == reflect.Interface:
		m.refuse(way, "type %s: of interfaces only any can be decoded", t)
	case k == reflect.Pointer:
		p.read, p.takes = p.pointer, ^p.takes
		p.elem = m.plan(t.Elem(), way)
	case k == reflect.Slice && t.Elem() == byteType, k == reflect.Array && t.Elem() == byteType:
		p.is("bytes", (*decoder).bytes, kindBin, kindStr)
	case k == reflect.Slice, k == reflect.Array:
		p.is("an array", p.elements, kindArray)
		p.elem = m.plan(t.Elem(), way+"[0]")
		p.empty = reflect.MakeSlice(reflect.SliceOf(t.Elem()), 0, 0)
	case k == reflect.Map:
		p.is("a map", p.entries, kindMap)
		p.key, p.elem = m.keys(t, way), m.plan(t.Elem(), way)
	case k == reflect.Struct:
		p.is("an object", p.members, kindMap)
		m.structure(p, way)
	default:
		m.refuse(way, "values of type %s can't travel", t)
	}
}

// keys is the plan of the keys of t, a map. They travel by their kind, whatever
// their methods. JSON has no integer keys, so that a str can stand for one.
func (m *planner) keys(t reflect.Type, way string) *plan {
	p := &plan{t: t.Key(), size: int(t.Key().Size())}
	switch k := p.t.Kind(); {
	case idTypes[p.t]:
		return m.plan(p.t, way)
	case k == reflect.String, k >= reflect.Int && k <= reflect.Uint64:
		m.byKind(p, way)
		p.takes |= 1 << kindStr
	default:
		m.refuse(way, "type %s: keys are strings, integers or identifiers", t)
	}
	return p
}

func (m *planner) structure(p *plan, way string) {
	p.index = map[string]int{}
	m.addFields(p, p.t, nil, way, map[reflect.Type]int{p.t: 1})
	if len(p.fields) == 0 && p.t.NumField() > 0 {
		m.refuse(way, "type %s has no exported field: nothing of it would travel", p.t)
	}
	var names []string
	for i := range p.fields {
		names = append(names, p.fields[i].name)
	}
	p.known = cmp.Or(strings.Join(names, ", "), "none")
	slices.SortFunc(p.fields, func(a, b field) int { return strings.Compare(a.name, b.name) })
	for i := range p.fields {
		f := &p.fields[i]
		p.index[f.name] = i
		f.plan = m.plan(p.t.FieldByIndex(f.path).Type, way+"."+f.name)
	}
}

// addFields adds the fields of t, which is p's type or, at path, embedded in it.
// It follows the codec to the letter: that is what Marshal writes. Of two fields
// with one name the outer one counts, an embedded struct without a name of its
// own is inlined, and each type at most twice.
func (m *planner) addFields(p *plan, t reflect.Type, path []int, way string, seen map[reflect.Type]int) {
	for i := range t.NumField() {
		sf := t.Field(i)
		tag := sf.Tag.Get("codec")
		if tag == "" {
			tag = sf.Tag.Get("json")
		}
		name, _, _ := strings.Cut(tag, ",")
		f := field{name: cmp.Or(name, sf.Name), path: append(path[:len(path):len(path)], i)}
		et := sf.Type
		if et.Kind() == reflect.Pointer {
			et = et.Elem()
		}
		inline := sf.Anonymous && et.Kind() == reflect.Struct && name == ""
		j, twice := p.index[f.name]
		switch {
		case tag == "-", !sf.IsExported() && (!inline || sf.Type != et):
		case inline:
			if seen[et]++; seen[et] <= 2 {
				m.addFields(p, et, f.path, way, seen)
			}
		case !twice:
			p.index[f.name] = len(p.fields)
			p.fields = append(p.fields, f)
		case len(f.path) < len(p.fields[j].path):
			p.fields[j] = f
		case len(f.path) == len(p.fields[j].path): // the codec would write both
			m.refuse(way, "type %s has two fields that travel as %q", p.t, f.name)
		}
	}
}

// maxShown bounds how much of a key an error shows: a peer chose it.
const maxShown = 80

// fieldError is an error about the value at way, such as ".bids[3].amount".
func fieldError(way, text string) error {
	if way == "" {
		return errors.New(text)
	}
	return fmt.Errorf("field %q: %s", strings.TrimPrefix(way, "."), text)
}
