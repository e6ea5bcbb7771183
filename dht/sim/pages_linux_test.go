package sim

import "testing"

func TestAnonymous(t *testing.T) {
	for line, ok := range map[string]bool{
		"3cbf62400000-3cc04c800000 rw-p 00000000 00:00 0 ":                                     true,
		"3cbf62400000-3cc04c800000 rw-p 00000000 00:00 0                  [anon: Go: heap]":    true,
		"3cbf62400000-3cc04c800000 ---p 00000000 00:00 0 ":                                     false,
		"3cbf62400000-3cc04c800000 rw-s 00000000 00:00 0 ":                                     false,
		"3cbf62400000-3cc04c800000 rw-p 00000000 00:00 0                          [heap]":      false,
		"3cbf62400000-3cc04c800000 rw-p 00000000 fe:00 9994729                    /tmp/a file": false,
		"not an address rw-p 0":        false,
		"zz-3cc04c800000 rw-p 0 0:0 0": false,
		"":                             false,
	} {
		from, to, is := anonymous(line)
		if is != ok || ok && (from != 0x3cbf62400000 || to != 0x3cc04c800000) {
			t.Errorf("%q: %x to %x, %t", line, from, to, is)
		}
	}
	largePages() // what the kernel says to it depends on the machine
}
