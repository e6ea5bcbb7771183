package dev

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"
)

// The kinds of control.PluginEvent.
const (
	kindUp         = "up"
	kindSwapped    = "swapped"
	kindRejected   = "rejected"
	kindRolledBack = "rolled back"
	kindDied       = "died"
	kindFailed     = "failed"
	kindRemoved    = "removed"
)

func millis(d time.Duration) string {
	if d < 10*time.Millisecond {
		return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%d ms", d.Milliseconds())
}

// notBuilt shows the compiler's errors in full.
func (s *session) notBuilt(r built) {
	for line := range strings.Lines(r.text) {
		s.out.tell("%s", s.o.Line(line))
	}
	next := "nothing runs yet; it is built again when it is saved"
	if s.net != nil || s.starting {
		next = "what ran goes on"
	}
	s.out.tell("not built (%s): %s", s.o.Line(r.err.Error()), next)
}

// ready tells what runs and how to use it.
func (s *session) ready(ctx context.Context) {
	first := s.net.members[0]
	functions, receives := "none", "nothing"
	if len(s.desc.Functions) > 0 {
		functions = strings.Join(s.desc.Functions, ", ")
	}
	if s.desc.Receives {
		receives = "messages"
	}
	s.out.tell("")
	for _, m := range s.net.members {
		s.out.tell("%s%s  %s", s.prefix[m.name], m.node.Agent(), m.data)
	}
	s.out.tell("DNA %s, integrity version %s; functions: %s; receives: %s", s.desc.Name, s.o.Line(s.desc.Integrity), functions, receives)
	function := "FUNCTION"
	if len(s.desc.Functions) > 0 {
		function = s.desc.Functions[0]
	}
	s.out.tell("From another terminal: parley call --data %s %s %s JSON", quoted(first.data), s.desc.Name, function)
	s.out.tell("Here: %s %s JSON, where \"@%s\" is an AgentID; help tells more", first.name, function, s.net.members[1].name)
	s.out.tell("ready: built in %s, up %s after that; saved sources are built and swapped",
		millis(s.placed.took), millis(time.Since(s.placed.saved)-s.placed.took))
	for _, m := range s.net.members {
		s.debugger(ctx, m)
	}
}

// quoted is a path as a shell takes it.
func quoted(path string) string {
	if strings.ContainsAny(path, " '\"\\$&;()|<>*?`~#!\t") {
		return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
	}
	return path
}

// debugger tells how to hold a node's handler.
func (s *session) debugger(ctx context.Context, m *member) {
	if !s.o.Debug {
		return
	}
	list, _ := m.node.Plugins(ctx) // its error is always nil
	for _, p := range list {
		if p.PID != 0 {
			s.out.tell("%s: dlv attach %d", m.name, p.PID)
		}
	}
}

// happened tells of what a node did with a binary. What it did with the newest is
// told once: it may look at it again.
func (s *session) happened(ctx context.Context, e event) {
	newest := e.SHA256 == s.placed.sum
	if newest && s.told[e.m.name] == e.Kind && e.Kind == kindRejected {
		return
	}
	first := s.told[e.m.name] == ""
	text := s.o.Line(e.Text)
	took := millis(e.Time.Sub(s.placed.saved))
	switch e.Kind {
	case kindSwapped:
		s.out.tell("%s: swapped in %s (go build: %s)", e.m.name, took, millis(s.placed.took))
		s.debugger(ctx, e.m)
	case kindUp:
		if first && e.Time.Before(s.upAt) {
			break // ready told of it
		}
		s.out.tell("%s: up in %s", e.m.name, took)
		s.debugger(ctx, e.m)
	case kindRejected:
		s.out.tell("%s: rejected: %s", e.m.name, text)
		if strings.Contains(e.Text, "remove the old") {
			s.out.tell("%s: if that is meant: replace", e.m.name)
		}
	case kindRolledBack:
		s.out.tell("%s: taken back: %s", e.m.name, text)
	case kindDied, kindFailed:
		s.out.tell("%s: %s: %s", e.m.name, e.Kind, text)
	case kindRemoved:
		s.letGo(e.m)
	}
	if newest {
		s.told[e.m.name] = e.Kind
	}
}

// status tells of the nodes.
func (s *session) status(ctx context.Context) {
	for _, m := range s.net.members {
		st, _ := m.node.Status(ctx) // its error is always nil
		s.out.tell("%s%s, %d sessions, %s", s.prefix[m.name], m.node.Agent(), len(st.Sessions), m.data)
		for _, h := range st.Handlers {
			s.out.tell("%s%s %s, process %d, %d calls, %d at work; functions: %s", s.prefix[m.name], h.DNA, h.State, h.PID, h.Calls, h.InFlight,
				s.o.Line(strings.Join(h.Functions, ", ")))
		}
		list, _ := m.node.Plugins(ctx) // its error is always nil
		for _, p := range list {
			if p.Refused != "" {
				s.out.tell("%sthe newest binary does not run: %s", s.prefix[m.name], s.o.Line(p.Refused))
			} else if p.LastError != "" {
				s.out.tell("%slast error: %s", s.prefix[m.name], s.o.Line(p.LastError))
			}
		}
	}
}

// replace takes the binary away. It is put back when all nodes have let go of the
// handler: then nothing of it holds for the new one but the DNA's name.
func (s *session) replace() {
	if s.removed != nil {
		s.out.tell("that is under way")
		return
	}
	if err := os.Rename(s.file(), s.kept()); err != nil {
		s.out.tell("replace: %s", s.o.Line(err.Error()))
		return
	}
	s.removed = map[string]bool{}
	s.placed.saved = time.Now()
	s.out.tell("the handler is taken away; what runs may finish")
}

func (s *session) kept() string { return s.b.out + ".kept" }

func (s *session) letGo(m *member) {
	if s.removed == nil {
		s.out.tell("%s: the handler's file is gone", m.name)
		return
	}
	if s.removed[m.name] = true; len(s.removed) < len(s.net.members) {
		return
	}
	s.removed, s.told = nil, map[string]string{}
	_, err := os.Lstat(s.file())
	switch {
	case err == nil: // a newer one is there
		err = os.Remove(s.kept())
	case errors.Is(err, fs.ErrNotExist):
		err = os.Rename(s.kept(), s.file())
	}
	if err != nil {
		s.out.tell("replace: %s", s.o.Line(err.Error()))
	}
}
