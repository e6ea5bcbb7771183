//go:build !unix

package handlerpb

const tryWriteSupported = false

func writeNonblocking(uintptr, []byte) (int, error) { return 0, nil }
