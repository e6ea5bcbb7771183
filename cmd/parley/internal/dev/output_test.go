package dev

import (
	"fmt"
	"io"
	"strings"
	"testing"
)

func TestPrefixes(t *testing.T) {
	t.Parallel()
	plain := prefixes([]string{"alice", "bob"}, false)
	if plain["alice"] != "alice | " || plain["bob"] != "bob   | " {
		t.Errorf("%q", plain)
	}
	colour := prefixes([]string{"alice", "bob"}, true)
	if colour["alice"] == colour["bob"] || colour["bob"] != "\x1b[33mbob   | \x1b[0m" {
		t.Errorf("%q", colour)
	}
}

func TestOutput(t *testing.T) {
	t.Parallel()
	var out, log strings.Builder
	o := newOutput(&out, &log)
	w := o.logOf("bob | ")
	if n, err := io.WriteString(w, "one\ntwo\n"); n != 8 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	o.tell("answer %d", 7)
	o.close()
	if out.String() != "answer 7\n" || log.String() != "bob | one\nbob | two\n" {
		t.Errorf("%q, %q", out.String(), log.String())
	}
}

// gate holds writes up until it is opened.
type gate struct {
	text          strings.Builder
	entered, open chan struct{}
}

func (g *gate) Write(b []byte) (int, error) {
	select {
	case g.entered <- struct{}{}:
	default:
	}
	<-g.open
	return g.text.Write(b)
}

// TestFlood: a terminal that takes nothing holds no node up. What was left out is counted.
func TestFlood(t *testing.T) {
	t.Parallel()
	g := &gate{entered: make(chan struct{}, 1), open: make(chan struct{})}
	o := newOutput(io.Discard, g)
	w := o.logOf("")
	fmt.Fprintln(w, "first")
	<-g.entered
	for range maxWaiting + 10 {
		fmt.Fprintln(w, "x")
	}
	close(g.open)
	o.close()
	if got := g.text.String(); !strings.Contains(got, "first\n... 10 lines of the log left out\n") || strings.Count(got, "x\n") != maxWaiting {
		t.Errorf("%d lines: %.200s", strings.Count(got, "\n"), got)
	}
}
