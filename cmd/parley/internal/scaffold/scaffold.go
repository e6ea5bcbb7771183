package scaffold

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"text/template"

	"github.com/parley-p2p/parley/sdk"
)

//go:embed templates/*.tmpl
var files embed.FS

var templates = template.Must(template.ParseFS(files, "templates/*.tmpl"))

// Options say what is written.
type Options struct {
	Name string // of the DNA
	Dir  string // a directory that is not there, or empty; its parent is there
	Origin
}

// Result is what was written.
type Result struct {
	Files  []string // names within the directory
	Module bool     // a go.mod is among them
	Untidy error    // go mod tidy failed; it builds nevertheless
}

// ErrName, ErrTaken: nothing was done.
var (
	ErrName  = errors.New("not the name of a DNA")
	ErrTaken = errors.New("nothing is overwritten: name another directory with --dir")
)

// Write writes a DNA with its test. After an error nothing of it is left.
func Write(ctx context.Context, o Options) (r Result, err error) {
	if err := sdk.CheckName(o.Name); err != nil {
		return r, fmt.Errorf("%w: %w", ErrName, err)
	}
	mod, err := o.moduleFor(ctx, filepath.Dir(o.Dir))
	if err != nil {
		return r, err
	}
	made, err := claim(o.Dir)
	if err != nil {
		return r, err
	}
	w := &writer{dir: o.Dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.undo(made))
			r = Result{}
		}
	}()
	for _, f := range []string{"main.go", "main_test.go"} {
		w.template(f, o)
	}
	if mod != nil {
		w.template("go.mod", mod)
		w.file("go.sum", mod.sums)
	}
	r = Result{Files: w.names, Module: mod != nil}
	if w.err == nil && mod != nil {
		r.Untidy, w.err = tidy(ctx, o.Dir)
	}
	return r, w.err
}

// claim makes the directory, or finds it empty.
func claim(dir string) (made bool, err error) {
	err = os.Mkdir(dir, 0o777)
	if !errors.Is(err, fs.ErrExist) {
		return err == nil, err
	}
	entries, err := os.ReadDir(dir)
	if err == nil && len(entries) > 0 {
		err = fmt.Errorf("%s is not empty; %w", dir, ErrTaken)
	}
	return false, err
}

// writer writes files until one can't be written.
type writer struct {
	dir   string
	names []string
	err   error
}

func (w *writer) template(name string, data any) {
	var b bytes.Buffer
	if w.err == nil {
		w.err = templates.ExecuteTemplate(&b, name+".tmpl", data)
	}
	w.file(name, b.Bytes())
}

func (w *writer) file(name string, text []byte) {
	if w.err != nil {
		return
	}
	f, err := os.OpenFile(filepath.Join(w.dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		w.err = err
		return
	}
	w.names = append(w.names, name)
	_, err = f.Write(text)
	w.err = errors.Join(err, f.Close())
}

// undo removes what was written.
func (w *writer) undo(made bool) error {
	var errs []error
	for _, name := range w.names {
		if err := os.Remove(filepath.Join(w.dir, name)); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	if made {
		errs = append(errs, os.Remove(w.dir))
	}
	return errors.Join(errs...)
}
