package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const lockFile = "node.lock"

// lockDataDir makes this process the data directory's only node. The lock is
// the kernel's (flock), so that it ends with the process, however that ends.
func lockDataDir(dir string) (unlock func(), err error) {
	path := filepath.Join(dir, lockFile)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("data directory %s: another node runs on it; stop that one, or choose another directory with --data", dir)
		}
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	return func() {
		// Closing alone would leave the lock to a child that is being forked for
		// another node of this process, until its exec.
		_ = unix.Flock(int(f.Fd()), unix.LOCK_UN)
		f.Close()
	}, nil
}

// pinsWait is how long a command waits for another one that changes the pins.
const pinsWait = 5 * time.Second

// lockPins makes this the only one who changes the pins. The lock is the data
// directory's own, whether or not a node runs on it.
func lockPins(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("lock pins: %w", err)
	}
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Since(began) > pinsWait {
			f.Close()
			return nil, fmt.Errorf("lock pins: %s is locked by another command: %w", dir, err)
		}
	}
}
