package dev

import (
	"maps"
	"slices"
	"testing"
)

func TestSources(t *testing.T) {
	t.Parallel()
	main := &goModule{Path: "example.com/m", Dir: "/m", Main: true}
	list := []goPackage{
		{ImportPath: "fmt", Dir: "/go/fmt", Standard: true},
		{ImportPath: "example.com/far", Dir: "/cache/far", Module: &goModule{Path: "example.com/far", Dir: "/cache/far"}},
		{ImportPath: "example.com/fork", Dir: "/fork/sub", Module: &goModule{Path: "example.com/fork", Dir: "/fork", Replace: &struct{ Path, Version string }{"/fork", ""}}},
		{ImportPath: "example.com/swap", Dir: "/cache/swap", Module: &goModule{Path: "example.com/swap", Dir: "/cache/swap", Replace: &struct{ Path, Version string }{"x", "v1.0.0"}}},
		{ImportPath: "example.com/m/lib/missing", Error: &struct{ Err string }{"no such directory"}},
		{ImportPath: "example.com/m/cmd/dna", Dir: "/m/cmd/dna", Module: main, EmbedFiles: []string{"rules.json", "web/index.html"}},
	}
	s := sourcesOf(list, func(dir string) bool { return dir == "/m/lib" })
	want := []string{"/fork", "/fork/sub", "/m", "/m/cmd", "/m/cmd/dna", "/m/cmd/dna/web", "/m/lib"}
	if got := slices.Sorted(maps.Keys(s.dirs)); !slices.Equal(got, want) {
		t.Errorf("watched: %v\nwant %v", got, want)
	}
	for path, want := range map[string]bool{
		"/m/cmd/dna/main.go": true, "/m/go.mod": true, "/m/go.sum": true, "/m/x.s": true, "/m/cmd/dna/rules.json": true,
		"/m/cmd/dna/web/new.css": true, "/m/cmd/dna/other.json": false, "/m/cmd/dna/main_test.go": false, "/m/README.md": false,
		"/m/cmd/dna/.main.go.swp": false, "/m/cmd/dna/.#main.go": false, "/m/cmd/dna/main.go~": false, "/m/cmd/dna/4913": false,
		"/m/cmd/dna/web/.hidden": false, "/m/_old.go": false,
	} {
		if got := s.relevant(path); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
	for path, want := range map[string]bool{"/m/new": true, "/m/.git": false, "/m/testdata": false, "/m/_x": false, "/m/vendor": false} {
		if got := enters(path); got != want {
			t.Errorf("enters %s: %v", path, got)
		}
	}
}
