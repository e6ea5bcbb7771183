//go:build !unix

package transport

func isReset(error) bool { return false }
