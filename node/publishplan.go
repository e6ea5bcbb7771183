package node

import (
	"cmp"
	"slices"
	"time"

	"github.com/parley-p2p/parley/node/chain"
	"github.com/parley-p2p/parley/sdk"
)

const (
	// publishAgain is after how long an entry is published again: a holder keeps it
	// for 24 h, so that one publication may fail.
	publishAgain = 12 * time.Hour
	// publishSoon is that after one that fewHolders or less took: the network was
	// small, or hard to reach.
	publishSoon = time.Hour
	fewHolders  = 3
	// The pauses after a failed publication double from the first to the last.
	publishPause    = 5 * time.Second
	publishPauseMax = 10 * time.Minute
	// publicShare is the part of an author's bound in bytes that one entry has: a
	// holder that keeps 64 entries of an author keeps 128 KiB of them.
	publicShare = 2 << 10
)

// publicEntry is an entry to be kept published.
type publicEntry struct {
	chain.Public
	app *app
}

type publicKey struct {
	dna sdk.DNAHash
	seq uint64
}

// publishing is how far the publication of an entry has come.
type publishing struct {
	publicEntry
	due   time.Time
	fails int  // since the last one that succeeded
	done  bool // it was published by this run of the node
}

// publishPlan says what is to be published when: the newest entries of all
// chains, as many as the author's bound has room for. It keeps no queue: what is
// to be published stands on the chains.
type publishPlan struct {
	max     int // entries; their bytes are publicShare each
	items   map[publicKey]*publishing
	order   []publicKey // the newest first
	leftOut uint64      // public entries of the chains that the bound has no room for
}

func newPublishPlan(max int) *publishPlan {
	return &publishPlan{max: max, items: map[publicKey]*publishing{}}
}

// set tells what is on the chains: the newest of each, and how many there are.
// dropped counts those that the bound has no more room for.
func (p *publishPlan) set(now time.Time, newest []publicEntry, total uint64) (dropped int) {
	slices.SortFunc(newest, func(a, b publicEntry) int {
		return cmp.Or(b.Time.Compare(a.Time), cmp.Compare(a.app.name, b.app.name), cmp.Compare(b.Seq, a.Seq))
	})
	items, bytes := make(map[publicKey]*publishing, min(p.max, len(newest))), 0
	p.order = p.order[:0]
	for _, e := range newest {
		if bytes += e.Size; len(items) == p.max || bytes > p.max*publicShare {
			break
		}
		k := publicKey{e.app.hash, e.Seq}
		item := p.items[k]
		if item == nil {
			item = &publishing{due: now}
		}
		item.publicEntry = e // the app may be another one: its handler was added again
		items[k] = item
		p.order = append(p.order, k)
	}
	for _, e := range newest[len(items):] {
		if p.items[publicKey{e.app.hash, e.Seq}] != nil {
			dropped++
		}
	}
	p.items, p.leftOut = items, total-uint64(len(items))
	return dropped
}

// next is the newest entry that is due, or nil and the time until one is; 0 where
// there is none.
func (p *publishPlan) next(now time.Time) (e *publishing, wait time.Duration) {
	for _, k := range p.order {
		item := p.items[k]
		left := item.due.Sub(now)
		if left <= 0 {
			return item, 0
		}
		if wait == 0 || left < wait {
			wait = left
		}
	}
	return nil, wait
}

// published tells what a publication came to. spread, 0 to 1, draws when it is
// done again, so that nodes that started together don't go on together.
func (p *publishPlan) published(now time.Time, e *publishing, holders int, err error, spread float64) {
	if err != nil || holders == 0 {
		pause := min(publishPause<<min(e.fails, 10), publishPauseMax)
		e.fails++
		e.due = now.Add(time.Duration(float64(pause) * (0.75 + spread/2)))
		return
	}
	again := publishAgain
	if holders <= fewHolders {
		again = publishSoon
	}
	e.fails, e.done = 0, true
	e.due = now.Add(time.Duration(float64(again) * (1 - spread/12)))
}

// count tells how many entries are published and how many wait for it.
func (p *publishPlan) count() (published, waiting int) {
	for _, e := range p.items {
		if e.done && e.fails == 0 {
			published++
		}
	}
	return published, len(p.items) - published
}
