package plugin

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var sumA, sumB = strings.Repeat("ab", 32), strings.Repeat("0f", 32)

func TestParsePins(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Pins{
		"":                                      {},
		"# a comment\n\n  \t\n":                 {},
		sumA + "  auction\n" + sumB + " *b b\r": {sumA: "auction", sumB: "b b"},
		strings.ToUpper(sumA):                   {sumA: ""},
		sumA[1:] + "  short":                    nil,
		"auction":                               nil,
		sumA + "\tauction":                      nil,
		sumA + " " + strings.Repeat("x", 2000):  nil,
	} {
		got, err := ParsePins([]byte(text))
		if (err == nil) != (want != nil) || err == nil && !maps.Equal(got, want) {
			t.Errorf("%q: %v, %v; want %v", text, got, err, want)
		}
	}
}

func FuzzParsePins(f *testing.F) {
	f.Add([]byte(sumA + "  auction\n# x\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePins(b)
		if err != nil {
			return
		}
		path := filepath.Join(t.TempDir(), "pins")
		if err := p.Write(path); err != nil {
			t.Fatal(err)
		}
		again, err := ReadPins(path)
		if err != nil || len(again) != len(p) {
			t.Fatalf("%v, %v; want %v", again, err, p)
		}
		for sum := range p {
			if _, ok := again[sum]; !ok {
				t.Fatalf("%s is lost", sum)
			}
		}
	})
}

func TestPinsFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "pins")
	if p, err := ReadPins(path); err != nil || len(p) != 0 {
		t.Errorf("a missing file: %v, %v", p, err)
	}
	want := Pins{sumA: "auction", sumB: "b\nb"}
	if err := want.Write(path); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if got, err := ReadPins(path); err != nil || len(got) != 2 || got[sumA] != "auction" {
		t.Errorf("%v, %v", got, err)
	}
	if err := os.Chmod(path, 0o622); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadPins(path); err == nil || !strings.Contains(err.Error(), "chmod") {
		t.Errorf("a file that others may change: %v", err)
	}
	if os.Geteuid() != 0 {
		return // nobody else's file can be made
	}
	if err := errors.Join(os.Chmod(path, 0o600), os.Chown(path, 12345, -1)); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadPins(path); err == nil || !strings.Contains(err.Error(), "another user") {
		t.Errorf("another user's file: %v", err)
	}
}

// Only what is pinned runs, and what runs goes on.
func TestPinnedOnly(t *testing.T) {
	t.Parallel()
	dir, pins := t.TempDir(), filepath.Join(t.TempDir(), "pins")
	put(t, dir, "alpha.v", "one", true)
	n := startNode(t, Config{Dir: dir, Pins: pins, rescan: time.Millisecond})
	n.await(t, EventRejected)
	s := n.onlyStatus(t)
	if s.State != StateRejected || !strings.Contains(s.LastError, "not pinned") || s.PID != 0 || len(s.Quarantined) != 0 {
		t.Errorf("status %+v", s)
	}
	sum, err := HashFile(filepath.Join(dir, "alpha.v"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(s.LastError, sum) {
		t.Errorf("the error does not name %s: %s", sum, s.LastError)
	}
	if err := (Pins{sum: "alpha"}).Write(pins); err != nil {
		t.Fatal(err)
	}
	n.await(t, EventUp)
	h := n.handler(t, "alpha")
	put(t, dir, "alpha.v", "two", true)
	n.await(t, EventRejected)
	if v, s := versionOf(t, h), n.onlyStatus(t); v != "one" || len(s.Quarantined) != 0 || !strings.Contains(s.Refused, "not pinned") {
		t.Errorf("version %q, status %+v", v, s)
	}
	sum2, err := HashFile(filepath.Join(dir, "alpha.v"))
	if err != nil {
		t.Fatal(err)
	}
	if err := (Pins{sum: "alpha", sum2: "alpha"}).Write(pins); err != nil {
		t.Fatal(err)
	}
	n.await(t, EventSwapped)
	if v := versionOf(t, h); v != "two" {
		t.Errorf("version %q", v)
	}
	// A damaged file pins nothing.
	if err := os.WriteFile(pins, []byte("everything, please"), 0o600); err != nil {
		t.Fatal(err)
	}
	put(t, dir, "alpha.v", "three", true)
	if e := n.await(t, EventRejected); !strings.Contains(e.Text, "line 1") {
		t.Errorf("event %+v", e)
	}
}
