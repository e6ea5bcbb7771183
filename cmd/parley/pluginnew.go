package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/parley-p2p/parley/cmd/parley/internal/scaffold"
)

func (c *cli) pluginNewCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "new NAME",
		Short: "Write a working DNA with its test",
		Long: `Writes a directory with a DNA of that name: a function that sends, a receive that
commits, a query, and a test without processes. Inside a Go module that is
parley's or requires it, that is all; elsewhere a go.mod is written too, and
tidied. Nothing is overwritten; after an error nothing is left.`,
		Example: "  parley plugin new guestbook\n  parley dev ./guestbook",
		Args:    argsBetween(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			return c.pluginNew(ctx, args[0], dir)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "the directory to write (default ./NAME)")
	return cmd
}

// written is what plugin new prints with --json.
type written struct {
	Dir    string   `json:"dir"`
	Files  []string `json:"files"`
	Module bool     `json:"module"`
	Untidy string   `json:"untidy,omitempty"`
}

func (c *cli) pluginNew(ctx context.Context, name, dir string) error {
	if dir == "" {
		dir = name
	}
	_, self, _, _ := runtime.Caller(0)
	info, _ := debug.ReadBuildInfo()
	r, err := scaffold.Write(ctx, scaffold.Options{Name: name, Dir: filepath.Clean(dir), Origin: scaffold.OriginOf(info, self, 2)})
	switch {
	case errors.Is(err, scaffold.ErrName), errors.Is(err, scaffold.ErrTaken):
		return usagef("plugin new %q: %w", name, err)
	case err != nil:
		return fmt.Errorf("plugin new: %w", err)
	}
	out := written{Dir: filepath.Clean(dir), Files: r.Files, Module: r.Module}
	if r.Untidy != nil {
		out.Untidy = r.Untidy.Error()
	}
	if c.json {
		return c.printJSON(out)
	}
	return c.print(out.text())
}

func (w *written) text() string {
	dir := cleanLine(w.Dir)
	if !filepath.IsAbs(dir) && !strings.HasPrefix(dir, "..") {
		dir = "." + string(filepath.Separator) + dir
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", dir, strings.Join(w.Files, ", "))
	if w.Untidy != "" {
		fmt.Fprintf(&b, "It builds. Run go mod tidy there when the network is up: %s\n", cleanLine(w.Untidy))
	}
	at := dir
	if w.Module {
		fmt.Fprintf(&b, "\n  cd %s", dir)
		at = "."
	}
	fmt.Fprintf(&b, "\n  go test %s\n  parley dev %s\n", at, at)
	return b.String()
}
