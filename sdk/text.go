package sdk

import (
	"errors"
	"fmt"
)

// The text form of a 32-byte identifier is Bech32m (BIP-350) in lower case:
//
//	prefix  "1"  52 characters: 256 bits, 4 zero bits  6 characters: checksum
//
// Only letters and digits occur, so that a double click selects all of it, and
// the checksum detects every error in at most four characters.

const (
	textAlphabet = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
	textChecksum = 0x2bc830a3 // Bech32m
	textData     = 52         // ceil(256 / 5)
	textCheck    = 6
)

var textValue = func() (v [256]int8) {
	for i := range v {
		v[i] = -1
	}
	for i, c := range []byte(textAlphabet) {
		v[c] = int8(i)
	}
	return v
}()

// textTop is what the checksum's generator makes of the 5 bits that leave it.
var textTop = func() (t [32]uint32) {
	for top := range t {
		for i, g := range [5]uint32{0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3} {
			if top>>i&1 == 1 {
				t[top] ^= g
			}
		}
	}
	return t
}()

// textTop2 is the same of the 10 bits that leave it with two characters.
var textTop2 = func() (t [1024]uint32) {
	for top := range t {
		t[top] = textPolymod(textPolymod(uint32(top)<<20, 0), 0)
	}
	return t
}()

func textPolymod(chk uint32, v byte) uint32 {
	return (chk&0x1ffffff)<<5 ^ uint32(v) ^ textTop[chk>>25&31]
}

// textPolymod2 takes the 10 bits of two characters. A checksum is one chain of
// steps that wait for one another: this halves it.
func textPolymod2(chk, v uint32) uint32 {
	return (chk&0xfffff)<<10 ^ v ^ textTop2[chk>>20&1023]
}

func textPrefixSum(prefix string) uint32 {
	chk := uint32(1)
	for i := range len(prefix) {
		chk = textPolymod(chk, prefix[i]>>5)
	}
	chk = textPolymod(chk, 0)
	for i := range len(prefix) {
		chk = textPolymod(chk, prefix[i]&31)
	}
	return chk
}

func encodeText(prefix string, id [32]byte) string {
	out := make([]byte, 0, 64) // with the longest prefix, "agent"
	out = append(out, prefix...)
	out = append(out, '1')
	chk := textPrefixSum(prefix)
	put := func(v byte) {
		chk = textPolymod(chk, v)
		out = append(out, textAlphabet[v])
	}
	acc, bits := uint32(0), 0
	for _, b := range id {
		acc, bits = acc<<8|uint32(b), bits+8
		for bits >= 5 {
			bits -= 5
			put(byte(acc >> bits & 31))
		}
	}
	put(byte(acc << (5 - bits) & 31)) // 256 = 51*5 + 1: one bit is left, padded with zeros
	for range textCheck {
		chk = textPolymod(chk, 0)
	}
	chk ^= textChecksum
	for i := range textCheck {
		out = append(out, textAlphabet[chk>>(5*(textCheck-1-i))&31])
	}
	return string(out)
}

func decodeText[S string | []byte](prefix string, s S) (id [32]byte, err error) {
	want := len(prefix) + 1 + textData + textCheck
	if len(s) <= len(prefix) || string(s[:len(prefix)]) != prefix || s[len(prefix)] != '1' {
		return id, fmt.Errorf("it does not begin with %q", prefix+"1")
	}
	if len(s) != want {
		return id, fmt.Errorf("it has %d characters instead of %d", len(s), want)
	}
	chk := textPrefixSum(prefix)
	acc, bits, n := uint32(0), 0, 0
	data := s[len(prefix)+1:]
	for i := 0; i < len(data); i += 2 {
		a, b := textValue[data[i]], textValue[data[i+1]]
		if a|b < 0 {
			if a >= 0 {
				i++
			}
			return id, fmt.Errorf("character %d, %q, does not occur in identifiers", len(prefix)+2+i, data[i])
		}
		v := uint32(a)<<5 | uint32(b)
		chk = textPolymod2(chk, v)
		if i >= textData {
			continue
		}
		acc, bits = acc<<10|v, bits+10
		for bits >= 8 && n < len(id) {
			bits -= 8
			id[n], n = byte(acc>>bits), n+1
		}
	}
	if chk != textChecksum {
		return [32]byte{}, errors.New("the checksum is wrong: at least one character is mistyped")
	}
	if textValue[data[textData-1]]&0x0f != 0 {
		return [32]byte{}, errors.New("padding bits are set")
	}
	return id, nil
}
