package chain

import (
	"crypto/ed25519"
	"crypto/sha256"
	"runtime"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/parley-p2p/parley/sdk"
)

// planned is one record of a plan.
type planned struct {
	key, value, typeKey []byte
	hash                sdk.Hash
}

// plan is one transaction: the batches that it appends and what it writes.
// Building one touches neither disk nor clock.
type plan struct {
	head    uint64   // of the chain once the plan is durable
	hash    sdk.Hash // of record head
	records []planned
	replies []keptReply
	bytes   int64 // of replies
	drop    int   // the oldest kept replies, which go

	tick       int64  // see Chain.tick
	firstReply uint64 // order of the oldest kept reply
	nextReply  uint64 // order of replies[0]
	kept       map[replyID]struct{}
	number     uint64   // of its frame
	large      bool     // it goes into the chain file at once
	public     []Public // of records
}

// genesis is the plan of record 0.
func (c *Chain) genesis() *plan {
	p := &plan{}
	p.add(&sdk.Header{Version: sdk.HeaderVersion, DNA: c.dna, Author: c.author, Kind: sdk.KindGenesis,
		Time: stamp(c.opts.Now()), EntryType: genesisType, Visibility: sdk.Public},
		encodeGenesis(c.opts.DNA.Name, c.opts.DNA.Integrity), nil)
	p.sign(c.opts.Key)
	return p
}

// stamp is a record's time: UTC, to the microsecond.
func stamp(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// add appends one record; entry is its content's hash where it is known.
func (p *plan) add(h *sdk.Header, content []byte, entry *sdk.Hash) {
	if entry == nil {
		e := sdk.EntryHash(content)
		entry = &e
	}
	h.Entry = *entry
	value, header := newRecordValue(h, content)
	p.head, p.hash = h.Seq, sha256.Sum256(header)
	p.records = append(p.records, planned{key: seqKey(h.Seq), value: value, typeKey: typeKey(h.EntryType, h.Seq), hash: p.hash})
	p.public = appendPublic(p.public, h, p.hash, content)
}

// signAlone is the number of records that one goroutine signs before a second
// is worth its start: signing takes 20 µs.
const signAlone = 4

// sign signs the records, on all processors where there are many: each
// signature needs its own hash only, and the chain of hashes is built already.
func (p *plan) sign(key ed25519.PrivateKey) {
	workers := min(runtime.GOMAXPROCS(0), (len(p.records)+signAlone-1)/signAlone)
	part := func(w int) {
		for i := w; i < len(p.records); i += workers {
			r := &p.records[i]
			sealRecord(r.key, r.value, ed25519.Sign(key, sdk.SigningBytes(r.hash)))
		}
	}
	var wg sync.WaitGroup
	for w := 1; w < workers; w++ {
		wg.Go(func() { part(w) })
	}
	if workers > 0 {
		part(0)
	}
	wg.Wait()
}

// frameSize is the length of the plan's frame in the log.
func (p *plan) frameSize() int64 {
	n := int64(frameHead)
	for i := range p.records {
		n += 4 + int64(len(p.records[i].value))
	}
	for i := range p.replies {
		n += 4 + int64(len(p.replies[i].value))
	}
	return n
}

// put writes the plan into a transaction.
func (p *plan) put(tx *bolt.Tx) error {
	records, types, replies := tx.Bucket(bucketRecords), tx.Bucket(bucketTypes), tx.Bucket(bucketReplies)
	// Keys come in ascending order, so pages are left full.
	records.FillPercent, replies.FillPercent = 1, 1
	for i := range p.records {
		if err := records.Put(p.records[i].key, p.records[i].value); err != nil {
			return err
		}
		if err := types.Put(p.records[i].typeKey, nil); err != nil {
			return err
		}
	}
	for i := range p.drop {
		if err := replies.Delete(seqKey(p.firstReply + uint64(i))); err != nil {
			return err
		}
	}
	for i := range p.replies {
		if err := replies.Put(seqKey(p.nextReply+uint64(i)), p.replies[i].value); err != nil {
			return err
		}
	}
	return nil
}

// batch adds a request's records and reply to the plan, or says why not and
// leaves the plan as it is. first is the number of its first record.
func (c *Chain) batch(p *plan, r *request, now time.Time) (first uint64, err error) {
	b := &r.batch
	if r.strict && b.Base != p.head {
		return 0, errMoved(b.Base, p.head)
	}
	if b.KeepReply {
		reply := keptReply{from: b.Cause.From, id: b.Cause.Message, micro: now.UnixMicro(), reply: b.Reply}
		bounds := replyBounds{c.opts.ReplyCount, c.opts.ReplyBytes, c.opts.ReplyAge}
		drop, limit, ok := c.replies.room(bounds, p.tick, len(p.replies)+1, p.bytes+reply.size())
		if !ok {
			return 0, errRepliesFull(limit)
		}
		p.drop = max(p.drop, drop)
		reply.value = encodeReply(seqKey(p.nextReply+uint64(len(p.replies))), &reply)
		if p.kept == nil {
			p.kept = map[replyID]struct{}{}
		}
		p.kept[replyID{reply.from, reply.id}] = struct{}{}
		p.replies, p.bytes = append(p.replies, reply), p.bytes+reply.size()
	}
	first = p.head + 1
	for i := range b.Entries {
		e := &b.Entries[i]
		p.add(&sdk.Header{Version: sdk.HeaderVersion, DNA: c.dna, Author: c.author, Seq: p.head + 1, Prev: p.hash,
			Time: stamp(now), Kind: sdk.KindEntry, EntryType: e.Type, Visibility: e.Visibility, Cause: b.Cause}, e.Content, &r.hashes[i])
	}
	return first, nil
}
