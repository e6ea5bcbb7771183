package sdk

import (
	"encoding/hex"
	"os"
	"strings"
	"testing"
)

// vector is one line of a file in testdata: "left = right", without comments.
// Lines that begin with a space continue the one before.
type vector struct{ left, right string }

func readVectors(t testing.TB, file string) (out []vector) {
	t.Helper()
	b, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		line, _, _ = strings.Cut(line, "#")
		more := strings.HasPrefix(line, " ")
		line = strings.TrimSpace(line)
		left, right, ok := strings.Cut(line, " = ")
		switch {
		case line == "":
		case more && len(out) > 0:
			out[len(out)-1].right += " " + line
		case ok:
			out = append(out, vector{left, right})
		case strings.HasSuffix(line, " ="):
			out = append(out, vector{strings.TrimSuffix(line, " ="), ""})
		default:
			t.Fatalf("%s: %q is no vector", file, line)
		}
	}
	if len(out) == 0 {
		t.Fatalf("%s holds no vector", file)
	}
	return out
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatalf("%q: %v", s, err)
	}
	return b
}
