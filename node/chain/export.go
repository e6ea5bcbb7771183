package chain

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/parley-p2p/parley/sdk"
)

// An export is one chain as a stream, integers big-endian (docs/chain.md):
//
//	head     "parley-export-v1" 16 | flags 1 | DNA 32 | author 32
//	record   0x01 | header length 2 | header | signature 64
//	         | 0x00                                   the entry is withheld
//	         | 0x01 | content length 4 | content
//	trailer  0x00 | number of records 8 | hash of the last record 32
//	         | SHA-256 32 of all bytes before it
//
// Flags: 0 neither, 0x01 private entries are included, 0x02 matching receipts
// alone are. Nothing follows the trailer.
const (
	exportMagic   = "parley-export-v1"
	exportHead    = len(exportMagic) + 1 + 32 + 32
	flagPrivate   = 0x01
	flagReceipts  = 0x02
	tagTrailer    = 0x00
	tagRecord     = 0x01
	entryWithheld = 0x00
	entryPresent  = 0x01
	maxHeader     = 512
)

// ExportOptions choose what an export holds.
type ExportOptions struct {
	// Private includes the private entries. Without it their headers alone are
	// written, which is enough to verify the chain, so that the file can be
	// handed to others.
	Private bool
	// Receipts includes the matching receipts (sdk.TypeReceipt), which hold hashes
	// and signatures, and nothing else that is private.
	Receipts bool
}

// ExportInfo says what an export holds.
type ExportInfo struct {
	DNA             sdk.DNAHash
	Author          sdk.AgentID
	Name, Integrity string // of the DNA
	Private         bool   // private entries are included
	Receipts        bool   // matching receipts are included
	Records         uint64
	Withheld        uint64   // records without their entry
	Head            sdk.Hash // of the last record
}

// Export writes the chain to w without its private entries: see ExportWith.
func (c *Chain) Export(w io.Writer) error {
	_, err := c.ExportWith(context.Background(), w, ExportOptions{})
	return err
}

// ExportWith writes the records up to the head at the time of the call, in the
// format that VerifyExport reads. It checks all but the signatures on the way;
// a *DamagedError leaves the export without its trailer, so that it can't be
// taken for whole. A slow w holds up no commit.
func (c *Chain) ExportWith(ctx context.Context, w io.Writer, o ExportOptions) (ExportInfo, error) {
	info := ExportInfo{DNA: c.dna, Author: c.author, Private: o.Private, Receipts: o.Receipts && !o.Private}
	out := newExporter(w)
	out.head(&info)
	link := linker{dna: c.dna, author: c.author}
	for end := c.Len(); link.next < end; {
		if err := ctx.Err(); err != nil {
			return info, fmt.Errorf("export chain: stopped after %d of %d records: %w", link.next, end, err)
		}
		records, err := c.chunk(link.next, end)
		if err != nil {
			return info, err
		}
		for _, r := range records {
			h, _, err := link.step(r.header, r.content, false)
			if err != nil {
				return info, c.damagedAt(link.next, err.Error())
			}
			withhold := info.withholds(&h)
			if withhold {
				info.Withheld++
			}
			out.record(r.header, r.signature, r.content, withhold)
		}
		if out.err != nil {
			break
		}
	}
	info.Records, info.Head = link.next, link.prev
	info.Name, info.Integrity = link.name, link.integrity
	if err := out.trailer(&info); err != nil {
		return info, fmt.Errorf("write export: %w", err)
	}
	return info, nil
}

// withholds tells whether a record stands in the export without its entry.
func (i *ExportInfo) withholds(h *sdk.Header) bool {
	return h.Visibility != sdk.Public && !i.Private && !(i.Receipts && h.EntryType == sdk.TypeReceipt)
}

// exporter writes the parts of an export; the first error sticks.
type exporter struct {
	w   *bufio.Writer
	sum hash.Hash
	buf []byte
	err error
}

func newExporter(w io.Writer) *exporter {
	return &exporter{w: bufio.NewWriterSize(w, 64<<10), sum: sha256.New()}
}

func (e *exporter) write(b []byte) {
	if e.err == nil {
		e.sum.Write(b)
		_, e.err = e.w.Write(b)
	}
}

func (e *exporter) head(i *ExportInfo) {
	flags := byte(0)
	if i.Private {
		flags |= flagPrivate
	}
	if i.Receipts {
		flags |= flagReceipts
	}
	b := append([]byte(exportMagic), flags)
	e.write(append(append(b, i.DNA[:]...), i.Author[:]...))
}

func (e *exporter) record(header, signature, content []byte, withhold bool) {
	b := binary.BigEndian.AppendUint16(append(e.buf[:0], tagRecord), uint16(len(header)))
	b = append(append(b, header...), signature...)
	if withhold {
		e.buf = append(b, entryWithheld)
		e.write(e.buf)
		return
	}
	e.buf = binary.BigEndian.AppendUint32(append(b, entryPresent), uint32(len(content)))
	e.write(e.buf)
	e.write(content)
}

func (e *exporter) trailer(i *ExportInfo) error {
	b := binary.BigEndian.AppendUint64([]byte{tagTrailer}, i.Records)
	e.write(append(b, i.Head[:]...))
	e.write(e.sum.Sum(nil))
	if e.err == nil {
		e.err = e.w.Flush()
	}
	return e.err
}

// ExportError says what is wrong with an export.
type ExportError struct {
	Seq    uint64 // number of the first wrong record
	Reason string
	Err    error // of reading, or nil
}

func (e *ExportError) Error() string {
	return fmt.Sprintf("export: record %d is the first wrong one: %s", e.Seq, e.Reason)
}

func (e *ExportError) Unwrap() error { return e.Err }

// VerifyExport reads an export to its end and checks everything: format, links,
// sequence, hashes, signatures, and the trailer that tells a whole export from
// a cut one. It needs no node. An *ExportError names the first wrong record; info
// then tells what was read before it. Memory is bounded by the largest entry.
func VerifyExport(r io.Reader) (ExportInfo, error) { return VerifyExportWith(r, nil) }

// VerifyExportWith is VerifyExport that shows each record to visit, without its
// signature and without its content where that is withheld. Only when it has
// returned without an error is any of them known to be right.
func VerifyExportWith(r io.Reader, visit func(*sdk.Record) error) (ExportInfo, error) {
	in := &importer{r: bufio.NewReaderSize(r, 64<<10), sum: sha256.New(), visit: visit}
	err := in.run()
	in.info.Records, in.info.Head = in.link.next, in.link.prev
	in.info.Name, in.info.Integrity = in.link.name, in.link.integrity
	return in.info, err
}

// importer reads an export.
type importer struct {
	r       *bufio.Reader
	sum     hash.Hash
	link    linker
	info    ExportInfo
	visit   func(*sdk.Record) error
	pending []signed // signatures not yet checked; the last is of link.next-1
}

func (in *importer) wrong(format string, args ...any) error {
	return &ExportError{Seq: in.link.next, Reason: fmt.Sprintf(format, args...)}
}

// read fills b and adds it to the sum.
func (in *importer) read(b []byte) error {
	if _, err := io.ReadFull(in.r, b); err != nil {
		return in.short(err)
	}
	in.sum.Write(b)
	return nil
}

func (in *importer) short(err error) error {
	e := &ExportError{Seq: in.link.next, Reason: "the export is cut short here", Err: err}
	if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		e.Reason = "it can't be read: " + err.Error()
	}
	return e
}

func (in *importer) run() error {
	head := make([]byte, exportHead)
	if err := in.read(head); err != nil {
		return err
	}
	n := len(exportMagic)
	if string(head[:n]) != exportMagic || head[n] > flagReceipts {
		return in.wrong("this is no export of a known version")
	}
	in.info.Private, in.info.Receipts = head[n]&flagPrivate != 0, head[n]&flagReceipts != 0
	copy(in.info.DNA[:], head[n+1:])
	copy(in.info.Author[:], head[n+33:])
	in.link.dna, in.link.author = in.info.DNA, in.info.Author
	for {
		var tag [1]byte
		err := in.read(tag[:])
		switch {
		case err != nil:
		case tag[0] == tagRecord:
			err = in.record()
		case tag[0] == tagTrailer:
			err = in.trailer()
		default:
			err = in.wrong("a part begins with %#x, which is unknown", tag[0])
		}
		// Signatures are checked many at a time; whatever else is wrong comes
		// after the records that are still pending.
		done := err != nil || tag[0] == tagTrailer
		if done || len(in.pending) >= chunkRecords {
			if forged := in.flush(); forged != nil {
				return forged
			}
		}
		if done {
			return err
		}
	}
}

func (in *importer) flush() error {
	defer func() { in.pending = in.pending[:0] }()
	if i := firstForged(in.info.Author, in.pending); i >= 0 {
		in.link.next -= uint64(len(in.pending) - i)
		in.link.prev = sdk.Hash{}
		return in.wrong(badSignature)
	}
	return nil
}

func (in *importer) record() error {
	var size [2]byte
	if err := in.read(size[:]); err != nil {
		return err
	}
	n := int(binary.BigEndian.Uint16(size[:]))
	if n > maxHeader {
		return in.wrong("its header has %d bytes", n)
	}
	b := make([]byte, n+signatureLen+1)
	if err := in.read(b); err != nil {
		return err
	}
	header, signature, mark := b[:n], b[n:n+signatureLen], b[len(b)-1]
	var content []byte
	switch mark {
	case entryWithheld:
	case entryPresent:
		var err error
		if content, err = in.content(); err != nil {
			return err
		}
	default:
		return in.wrong("its entry is marked %#x, which is unknown", mark)
	}
	h, hash, err := in.link.step(header, content, mark == entryWithheld)
	if err != nil {
		return in.wrong("%v", err)
	}
	if withheld := mark == entryWithheld; withheld != in.info.withholds(&h) {
		in.link.next--
		return in.wrong("its entry is there or withheld against what the export's head says")
	} else if withheld {
		in.info.Withheld++
	}
	if mark == entryPresent {
		if err := sdk.CheckOwn(&h, content); err != nil {
			in.link.next--
			return in.wrong("%v", err)
		}
	}
	in.pending = append(in.pending, signed{hash, signature})
	if in.visit != nil {
		return in.visit(&sdk.Record{Header: h, Content: content})
	}
	return nil
}

// content reads an entry piece by piece, so that a false length takes no more
// memory than there are bytes.
func (in *importer) content() ([]byte, error) {
	var size [4]byte
	if err := in.read(size[:]); err != nil {
		return nil, err
	}
	n := int64(binary.BigEndian.Uint32(size[:]))
	if n > maxContent {
		return nil, in.wrong("its entry has %d bytes, at most %d are possible", n, maxContent)
	}
	var b bytes.Buffer
	if _, err := io.CopyN(io.MultiWriter(&b, in.sum), in.r, n); err != nil {
		return nil, in.short(err)
	}
	return b.Bytes(), nil
}

func (in *importer) trailer() error {
	var b [8 + 32]byte
	if err := in.read(b[:]); err != nil {
		return err
	}
	want := in.sum.Sum(nil)
	var sum [32]byte
	if err := in.read(sum[:]); err != nil {
		return err
	}
	switch {
	case in.link.next == 0:
		return in.wrong("there is no genesis record")
	case binary.BigEndian.Uint64(b[:]) != in.link.next:
		return in.wrong("the trailer counts %d records, %d are there", binary.BigEndian.Uint64(b[:]), in.link.next)
	case !bytes.Equal(b[8:], in.link.prev[:]):
		return in.wrong("the trailer names another last record")
	case !bytes.Equal(sum[:], want):
		return in.wrong("the checksum of the whole export is wrong")
	}
	if _, err := in.r.ReadByte(); !errors.Is(err, io.EOF) {
		return in.wrong("bytes follow the trailer")
	}
	return nil
}
