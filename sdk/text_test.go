package sdk

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// ids are the inputs of the exhaustive tests: the edges and two arbitrary ones.
func ids() (out [][32]byte) {
	var ones [32]byte
	for i := range ones {
		ones[i] = 0xff
	}
	return [][32]byte{{}, ones, sha256.Sum256([]byte("a")), sha256.Sum256([]byte("b"))}
}

func TestTextRoundTrip(t *testing.T) {
	t.Parallel()
	for _, id := range ids() {
		for _, prefix := range []string{agentPrefix, hashPrefix, dnaPrefix} {
			s := encodeText(prefix, id)
			if got, err := decodeText(prefix, s); err != nil || got != id {
				t.Errorf("%s: got %x, %v", s, got, err)
			}
			for i := range len(s) {
				if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
					t.Errorf("%s: %q ends a double click's selection", s, c)
				}
			}
		}
	}
}

// TestTextSubstitution replaces each character by each other byte.
func TestTextSubstitution(t *testing.T) {
	t.Parallel()
	for _, id := range ids() {
		s := []byte(encodeText(agentPrefix, id))
		for i, old := range s {
			for c := range 256 {
				if byte(c) == old {
					continue
				}
				s[i] = byte(c)
				if _, err := decodeText(agentPrefix, string(s)); err == nil {
					t.Fatalf("%q is accepted, with character %d wrong", s, i+1)
				}
			}
			s[i] = old
		}
	}
}

// TestTextPairs replaces each pair of data characters by each other pair, for
// one id: the checksum detects every error of up to four.
func TestTextPairs(t *testing.T) {
	t.Parallel()
	s := []byte(encodeText(hashPrefix, ids()[2]))
	first := len(hashPrefix) + 1
	for i := first; i < len(s); i++ {
		for j := i + 1; j < len(s); j += 7 {
			a, b := s[i], s[j]
			for k := range 31 * 31 {
				s[i] = textAlphabet[(int(textValue[a])+1+k%31)%32]
				s[j] = textAlphabet[(int(textValue[b])+1+k/31)%32]
				if _, err := decodeText(hashPrefix, string(s)); err == nil {
					t.Fatalf("%q is accepted", s)
				}
			}
			s[i], s[j] = a, b
		}
	}
}

func TestTextDamage(t *testing.T) {
	t.Parallel()
	for _, id := range ids()[2:] {
		s := encodeText(agentPrefix, id)
		bad := map[string]string{
			"empty": "", "prefix alone": "agent1", "upper case": strings.ToUpper(s), "mixed case": strings.ToUpper(s[:8]) + s[8:],
			"a hash": encodeText(hashPrefix, id), "another prefix": "agent1" + encodeText(dnaPrefix, id)[4:],
			"space before": " " + s, "space behind": s + " ", "line break": s + "\n", "twice": s + s,
			"a letter more": s + "q", "an inserted q": s[:len(s)-1] + "q" + s[len(s)-1:],
		}
		for i := range len(s) {
			bad["cut"+s[:i]] = s[:i]
			bad["without"+s[:i]] = s[:i] + s[i+1:]
			if i+1 < len(s) && s[i] != s[i+1] {
				bad["swapped"+s[:i]] = s[:i] + string(s[i+1]) + string(s[i]) + s[i+2:]
			}
		}
		bad["padding bits, and the checksum over them"] = setPadding(s)
		for what, b := range bad {
			if _, err := decodeText(agentPrefix, b); err == nil {
				t.Errorf("%s: %q is accepted", what, b)
			}
		}
	}
}

// TestTextPosition: an error names the first character that is none.
func TestTextPosition(t *testing.T) {
	t.Parallel()
	s := []byte(AgentID{1}.String())
	for i := len(agentPrefix) + 1; i < len(s); i++ {
		bad := slices.Clone(s)
		bad[i] = 'b'
		if _, err := ParseAgentID(string(bad)); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("character %d, 'b'", i+1)) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// setPadding sets a bit of the text that no identifier has, and its checksum.
func setPadding(s string) string {
	data := s[len(agentPrefix)+1:][:textData]
	last := textValue[data[textData-1]] ^ 1
	chk := textPrefixSum(agentPrefix)
	for i := range textData - 1 {
		chk = textPolymod(chk, byte(textValue[data[i]]))
	}
	chk = textPolymod(chk, byte(last))
	for range textCheck {
		chk = textPolymod(chk, 0)
	}
	chk ^= textChecksum
	out := s[:len(agentPrefix)+textData] + string(textAlphabet[last])
	for i := range textCheck {
		out += string(textAlphabet[chk>>(5*(textCheck-1-i))&31])
	}
	return out
}

// TestBech32mVectors holds the checksum against BIP-350's valid and invalid
// strings, whose prefixes and lengths are not ours.
func TestBech32mVectors(t *testing.T) {
	t.Parallel()
	check := func(s string) bool {
		s = strings.ToLower(s)
		at := strings.LastIndexByte(s, '1')
		chk := textPrefixSum(s[:at])
		for i := at + 1; i < len(s); i++ {
			v := textValue[s[i]]
			if v < 0 {
				return false
			}
			chk = textPolymod(chk, byte(v))
		}
		return chk == textChecksum
	}
	for s, want := range map[string]bool{
		"A1LQFN3A": true,
		"a1lqfn3a": true,
		"an83characterlonghumanreadablepartthatcontainsthetheexcludedcharactersbioandnumber11sg7hg6": true,
		"abcdef1l7aum6echk45nj3s0wdvt2fg8x9yrzpqzd3ryx":                                              true,
		"11llllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllludsr8": true,
		"split1checkupstagehandshakeupstreamerranterredcaperredlc445v":                               true,
		"?1v759aa":  true,
		"a12uel5l":  false, // Bech32, not Bech32m
		"M1VUXWEZ":  false, // checksum over upper case
		"y1b0jsk6g": false,
		"in1muywd":  false,
		"abcdef1qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxw": false, // Bech32
	} {
		if got := check(s); got != want {
			t.Errorf("%s: %v, want %v", s, got, want)
		}
	}
}

func TestParseIDs(t *testing.T) {
	t.Parallel()
	odd := AgentID{31: 0x80}
	if _, err := ParseAgentID(odd.String()); err == nil || !strings.Contains(err.Error(), "sign bit") {
		t.Errorf("a key with sign bit 1: %v", err)
	}
	for _, s := range []string{"", "0", strings.Repeat("0", 31), strings.Repeat("0", 33), strings.Repeat("g", 32)} {
		if _, err := ParseMessageID(s); err == nil {
			t.Errorf("message id %q is accepted", s)
		}
	}
	want := MessageID{1, 0xab}
	if got, err := ParseMessageID(want.String()); err != nil || got != want {
		t.Errorf("got %v, %v", got, err)
	}
	if s := (AgentID{1}).Short(); len(s) != 14 || !strings.HasPrefix((AgentID{1}).String(), s) {
		t.Errorf("short form %q", s)
	}
}

func TestTextGolden(t *testing.T) {
	t.Parallel()
	for _, v := range readVectors(t, "identifiers.txt") {
		prefix, _, _ := strings.Cut(v.right, "1")
		id := [32]byte(unhex(t, v.left))
		if got := encodeText(prefix, id); got != v.right {
			t.Errorf("%x is %s, want %s", id, got, v.right)
		}
		if got, err := decodeText(prefix, v.right); err != nil || got != id {
			t.Errorf("%s is %x, %v, want %x", v.right, got, err, id)
		}
	}
}

// FuzzParseAgentID: what is accepted is what String writes.
func FuzzParseAgentID(f *testing.F) {
	f.Add(AgentID{1}.String())
	f.Add("agent1")
	f.Fuzz(func(t *testing.T, s string) {
		if id, err := ParseAgentID(s); err == nil && id.String() != s {
			t.Fatalf("%q is read as %s", s, id)
		}
	})
}
