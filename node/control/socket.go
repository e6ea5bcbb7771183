package control

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// SocketName is the socket's name in the data directory.
const SocketName = "control.sock"

// maxSocketPath is what sockaddr_un holds of a path besides its final NUL:
// 108 bytes on Linux, 104 on the BSDs.
const maxSocketPath = 103

// boundSocket is the listening socket and what is needed to remove it.
type boundSocket struct {
	net.Listener
	path string
	info fs.FileInfo // of the socket that this process bound
}

// bindSocket binds the socket so that at no moment another user could connect:
// it is made in a directory of its own that nobody else may enter, gets mode
// 0600 there, and is then renamed into its place, which also replaces a stale
// one in one step.
func bindSocket(dir string) (*boundSocket, error) {
	path := filepath.Join(dir, SocketName)
	if err := checkStale(dir); err != nil {
		return nil, err
	}
	private, err := os.MkdirTemp(dir, ".control-") // mode 0700
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	defer os.RemoveAll(private)
	short, release, err := shortSocketPath(private)
	if err != nil {
		return nil, err
	}
	defer release()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: short, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	l.SetUnlinkOnClose(false) // it goes by another name soon
	made := filepath.Join(private, SocketName)
	info, err := secureSocket(made, path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("control socket: %w", err), l.Close())
	}
	return &boundSocket{Listener: l, path: path, info: info}, nil
}

func secureSocket(made, path string) (fs.FileInfo, error) {
	if err := os.Chmod(made, 0o600); err != nil {
		return nil, err
	}
	if err := os.Rename(made, path); err != nil {
		return nil, err
	}
	return os.Lstat(path)
}

// remove unlinks the socket unless another process has put its own there.
func (b *boundSocket) remove() error {
	info, err := os.Lstat(b.path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(info, b.info) {
		return nil
	}
	if err == nil {
		err = os.Remove(b.path)
	}
	if err != nil {
		return fmt.Errorf("remove control socket: %w", err)
	}
	return nil
}

// checkStale fails if something is in the socket's place that must stay: a
// socket on which somebody answers, or a file that is no socket.
func checkStale(dir string) error {
	path := filepath.Join(dir, SocketName)
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("control socket: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("control socket: %s is there and is no socket; move it away", path)
	}
	c, err := dialSocket(dir)
	if err == nil {
		return errors.Join(fmt.Errorf("control socket %s: %w", path, ErrRunning), c.Close())
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("control socket: who listens on %s can't be found out: %w", path, err)
	}
	return nil
}

// dialTimeout bounds a connect, which waits only while the server's queue of
// connections is full.
const dialTimeout = 5 * time.Second

func dialSocket(dir string) (net.Conn, error) {
	short, release, err := shortSocketPath(dir)
	if err != nil {
		return nil, err
	}
	defer release()
	return net.DialTimeout("unix", short, dialTimeout)
}

// shortSocketPath returns a path to the socket in dir that fits into a socket
// address: where dir is too long, one through a descriptor of dir, which
// release closes.
func shortSocketPath(dir string) (path string, release func(), err error) {
	path = filepath.Join(dir, SocketName)
	if len(path) <= maxSocketPath {
		return path, func() {}, nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return "", nil, fmt.Errorf("control socket: %w", err)
	}
	short := fmt.Sprintf("/proc/self/fd/%d", f.Fd())
	if _, err := os.Stat(short); err != nil {
		f.Close()
		return "", nil, fmt.Errorf("control socket: the path %s has %d bytes and a socket's may have %d: "+
			"choose a shorter --data directory, or give one through a short symbolic link", path, len(path), maxSocketPath)
	}
	return filepath.Join(short, SocketName), func() { f.Close() }, nil
}
