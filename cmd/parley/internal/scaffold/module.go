package scaffold

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"
)

const (
	parley    = "github.com/parley-p2p/parley"
	goVersion = "1.26.0" // of parley's own go.mod
)

// Origin is where the running program comes from: what a new module requires.
type Origin struct {
	Version string // of parley; empty for a development build
	Source  string // its tree, for a development build; empty if that is nowhere
}

// OriginOf reads the build information of a program, one of whose files was
// compiled from source, in the directory depth levels below its module's root.
func OriginOf(info *debug.BuildInfo, source string, depth int) Origin {
	if info != nil && info.Main.Path == parley && info.Main.Sum != "" {
		return Origin{Version: info.Main.Version}
	}
	for range depth + 1 {
		source = filepath.Dir(source)
	}
	text, err := os.ReadFile(filepath.Join(source, "go.mod"))
	if err != nil || !filepath.IsAbs(source) || !bytes.HasPrefix(text, []byte("module "+parley+"\n")) {
		return Origin{}
	}
	return Origin{Source: source}
}

// module is what stands in a new go.mod.
type module struct {
	Name, Go, Module, Version, Source string

	sums []byte // of the tree, so that tidying needs no network
}

// moduleFor gives the module that a DNA below dir needs; nil where it lies in one
// that is parley's, or requires it.
func (o *Options) moduleFor(ctx context.Context, dir string) (*module, error) {
	has, err := hasParley(ctx, dir)
	if has || err != nil {
		return nil, err
	}
	m := &module{Name: o.Name, Go: goVersion, Module: parley, Version: o.Version, Source: o.Source}
	switch {
	case o.Source != "":
		m.Version = "v0.0.0"
		if strings.ContainsAny(o.Source, " \t\"'`") {
			m.Source = fmt.Sprintf("%q", o.Source)
		}
		if m.sums, err = os.ReadFile(filepath.Join(o.Source, "go.sum")); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	case o.Version == "":
		return nil, errors.New("this parley is a development build that doesn't know its source (-trimpath), so no go.mod can be written; " +
			"make the DNA inside a module that requires " + parley + ", or in a clone of it")
	}
	return m, nil
}

// hasParley tells whether packages in dir can import parley.
func hasParley(ctx context.Context, dir string) (bool, error) {
	out, err := goCommand(ctx, dir, "env", "GOMOD")
	if err != nil {
		return false, err
	}
	file := strings.TrimSpace(string(out))
	if file == "" || file == os.DevNull {
		return false, nil
	}
	if out, err = goCommand(ctx, dir, "mod", "edit", "-json", file); err != nil {
		return false, err
	}
	var mod struct {
		Module  struct{ Path string }
		Require []struct{ Path string }
	}
	if err := json.Unmarshal(out, &mod); err != nil {
		return false, fmt.Errorf("%s: %w", file, err)
	}
	has := mod.Module.Path == parley
	for _, r := range mod.Require {
		has = has || r.Path == parley
	}
	return has, nil
}

// tidy completes go.mod and go.sum. go mod tidy wants the modules of other
// modules' tests too; where it can't have those, what the DNA itself needs may
// be in the module cache, and untidy says what is left to do.
func tidy(ctx context.Context, dir string) (untidy, err error) {
	_, untidy = goCommand(ctx, dir, "mod", "tidy")
	if untidy == nil {
		return nil, nil
	}
	if _, err := goCommand(ctx, dir, "list", "-mod=mod", "-deps", "-test", "."); err == nil {
		return untidy, nil
	}
	return nil, fmt.Errorf("the modules that the DNA needs could not be had; see that the module proxy can be reached (go env GOPROXY), and try again: %w", untidy)
}

// goCommand gives what go prints on its standard output.
func goCommand(ctx context.Context, dir string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.Is(err, exec.ErrNotFound):
		return nil, fmt.Errorf("go is needed to build DNAs: install it, or put it into PATH: %w", err)
	case err != nil:
		return nil, fmt.Errorf("go %s: %w: %.2000s", strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}
