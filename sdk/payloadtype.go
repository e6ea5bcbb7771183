package sdk

import (
	"math"
	"reflect"
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

func typeFault(t reflect.Type, p *path, seen map[reflect.Type]bool) error {
	if seen[t] || t == timeType || idTypes[t] || isBinary(t) {
		return nil
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Chan, reflect.Func, reflect.Complex64, reflect.Complex128, reflect.UnsafePointer:
		return p.errorf("values of type %s can't travel", t)
	case reflect.Interface:
		if t.NumMethod() > 0 {
			return p.errorf("type %s: of interfaces only any can be decoded", t)
		}
	case reflect.Pointer, reflect.Slice, reflect.Array:
		if t.Kind() != reflect.Pointer {
			p = &path{up: p}
		}
		return typeFault(t.Elem(), p, seen)
	case reflect.Map:
		switch k := t.Key(); {
		case k.Kind() == reflect.String, k.Kind() >= reflect.Int && k.Kind() <= reflect.Uint64, idTypes[k]:
		default:
			return p.errorf("type %s: keys are strings, integers or identifiers", t)
		}
		return typeFault(t.Elem(), p, seen)
	case reflect.Struct:
		plan := structPlan(t)
		if len(plan.names) == 0 && t.NumField() > 0 {
			return p.errorf("type %s has no exported field: nothing of it would travel", t)
		}
		for _, name := range plan.names {
			if err := typeFault(plan.types[name], &path{up: p, field: name}, seen); err != nil {
				return err
			}
		}
	}
	return nil
}

func bigEndian(b []byte) (v uint64) {
	for _, c := range b {
		v = v<<8 | uint64(c)
	}
	return v
}

// float64Bits widens a float of n bytes.
func float64Bits(v uint64, n int) uint64 {
	if n == 4 {
		return math.Float64bits(float64(math.Float32frombits(uint32(v))))
	}
	return v
}
