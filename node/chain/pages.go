package chain

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
)

// This file reads a bbolt file (format version 2) with plain reads and trusts
// nothing in it. bbolt itself maps the file and panics, faults, or loops over a
// damaged one, partly in goroutines of its own where nobody can recover; so it
// is given only files that were read here first.
//
//	page         id 8 | flags 2 | count 2 | overflow 4 | elements | keys and values
//	branch elem  pos 4 | ksize 4 | page id 8
//	leaf elem    flags 4 | pos 4 | ksize 4 | vsize 4      pos counts from the element
//	meta         magic 4 | version 4 | page size 4 | flags 4 | root page 8 | sequence 8
//	             | freelist page 8 | high-water mark 8 | transaction 8 | FNV-1a 8 of the 56 before
//	bucket value root page 8 (0: a page follows inline) | sequence 8
//
// Integers are in the machine's byte order.

const (
	boltMagic      = 0xED0CDAED
	boltVersion    = 2
	pageHeader     = 16
	elemLen        = 16
	metaLen        = 64
	bucketHeader   = 16
	flagBranch     = 0x01
	flagLeaf       = 0x02
	flagMeta       = 0x04
	flagFreelist   = 0x10
	leafBucket     = 0x01
	maxDepth       = 32
	noFreelist     = ^uint64(0)
	minPage        = 1 << 10
	maxPage        = 1 << 24
	maxLeafPayload = 1 << 30
)

var native = binary.NativeEndian

type boltMeta struct{ root, freelist, highWater, tx uint64 }

type pages struct {
	f        io.ReaderAt
	size     int64 // of the file
	pageSize int64
	meta     boltMeta
	seen     []uint64 // one bit per page: it was reached
}

// openPages reads the two meta pages. Both must be sound: bbolt would fall
// back to the older one, which silently drops the newest transaction.
func openPages(f io.ReaderAt, size int64) (*pages, error) {
	p := &pages{f: f, size: size}
	m0, pageSize, err := p.readMeta(0, 0)
	if err != nil {
		return nil, err
	}
	p.pageSize = pageSize
	m1, other, err := p.readMeta(pageSize, 1)
	if err != nil {
		return nil, err
	}
	if other != pageSize {
		return nil, fmt.Errorf("its meta pages name page sizes %d and %d", pageSize, other)
	}
	if p.meta = m0; m1.tx > m0.tx {
		p.meta = m1
	}
	p.seen = make([]uint64, size/pageSize/64+1)
	return p, nil
}

func (p *pages) readMeta(off int64, id uint64) (m boltMeta, pageSize int64, err error) {
	var b [pageHeader + metaLen]byte
	if _, err := p.f.ReadAt(b[:], off); err != nil {
		if off+int64(len(b)) > p.size {
			return m, 0, fmt.Errorf("the file is cut short at %d bytes, before its meta page %d", p.size, id)
		}
		return m, 0, fmt.Errorf("its meta page %d can't be read: %w", id, err)
	}
	v := b[pageHeader:]
	sum := fnv.New64a()
	sum.Write(v[:metaLen-8])
	pageSize = int64(native.Uint32(v[8:]))
	switch {
	case native.Uint32(v) != boltMagic || native.Uint64(b[:]) != id || native.Uint16(b[8:]) != flagMeta:
		return m, 0, fmt.Errorf("its meta page %d is damaged, or this is no chain file", id)
	case native.Uint32(v[4:]) != boltVersion:
		return m, 0, fmt.Errorf("its meta page %d has version %d, %d is known", id, native.Uint32(v[4:]), boltVersion)
	case sum.Sum64() != native.Uint64(v[metaLen-8:]):
		return m, 0, fmt.Errorf("the checksum of its meta page %d is wrong", id)
	case pageSize < minPage || pageSize > maxPage || pageSize&(pageSize-1) != 0:
		return m, 0, fmt.Errorf("its meta page %d names a page size of %d", id, pageSize)
	}
	m = boltMeta{root: native.Uint64(v[16:]), freelist: native.Uint64(v[32:]), highWater: native.Uint64(v[40:]), tx: native.Uint64(v[48:])}
	return m, pageSize, nil
}

// mark notes that page id was reached, with n-1 more behind it, each once.
func (p *pages) mark(id, n uint64) error {
	for i := id; i < id+n; i++ {
		if p.seen[i/64]>>(i%64)&1 == 1 {
			return fmt.Errorf("page %d is used twice", i)
		}
		p.seen[i/64] |= 1 << (i % 64)
	}
	return nil
}

// read is page id with the pages that continue it.
func (p *pages) read(id uint64) ([]byte, error) {
	if id < 2 || id >= p.meta.highWater {
		return nil, fmt.Errorf("page %d is outside of the file's %d pages", id, p.meta.highWater)
	}
	if id >= uint64(p.size/p.pageSize) {
		return nil, fmt.Errorf("the file is cut short at %d bytes, before page %d", p.size, id)
	}
	b := make([]byte, p.pageSize)
	if _, err := p.f.ReadAt(b, int64(id)*p.pageSize); err != nil {
		return nil, fmt.Errorf("page %d can't be read: %w", id, err)
	}
	if got := native.Uint64(b); got != id {
		return nil, fmt.Errorf("page %d calls itself page %d", id, got)
	}
	more := uint64(native.Uint32(b[12:]))
	total := (int64(more) + 1) * p.pageSize
	switch {
	case id+more >= p.meta.highWater || total > maxLeafPayload+p.pageSize:
		return nil, fmt.Errorf("page %d claims %d more pages", id, more)
	case id+more >= uint64(p.size/p.pageSize):
		return nil, fmt.Errorf("the file is cut short at %d bytes, within page %d", p.size, id)
	}
	if err := p.mark(id, more+1); err != nil || more == 0 {
		return b, err
	}
	b = append(make([]byte, 0, total), b...)[:total]
	if _, err := p.f.ReadAt(b[p.pageSize:], (int64(id)+1)*p.pageSize); err != nil {
		return nil, fmt.Errorf("page %d can't be read: %w", id, err)
	}
	return b, nil
}

// visit gets each leaf element in key order; key and value are not kept.
type visit func(flags uint32, key, value []byte) error

// tree walks the tree under page id. Keys k must satisfy lo <= k < hi and
// ascend strictly; a nil hi means no bound.
func (p *pages) tree(id uint64, lo, hi []byte, depth int, fn visit) error {
	if depth > maxDepth {
		return fmt.Errorf("page %d lies deeper than %d levels", id, maxDepth)
	}
	b, err := p.read(id)
	if err != nil {
		return err
	}
	if native.Uint16(b[8:]) == flagBranch {
		return p.branch(id, b, lo, hi, depth, fn)
	}
	return leaf(id, b, lo, hi, fn)
}

func (p *pages) branch(id uint64, b, lo, hi []byte, depth int, fn visit) error {
	n := int(native.Uint16(b[10:]))
	if n == 0 || pageHeader+n*elemLen > len(b) {
		return fmt.Errorf("branch page %d claims %d elements", id, n)
	}
	child := func(i int) (key []byte, page uint64, err error) {
		at := pageHeader + i*elemLen
		key, _, err = span(b, at, native.Uint32(b[at:]), native.Uint32(b[at+4:]), 0)
		return key, native.Uint64(b[at+8:]), err
	}
	for i := range n {
		key, page, err := child(i)
		if err != nil {
			return fmt.Errorf("branch page %d: %w", id, err)
		}
		end := hi
		if i+1 < n {
			if end, _, err = child(i + 1); err != nil {
				return fmt.Errorf("branch page %d: %w", id, err)
			}
		}
		if bytes.Compare(key, lo) < 0 || end != nil && bytes.Compare(key, end) >= 0 {
			return fmt.Errorf("branch page %d: its keys are not in order", id)
		}
		if err := p.tree(page, key, end, depth+1, fn); err != nil {
			return err
		}
	}
	return nil
}

func leaf(id uint64, b, lo, hi []byte, fn visit) error {
	if len(b) < pageHeader {
		return fmt.Errorf("page %d has %d bytes", id, len(b))
	}
	if f := native.Uint16(b[8:]); f != flagLeaf {
		return fmt.Errorf("page %d is of type %#x, a leaf or branch was expected", id, f)
	}
	n := int(native.Uint16(b[10:]))
	if pageHeader+n*elemLen > len(b) {
		return fmt.Errorf("leaf page %d claims %d elements", id, n)
	}
	for i := range n {
		at := pageHeader + i*elemLen
		key, value, err := span(b, at, native.Uint32(b[at+4:]), native.Uint32(b[at+8:]), native.Uint32(b[at+12:]))
		if err != nil {
			return fmt.Errorf("leaf page %d: %w", id, err)
		}
		if c := bytes.Compare(key, lo); c < 0 || c == 0 && i > 0 || hi != nil && bytes.Compare(key, hi) >= 0 {
			return fmt.Errorf("leaf page %d: its keys are not in order", id)
		}
		if err := fn(native.Uint32(b[at:]), key, value); err != nil {
			return err
		}
		lo = key
	}
	return nil
}

// span is the key and the value of the element at b[at:].
func span(b []byte, at int, pos, ksize, vsize uint32) (key, value []byte, err error) {
	from := uint64(at) + uint64(pos)
	mid := from + uint64(ksize)
	end := mid + uint64(vsize)
	if pos < elemLen || end > uint64(len(b)) || ksize == 0 {
		return nil, nil, fmt.Errorf("an element points outside of the page")
	}
	return b[from:mid:mid], b[mid:end:end], nil
}

// bucket walks a bucket by its value in its parent.
func (p *pages) bucket(value []byte, fn visit) error {
	if len(value) < bucketHeader {
		return fmt.Errorf("a bucket's header has %d bytes", len(value))
	}
	if root := native.Uint64(value); root != 0 {
		return p.tree(root, nil, nil, 0, fn)
	}
	return leaf(0, value[bucketHeader:], nil, nil, fn)
}

// freeList checks that free pages are inside the file, named once, and not in
// use: bbolt would write new records over pages that are.
func (p *pages) freeList() error {
	if p.meta.freelist == noFreelist {
		return fmt.Errorf("there is none: another program wrote to the file")
	}
	b, err := p.read(p.meta.freelist)
	if err != nil {
		return err
	}
	if f := native.Uint16(b[8:]); f != flagFreelist {
		return fmt.Errorf("page %d is of type %#x", p.meta.freelist, f)
	}
	n, at := uint64(native.Uint16(b[10:])), uint64(pageHeader)
	if n == 0xFFFF {
		n, at = native.Uint64(b[at:]), at+8
	}
	if n > (uint64(len(b))-at)/8 {
		return fmt.Errorf("page %d claims %d ids", p.meta.freelist, n)
	}
	last := uint64(1)
	for ; n > 0; n, at = n-1, at+8 {
		id := native.Uint64(b[at:])
		if id <= last || id >= p.meta.highWater {
			return fmt.Errorf("it names page %d after page %d of %d", id, last, p.meta.highWater)
		}
		if id < uint64(p.size/p.pageSize) {
			if err := p.mark(id, 1); err != nil {
				return err
			}
		}
		last = id
	}
	return nil
}
