package plugin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sort"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/time/rate"
)

const (
	// logRate and logBurst bound the lines per second that one handler may
	// write to the node's log; what exceeds them is counted and dropped.
	logRate, logBurst = 200, 1000
	// maxLogAttrs bounds the attributes of one line.
	maxLogAttrs = 32
	// maxWords bounds what is kept of a handler's last words.
	maxWords = 512
)

// outputs takes everything that one handler process prints to the node's log.
type outputs struct {
	stdout *lineSplitter // raw fd 1, owned by its reader
	stderr *lineSplitter // raw fd 2, owned by its reader
	sync   *syncWriter   // os.Stdout and os.Stderr of a Go handler, by go-plugin
	lines  *lineLog

	mu    sync.Mutex
	panic string // first line of a panic
	last  string // last line of stderr
}

func newOutputs(log *slog.Logger) *outputs {
	o := &outputs{lines: newLineLog(log)}
	o.stdout = &lineSplitter{line: func(b []byte, cut bool) { o.lines.text(slog.LevelInfo, "stdout", b, cut) }}
	o.stderr = &lineSplitter{line: o.stderrLine}
	o.sync = &syncWriter{s: lineSplitter{line: func(b []byte, cut bool) { o.lines.text(slog.LevelInfo, "stdout", b, cut) }}}
	return o
}

// close ends unfinished lines. It is called after the readers have ended.
func (o *outputs) close() {
	o.stderr.end()
	o.lines.flush()
}

func (o *outputs) stderrLine(b []byte, cut bool) {
	if len(bytes.TrimSpace(b)) == 0 {
		return
	}
	if !cut && b[0] == '{' && o.lines.json(b) {
		return
	}
	o.mu.Lock()
	level := slog.LevelInfo
	if o.panic == "" && (bytes.HasPrefix(b, []byte("panic: ")) || bytes.HasPrefix(b, []byte("fatal error: "))) {
		o.panic = printable(b, maxWords)
	}
	if o.panic != "" {
		level = slog.LevelError
	}
	o.last = printable(b, maxWords)
	o.mu.Unlock()
	o.lines.text(level, "stderr", b, cut)
}

// lastWords is what the process said of its end: the panic, or the last line.
func (o *outputs) lastWords() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.panic != "" {
		return o.panic
	}
	return o.last
}

// syncWriter is a lineSplitter for several goroutines.
type syncWriter struct {
	mu sync.Mutex
	s  lineSplitter
}

func (w *syncWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.s.Write(p)
}

// lineLog writes lines of unknown origin to a log: bounded, limited, and
// without a panic whatever they hold.
type lineLog struct {
	log *slog.Logger

	mu      sync.Mutex
	limit   *rate.Limiter
	dropped int
}

func newLineLog(log *slog.Logger) *lineLog {
	return &lineLog{log: log, limit: rate.NewLimiter(logRate, logBurst)}
}

// allow tells whether one more line may be written now.
func (l *lineLog) allow() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.limit.AllowN(time.Now(), 1) {
		l.dropped++
		return false
	}
	if l.dropped > 0 {
		l.log.Warn("the handler logs too much; lines were dropped", "dropped", l.dropped, "lines per second", logRate)
		l.dropped = 0
	}
	return true
}

// flush tells of lines dropped since the last that was written.
func (l *lineLog) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dropped > 0 {
		l.log.Warn("the handler logged too much; lines were dropped", "dropped", l.dropped, "lines per second", logRate)
		l.dropped = 0
	}
}

func (l *lineLog) text(level slog.Level, stream string, b []byte, cut bool) {
	if len(b) == 0 || !l.allow() {
		return
	}
	args := []any{"stream", stream}
	if cut {
		args = append(args, "cut at", maxLine)
	}
	l.log.Log(context.Background(), level, printable(b, maxLine), args...)
}

// json logs a line of hclog's or slog's JSON form. It tells whether b was one;
// values of an unexpected type are logged as they are.
func (l *lineLog) json(b []byte) bool {
	var fields map[string]any
	if json.Unmarshal(b, &fields) != nil {
		return false
	}
	text, ok := take(fields, "@message", "msg", "message").(string)
	if !ok {
		return false
	}
	name, _ := take(fields, "@level", "level").(string)
	delete(fields, "@timestamp")
	delete(fields, "time")
	if !l.allow() {
		return true
	}
	keys := make([]string, 0, len(fields))
	for k := range fields {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	attrs := make([]slog.Attr, 0, min(len(keys), maxLogAttrs))
	for _, k := range keys[:min(len(keys), maxLogAttrs)] {
		attrs = append(attrs, slog.String(printable([]byte(k), maxWords), jsonText(fields[k])))
	}
	l.log.LogAttrs(context.Background(), levelOf(name), printable([]byte(text), maxLine), attrs...)
	return true
}

// take removes the keys and gives the value of the first that is there.
func take(fields map[string]any, keys ...string) (v any) {
	for _, k := range keys {
		if f, ok := fields[k]; ok {
			if v == nil {
				v = f
			}
			delete(fields, k)
		}
	}
	return v
}

func jsonText(v any) string {
	if s, ok := v.(string); ok {
		return printable([]byte(s), maxLine)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return printable(b, maxLine)
}

func levelOf(name string) slog.Level {
	switch strings.ToLower(name) {
	case "trace", "debug":
		return slog.LevelDebug
	case "warn", "warning":
		return slog.LevelWarn
	case "error", "fatal", "panic":
		return slog.LevelError
	}
	return slog.LevelInfo
}

// printable is b as text without control characters: a handler must not write
// escape sequences to the operator's terminal.
func printable(b []byte, limit int) string {
	if len(b) > limit {
		b = b[:limit]
	}
	clean := true
	for _, c := range b {
		if c < ' ' && c != '\t' || c >= 0x7f {
			clean = false
			break
		}
	}
	if clean {
		return string(b)
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t' || r == '\n':
			return r
		case r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0:
			return '\uFFFD'
		}
		return r
	}, strings.ToValidUTF8(string(b), string(utf8.RuneError)))
}
