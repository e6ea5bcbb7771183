package chain

import (
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/parley-p2p/parley/sdk"
)

// replyID names a receive: sender and message id.
type replyID struct {
	from sdk.AgentID
	id   sdk.MessageID
}

// replyMeta is what is kept in memory of one reply: the oldest goes first.
type replyMeta struct {
	id    replyID
	tick  int64 // see Chain.tick
	bytes int64
}

// replyIndex finds kept replies. It is pure: the replies are in the file, in
// the order in which they were appended, the oldest dropped first. So a commit
// touches the two ends of one bucket instead of a random page for each reply.
//
// Invariant: fifo[i] is in the file under the key first+i, and
// at[fifo[i].id] = first+i.
type replyIndex struct {
	at    map[replyID]uint64
	fifo  []replyMeta
	first uint64
	bytes int64
}

func newReplyIndex() replyIndex { return replyIndex{at: map[replyID]uint64{}} }

func (r *keptReply) size() int64 { return 8 + replyHead + int64(len(r.reply)) + crcLen }

func (x *replyIndex) next() uint64 { return x.first + uint64(len(x.fifo)) }

func (x *replyIndex) add(r *keptReply, tick int64) {
	id := replyID{r.from, r.id}
	x.at[id] = x.next()
	x.fifo = append(x.fifo, replyMeta{id, tick, r.size()})
	x.bytes += r.size()
}

// load is add for a reply read from the file; false if it can't stand there.
func (x *replyIndex) load(order uint64, r *keptReply) bool {
	if len(x.fifo) == 0 {
		x.first = order
	}
	if _, twice := x.at[replyID{r.from, r.id}]; twice || order != x.next() {
		return false
	}
	x.add(r, r.micro)
	return true
}

// loaded is called when all of a file is loaded. What was kept by a clock that
// was ahead of now counts as kept now, or it would stay until that time.
func (x *replyIndex) loaded(now int64) {
	for i := range x.fifo {
		x.fifo[i].tick = min(x.fifo[i].tick, now)
	}
}

// drop forgets the n oldest.
func (x *replyIndex) drop(n int) {
	for _, m := range x.fifo[:n] {
		delete(x.at, m.id)
		x.bytes -= m.bytes
	}
	x.fifo, x.first = x.fifo[n:], x.first+uint64(n)
	if len(x.fifo) == 0 {
		x.fifo = nil
	}
}

type replyBounds struct {
	count int
	bytes int64
	age   time.Duration
}

// maxIdleDrops bounds how many replies go by age alone in one transaction.
const maxIdleDrops = 1024

// room says how many of the oldest go so that count more replies of bytes in
// all can be kept. Those within LongestDeadline stay: ok is false, with the
// limit, where that leaves no room.
func (x *replyIndex) room(b replyBounds, now int64, count int, bytes int64) (drop int, l sdk.Limit, ok bool) {
	left := x.bytes
	for drop < len(x.fifo) {
		m := x.fifo[drop]
		age := time.Duration(now-m.tick) * time.Microsecond
		over := len(x.fifo)-drop+count > b.count || left+bytes > b.bytes
		if age <= LongestDeadline || !over && (age <= b.age || drop >= maxIdleDrops) {
			break
		}
		left -= m.bytes
		drop++
	}
	if n := len(x.fifo) - drop + count; n > b.count {
		return 0, sdk.Limit{Name: "kept replies", Setting: "chain-reply-count", Value: uint64(n), Max: uint64(b.count), RetryAfter: time.Second}, false
	}
	if n := left + bytes; n > b.bytes {
		return 0, sdk.Limit{Name: "bytes of kept replies", Setting: "chain-reply-bytes", Value: uint64(n), Max: uint64(b.bytes), RetryAfter: time.Second}, false
	}
	return drop, sdk.Limit{}, true
}

// Reply is the kept outcome of a receive that committed: message id of sender
// from. Outcomes are kept for LongestDeadline at least, across restarts, and
// until ReplyAge or their number or bytes make them go. The reply may be empty.
func (c *Chain) Reply(from sdk.AgentID, id sdk.MessageID) (reply []byte, found bool, err error) {
	c.mu.RLock()
	order, found := c.replies.at[replyID{from, id}]
	recent := c.tail.reply(order)
	c.mu.RUnlock()
	if err := c.readable(); err != nil || !found {
		return nil, false, err
	}
	if recent != nil {
		return append(make([]byte, 0, len(recent.reply)), recent.reply...), true, nil
	}
	err = c.view(func(tx *bolt.Tx) error {
		key := seqKey(order)
		value := tx.Bucket(bucketReplies).Get(key)
		if value == nil { // it went since
			found = false
			return nil
		}
		r, err := decodeReply(key, value)
		if err != nil {
			return &DamagedError{Path: c.opts.Path, Seq: c.Len(), Part: "a kept reply", Reason: err.Error()}
		}
		reply = append(make([]byte, 0, len(r.reply)), r.reply...)
		return nil
	})
	if err != nil {
		return nil, false, err
	}
	return reply, found, nil
}
