package dev

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
)

// maxWaiting bounds the lines that wait for a terminal that takes none. Log lines
// beyond it are left out and counted; whoever tells anything else waits.
const maxWaiting = 4096

// output prints what all have to say, a line at a time.
type output struct {
	out, log io.Writer
	queue    chan printed
	left     atomic.Int64 // log lines left out
	done     sync.WaitGroup
}

type printed struct {
	to   io.Writer
	text string
}

func newOutput(out, log io.Writer) *output {
	o := &output{out: out, log: log, queue: make(chan printed, maxWaiting)}
	o.done.Go(o.run)
	return o
}

func (o *output) run() {
	for p := range o.queue {
		_, _ = io.WriteString(p.to, p.text) // where it fails nobody can be told
		if n := o.left.Swap(0); n > 0 {
			fmt.Fprintf(o.log, "... %d lines of the log left out\n", n)
		}
	}
}

// close prints what waits. Nobody may print afterwards.
func (o *output) close() {
	close(o.queue)
	o.done.Wait()
}

// tell prints a line on standard output.
func (o *output) tell(format string, args ...any) {
	o.queue <- printed{o.out, fmt.Sprintf(format, args...) + "\n"}
}

// logOf takes the log of a node: whole lines, as slog writes them.
func (o *output) logOf(prefix string) io.Writer { return &prefixed{o, prefix} }

type prefixed struct {
	o      *output
	prefix string
}

func (p *prefixed) Write(b []byte) (int, error) {
	for line := range bytes.Lines(b) {
		select {
		case p.o.queue <- printed{p.o.log, p.prefix + strings.TrimRight(string(line), "\n") + "\n"}:
		default:
			p.o.left.Add(1)
		}
	}
	return len(b), nil
}

// colours of the nodes' names: none is red, which is for errors.
var colours = []int{36, 33, 35, 32, 34, 96, 93, 95}

// prefixes give each name the same width.
func prefixes(names []string, colour bool) map[string]string {
	width := 0
	for _, n := range names {
		width = max(width, len(n))
	}
	out := map[string]string{}
	for i, n := range names {
		text := fmt.Sprintf("%-*s | ", width, n)
		if colour {
			text = fmt.Sprintf("\x1b[%dm%s\x1b[0m", colours[i%len(colours)], text)
		}
		out[n] = text
	}
	return out
}
