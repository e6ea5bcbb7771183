package chain

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"

	"github.com/parley-p2p/parley/sdk"
)

// smallChain has public and private entries, an empty one, and a receive's.
func smallChain(t testing.TB) *Chain {
	c := mustOpen(t, testOptions(t))
	mustAppend(t, c, Batch{Entries: entries("bid", 2, 30), Cause: function(1)})
	mustAppend(t, c, Batch{Entries: []sdk.Entry{{Type: "note"}}, Cause: receive(2), KeepReply: true, Reply: []byte("ok")})
	return c
}

func export(t testing.TB, c *Chain, private bool) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := c.ExportWith(context.Background(), &b, ExportOptions{Private: private}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestExport(t *testing.T) {
	t.Parallel()
	c := smallChain(t)
	mustAppend(t, c, Batch{Entries: entries("big", 1000, 200), Cause: function(3)}) // more than a chunk
	head, hash := c.Head()
	for _, private := range []bool{false, true} {
		info, err := VerifyExport(iotest.OneByteReader(bytes.NewReader(export(t, c, private))))
		want := ExportInfo{DNA: testDNA.Hash(), Author: agentOf(alice), Name: "auction", Integrity: "1", Private: private, Records: head + 1, Head: hash}
		if !private {
			want.Withheld = 502
		}
		if err != nil || info != want {
			t.Errorf("private %v: %+v, %v; want %+v", private, info, err, want)
		}
	}
	var b bytes.Buffer
	if err := c.Export(&b); err != nil || bytes.Contains(b.Bytes(), bytes.Repeat([]byte("a"), 30)) || !bytes.Contains(b.Bytes(), bytes.Repeat([]byte("b"), 30)) {
		t.Errorf("%v: Export must hold the public entries alone", err)
	}
}

// Every byte of an export counts, and the wrong record is named.
func TestExportFlips(t *testing.T) {
	t.Parallel()
	c := smallChain(t)
	for _, private := range []bool{false, true} {
		data := export(t, c, private)
		rng := rand.New(rand.NewPCG(1, 1))
		for i := 0; i < len(data); i += 1 + rng.IntN(4) {
			b := bytes.Clone(data)
			b[i] ^= byte(1 + rng.IntN(255))
			var e *ExportError
			if _, err := VerifyExport(bytes.NewReader(b)); !errors.As(err, &e) || e.Seq > 4 {
				t.Fatalf("private %v, byte %d: %v", private, i, err)
			}
		}
		for n := 0; n < len(data); n += 1 + rng.IntN(6) {
			_, err := VerifyExport(bytes.NewReader(data[:n]))
			if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("private %v, cut at %d: %v", private, n, err)
			}
		}
		if _, err := VerifyExport(bytes.NewReader(append(bytes.Clone(data), 0))); err == nil {
			t.Fatal("a byte behind the trailer")
		}
	}
}

// A forged record is named though its checksums are right, even where many
// signatures are checked at a time.
func TestExportForged(t *testing.T) {
	t.Parallel()
	for _, forged := range []uint64{0, 3, 700, 1200} {
		var b bytes.Buffer
		out := newExporter(&b)
		info := ExportInfo{DNA: testDNA.Hash(), Author: agentOf(alice), Private: true}
		out.head(&info)
		c := &Chain{opts: testOptions(t).withDefaults(), dna: info.DNA, author: info.Author}
		p := c.genesis()
		for i := range uint64(1200) {
			r := &request{batch: Batch{Entries: entries("bid", 1, 10), Cause: function(i)}, hashes: []sdk.Hash{sdk.EntryHash(bytes.Repeat([]byte("a"), 10))}}
			if _, err := c.batch(p, r, c.opts.Now()); err != nil {
				t.Fatal(err)
			}
		}
		p.sign(alice)
		for i, r := range p.records {
			header, sig, content, err := splitRecord(r.key, r.value)
			if err != nil {
				t.Fatal(err)
			}
			if uint64(i) == forged {
				sig[5] ^= 1
			}
			out.record(header, sig, content, false)
		}
		info.Records, info.Head = 1201, p.hash
		if err := out.trailer(&info); err != nil {
			t.Fatal(err)
		}
		var e *ExportError
		if _, err := VerifyExport(&b); !errors.As(err, &e) || e.Seq != forged || e.Reason != badSignature {
			t.Errorf("record %d: %v", forged, err)
		}
	}
}

// failWriter fails after n bytes.
type failWriter struct{ n int }

func (w *failWriter) Write(b []byte) (int, error) {
	if w.n -= len(b); w.n < 0 {
		return 0, io.ErrClosedPipe
	}
	return len(b), nil
}

func TestExportFails(t *testing.T) {
	t.Parallel()
	c := smallChain(t)
	mustAppend(t, c, Batch{Entries: entries("big", 3, 100_000), Cause: function(3)})
	for n := 0; n < 100_000; n += 33_333 {
		if err := c.Export(&failWriter{n}); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := c.ExportWith(ctx, io.Discard, ExportOptions{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if n, err := c.Verify(ctx); n != 0 || !errors.Is(err, context.Canceled) {
		t.Error(n, err)
	}
	if _, err := VerifyExport(iotest.ErrReader(io.ErrClosedPipe)); !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
}

func FuzzVerifyExport(f *testing.F) {
	c := smallChain(f)
	public, private := export(f, c, false), export(f, c, true)
	_, hash := c.Head()
	f.Add(public)
	f.Add(private)
	f.Add(public[:len(public)-32])
	f.Add([]byte(exportMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		info, err := VerifyExport(bytes.NewReader(data))
		if err == nil && (info.Author != agentOf(alice) || info.Head != hash && info.Records == 4) {
			t.Fatalf("a forged export was accepted: %+v", info)
		}
	})
}
