package plugin

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestSettling(t *testing.T) {
	t.Parallel()
	start := time.Unix(1_000_000, 0)
	print := func(inode uint64, size int64) fingerprint {
		return fingerprint{inode: inode, size: size, ctime: start.Add(time.Duration(size) * time.Millisecond)}
	}
	a1, a2 := found{name: "a", print: print(1, 1)}, found{name: "a", print: print(1, 2)}
	busy := a2
	busy.busy = true
	skip := a1
	skip.skip = errors.New("text")
	moved := found{name: "b", print: print(1, 1)}
	moved.print.ctime = start.Add(time.Second)
	type look struct {
		at    int // milliseconds
		files []found
		want  string // changes
		again int    // milliseconds
	}
	for name, looks := range map[string][]look{
		"drops in": {{0, nil, "", 0}, {10, []found{a1}, "", 100}, {60, []found{a1}, "", 50}, {110, []found{a1}, "+a", 0}, {900, []found{a1}, "", 0}},
		"was there before, and is new": {
			{101, []found{a1, {name: "z", print: print(2, 90)}}, "+a", 89}, {190, []found{a1, {name: "z", print: print(2, 90)}}, "+z", 0}},
		"grows":                       {{0, nil, "", 0}, {10, []found{a1}, "", 100}, {100, []found{a2}, "", 100}, {110, []found{a2}, "", 90}, {200, []found{a2}, "+a", 0}},
		"is written to":               {{500, []found{busy}, "", 100}, {600, []found{busy}, "", 100}, {650, []found{a2}, "", 50}, {700, []found{a2}, "+a", 0}},
		"goes":                        {{500, []found{a1}, "+a", 0}, {600, nil, "", 300}, {899, nil, "", 1}, {900, nil, "-a", 0}, {2000, nil, "", 0}},
		"goes and comes back":         {{500, []found{a1}, "+a", 0}, {600, nil, "", 300}, {700, []found{a1}, "", 0}, {2000, []found{a1}, "", 0}},
		"goes before it was complete": {{0, nil, "", 0}, {10, []found{a1}, "", 100}, {20, nil, "", 300}, {320, nil, "", 0}},
		"goes while it is replaced":   {{500, []found{a1}, "+a", 0}, {600, []found{a2}, "", 100}, {610, nil, "", 300}, {910, nil, "-a", 0}},
		"is renamed":                  {{500, []found{a1}, "+a", 0}, {600, []found{moved}, "", 100}, {700, []found{moved}, "+b<a", 0}, {2000, []found{moved}, "", 0}},
		"is no handler any more":      {{500, []found{a1}, "+a", 0}, {600, []found{skip}, "", 100}, {700, []found{skip}, "+a text", 0}},
	} {
		s := newSettling(100*time.Millisecond, 300*time.Millisecond)
		for i, l := range looks {
			changes, again := s.observe(start.Add(time.Duration(l.at)*time.Millisecond), l.files)
			var got []string
			for _, c := range changes {
				text := "+" + c.name
				if c.gone {
					text = "-" + c.name
				}
				if c.from != "" {
					text += "<" + c.from
				}
				if c.skip != nil {
					text += " " + c.skip.Error()
				}
				got = append(got, text)
			}
			if strings.Join(got, ", ") != l.want || again != time.Duration(l.again)*time.Millisecond {
				t.Errorf("%s, look %d: %q, again after %s; want %q, %d ms", name, i, got, again, l.want, l.again)
			}
		}
	}
}

func TestBeingWritten(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "f")
	w, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	r, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if !beingWritten(r) {
		t.Error("a file that is open for writing")
	}
	w.Close()
	for range 2 { // the first look leaves nothing behind
		if beingWritten(r) {
			t.Error("a file that nobody has open for writing")
		}
	}
}

// A binary that is cut short anywhere is no program.
func TestHalfBinary(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, n := range []int{1, 4, 20, 64, 200, len(whole) / 2, len(whole) - 1, len(whole)} {
		f := found{name: fmt.Sprint(n)}
		if err := os.WriteFile(filepath.Join(dir, f.name), whole[:n], 0o700); err != nil {
			t.Fatal(err)
		}
		if err := f.look(dir); (err == nil) != (n == len(whole)) {
			t.Errorf("%d bytes of %d: %v", n, len(whole), err)
		}
		_ = os.Remove(filepath.Join(dir, f.name))
	}
}
