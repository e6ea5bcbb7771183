package dev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/parley-p2p/parley/node"
)

// Options say what runs and how.
type Options struct {
	Package string // a directory, or an import path
	Nodes   int
	Data    string // of the nodes; empty: a temporary directory
	DNA     node.DNASettings
	Debug   bool          // a debugger may hold handlers
	Timeout time.Duration // of a call; 0: the node's default

	In       io.Reader
	Input    Input
	Out, Err io.Writer // what is told; the log
	Colour   bool
	Log      func(io.Writer) *slog.Logger

	// Line and JSON make what others wrote fit for a terminal.
	Line func(string) string
	JSON func([]byte) string
}

// Input is what stands behind In.
type Input int

const (
	Script   Input = iota // lines run one after the other; at their end all ends
	Terminal              // lines run at once; at their end all ends
	Nothing               // its end means nothing
)

// ErrCalls: the network ran, and lines of the script failed.
var ErrCalls = errors.New("not all that stdin asked for was done")

// ErrData: the data directory can't be used.
var ErrData = errors.New("name another directory with --data")

// Run runs the network until ctx or the input ends. When it returns, nothing is
// left of it but what is in Options.Data.
func Run(ctx context.Context, o Options) (err error) {
	if o.Data != "" {
		if _, err := os.Stat(filepath.Join(o.Data, "agent.key")); err == nil {
			return fmt.Errorf("%s is the data directory of a node; %w", o.Data, ErrData)
		}
	}
	dir, err := os.MkdirTemp("", "parley-dev-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if dir, err = filepath.Abs(dir); err != nil { // go runs elsewhere
		return err
	}
	plugins := filepath.Join(dir, "plugins")
	if err := errors.Join(os.Mkdir(plugins, 0o700), os.Mkdir(filepath.Join(dir, "build"), 0o700)); err != nil {
		return err
	}
	since := time.Now()
	b, list, err := newBuilder(ctx, o.Package, filepath.Join(dir, "build"), o.Debug)
	if err != nil {
		return err
	}
	data := dir
	if o.Data != "" {
		if data, err = filepath.Abs(o.Data); err == nil {
			err = os.MkdirAll(data, 0o700)
		}
		if err != nil {
			return fmt.Errorf("--data: %w", err)
		}
	}
	out := newOutput(o.Out, o.Err)
	defer out.close()
	w, err := newWatcher(sourcesOf(list, isDir), since, func(err error) {
		out.tell("watching the sources: %s", o.Line(err.Error()))
	})
	if err != nil {
		return fmt.Errorf("watch the sources: %w", err)
	}
	return newSession(o, b, w, out, plugins, data).run(ctx)
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
