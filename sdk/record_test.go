package sdk

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

var updateRecords = flag.Bool("update-records", false, "write testdata/record*.hex anew")

// vectorKey is the key of RFC 8032, section 7.1, test 3.
func vectorKey(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	seed, err := hex.DecodeString("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7")
	if err != nil {
		t.Fatal(err)
	}
	return ed25519.NewKeyFromSeed(seed)
}

// vectorRecord has a different value in every field.
func vectorRecord(t testing.TB) Record {
	key := vectorKey(t)
	r := Record{Content: []byte("$50 on the black velvet painting of a clown")}
	r.Header = Header{Version: HeaderVersion, DNA: DNA{Name: "auction", Integrity: "1"}.Hash(), Seq: 0x0102030405060708,
		Time: time.Date(2026, 3, 4, 5, 6, 7, 89_000, time.UTC), Kind: KindEntry, EntryType: "bid", Visibility: Public,
		Entry: EntryHash(r.Content), Cause: Cause{Kind: CallReceive}}
	copy(r.Header.Author[:], key.Public().(ed25519.PublicKey))
	for i := range r.Header.Prev {
		r.Header.Prev[i], r.Header.Cause.From[i] = byte(i), byte(0x80+i)
	}
	for i := range r.Header.Cause.Message {
		r.Header.Cause.Message[i] = byte(0x40 + i)
	}
	copy(r.Signature[:], ed25519.Sign(key, SigningBytes(r.Hash())))
	return r
}

// vectorParts is the record as testdata/record.hex lists it: the header's
// fields, then what is derived from it.
func vectorParts(r *Record) (names []string, parts [][]byte) {
	b := AppendHeader(nil, &r.Header)
	add := func(name string, part []byte) { names, parts = append(names, name), append(parts, part) }
	for _, f := range []struct {
		name string
		n    int
	}{
		{"version", 1}, {"DNA: name auction, integrity 1", 32}, {"author", 32}, {"sequence number", 8}, {"hash of the record before", 32},
		{"time: 2026-03-04 05:06:07.000089 UTC, in µs", 8}, {"kind: an entry", 1}, {"visibility: public", 1}, {"cause: a receive", 1},
		{"cause: message id", 16}, {"cause: sender", 32}, {"hash of the entry", 32}, {"length of the entry type", 1},
		{"entry type: bid", len(r.Header.EntryType)},
	} {
		add(f.name, b[:f.n])
		b = b[f.n:]
	}
	hash := r.Hash()
	add("not in the header from here on: the record's hash", hash[:])
	add("what is signed", SigningBytes(hash))
	add("signature", r.Signature[:])
	add("content", r.Content)
	return names, parts
}

func TestRecordVector(t *testing.T) {
	r := vectorRecord(t)
	names, parts := vectorParts(&r)
	if *updateRecords {
		var text strings.Builder
		text.WriteString("# A record: its header in canonical form, its hash, signature and content.\n" +
			"# The author's key is that of RFC 8032, section 7.1, test 3. Integers are big-endian.\n")
		for i, name := range names {
			fmt.Fprintf(&text, "\n# %s\n%x\n", name, parts[i])
		}
		if err := os.WriteFile("testdata/record.hex", []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want := recordVector(t)
	if len(want) != len(parts) {
		t.Fatalf("%d lines in the vector, %d parts", len(want), len(parts))
	}
	header := 0
	for i, p := range parts {
		if !bytes.Equal(p, want[i]) {
			t.Errorf("%s: %x, want %x", names[i], p, want[i])
		}
		if i < len(parts)-4 {
			header += len(p)
		}
	}
	got, err := ParseHeader(bytes.Join(want, nil)[:header])
	if err != nil || got != r.Header {
		t.Errorf("%+v, %v; want %+v", got, err, r.Header)
	}
	if err := r.Verify(); err != nil {
		t.Error(err)
	}
}

// recordVector is one byte string for each line that is no comment.
func recordVector(t testing.TB) (parts [][]byte) {
	t.Helper()
	text, err := os.ReadFile("testdata/record.hex")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		b, err := hex.DecodeString(line)
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, b)
	}
	return parts
}

func TestParseHeaderRefuses(t *testing.T) {
	r := vectorRecord(t)
	good := AppendHeader(nil, &r.Header)
	if _, err := ParseHeader(good); err != nil {
		t.Fatal(err)
	}
	const kind = 1 + 32 + 32 + 8 + 32 + 8
	for name, change := range map[string]func([]byte) []byte{
		"empty":            func([]byte) []byte { return nil },
		"short":            func(b []byte) []byte { return b[:headerFixed-1] },
		"cut":              func(b []byte) []byte { return b[:len(b)-1] },
		"trailing":         func(b []byte) []byte { return append(b, 'x') },
		"version 0":        func(b []byte) []byte { b[0] = 0; return b },
		"version 2":        func(b []byte) []byte { b[0] = 2; return b },
		"kind 0":           func(b []byte) []byte { b[kind] = 0; return b },
		"kind 3":           func(b []byte) []byte { b[kind] = 3; return b },
		"visibility 2":     func(b []byte) []byte { b[kind+1] = 2; return b },
		"cause 4":          func(b []byte) []byte { b[kind+2] = 4; return b }, // a validate
		"cause 8":          func(b []byte) []byte { b[kind+2] = 8; return b },
		"no entry type":    func(b []byte) []byte { b[headerFixed-1] = 0; return b[:headerFixed] },
		"entry type of 65": func(b []byte) []byte { b[headerFixed-1] = 65; return append(b[:headerFixed], make([]byte, 65)...) },
	} {
		if h, err := ParseHeader(change(bytes.Clone(good))); err == nil {
			t.Errorf("%s: accepted as %+v", name, h)
		}
	}
}

func TestRecordVerify(t *testing.T) {
	for name, change := range map[string]func(*Record){
		"signature": func(r *Record) { r.Signature[9] ^= 1 },
		"header":    func(r *Record) { r.Header.Seq++ },
		"author":    func(r *Record) { r.Header.Author[3] ^= 1 },
		"content":   func(r *Record) { r.Content = []byte("$60") },
		"emptied":   func(r *Record) { r.Content = []byte{} },
	} {
		r := vectorRecord(t)
		if change(&r); r.Verify() == nil {
			t.Errorf("%s: a changed record verifies", name)
		}
	}
	r := vectorRecord(t)
	if r.Content = nil; r.Verify() != nil {
		t.Error("a record does not verify without its entry")
	}
}

func FuzzParseHeader(f *testing.F) {
	r := vectorRecord(f)
	f.Add(AppendHeader(nil, &r.Header))
	r.Header.Time, r.Header.EntryType = time.UnixMicro(-1<<63), strings.Repeat("x", MaxEntryType)
	f.Add(AppendHeader(nil, &r.Header))
	f.Add(make([]byte, headerFixed+1))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseHeader(b)
		if err != nil {
			return
		}
		if again := AppendHeader(nil, &h); !bytes.Equal(again, b) {
			t.Fatalf("a header has two encodings:\n%x\n%x", b, again)
		}
	})
}
