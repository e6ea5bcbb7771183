//go:build !linux

package sim

func yield() {}
