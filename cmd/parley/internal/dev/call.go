package dev

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

const help = `NODE FUNCTION [JSON]   call a function; "@bob" in the JSON stands for bob's AgentID
status                 the nodes and their handlers
replace                take the handler away and start it anew: for a binary that drops a function
quit                   stop everything`

// serve runs the lines that can run now. It tells whether all is over.
func (s *session) serve(ctx context.Context) (over bool, err error) {
	if s.net == nil && s.eof && s.failed && s.o.Input == Script {
		return true, fmt.Errorf("%w: the DNA does not build", ErrCalls)
	}
	for s.net != nil && len(s.lines) > 0 && (s.calls == 0 || s.o.Input == Terminal) {
		line := s.lines[0]
		s.lines = s.lines[1:]
		r, err := parse(line, s.net.agents())
		if err != nil {
			s.out.tell("%s", s.o.Line(err.Error()))
			s.count(false)
			continue
		}
		if r.command == "quit" {
			return true, s.verdict()
		}
		s.do(ctx, r)
	}
	return s.eof && s.net != nil && s.calls == 0 && len(s.lines) == 0, s.verdict()
}

// verdict is the error of a script that asked for more than could be done.
func (s *session) verdict() error {
	if s.bad == 0 || s.o.Input != Script {
		return nil
	}
	return fmt.Errorf("%w: %d failed", ErrCalls, s.bad)
}

func (s *session) count(ok bool) {
	if !ok {
		s.bad++
	}
}

func (s *session) do(ctx context.Context, r request) {
	switch {
	case r.command == "help":
		s.out.tell("%s", help)
	case r.command == "status":
		s.status(ctx)
	case r.command == "replace":
		s.replace()
	case r.node == "": // an empty line
	case s.calls == maxLines:
		s.out.tell("%d calls run already", s.calls)
		s.count(false)
	default:
		s.calls++
		m := s.net.member(r.node)
		s.wg.Go(func() { s.results <- s.call(ctx, m, r) }) // has room for all that run
	}
}

// call calls a function and tells its answer.
func (s *session) call(ctx context.Context, m *member, r request) (ok bool) {
	began := time.Now()
	answer, err := s.answer(ctx, m, r)
	if ctx.Err() != nil {
		return false
	}
	took := millis(time.Since(began))
	if err != nil {
		s.out.tell("%s: %s failed after %s: %s", m.name, s.o.Line(r.function), took, s.o.Line(err.Error()))
		return false
	}
	s.out.tell("%s: %s (%s)", m.name, s.o.JSON(answer), took)
	return true
}

func (s *session) answer(ctx context.Context, m *member, r request) ([]byte, error) {
	var payload []byte
	if r.input != "" {
		var err error
		if payload, err = sdk.PayloadFromJSON([]byte(r.input)); err != nil {
			return nil, fmt.Errorf("input: %w", err)
		}
	}
	reply, err := m.node.Call(ctx, s.desc.Name, r.function, payload)
	if err != nil {
		return nil, err
	}
	text, err := sdk.PayloadToJSON(reply)
	if err != nil {
		return nil, fmt.Errorf("it returned, but its answer has no JSON form: %w", err)
	}
	var b bytes.Buffer
	if err := json.Compact(&b, text); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
