//go:build unix

package transport

import (
	"errors"
	"syscall"
)

// isReset tells whether the other side closed without reading everything.
func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
