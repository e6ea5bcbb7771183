package sdk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// The text form of a Claim is Bech32m in lower case with the prefix "claim", of
//
//	version 1 | flags 1 | grantor 32 | grant 32 | [secret 32] | [expires 8 (Unix µs)]
//	| for each function: length 1 | name
//
// Flag 1 says that there is a secret, flag 2 that it expires. The checksum finds
// what was mistyped or cut off; that it finds all of it is promised for 90
// characters only.

const (
	claimPrefix     = "claim"
	claimVersion    = 1
	claimHasSecret  = 1
	claimHasExpires = 2
	// maxClaimBytes is a claim with MaxGrantFunctions names of 64 bytes.
	maxClaimBytes = 2 + 32 + 32 + 32 + 8 + MaxGrantFunctions*(1+64)
)

// Text is the form in which a claim is passed on: "claim1…". It holds the secret:
// whoever reads it can use a transferable grant. ParseClaim reads it.
func (c *Claim) Text() string {
	b := append([]byte{claimVersion, 0}, c.Grantor[:]...)
	b = append(b, c.Grant[:]...)
	if !c.Secret.IsZero() {
		b[1] |= claimHasSecret
		b = append(b, c.Secret[:]...)
	}
	if !c.Expires.IsZero() {
		b[1] |= claimHasExpires
		b = binary.BigEndian.AppendUint64(b, uint64(c.Expires.UnixMicro()))
	}
	for _, f := range c.Functions {
		b = append(append(b, byte(len(f))), f...)
	}
	return encodeLongText(claimPrefix, b)
}

// ParseClaim reads the text form of a Claim, and nothing that Text does not write.
func ParseClaim(s string) (Claim, error) {
	b, err := decodeLongText(claimPrefix, s, maxClaimBytes)
	if err != nil {
		return Claim{}, fmt.Errorf("not a claim: %w", err)
	}
	c, err := parseClaim(b)
	if err != nil {
		return Claim{}, fmt.Errorf("not a claim: %w", err)
	}
	return c, nil
}

func parseClaim(b []byte) (c Claim, err error) {
	short := false
	take := func(n int) []byte {
		if len(b) < n {
			short, b = true, nil
			return make([]byte, n)
		}
		f := b[:n]
		b = b[n:]
		return f
	}
	version, flags := take(1)[0], take(1)[0]
	if version != claimVersion || flags > claimHasSecret|claimHasExpires {
		return c, fmt.Errorf("version %d with flags %d is unknown", version, flags)
	}
	if c.Grantor, err = agentOf(take(32)); err != nil {
		return c, err
	}
	c.Grant = Hash(take(32))
	if flags&claimHasSecret != 0 {
		c.Secret = Secret(take(32))
		if c.Secret.IsZero() && !short {
			return c, errors.New("its secret is none")
		}
	}
	if flags&claimHasExpires != 0 {
		us := int64(binary.BigEndian.Uint64(take(8)))
		if us <= 0 && !short {
			return c, errors.New("it expires before 1970")
		}
		c.Expires = time.UnixMicro(us).UTC()
	}
	for len(b) > 0 {
		c.Functions = append(c.Functions, string(take(int(take(1)[0]))))
	}
	if short {
		return c, errors.New("it is too short")
	}
	return c, c.Check()
}

// agentOf is an agent of its bytes, as ParseAgentID checks it.
func agentOf(b []byte) (AgentID, error) {
	id := AgentID(b)
	if id[31]&0x80 != 0 {
		return AgentID{}, errors.New("the key's sign bit is 1; agent keys have sign bit 0")
	}
	return id, nil
}

// encodeLongText is encodeText of any number of bytes.
func encodeLongText(prefix string, data []byte) string {
	out := append(make([]byte, 0, len(prefix)+1+(len(data)*8+4)/5+textCheck), prefix...)
	out = append(out, '1')
	chk := textPrefixSum(prefix)
	put := func(v byte) {
		chk = textPolymod(chk, v)
		out = append(out, textAlphabet[v])
	}
	acc, bits := uint32(0), 0
	for _, b := range data {
		acc, bits = acc<<8|uint32(b), bits+8
		for bits >= 5 {
			bits -= 5
			put(byte(acc >> bits & 31))
		}
	}
	if bits > 0 {
		put(byte(acc << (5 - bits) & 31))
	}
	for range textCheck {
		chk = textPolymod(chk, 0)
	}
	chk ^= textChecksum
	for i := range textCheck {
		out = append(out, textAlphabet[chk>>(5*(textCheck-1-i))&31])
	}
	return string(out)
}

// decodeLongText reads what encodeLongText writes of at most so many bytes.
func decodeLongText(prefix, s string, most int) ([]byte, error) {
	if len(s) <= len(prefix) || s[:len(prefix)] != prefix || s[len(prefix)] != '1' {
		return nil, fmt.Errorf("it does not begin with %q", prefix+"1")
	}
	data := s[len(prefix)+1:]
	if len(data) < textCheck || len(data) > (most*8+4)/5+textCheck {
		return nil, fmt.Errorf("it has %d characters, %d to %d expected", len(s), len(prefix)+1+textCheck, len(prefix)+1+(most*8+4)/5+textCheck)
	}
	chk := textPrefixSum(prefix)
	out := make([]byte, 0, len(data)*5/8)
	acc, bits := uint32(0), 0
	for i := range len(data) {
		v := textValue[data[i]]
		if v < 0 {
			return nil, fmt.Errorf("character %d, %q, does not occur in identifiers", len(prefix)+2+i, data[i])
		}
		chk = textPolymod(chk, byte(v))
		if i >= len(data)-textCheck {
			continue
		}
		if acc, bits = acc<<5|uint32(v), bits+5; bits >= 8 {
			bits -= 8
			out = append(out, byte(acc>>bits))
		}
	}
	switch {
	case chk != textChecksum:
		return nil, errors.New("the checksum is wrong: at least one character is mistyped")
	case bits >= 5 || acc&(1<<bits-1) != 0:
		return nil, errors.New("padding bits are set")
	}
	return out, nil
}
