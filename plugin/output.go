package plugin

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"
)

// past is a deadline that has passed: it wakes a reader.
var past = time.Unix(1, 0)

const (
	// maxLine bounds a line of a handler's output; the rest of it is cut off.
	maxLine = 16 << 10
	// maxBeforeHandshake bounds what a program may print before the handshake.
	maxBeforeHandshake = 64 << 10
	// drainMax bounds what is still read from a pipe after its process ended:
	// a pipe holds at most 1 MiB.
	drainMax = 1 << 20
)

// readAll copies a pipe to w until its end, or until a deadline wakes it; then
// it takes what the pipe still holds, without waiting.
func readAll(f *os.File, w io.Writer) {
	buf := make([]byte, 32<<10)
	for {
		n, err := f.Read(buf)
		_, _ = w.Write(buf[:n])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			return
		}
	}
	if f.SetReadDeadline(time.Time{}) != nil {
		return
	}
	c, err := f.SyscallConn()
	if err != nil {
		return
	}
	_ = c.Read(func(fd uintptr) bool {
		for total := 0; total < drainMax; {
			n, err := syscall.Read(int(fd), buf)
			if n <= 0 || err != nil {
				break
			}
			total += n
			_, _ = w.Write(buf[:n])
		}
		return true
	})
}

// lineSplitter cuts a stream into lines of at most maxLine bytes. What exceeds
// that is dropped up to the next newline.
type lineSplitter struct {
	line func(b []byte, cut bool) // b is only valid during the call
	buf  []byte
	cut  bool
}

func (s *lineSplitter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		part, rest, found := bytes.Cut(p, []byte{'\n'})
		room := maxLine - len(s.buf)
		if len(part) > room {
			part, s.cut = part[:room], true
		}
		s.buf = append(s.buf, part...)
		if found {
			s.flush()
		}
		p = rest
	}
	return n, nil
}

func (s *lineSplitter) flush() {
	s.line(bytes.TrimSuffix(s.buf, []byte{'\r'}), s.cut)
	s.buf, s.cut = s.buf[:0], false
}

// end gives an unfinished last line.
func (s *lineSplitter) end() {
	if len(s.buf) > 0 {
		s.flush()
	}
}

// handshakeFinder passes the first line that is go-plugin's handshake to pass,
// and every other line to rest.
type handshakeFinder struct {
	pass   io.Writer
	rest   *lineSplitter
	giveUp func(error)

	found bool
	seen  int
	lines *lineSplitter
}

func (h *handshakeFinder) Write(p []byte) (int, error) {
	if h.found {
		return h.rest.Write(p)
	}
	if h.lines == nil {
		h.lines = &lineSplitter{line: h.line}
	}
	h.seen += len(p)
	n, err := h.lines.Write(p)
	if !h.found && h.seen > maxBeforeHandshake {
		h.giveUp(fmt.Errorf("it printed more than %d bytes on standard output and no handshake: it is no handler", maxBeforeHandshake))
		h.found = true // the rest is only drained
	}
	return n, err
}

func (h *handshakeFinder) line(b []byte, cut bool) {
	if h.found || cut || !isHandshake(b) {
		h.rest.line(b, cut)
		return
	}
	h.found = true
	_, _ = h.pass.Write(append(bytes.Clone(b), '\n'))
}

func (h *handshakeFinder) end() {
	if h.lines != nil {
		h.lines.end()
	}
	h.rest.end()
}

// isHandshake tells whether a line is core|protocol|network|address|….
func isHandshake(b []byte) bool {
	f := bytes.Split(b, []byte{'|'})
	if len(f) < 5 || len(f) > 16 {
		return false
	}
	for _, n := range f[:2] {
		if len(n) == 0 || len(bytes.Trim(n, "0123456789")) != 0 {
			return false
		}
	}
	return true
}
