package main

import (
	"encoding/json"
	"errors"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/parley-p2p/parley"

// arrows is the table of docs/architecture.md: which of the module's packages
// each may import. A name that ends in /* stands for every package below it.
// What lies inside a package's own directory (generated code, internal/) is
// that package's.
var arrows = []arrow{
	{from: "cmd/parley", to: []string{"node", "node/control", "dht/sim", "sdk"}},
	{from: "node", to: []string{"transport", "dht", "node/chain", "node/control", "plugin", "sdk", "sdk/agency"}, testTo: []string{"sdk/sdktest", "sdk/serve"}},
	{from: "node/control", to: []string{"sdk"}, own: []string{"node/control/controlpb"}},
	{from: "node/chain", to: []string{"sdk"}},
	{from: "plugin", to: []string{"sdk", "sdk/handlerpb"}, testTo: []string{"sdk/serve", "sdk/sdktest"}},
	{from: "sdk/serve", to: []string{"sdk", "sdk/handlerpb"}, testTo: []string{"sdk/sdktest"}},
	{from: "sdk/handlerpb", to: []string{"sdk"}},
	{from: "sdk/agency", to: []string{"sdk"}},
	{from: "sdk/sdktest", to: []string{"sdk", "sdk/agency"}},
	{from: "examples/*", to: []string{"sdk", "sdk/serve"}, testTo: []string{"sdk/sdktest"}},
	{from: "dht/sim", to: []string{"dht"}},
	{from: "transport"}, {from: "dht"}, {from: "sdk"},
	{from: "node/control/controlpb"},
	{from: "plugin/internal/*"},
	{from: "cmd/parley/internal/dev", to: []string{"node", "node/control", "sdk"}},
	{from: "cmd/parley/internal/*", to: []string{"node/control", "sdk"}},
}

// arrow is one row: what from may import, and what its tests may besides.
type arrow struct {
	from            string
	to, testTo, own []string
}

// goPackage is what go list -json says of a package.
type goPackage struct {
	ImportPath, Dir, Name              string
	GoFiles                            []string
	Imports, TestImports, XTestImports []string
}

func listPackages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,Name,GoFiles,Imports,TestImports,XTestImports", module+"/...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var list []goPackage
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	if len(list) < len(arrows)/2 {
		t.Fatalf("go list found %d packages", len(list))
	}
	return list
}

func rowOf(name string) (arrow, bool) {
	for _, a := range arrows {
		below, wild := strings.CutSuffix(a.from, "*")
		if name == a.from || wild && strings.HasPrefix(name, below) {
			return a, true
		}
	}
	return arrow{}, false
}

// wrongArrows are the imports that a row does not allow.
func wrongArrows(name string, imports, allowed []string) []string {
	var wrong []string
	for _, i := range imports {
		to, ours := strings.CutPrefix(i, module+"/")
		if !ours || to == name || slices.Contains(allowed, to) || strings.HasPrefix(to, name+"/internal/") {
			continue
		}
		wrong = append(wrong, to)
	}
	return wrong
}

func TestArrows(t *testing.T) {
	t.Parallel()
	seen := 0
	for _, p := range listPackages(t) {
		name := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		if name == "" && len(p.GoFiles) == 0 {
			continue
		}
		row, ok := rowOf(name)
		if !ok {
			t.Errorf("package %s stands in no row of the arrow table: add it here and in docs/architecture.md", p.ImportPath)
			continue
		}
		seen++
		allowed := append(slices.Clone(row.to), row.own...)
		for _, to := range wrongArrows(name, p.Imports, allowed) {
			t.Errorf("%s imports %s: an arrow that docs/architecture.md does not have", name, to)
		}
		allowed = append(allowed, row.testTo...)
		for _, to := range wrongArrows(name, append(p.TestImports, p.XTestImports...), allowed) {
			t.Errorf("a test of %s imports %s: an arrow that docs/architecture.md does not have", name, to)
		}
	}
	if seen == 0 {
		t.Error("no package was checked")
	}
}

// TestArrowsAreSeen makes sure that a forbidden import would be found.
func TestArrowsAreSeen(t *testing.T) {
	t.Parallel()
	row, ok := rowOf("examples/auction")
	if !ok {
		t.Fatal("no row for examples")
	}
	imports := []string{"fmt", module + "/sdk", module + "/sdk/serve", module + "/node"}
	if got := wrongArrows("examples/auction", imports, row.to); !slices.Equal(got, []string{"node"}) {
		t.Errorf("got %v, want [node]", got)
	}
	if _, ok := rowOf("util"); ok {
		t.Error("a package without a row has one")
	}
}

// TestPackageDocs holds every package to a doc.go that a newcomer can start
// from. A command of one file has its comment there.
func TestPackageDocs(t *testing.T) {
	t.Parallel()
	for _, p := range listPackages(t) {
		if len(p.GoFiles) == 0 || p.ImportPath == module {
			continue
		}
		file := "doc.go"
		if len(p.GoFiles) == 1 && p.Name == "main" {
			file = p.GoFiles[0]
		}
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, file), nil, parser.ParseComments|parser.PackageClauseOnly)
		switch {
		case err != nil:
			t.Errorf("%s: %v", p.ImportPath, err)
		case f.Doc == nil || len(f.Doc.Text()) < 40:
			t.Errorf("%s: the package comment in %s says too little", p.ImportPath, file)
		}
	}
}

// TestArrowTableIsTheDocuments holds arrows against the table that people read.
func TestArrowTableIsTheDocuments(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(text), "| package | imports |\n|---|---|\n")
	if !ok {
		t.Fatal("docs/architecture.md has no arrow table")
	}
	table, _, _ = strings.Cut(table, "\n\n")
	quoted := regexp.MustCompile("`([^`]+)`")
	names := func(s string) (out []string) {
		for _, m := range quoted.FindAllStringSubmatch(s, -1) {
			out = append(out, m[1])
		}
		slices.Sort(out)
		return out
	}
	rows := 0
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) != 4 {
			t.Fatalf("not a row: %q", line)
		}
		imports, _, _ := strings.Cut(cells[2], "in tests")
		for _, from := range names(cells[1]) {
			i := slices.IndexFunc(arrows, func(a arrow) bool { return a.from == from })
			if i < 0 {
				t.Errorf("the document has a row for %s, the test none", from)
				continue
			}
			rows++
			to := slices.Sorted(slices.Values(arrows[i].to))
			if !slices.Equal(to, names(imports)) {
				t.Errorf("%s: the document has %v, the test %v", from, names(imports), to)
			}
		}
	}
	if rows < 12 {
		t.Errorf("the document's table has %d rows", rows)
	}
}
