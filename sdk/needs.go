package sdk

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// MaxNeeds bounds the needs of one DNA, MaxNeed one of them in bytes.
	MaxNeeds = 32
	MaxNeed  = 4 << 10
)

// Needs says what the DNA's program can't do without and a node does not give of
// its own accord. Each is one of
//
//	network        connections to other machines and this one
//	read:PATH      to read a file, or all below a directory
//	write:PATH     to change it, too
//	memory:BYTES   if a node allows less
//
// The operator grants them in his node's settings, word for word; until then the
// handler is not run, and its status says what is missing.
func Needs(needs ...string) Part {
	return Part{func(d *Definition) {
		for _, n := range needs {
			if err := CheckNeed(n); err != nil {
				d.fault("%w", err)
			}
			if !slices.Contains(d.needs, n) {
				d.needs = append(d.needs, n)
			}
		}
		if len(d.needs) > MaxNeeds {
			d.fault("%d needs, at most %d allowed", len(d.needs), MaxNeeds)
		}
	}}
}

// CheckNeed tells what is wrong with a need, or with the grant of one.
func CheckNeed(need string) error {
	if len(need) > MaxNeed {
		return fmt.Errorf("a need of %d bytes, at most %d allowed", len(need), MaxNeed)
	}
	kind, arg, _ := strings.Cut(need, ":")
	switch kind {
	case "network":
		if need == "network" {
			return nil
		}
	case "read", "write":
		if !path.IsAbs(arg) || path.Clean(arg) != arg || !utf8.ValidString(arg) || strings.ContainsFunc(arg, unicode.IsControl) {
			return fmt.Errorf("need %q: an absolute path without . and .. expected", need)
		}
		return nil
	case "memory":
		if n, err := strconv.ParseInt(arg, 10, 64); err != nil || n <= 0 {
			return fmt.Errorf("need %q: a number of bytes expected", need)
		}
		return nil
	}
	return fmt.Errorf("need %q: network, read:PATH, write:PATH or memory:BYTES expected", need)
}
