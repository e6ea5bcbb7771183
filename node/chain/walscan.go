package chain

import (
	"bytes"
	"cmp"
	"fmt"
)

// scanHalf gives the frames of a half that stand one behind the other from its
// start, with ascending numbers, and where the last one ends. A number is left
// out where a large plan went into the chain file, with all before it. beyond is the highest number of a whole frame
// behind that place, 0 if there is none: if it is higher than those before, a
// frame in between is damaged, since what an earlier round left has lower ones.
func (id *walID) scanHalf(b []byte) (frames []frame, end int, beyond uint64) {
	for {
		f, n, err := id.parseFrame(b[end:])
		if err != nil || len(frames) > 0 && f.number <= frames[len(frames)-1].number {
			break
		}
		frames, end = append(frames, f), end+n
	}
	for rest := b[end:]; ; rest = rest[1:] {
		i := bytes.Index(rest, []byte(frameMagic))
		if i < 0 {
			return frames, end, beyond
		}
		rest = rest[i:]
		if f, _, err := id.parseFrame(rest); err == nil {
			beyond = max(beyond, f.number)
		}
	}
}

// scanned is what a log holds beyond the chain file.
type scanned struct {
	frames []frame // numbers stored+1, stored+2, …
	half   int     // where the next frame goes, behind end
	end    int64
	last   [2]uint64 // highest number in each half
}

// scan reads a log's two halves. Frames that the chain file has are left out.
// An error comes with the frames before the damage.
func (id *walID) scan(halves [2][]byte, stored uint64) (s scanned, err error) {
	var lists [2][]frame
	var ends [2]int
	for i, b := range halves {
		var beyond uint64
		lists[i], ends[i], beyond = id.scanHalf(b)
		if n := len(lists[i]); n > 0 {
			s.last[i] = lists[i][n-1].number
		}
		if beyond > max(s.last[i], stored) {
			err = fmt.Errorf("a frame before frame %d is damaged", beyond)
		}
	}
	if s.last[1] > s.last[0] {
		s.half = 1
	}
	s.end = int64(ends[s.half])
	for _, i := range []int{1 - s.half, s.half} {
		for _, f := range lists[i] {
			want := stored + uint64(len(s.frames)) + 1
			if f.number > want {
				return s, cmp.Or(err, fmt.Errorf("it goes on with frame %d, and frame %d is missing", f.number, want))
			}
			if f.number == want {
				s.frames = append(s.frames, f)
			}
		}
	}
	return s, err
}

// replay turns a frame into the plan that it was, and checks that it follows
// link and replies, as Open does with the records of the chain file.
func (f *frame) replay(link *linker, replies *replyIndex) (*plan, error) {
	p := &plan{number: f.number, firstReply: replies.first, nextReply: f.reply}
	if f.seq != link.next {
		return nil, fmt.Errorf("gap: the log goes on with record %d", f.seq)
	}
	for _, value := range f.records {
		key := seqKey(link.next)
		header, _, content, err := splitRecord(key, value)
		if err != nil {
			return nil, err
		}
		h, hash, err := link.step(header, content, false)
		if err != nil {
			return nil, err
		}
		p.records = append(p.records, planned{key: key, value: value, typeKey: typeKey(h.EntryType, h.Seq), hash: hash})
		p.public = appendPublic(p.public, &h, hash, content)
	}
	p.head, p.hash = link.next-1, link.prev
	if f.oldest < replies.first || f.oldest > replies.next() {
		return nil, fmt.Errorf("frame %d drops replies up to %d of %d to %d", f.number, f.oldest, replies.first, replies.next())
	}
	p.drop = int(f.oldest - replies.first)
	if f.reply != replies.next() {
		return nil, fmt.Errorf("frame %d keeps reply %d, reply %d is next", f.number, f.reply, replies.next())
	}
	replies.drop(p.drop)
	for i, value := range f.replies {
		r, err := decodeReply(seqKey(f.reply+uint64(i)), value)
		if err != nil {
			return nil, fmt.Errorf("reply %d: %w", f.reply+uint64(i), err)
		}
		r.value = value
		if !replies.load(f.reply+uint64(i), &r) {
			return nil, fmt.Errorf("reply %d stands there twice", f.reply+uint64(i))
		}
		p.replies = append(p.replies, r)
	}
	return p, nil
}
