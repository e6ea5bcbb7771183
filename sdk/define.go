package sdk

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
)

const (
	// Version is the version of this library, as Describe tells it.
	Version = "0.1.0"
	// Protocol is the version of the contract between node and handler.
	Protocol = 1
	// MaxName bounds the names of DNAs and functions, in bytes.
	MaxName = 64
	// MaxIntegrity, MaxNetworkSeed and MaxProperties bound DNA's other fields.
	MaxIntegrity   = 64
	MaxNetworkSeed = 256
	MaxProperties  = 64 << 10
)

// Definition is a DNA's program: a Handler made of typed parts.
type Definition struct {
	program
	setup atomic.Pointer[Setup]
}

// program is what a Definition shares with its clones.
type program struct {
	name, integrity string
	functions       map[string]part
	receive         part
	init            func(*Context) error
	validate        func(*Candidate) error
	postCommit      func(*Context, []Record) error
	notified        part
	needs           []string
	faults          []error
}

var _ Handler = (*Definition)(nil)

// part runs one call: payload in, payload out.
type part func(c *Context, payload []byte) ([]byte, error)

// Part is one piece of a Definition: what Function, Receive, Init, Validate,
// PostCommit, Notified and Needs return.
type Part struct{ add func(d *Definition) }

// Define puts a DNA together. What is wrong with it, all of it, is what
// Describe returns as its error; serve.Main prints it.
func Define(name, integrity string, parts ...Part) *Definition {
	d := &Definition{program: program{name: name, integrity: integrity, functions: map[string]part{}}}
	if err := CheckName(name); err != nil {
		d.fault("DNA name %q: %w", name, err)
	}
	if integrity == "" || len(integrity) > MaxIntegrity {
		d.fault("integrity version %q: 1 to %d bytes expected", integrity, MaxIntegrity)
	}
	for _, p := range parts {
		if p.add == nil {
			d.fault("an empty Part: use Function, Receive or Needs")
			continue
		}
		p.add(d)
	}
	if len(d.functions) == 0 && d.receive == nil && d.notified == nil {
		d.fault("neither a function nor a receive nor a notified")
	}
	return d
}

// CheckName tells what is wrong with the name of a DNA or a function: 1 to
// MaxName bytes of a-z, 0-9, '-' and '_'.
func CheckName(name string) error {
	if name == "" || len(name) > MaxName {
		return fmt.Errorf("%d bytes, 1 to %d expected", len(name), MaxName)
	}
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return fmt.Errorf("character %d, %q: only a-z, 0-9, '-' and '_' occur in names", i+1, c)
		}
	}
	return nil
}

// Function is an entry point that the agent's own clients call by name. In and
// Out travel as Marshal describes; struct{} stands for nothing. An input with an
// unknown field is refused before f runs. f may be called concurrently.
func Function[In, Out any](name string, f func(c *Context, in In) (Out, error)) Part {
	return Part{func(d *Definition) {
		if err := CheckName(name); err != nil {
			d.fault("function name %q: %w", name, err)
		}
		if d.functions[name] != nil {
			d.fault("function %q is defined twice", name)
		}
		d.functions[name] = typed(d, fmt.Sprintf("function %q", name), UnmarshalStrict, f)
	}}
}

// Receive answers the messages of other agents; c.From() is the proven sender.
// The answer leaves only after everything that f committed is durable. Fields
// of a message that In does not have are left aside. f may be called concurrently.
func Receive[In, Out any](f func(c *Context, in In) (Out, error)) Part {
	return Part{func(d *Definition) {
		if d.receive != nil {
			d.fault("receive is defined twice")
		}
		d.receive = typed(d, "receive", Unmarshal, f)
	}}
}

func typed[In, Out any](d *Definition, what string, decode func([]byte, any) error, f func(*Context, In) (Out, error)) part {
	if f == nil {
		d.fault("%s has no body", what)
	}
	if err := checkType(reflect.TypeFor[In]()); err != nil {
		d.fault("%s: input: %w", what, err)
	}
	if err := checkType(reflect.TypeFor[Out]()); err != nil {
		d.fault("%s: output: %w", what, err)
	}
	return func(c *Context, payload []byte) ([]byte, error) {
		var in In
		if err := decode(payload, &in); err != nil {
			return nil, Fail(HandlerCodeInput, "%s of %s: %v", what, d.name, err)
		}
		out, err := f(c, in)
		if err != nil {
			return nil, err
		}
		b, err := Marshal(out)
		if err != nil {
			return nil, Fail(HandlerCodeOutput, "%s of %s: %v", what, d.name, err)
		}
		return b, nil
	}
}

func (d *Definition) fault(format string, args ...any) {
	d.faults = append(d.faults, fmt.Errorf(format, args...))
}

// Describe tells what was defined, or everything that is wrong with it.
func (d *Definition) Describe(context.Context) (Description, error) {
	if len(d.faults) > 0 {
		return Description{}, fmt.Errorf("define %q: %w", d.name, errors.Join(d.faults...))
	}
	return Description{Name: d.name, Integrity: d.integrity, Functions: d.names(),
		Receives: d.receive != nil, Init: d.init != nil, Validate: d.validate != nil, PostCommit: d.postCommit != nil,
		Notified: d.notified != nil,
		SDK:      Version, Protocol: Protocol, Needs: slices.Clone(d.needs)}, nil
}

func (d *Definition) names() []string { return slices.Sorted(maps.Keys(d.functions)) }

// Clone is the same program for another node of the same process, which has a
// Setup of its own. What the functions share by closures stays shared.
func (d *Definition) Clone() *Definition {
	return &Definition{program: d.program}
}

// Setup keeps what the node tells about itself for Context's methods.
func (d *Definition) Setup(_ context.Context, s Setup) error {
	s.Properties = slices.Clone(s.Properties)
	d.setup.Store(&s)
	return nil
}

// Serve runs one call. A panic ends the call and not the process: the caller
// gets HandlerFailed with HandlerCodePanic, the node's log gets the stack.
func (d *Definition) Serve(ctx context.Context, host Host, call *Call) (out []byte, err error) {
	run, err := d.find(call)
	if err != nil {
		return nil, err
	}
	c, end := newContext(ctx, host, call, d)
	defer end()
	defer func() {
		if p := recover(); p != nil {
			c.Log().Error("the handler panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			out, err = nil, Fail(HandlerCodePanic, "the handler panicked; the stack is in its node's log")
		}
	}()
	out, err = run(c, call.Payload)
	if err != nil {
		return nil, c.outcome(err)
	}
	return out, nil
}

// find is total: what is not there is an error that names what is.
func (d *Definition) find(call *Call) (part, error) {
	if len(d.faults) > 0 {
		return nil, Fail("", "define %q: %v", d.name, errors.Join(d.faults...))
	}
	run, text := d.receive, ""
	switch call.Kind {
	case CallFunction:
		run = d.functions[call.Function]
		text = fmt.Sprintf("%s has no function %q; it has none but its receive", d.name, call.Function)
		if len(d.functions) > 0 {
			text = fmt.Sprintf("%s has no function %q; it has %s", d.name, call.Function, strings.Join(d.names(), ", "))
		}
	case CallReceive:
		text = fmt.Sprintf("%s receives no messages: it has no receive handler", d.name)
	case CallNotified:
		run, text = d.notified, fmt.Sprintf("%s takes no notifications: it has no notified", d.name)
	case CallInit, CallValidate, CallPostCommit:
		var name string
		run, name = d.callback(call)
		text = fmt.Sprintf("%s has no %s", d.name, name)
	default:
		return nil, Fail("", "call kind %d is unknown", call.Kind)
	}
	if run == nil {
		return nil, &Error{Code: NoHandler, Side: SideHandler, Delivered: DeliveredNo, Text: text}
	}
	return run, nil
}
