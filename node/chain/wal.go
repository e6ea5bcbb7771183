package chain

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// The write-ahead log makes a commit durable with one write and one sync of
// blocks that exist; bbolt, which needs two syncs of scattered pages, takes the
// same plans over later, many in one transaction (checkpoint.go). Integers are
// big-endian. Frozen: see testdata/wal.hex.
//
//	file     head 4096 | half | half
//	head     "parley-wal-v1" and zeros, 16 | id 16 | size of a half 8
//	         | CRC-32C 4 of all before it | zeros
//	half     frames, one behind the other, numbers ascending
//	frame    "PWF1" 4 | check of the head behind it 4 | check of the body 4
//	         | length of the body 4 | records 4 | replies 4 | number 8
//	         | sequence of the first record 8 | order of the first reply 8
//	         | order of the oldest kept reply 8 | body
//	body     { length 4 | value as in the bucket "records" }
//	         { length 4 | value as in the bucket "replies" }
//
// The two checks are CRC-32C that begin with the first and the second 4 bytes
// of the log's random id instead of zero: what others send ends up in frames,
// and must not be able to hold what looks like one.
//
// Frames fill one half, then the other one once all that it holds is in the
// chain file. What an earlier round left behind the last frame of a half has
// lower numbers, so nothing needs to be cleared.
//
// Invariant: the bucket "meta" has the number of the last frame that is in the
// chain file under "stored". Of the frames with higher numbers none is missing,
// except the last where a crash interrupted its write: then nobody was told
// that it is durable.
const (
	walSuffix   = ".wal"
	walMagic    = "parley-wal-v1\x00\x00\x00"
	walHeadLen  = 4096
	walHeadUsed = 16 + 16 + 8 + 4
	frameMagic  = "PWF1"
	frameHead   = 56
	// defaultHalf is the size of a half: some 1,500 records of 512 bytes, which
	// bbolt takes over in about 10 ms.
	defaultHalf = 1 << 20
	minHalf     = 4 << 10
)

type walID [16]byte

func appendWALHead(b []byte, id walID, half int64) []byte {
	b = append(append(b, walMagic...), id[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(half))
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	return append(b, make([]byte, walHeadLen-len(b))...)
}

func parseWALHead(b []byte) (id walID, half int64, err error) {
	if len(b) < walHeadLen || string(b[:16]) != walMagic {
		return id, 0, errors.New("it does not begin as a log of a known version")
	}
	used := b[:walHeadUsed]
	if crc32.Checksum(used[:40], castagnoli) != binary.BigEndian.Uint32(used[40:]) {
		return id, 0, errors.New("the checksum of its head is wrong")
	}
	copy(id[:], used[16:])
	half = int64(binary.BigEndian.Uint64(used[32:]))
	if half < minHalf || half > 1<<30 {
		return id, 0, fmt.Errorf("its halves have %d bytes", half)
	}
	return id, half, nil
}

// frame is what one frame holds. Its values alias the bytes it was parsed from.
type frame struct {
	number, seq   uint64
	reply, oldest uint64
	records       [][]byte
	replies       [][]byte
}

// appendFrame encodes a signed plan.
func (id *walID) appendFrame(b []byte, p *plan) []byte {
	at := len(b)
	b = append(b, frameMagic...)
	b = append(b, make([]byte, 12)...) // checks and length: below
	b = binary.BigEndian.AppendUint32(b, uint32(len(p.records)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(p.replies)))
	for _, v := range []uint64{p.number, p.head + 1 - uint64(len(p.records)), p.nextReply, p.firstReply + uint64(p.drop)} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	for i := range p.records {
		b = binary.BigEndian.AppendUint32(b, uint32(len(p.records[i].value)))
		b = append(b, p.records[i].value...)
	}
	for i := range p.replies {
		b = binary.BigEndian.AppendUint32(b, uint32(len(p.replies[i].value)))
		b = append(b, p.replies[i].value...)
	}
	head, body := b[at:at+frameHead], b[at+frameHead:]
	binary.BigEndian.PutUint32(head[12:], uint32(len(body)))
	binary.BigEndian.PutUint32(head[8:], id.bodyCheck(body))
	binary.BigEndian.PutUint32(head[4:], id.headCheck(head))
	return b
}

func (id *walID) headCheck(head []byte) uint32 {
	return crc32.Update(binary.BigEndian.Uint32(id[:]), castagnoli, head[8:frameHead])
}

func (id *walID) bodyCheck(body []byte) uint32 {
	return crc32.Update(binary.BigEndian.Uint32(id[4:]), castagnoli, body)
}

var errNoFrame = errors.New("no whole frame stands here")

// parseFrame reads the frame at the start of b, and how many bytes it has.
func (id *walID) parseFrame(b []byte) (f frame, size int, err error) {
	if len(b) < frameHead || string(b[:4]) != frameMagic || id.headCheck(b) != binary.BigEndian.Uint32(b[4:]) {
		return f, 0, errNoFrame
	}
	n := uint64(binary.BigEndian.Uint32(b[12:]))
	if n > uint64(len(b)-frameHead) {
		return f, 0, errNoFrame
	}
	size = frameHead + int(n)
	body := b[frameHead:size:size]
	if id.bodyCheck(body) != binary.BigEndian.Uint32(b[8:]) {
		return f, 0, errNoFrame
	}
	records, replies := binary.BigEndian.Uint32(b[16:]), binary.BigEndian.Uint32(b[20:])
	f.number, f.seq = binary.BigEndian.Uint64(b[24:]), binary.BigEndian.Uint64(b[32:])
	f.reply, f.oldest = binary.BigEndian.Uint64(b[40:]), binary.BigEndian.Uint64(b[48:])
	if f.records, body, err = frameValues(body, records); err != nil {
		return f, 0, err
	}
	if f.replies, body, err = frameValues(body, replies); err != nil {
		return f, 0, err
	}
	if len(body) != 0 {
		return f, 0, errNoFrame
	}
	return f, size, nil
}

func frameValues(b []byte, count uint32) (values [][]byte, rest []byte, err error) {
	if uint64(count) > uint64(len(b)/4) { // each takes its length at least
		return nil, nil, errNoFrame
	}
	values = make([][]byte, 0, count)
	for range count {
		if len(b) < 4 {
			return nil, nil, errNoFrame
		}
		n := uint64(binary.BigEndian.Uint32(b))
		if n > uint64(len(b)-4) {
			return nil, nil, errNoFrame
		}
		values, b = append(values, b[4:4+n:4+n]), b[4+n:]
	}
	return values, b, nil
}
