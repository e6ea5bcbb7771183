package sandbox

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A sealed program is the one that was named, and nothing else is started.
func TestSeal(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	kernel := Probe(Start)
	sum := func(b []byte) string { s := sha256.Sum256(b); return hex.EncodeToString(s[:]) }
	script := []byte("#!/bin/sh\necho hello\n")
	for name, c := range map[string]struct {
		content []byte
		sum     string
		want    string // in its output
		ok      bool
	}{
		"the one":    {b, sum(b), "memfd:handler", true},
		"another":    {b, sum(b[1:]), "it was changed in between", false},
		"a script":   {script, sum(script), "only ELF binaries can be pinned", false},
		"half a one": {b[:3], sum(b[:3]), "EOF", false},
	} {
		path := filepath.Join(t.TempDir(), "program")
		if err := os.WriteFile(path, c.content, 0o500); err != nil {
			t.Fatal(err)
		}
		cmd, err := Command(&Spec{Path: path, Name: "attack", Sum: c.sum, Layers: kernel.Works(), ABI: kernel.ABI,
			OpenFiles: 256, Processes: 256}, []string{"ATTACK=exe", "TARGET="}, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := Start(cmd); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); (err == nil) != c.ok || !strings.Contains(out.String(), c.want) {
			t.Errorf("%s: %v, %q; want %q", name, err, out.String(), c.want)
		}
	}
}
