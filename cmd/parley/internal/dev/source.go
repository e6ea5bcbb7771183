package dev

import (
	"path/filepath"
	"slices"
	"strings"
)

// goPackage is what go list says of a package.
type goPackage struct {
	Dir, ImportPath, Name string
	Standard, DepOnly     bool
	Module                *goModule
	EmbedFiles            []string
	Error                 *struct{ Err string }
}

type goModule struct {
	Path, Dir, GoMod string
	Main             bool
	Replace          *struct{ Path, Version string }
}

// local tells whether the author may edit a module: it is the one he builds in,
// or stands in for another by a directory.
func (m *goModule) local() bool { return m.Main || m.Replace != nil && m.Replace.Version == "" }

// sources are the files of which a DNA is made, as far as its author edits them.
type sources struct {
	dirs     map[string]bool // to be watched, not what lies below
	embedded map[string]bool // files
	trees    map[string]bool // directories that hold embedded files, and no package
}

// sourcesOf lists them for packages that depend on one another. exists tells of a
// directory whether it is there: the parent of a missing package's is watched.
func sourcesOf(list []goPackage, exists func(dir string) bool) *sources {
	s := &sources{dirs: map[string]bool{}, embedded: map[string]bool{}, trees: map[string]bool{}}
	modules := map[string]*goModule{}
	for _, p := range list {
		if p.Module == nil || !p.Module.local() {
			continue
		}
		modules[p.Module.Path] = p.Module
		s.addDir(p.Dir, p.Module.Dir)
		for _, f := range p.EmbedFiles {
			path := filepath.Join(p.Dir, f)
			s.embedded[path] = true
			if dir := filepath.Dir(path); dir != p.Dir {
				s.dirs[dir], s.trees[dir] = true, true
			}
		}
	}
	for _, p := range list {
		if p.Module != nil || p.Standard || p.Error == nil {
			continue
		}
		for path, m := range modules {
			below, ok := strings.CutPrefix(p.ImportPath, path+"/")
			if !ok {
				continue
			}
			dir := filepath.Join(m.Dir, filepath.FromSlash(below))
			for dir != m.Dir && !exists(dir) {
				dir = filepath.Dir(dir)
			}
			s.addDir(dir, m.Dir)
		}
	}
	return s
}

// addDir adds a directory and those above it up to the module's own, where go.mod
// lies and where new packages appear.
func (s *sources) addDir(dir, root string) {
	for dir != "" {
		s.dirs[dir] = true
		parent := filepath.Dir(dir)
		if dir == root || parent == dir || !strings.HasPrefix(dir, root) {
			return
		}
		dir = parent
	}
}

// compiled are the endings of files that go build may read.
var compiled = []string{".go", ".s", ".S", ".c", ".h", ".cc", ".cpp", ".cxx", ".hh", ".hpp", ".hxx", ".m", ".sx", ".syso", ".f", ".swig"}

// relevant tells whether a change of a file may change the binary.
func (s *sources) relevant(path string) bool {
	name := filepath.Base(path)
	switch {
	case s.embedded[path]:
		return true
	case strings.HasPrefix(name, "."), strings.HasPrefix(name, "_"), strings.HasSuffix(name, "~"):
		return false
	case name == "go.mod", name == "go.sum", name == "go.work":
		return true
	case s.trees[filepath.Dir(path)]:
		return true
	}
	return slices.Contains(compiled, filepath.Ext(name)) && !strings.HasSuffix(name, "_test.go")
}

// enters tells whether a directory that appeared may come to hold a package.
func enters(path string) bool {
	name := filepath.Base(path)
	return !strings.HasPrefix(name, ".") && !strings.HasPrefix(name, "_") && name != "testdata" && name != "vendor" && name != "node_modules"
}
