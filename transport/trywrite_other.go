//go:build !unix

package transport

const tryWriteSupported = false

func writeNonblocking(uintptr, []byte) (int, error) { return 0, nil }
