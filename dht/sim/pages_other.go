//go:build !linux

package sim

func largePages() {}
