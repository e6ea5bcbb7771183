package dev

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// endGrace is how long killed processes may take to go.
const endGrace = 5 * time.Second

// run gives standard output, and what there is on standard error without its
// last line break. When ctx ends, so do the program and all that it started: go
// does not wait for a linker that it leaves.
func (b *builder) run(ctx context.Context, name string, args ...string) (out []byte, text string, err error) {
	alive, held, err := os.Pipe() // whoever is started holds the other end
	if err != nil {
		return nil, "", err
	}
	defer alive.Close()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = b.dir
	// GOTMPDIR: what an interrupted go leaves goes with the rest. GOGC: a tenth of
	// the linker's time.
	cmd.Env = append([]string{"GOGC=400"}, append(os.Environ(), "GOTMPDIR="+filepath.Dir(b.out))...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = endGrace
	cmd.ExtraFiles = []*os.File{held}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err = cmd.Output()
	_ = held.Close()
	if ctx.Err() != nil {
		_ = alive.SetReadDeadline(time.Now().Add(endGrace))
		_, _ = io.Copy(io.Discard, alive) // its end is theirs
		err = context.Cause(ctx)
	} else if errors.Is(err, exec.ErrNotFound) {
		err = fmt.Errorf("go is needed to build DNAs: install it, or put it into PATH: %w", err)
	}
	return out, strings.TrimRight(stderr.String(), "\n"), err
}
