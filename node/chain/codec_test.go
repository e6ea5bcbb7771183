package chain

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parley-p2p/parley/sdk"
)

// Golden vectors are commented hexadecimal files: # begins a comment. They
// are frozen: -update is for a new format beside the old one.
var update = flag.Bool("update", false, "write the golden vectors anew")

type part struct {
	comment string
	bytes   []byte
}

func golden(t *testing.T, name, title string, parts []part) {
	t.Helper()
	path := filepath.Join("testdata", name)
	var all []byte
	var text strings.Builder
	fmt.Fprintf(&text, "# %s\n", title)
	for _, p := range parts {
		all = append(all, p.bytes...)
		fmt.Fprintf(&text, "\n# %s\n", p.comment)
		for b := p.bytes; len(b) > 0; {
			n := min(32, len(b))
			fmt.Fprintf(&text, "%x\n", b[:n])
			b = b[n:]
		}
	}
	if *update {
		if err := os.WriteFile(path, []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := readHex(t, path); !bytes.Equal(all, want) {
		t.Errorf("%s: the encoding is\n%x\nwant\n%x", name, all, want)
	}
}

func readHex(t *testing.T, path string) []byte {
	t.Helper()
	var digits strings.Builder
	for line := range strings.Lines(string(mustRead(t, path))) {
		line, _, _ = strings.Cut(line, "#")
		digits.WriteString(strings.Join(strings.Fields(line), ""))
	}
	b, err := hex.DecodeString(digits.String())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// goldenPlan is a chain of two records at a fixed time.
func goldenPlan(t *testing.T) *plan {
	o := testOptions(t).withDefaults()
	c := &Chain{opts: o, dna: testDNA.Hash(), author: agentOf(alice)}
	p := c.genesis()
	r := &request{batch: Batch{Entries: []sdk.Entry{{Type: "bid", Content: []byte("$50 on the clown")}}, Cause: receive(7)}}
	r.hashes = []sdk.Hash{sdk.EntryHash(r.batch.Entries[0].Content)}
	if _, err := c.batch(p, r, o.Now()); err != nil {
		t.Fatal(err)
	}
	p.sign(alice)
	return p
}

func TestGoldenRecord(t *testing.T) {
	t.Parallel()
	p := goldenPlan(t)
	for i, name := range []string{"record0.hex", "record1.hex"} {
		v := p.records[i].value
		n := 3 + int(v[1])<<8 + int(v[2])
		end := len(v) - crcLen
		golden(t, name, fmt.Sprintf("value of records/%x; the author's Ed25519 seed is %x", p.records[i].key, alice.Seed()), []part{
			{"format", v[:1]}, {"header length", v[1:3]}, {"header", v[3:n]}, {"signature", v[n : n+64]},
			{"content", v[n+64 : end]}, {"CRC-32C of the key and all above", v[end:]}})
		if got, err := decodeRecord(p.records[i].key, readHex(t, filepath.Join("testdata", name))); err != nil || got.Verify() != nil || got.Hash() != p.records[i].hash {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		golden(t, strings.Replace(name, "record", "typekey", 1), "key of the type index for the record of the same number",
			[]part{{"type length, type, sequence number", p.records[i].typeKey}})
	}
}

func TestGoldenReply(t *testing.T) {
	t.Parallel()
	key := seqKey(3)
	r := keptReply{from: agentOf(bob), id: messageID(7), micro: 1_700_000_000_000_000, reply: []byte("ok")}
	b := encodeReply(key, &r)
	golden(t, "reply.hex", "value of replies/0000000000000003", []part{{"sender", b[:32]}, {"message id", b[32:48]},
		{"time, unix µs", b[48:56]}, {"reply", b[56:58]}, {"CRC-32C of the key and all above", b[58:]}})
	got, err := decodeReply(key, readHex(t, "testdata/reply.hex"))
	if err != nil || got.from != r.from || got.id != r.id || got.micro != r.micro || !bytes.Equal(got.reply, r.reply) {
		t.Errorf("%+v, %v", got, err)
	}
	if int64(8+len(b)) != r.size() {
		t.Errorf("%d bytes, %d counted", 8+len(b), r.size())
	}
}

func TestGoldenExport(t *testing.T) {
	t.Parallel()
	p := goldenPlan(t)
	var b bytes.Buffer
	out := newExporter(&b)
	info := ExportInfo{DNA: testDNA.Hash(), Author: agentOf(alice), Records: 2, Head: p.hash}
	out.head(&info)
	marks := []int{0}
	mark := func() {
		if err := out.w.Flush(); err != nil {
			t.Fatal(err)
		}
		marks = append(marks, b.Len())
	}
	mark()
	for i, r := range p.records {
		header, sig, content, err := splitRecord(r.key, r.value)
		if err != nil {
			t.Fatal(err)
		}
		out.record(header, sig, content, i == 1)
		mark()
	}
	if err := out.trailer(&info); err != nil {
		t.Fatal(err)
	}
	mark()
	all := b.Bytes()
	golden(t, "export.hex", "an export without private entries of the records in record0.hex and record1.hex", []part{
		{"head: magic, flags, DNA, author", all[:marks[1]]}, {"record 0", all[marks[1]:marks[2]]},
		{"record 1, its entry withheld", all[marks[2]:marks[3]]}, {"trailer: count, last hash, SHA-256", all[marks[3]:]}})
	got, err := VerifyExport(bytes.NewReader(readHex(t, "testdata/export.hex")))
	if err != nil || got.Records != 2 || got.Withheld != 1 || got.Head != p.hash || got.Name != "auction" {
		t.Errorf("%+v, %v", got, err)
	}
}

func FuzzDecodeRecord(f *testing.F) {
	f.Add([]byte("12345678"), bytes.Repeat([]byte{1}, 400))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		if r, err := decodeRecord(key, value); err == nil {
			again, header := newRecordValue(&r.Header, r.Content)
			sealRecord(key, again, r.Signature[:])
			if !bytes.Equal(again, value) || len(header) == 0 {
				t.Fatal("a record has two encodings")
			}
		}
		// With a right checksum the parser behind it is reached.
		if len(value) >= recordFixed {
			sealed := bytes.Clone(value)
			n := len(sealed) - crcLen
			copy(sealed[n:], []byte{0, 0, 0, 0})
			crc := valueCRC(key, sealed[:n])
			sealed[n], sealed[n+1], sealed[n+2], sealed[n+3] = byte(crc>>24), byte(crc>>16), byte(crc>>8), byte(crc)
			_, _ = decodeRecord(key, sealed)
			_, _ = decodeReply(key, sealed)
		}
	})
}

func FuzzParseGenesis(f *testing.F) {
	f.Add(encodeGenesis("auction", "1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if name, integrity, err := parseGenesis(b); err == nil && !bytes.Equal(encodeGenesis(name, integrity), b) {
			t.Fatal("a genesis entry has two encodings")
		}
	})
}
