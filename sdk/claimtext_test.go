package sdk

import (
	"bytes"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"
)

func testClaims() map[string]Claim {
	full := Claim{Grantor: AgentID{1, 2}, Grant: Hash{3}, Secret: Secret{4}, Functions: []string{"bid", "highest"}, Expires: time.UnixMicro(1_800_000_000_000_001).UTC()}
	var most Claim
	for i := range MaxGrantFunctions {
		most.Functions = append(most.Functions, fmt.Sprintf("%064d", i))
	}
	most.Secret, most.Expires = full.Secret, full.Expires
	return map[string]Claim{"least": {Grantor: AgentID{1}, Grant: Hash{2}}, "full": full, "most": most}
}

func TestClaimText(t *testing.T) {
	t.Parallel()
	for name, c := range testClaims() {
		text := c.Text()
		back, err := ParseClaim(text)
		if err != nil || !reflect.DeepEqual(back, c) {
			t.Errorf("%s: %q comes back as %+v, %v", name, text, back, err)
		}
		if shown := fmt.Sprintf("%v %+v %#v %s", c, c, c, c.Secret); strings.Contains(shown, "4, 0x0") || !strings.Contains(shown, "[secret]") {
			t.Errorf("%s: a printed claim shows its secret: %s", name, shown)
		}
		var log bytes.Buffer
		slog.New(slog.NewJSONHandler(&log, nil)).Info("got", "claim", c)
		if strings.Contains(log.String(), "4,0") || !strings.Contains(log.String(), `"Secret":"[secret]"`) {
			t.Errorf("%s: a log shows its secret: %s", name, &log)
		}
		for i := range text {
			wrong := []byte(text)
			if wrong[i] = 'q'; text[i] == 'q' {
				wrong[i] = 'p'
			}
			if c, err := ParseClaim(string(wrong)); err == nil {
				t.Fatalf("%s: %s is read as %+v", name, wrong, c)
			}
			if i > 400 {
				break
			}
		}
	}
	full := testClaims()["full"]
	for _, s := range []string{"", "claim1", "claim1qqqqqq", full.Text() + "q", full.Text()[:100], strings.ToUpper(full.Text()), "hash1" + full.Text()[6:], strings.Repeat("q", 1<<20)} {
		if c, err := ParseClaim(s); err == nil {
			t.Errorf("%.100q is read as %+v", s, c)
		}
	}
	for name, b := range map[string][]byte{
		"version": append([]byte{2, 0}, make([]byte, 64)...), "flags": append([]byte{1, 4}, make([]byte, 64)...),
		"no secret": append([]byte{1, 1}, make([]byte, 96)...), "sign bit": append([]byte{1, 0}, append(append(make([]byte, 31), 0x80), make([]byte, 32)...)...),
		"no time": append([]byte{1, 2}, make([]byte, 72)...), "short": append([]byte{1, 0}, make([]byte, 63)...),
		"short name": append(append([]byte{1, 0}, make([]byte, 64)...), 5, 'a'), "empty name": append([]byte{1, 0}, make([]byte, 65)...),
	} {
		if c, err := ParseClaim(encodeLongText(claimPrefix, b)); err == nil {
			t.Errorf("%s: read as %+v", name, c)
		}
	}
}

// TestClaimVector: what was passed on stays good.
func TestClaimVector(t *testing.T) {
	t.Parallel()
	full := testClaims()["full"]
	if got := full.Text(); got != claimVector {
		t.Errorf("got %s", got)
	}
}

const claimVector = "claim1qypszqsqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqrqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqzqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqxv5tj3xyqqypky6tyqa5xjemgv4ehg0d0awl"

// TestLongText: of 32 bytes it is the form that identifiers have.
func TestLongText(t *testing.T) {
	t.Parallel()
	h := Hash{1, 2, 3, 31: 0x7f}
	if got := encodeLongText(hashPrefix, h[:]); got != h.String() {
		t.Errorf("got %s, want %s", got, h)
	}
	if b, err := decodeLongText(hashPrefix, h.String(), 32); err != nil || Hash(b) != h {
		t.Errorf("got %x, %v", b, err)
	}
}

func FuzzParseClaim(f *testing.F) {
	for _, c := range testClaims() {
		f.Add(c.Text())
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := ParseClaim(s)
		if err != nil {
			return
		}
		if again := c.Text(); again != s {
			t.Fatalf("%q is read as %+v, which is %q", s, c, again)
		}
	})
}
