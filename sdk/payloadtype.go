package sdk

import (
	"encoding"
	"reflect"
	"strings"
	"sync"
)

var checkedTypes sync.Map // reflect.Type -> error or nil

// checkType tells whether values of t can travel at all. It is asked when a
// function is defined, so that an author learns of it before the first call.
func checkType(t reflect.Type) error {
	if got, ok := checkedTypes.Load(t); ok {
		err, _ := got.(error)
		return err
	}
	err := typeFault(t, nil, map[reflect.Type]bool{})
	checkedTypes.Store(t, err)
	return err
}

func typeFault(t reflect.Type, w way, seen map[reflect.Type]bool) error {
	if seen[t] || t == timeType || idTypes[t] || isBinary(t) {
		return nil
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Chan, reflect.Func, reflect.Complex64, reflect.Complex128, reflect.UnsafePointer:
		return w.errorf("values of type %s can't travel", t)
	case reflect.Interface:
		if t.NumMethod() > 0 {
			return w.errorf("type %s: of interfaces only any can be decoded", t)
		}
	case reflect.Pointer, reflect.Slice, reflect.Array:
		if t.Kind() != reflect.Pointer {
			w = append(w[:len(w):len(w)], step{})
		}
		return typeFault(t.Elem(), w, seen)
	case reflect.Map:
		switch k := t.Key(); {
		case k.Kind() == reflect.String, k.Kind() >= reflect.Int && k.Kind() <= reflect.Uint64, idTypes[k]:
		default:
			return w.errorf("type %s: keys are strings, integers or identifiers", t)
		}
		return typeFault(t.Elem(), w, seen)
	case reflect.Struct:
		plan := structPlan(t)
		if len(plan.names) == 0 && t.NumField() > 0 {
			return w.errorf("type %s has no exported field: nothing of it would travel", t)
		}
		for i, name := range plan.names {
			if err := typeFault(plan.types[i], append(w[:len(w):len(w)], step{field: name}), seen); err != nil {
				return err
			}
		}
	}
	return nil
}

var (
	binaryMarshaler   = reflect.TypeFor[encoding.BinaryMarshaler]()
	binaryUnmarshaler = reflect.TypeFor[encoding.BinaryUnmarshaler]()
)

// isBinary tells whether the codec leaves t's form to t's own methods.
func isBinary(t reflect.Type) bool {
	if t.PkgPath() == "" && t.Kind() != reflect.Struct {
		return false // a predeclared or composed type has no methods
	}
	p := reflect.PointerTo(t)
	return t != timeType && p.Implements(binaryMarshaler) && p.Implements(binaryUnmarshaler)
}

// plan is what the codec knows as the fields of a struct.
type plan struct {
	names []string // in Go's order
	types []reflect.Type
	index map[string]int // of names and types
}

var plans sync.Map // reflect.Type -> *plan

func structPlan(t reflect.Type) *plan {
	if p, ok := plans.Load(t); ok {
		return p.(*plan)
	}
	p := &plan{index: map[string]int{}}
	p.add(t, 0, nil)
	got, _ := plans.LoadOrStore(t, p)
	return got.(*plan)
}

// add takes the fields of t and returns the depth of each; of two with one name
// the outer one counts.
func (p *plan) add(t reflect.Type, depth int, depths []int) []int {
	if depth > MaxPayloadDepth {
		return depths
	}
	for i := range t.NumField() {
		sf := t.Field(i)
		name, inline := fieldName(sf)
		if inline {
			depths = p.add(elemOf(sf.Type), depth+1, depths)
			continue
		}
		if name == "-" || !sf.IsExported() {
			continue
		}
		if j, ok := p.index[name]; !ok {
			p.index[name] = len(p.names)
			p.names, p.types, depths = append(p.names, name), append(p.types, sf.Type), append(depths, depth)
		} else if depth < depths[j] {
			p.types[j], depths[j] = sf.Type, depth
		}
	}
	return depths
}

func elemOf(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Pointer {
		return t.Elem()
	}
	return t
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
	et := elemOf(sf.Type)
	if sf.Anonymous && et.Kind() == reflect.Struct && et != timeType && !isBinary(et) {
		return "", true
	}
	return sf.Name, false
}
