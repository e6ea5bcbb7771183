package main

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestPluginNew(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(inTree(t), "new")
	out := cmd("plugin", "new", "guestbook", "--dir", dir).ok(t)
	for _, want := range []string{"main.go, main_test.go\n", "go test ./" + dir + "\n", "parley dev ./" + dir + "\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	for _, r := range []result{
		cmd("plugin", "new", "guestbook", "--dir", dir), // it is there
		cmd("plugin", "new", "Guest Book"),
		cmd("plugin", "new"),
	} {
		if r.code != exitUsage || strings.Count(r.err, "\n") != 1 {
			t.Errorf("exit code %d, %s", r.code, r.err)
		}
	}
	w := okJSON[written](t, cmd("plugin", "new", "second", "--dir", filepath.Join(dir, "second"), "--json"))
	if len(w.Files) != 2 || w.Module {
		t.Errorf("%+v", w)
	}
}
