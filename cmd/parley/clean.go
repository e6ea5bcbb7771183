package main

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Texts of handlers and of other agents could carry escape sequences that write
// to a terminal at will. Everything that is printed passes here.

// hostile tells whether r could move a terminal's cursor, break a line or turn
// its text around: control characters, separators, bidirectional controls and
// other invisible format characters.
func hostile(r rune) bool {
	return unicode.IsControl(r) || r == 0x2028 || r == 0x2029 || unicode.Is(unicode.Cf, r)
}

// cleanLine makes s one line: line breaks become "; ", whatever else is hostile
// or no UTF-8 becomes U+FFFD.
func cleanLine(s string) string {
	var b strings.Builder
	pending := false
	for _, r := range s {
		switch {
		case r == '\n' || r == '\r':
			pending = b.Len() > 0
			continue
		case r == '\t':
			r = ' '
		case hostile(r):
			r = utf8.RuneError
		}
		if pending {
			b.WriteString("; ")
			pending = false
		}
		b.WriteRune(r)
	}
	return b.String()
}

// cleanJSON escapes in a JSON text what encoding/json leaves as it is and a
// terminal might not. Such characters only occur within its strings. Line
// breaks and tabs between values stay.
func cleanJSON(text []byte) string {
	var b strings.Builder
	for _, r := range string(text) {
		switch {
		case r == '\n' || r == '\t' || !hostile(r):
			b.WriteRune(r)
		case r > 0xffff:
			hi, lo := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, hi, lo)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}
