package control

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parley-p2p/parley/sdk"
)

func TestSocketIsPrivate(t *testing.T) {
	t.Parallel()
	_, dir := start(t, &fakeNode{})
	info, err := os.Lstat(filepath.Join(dir, SocketName))
	if err != nil || info.Mode().Type() != fs.ModeSocket || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	left, err := filepath.Glob(filepath.Join(dir, ".control-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestSecondServerIsRefused(t *testing.T) {
	t.Parallel()
	c, dir := start(t, &fakeNode{chains: func(context.Context) ([]ChainInfo, error) { return nil, nil }})
	if _, err := Listen(dir, &fakeNode{t: t}, nil); !errors.Is(err, ErrRunning) {
		t.Errorf("got %v", err)
	}
	if _, err := c.Chains(t.Context()); err != nil {
		t.Errorf("the first server: %v", err)
	}
}

func TestWhatIsInTheWay(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, SocketName)
	// A socket that a killed node left is replaced.
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := Listen(dir, &fakeNode{t: t}, nil)
	if err != nil {
		t.Fatal(err)
	}
	// One that another process put there meanwhile is not removed.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "a file" {
		t.Errorf("the file: %q, %v", b, err)
	}
	// A file stays, with an error.
	if _, err := Listen(dir, &fakeNode{t: t}, nil); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("got %v", err)
	}
	if _, err := Listen(filepath.Join(dir, "none"), &fakeNode{t: t}, nil); err == nil {
		t.Error("a directory that is not there was listened in")
	}
	if _, err := Listen(dir, &fakeNode{t: t}, nil, WithMaxCalls(0)); err == nil {
		t.Error("no calls at once were allowed")
	}
}

func TestLongPath(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 120))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := Listen(dir, &fakeNode{t: t, chains: func(context.Context) ([]ChainInfo, error) { return nil, nil }}, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	c, err := Dial(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Chains(t.Context()); err != nil {
		t.Error(err)
	}
	if err := errors.Join(c.Close()); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(s.Path()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket after Run: %v", err)
	}
}

// TestStop: a stop cancels what runs, whose error still arrives.
func TestStop(t *testing.T) {
	t.Parallel()
	entered := make(chan struct{})
	dir := t.TempDir()
	s, err := Listen(dir, &fakeNode{t: t, call: func(ctx context.Context, _, _ string, _ []byte) ([]byte, error) {
		close(entered)
		<-ctx.Done()
		return nil, &sdk.Error{Code: sdk.Canceled, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true, Text: "this node is stopping"}
	}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	c, err := Dial(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	answer := make(chan error, 1)
	go func() { _, err := c.Call(t.Context(), "d", "f", nil); answer <- err }()
	<-entered
	cancel()
	var e *sdk.Error
	if err := <-answer; !errors.As(err, &e) || e.Text != "this node is stopping" {
		t.Errorf("the caller got %v", err)
	}
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	if _, err := c.Call(t.Context(), "d", "f", nil); !errors.Is(err, ErrNotRunning) {
		t.Errorf("after the stop: %v", err)
	}
	if _, err := Dial(""); err == nil {
		t.Error("no directory was dialled")
	}
}
