package plugin

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"
)

// Pins are binaries that may run, by their SHA-256 in hexadecimal: what each is
// called is for people only.
type Pins map[string]string

// MaxPins bounds the pins of a file.
const MaxPins = 4096

const (
	maxPinLine  = 1 << 10
	maxPinsFile = 2 * MaxPins * maxPinLine // with comments
)

// errNotPinned is the reason for which a binary does not run in strict mode.
var errNotPinned = errors.New("its SHA-256 is not pinned, and only pinned binaries run here")

// ReadPins reads a file of pins as sha256sum writes it: a line has the hash, two
// spaces or a space and an asterisk, and a name; lines that begin with # and
// empty ones are comments. A missing file has none.
func ReadPins(path string) (Pins, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe would wait
	if errors.Is(err, fs.ErrNotExist) {
		return Pins{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("pins: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("pins: %w", err)
	}
	if info.Mode()&0o022 != 0 {
		return nil, fmt.Errorf("pins: others may change %s: chmod go-w %s", path, path)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return nil, fmt.Errorf("pins: %s belongs to another user (%d), who may change it: chown it to yours", path, st.Uid)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxPinsFile+1))
	if err != nil {
		return nil, fmt.Errorf("pins: %w", err)
	}
	if len(b) > maxPinsFile {
		return nil, fmt.Errorf("pins: %s has more than %d bytes", path, maxPinsFile)
	}
	p, err := ParsePins(b)
	if err != nil {
		return nil, fmt.Errorf("pins: %s: %w", path, err)
	}
	return p, nil
}

// ParsePins reads what ReadPins finds in a file.
func ParsePins(b []byte) (Pins, error) {
	p := Pins{}
	lines := bufio.NewScanner(bytes.NewReader(b))
	lines.Buffer(nil, maxPinLine)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimRight(lines.Text(), " \t\r")
		if line == "" || line[0] == '#' {
			continue
		}
		sum, name, _ := strings.Cut(line, " ")
		sum = strings.ToLower(sum)
		if !isSum(sum) {
			return nil, fmt.Errorf("line %d does not begin with a SHA-256 in hexadecimal", n)
		}
		if p[sum] = strings.TrimLeft(name, " *"); len(p) > MaxPins {
			return nil, fmt.Errorf("more than %d pins", MaxPins)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("a line of more than %d bytes: %w", maxPinLine, err)
	}
	return p, nil
}

// Write replaces the file, whole or not at all. Only its owner may read it.
func (p Pins) Write(path string) error {
	var b bytes.Buffer
	b.WriteString("# Binaries that may run where only pinned ones do: sha256sum's format.\n")
	sums := slices.SortedFunc(maps.Keys(p), func(a, b string) int { return strings.Compare(p[a]+a, p[b]+b) })
	for _, sum := range sums {
		name := printable([]byte(p[sum]), maxPinLine/8) // it may grow
		fmt.Fprintf(&b, "%s  %s\n", sum, strings.ReplaceAll(name, "\n", " "))
	}
	if err := replaceFile(path, ".pins-*", b.Bytes()); err != nil {
		return fmt.Errorf("pins: %w", err)
	}
	return nil
}

// HashFile is a binary's SHA-256 as pins have it.
func HashFile(path string) (string, error) { return hashFile(path) }

// checkPinned says why a binary may not run; nil if it may. The file is read
// each time: it is small, and the operator's word counts at once.
func (c *Config) checkPinned(sum string) error {
	if c.Pins == "" {
		return nil
	}
	pins, err := ReadPins(c.Pins)
	if err != nil {
		return fmt.Errorf("%w: %w", errNotPinned, err)
	}
	if _, ok := pins[sum]; !ok {
		return fmt.Errorf("%w: %s (parley plugin pin FILE)", errNotPinned, sum)
	}
	return nil
}
