//go:build unix

package handlerpb

import "syscall"

const tryWriteSupported = true

// writeNonblocking writes what the socket takes at once. Go's sockets are
// non-blocking.
func writeNonblocking(fd uintptr, b []byte) (int, error) {
	for {
		n, err := syscall.Write(int(fd), b)
		switch err {
		case nil:
			return n, nil
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			return 0, nil
		}
		return max(n, 0), err
	}
}
