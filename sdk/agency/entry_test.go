package agency

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

var update = flag.Bool("update", false, "write the golden vectors anew")

func agent(n byte) sdk.AgentID { return sdk.AgentID{n, n, n} }

// testEntries are one of each kind, from the least to the most that they can say.
func testEntries() map[string]Entry {
	return map[string]Entry{
		"unrestricted": {Nonce: [16]byte{1}, Grant: sdk.Grant{Kind: sdk.GrantUnrestricted}},
		"assigned": {Nonce: [16]byte{2}, Grant: sdk.Grant{Kind: sdk.GrantAssigned, Agents: []sdk.AgentID{agent(1), agent(2)},
			Functions: []string{"bid", "highest"}, Expires: time.UnixMicro(1_800_000_000_000_001).UTC(), Uses: 3,
			Rate: sdk.Rate{N: 10, Per: time.Minute}, MaxPayload: 4096}},
		"transferable": {Nonce: [16]byte{3}, Grant: sdk.Grant{Kind: sdk.GrantTransferable, Functions: []string{"bid"}},
			Secret: SecretHash(sdk.Secret{7})},
	}
}

func TestEntryVectors(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("# Entries of grants (docs/agency.md): a name, then the content in hexadecimal.\n")
	for _, name := range []string{"unrestricted", "assigned", "transferable"} {
		e := testEntries()[name]
		content, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if back, err := ParseGrant(content); err != nil || !reflect.DeepEqual(back, e) {
			t.Errorf("%s comes back as %+v, %v", name, back, err)
		}
		fmt.Fprintf(&b, "%s %x\n", name, content)
	}
	content, err := EncodeRevoked(sdk.Hash{9})
	if err != nil {
		t.Fatal(err)
	}
	if back, err := ParseRevoked(content); err != nil || back != (sdk.Hash{9}) {
		t.Errorf("an end comes back as %v, %v", back, err)
	}
	fmt.Fprintf(&b, "revoked %x\n", content)
	const path = "testdata/entries.hex"
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || b.String() != string(want) {
		t.Errorf("the encoding changed (%v):\n%s\nwant\n%s", err, b.String(), want)
	}
}

func TestEntriesRefused(t *testing.T) {
	t.Parallel()
	encode := func(change func(*wireGrant)) []byte {
		w := wireGrant{Version: 1, Nonce: make([]byte, 16), Kind: "assigned", Agents: []sdk.AgentID{agent(1)}}
		change(&w)
		b, err := sdk.Marshal(w)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if _, err := ParseGrant(encode(func(*wireGrant) {})); err != nil {
		t.Fatalf("unchanged: %v", err)
	}
	for name, change := range map[string]func(*wireGrant){
		"version":            func(w *wireGrant) { w.Version = 2 },
		"nonce":              func(w *wireGrant) { w.Nonce = w.Nonce[1:] },
		"kind":               func(w *wireGrant) { w.Kind = "other" },
		"nobody":             func(w *wireGrant) { w.Agents = nil },
		"secret of assigned": func(w *wireGrant) { w.Secret = make([]byte, 32); w.Secret[0] = 1 },
		"no secret":          func(w *wireGrant) { w.Kind, w.Agents = "transferable", nil },
		"secret of zeros":    func(w *wireGrant) { w.Kind, w.Agents, w.Secret = "transferable", nil, make([]byte, 32) },
		"short secret":       func(w *wireGrant) { w.Kind, w.Agents, w.Secret = "transferable", nil, make([]byte, 31) },
		"uses":               func(w *wireGrant) { w.Uses = -1 },
		"rate":               func(w *wireGrant) { w.RateN = 1 },
		"before 1970":        func(w *wireGrant) { w.Expires = -1 },
		"function":           func(w *wireGrant) { w.Functions = []string{"No Name"} },
		"twice":              func(w *wireGrant) { w.Functions = []string{"a", "a"} },
	} {
		if e, err := ParseGrant(encode(change)); err == nil {
			t.Errorf("%s: accepted as %+v", name, e)
		}
	}
	good := encode(func(*wireGrant) {})
	for name, b := range map[string][]byte{"empty": nil, "longer": append(bytes.Clone(good), 0), "cut": good[:len(good)-1], "garbage": {0xc1}} {
		if _, err := ParseGrant(b); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if _, err := ParseRevoked(b); err == nil {
			t.Errorf("%s: accepted as an end", name)
		}
	}
}

func vectors(f *testing.F) {
	b, err := os.ReadFile("testdata/entries.hex")
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if _, text, ok := strings.Cut(strings.TrimSpace(line), " "); ok && line[0] != '#' {
			content, err := hex.DecodeString(text)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(content)
		}
	}
}

func FuzzParseGrant(f *testing.F) {
	vectors(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ParseGrant(b)
		if err != nil {
			return
		}
		if again, err := e.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x is read as %+v, which is %x, %v", b, e, again, err)
		}
		if err := e.Grant.Check(); err != nil {
			t.Fatalf("%+v: %v", e, err)
		}
	})
}

func FuzzParseRevoked(f *testing.F) {
	vectors(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		id, err := ParseRevoked(b)
		if err != nil {
			return
		}
		if again, err := EncodeRevoked(id); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x is read as %s, which is %x, %v", b, id, again, err)
		}
	})
}
