package dev

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// builder makes the DNA's binary.
type builder struct {
	dir   string // where go runs
	pkg   string // what it builds
	out   string // the binary
	debug bool
}

// ErrPackage: what is named is nothing to run.
var ErrPackage = errors.New("no DNA to build")

// newBuilder takes a directory, or a package's import path.
func newBuilder(ctx context.Context, arg, outDir string, debug bool) (*builder, []goPackage, error) {
	b := &builder{dir: ".", pkg: arg, out: filepath.Join(outDir, "dna"), debug: debug}
	if info, err := os.Stat(arg); err == nil && info.IsDir() {
		b.dir, b.pkg = arg, "."
	}
	list, err := b.list(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, p := range list {
		if p.DepOnly {
			continue
		}
		switch {
		case p.Dir == "" || p.Module == nil:
			reason := "it lies in no Go module"
			if p.Error != nil {
				reason = p.Error.Err
			}
			return nil, nil, fmt.Errorf("%w in %s: %s", ErrPackage, arg, reason)
		case p.Name != "main" && p.Name != "":
			return nil, nil, fmt.Errorf("%w in %s: package %s is no command; name the directory whose main calls serve.Main", ErrPackage, arg, p.Name)
		}
		b.out = filepath.Join(outDir, filepath.Base(p.Dir))
		return b, list, nil
	}
	return nil, nil, fmt.Errorf("%w: %s names no package", ErrPackage, arg)
}

// list lists the package and all that it depends on, as far as they can be read.
func (b *builder) list(ctx context.Context) ([]goPackage, error) {
	out, text, err := b.run(ctx, "go", "list", "-e", "-deps",
		"-json=Dir,ImportPath,Name,Standard,DepOnly,Module,EmbedFiles,Error", b.pkg)
	if err != nil {
		return nil, fmt.Errorf("go list %s: %w: %s", b.pkg, err, text)
	}
	var list []goPackage
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		switch err := d.Decode(&p); {
		case errors.Is(err, io.EOF):
			return list, nil
		case err != nil:
			return nil, fmt.Errorf("go list: %w", err)
		}
		list = append(list, p)
	}
}

// built is what a build has come to.
type built struct {
	saved time.Time // what it builds was saved then
	took  time.Duration
	sum   string          // of the binary
	text  string          // what the compiler said
	desc  sdk.Description // of the first one only
	err   error
}

// build builds the binary. Without a debugger it leaves out what only one would
// read, which is a third of the linker's time.
func (b *builder) build(ctx context.Context) (r built) {
	began := time.Now()
	flags := "-ldflags=-s -w"
	if b.debug {
		flags = "-gcflags=all=-N -l"
	}
	_, r.text, r.err = b.run(ctx, "go", "build", "-buildvcs=false", flags, "-o", b.out, b.pkg)
	r.took = time.Since(began)
	if r.err == nil {
		r.sum, r.err = sumOf(b.out)
	}
	return r
}

func sumOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), err
}

const describeTimeout = 10 * time.Second

// describe asks the binary what it is.
func (b *builder) describe(ctx context.Context) (d sdk.Description, err error) {
	ctx, cancel := context.WithTimeout(ctx, describeTimeout)
	defer cancel()
	path, err := filepath.Abs(b.out)
	if err != nil {
		return d, err
	}
	out, text, err := b.run(ctx, path, "--describe")
	if err != nil {
		return d, fmt.Errorf("it does not describe itself: %w: %s", err, text)
	}
	if err := json.Unmarshal(out, &d); err != nil || d.Name == "" {
		return d, fmt.Errorf("--describe printed no description (does its main call serve.Main?): %.300s", out)
	}
	return d, nil
}
