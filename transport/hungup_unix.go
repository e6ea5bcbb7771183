//go:build unix

package transport

import (
	"net"
	"syscall"
)

// hungUp tells whether either side has closed the connection, and nothing of
// what the other sent before is left to read. It reads nothing and does not wait.
func hungUp(c net.Conn) (gone bool) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	err = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK) // Go's sockets are non-blocking
		gone = err == nil && n == 0 || isReset(err)
		return true
	})
	return gone || err != nil
}
