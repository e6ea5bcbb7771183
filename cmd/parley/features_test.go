package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var namedTest = regexp.MustCompile("`(?:([a-z/]+)\\.)?(Test[A-Za-z0-9]+)`")

// featureTests are the tests that the rows of the README's table of features name, as
// DIRECTORY.TEST, by feature.
func featureTests(readme string) map[string][]string {
	_, table, _ := strings.Cut(readme, "\n## Features\n")
	table, _, _ = strings.Cut(table, "\n## ")
	rows := map[string][]string{}
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 3 || strings.HasPrefix(cells[0], "---") || strings.TrimSpace(cells[0]) == "feature" {
			continue
		}
		feature := strings.TrimSpace(cells[0])
		rows[feature] = nil
		for _, m := range namedTest.FindAllStringSubmatch(cells[2], -1) {
			dir := m[1]
			if dir == "" {
				dir = "cmd/parley"
			}
			rows[feature] = append(rows[feature], dir+"."+m[2])
		}
	}
	return rows
}

// testFunctions are the names of a package's tests.
func testFunctions(t *testing.T, dir string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("../..", dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			fn, is := d.(*ast.FuncDecl)
			if is && fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "Test") && len(fn.Type.Params.List) == 1 {
				star, is := fn.Type.Params.List[0].Type.(*ast.StarExpr)
				if !is {
					continue
				}
				if of, is := star.X.(*ast.SelectorExpr); is && of.Sel.Name == "T" {
					found[fn.Name.Name] = true
				}
			}
		}
	}
	return found
}

// TestFeaturesAreShown: each row of the README's table of features names tests, and
// they exist.
func TestFeaturesAreShown(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := featureTests(string(readme))
	if len(rows) < 10 {
		t.Errorf("a table of %d features", len(rows))
	}
	known := map[string]map[string]bool{}
	for feature, tests := range rows {
		if len(tests) == 0 {
			t.Errorf("%s: no test is named", feature)
		}
		for _, test := range tests {
			dir, name, _ := strings.Cut(test, ".")
			if known[dir] == nil {
				known[dir] = testFunctions(t, dir)
			}
			if !known[dir][name] {
				t.Errorf("%s: %s has no test %s", feature, dir, name)
			}
		}
	}
}

func TestFeatureTests(t *testing.T) {
	t.Parallel()
	rows := featureTests("# x\n\n## Features\n\n| feature | how | shown by |\n|---|---|---|\n| a | `b` | `TestA`, `node.TestB` |\n| c | d | e |\n\n## y\n| f | g | `TestC` |\n")
	if len(rows) != 2 || strings.Join(rows["a"], " ") != "cmd/parley.TestA node.TestB" || rows["c"] != nil {
		t.Errorf("%v", rows)
	}
	if testFunctions(t, "cmd/parley")["TestMain"] {
		t.Error("TestMain counts as a test")
	}
}
