package chain

import (
	"context"
	"fmt"
	"runtime"
	"sync"

	"github.com/parley-p2p/parley/sdk"
)

// signed is what a signature is checked against.
type signed struct {
	hash      sdk.Hash
	signature []byte
}

// firstForged checks signatures on all processors, 50 µs each, and returns the
// index of the first wrong one, or -1.
func firstForged(author sdk.AgentID, list []signed) int {
	workers := min(runtime.GOMAXPROCS(0), (len(list)+signAlone-1)/signAlone)
	bad := make([]int, workers)
	part := func(w int) {
		bad[w] = -1
		for i := w; i < len(list); i += workers {
			if !signedBy(author, list[i].hash, list[i].signature) {
				bad[w] = i
				return
			}
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
	first := -1
	for _, i := range bad {
		if i >= 0 && (first < 0 || i < first) {
			first = i
		}
	}
	return first
}

const badSignature = "bad signature"

// Verify walks the chain from the genesis record to the head at the time of
// the call and checks everything, the signatures included. n is the number of
// records that are right; a *DamagedError names the first that is wrong. It
// ends early with ctx's error, and never holds up a commit for long.
func (c *Chain) Verify(ctx context.Context) (n uint64, err error) {
	end := c.Len()
	link := linker{dna: c.dna, author: c.author}
	for link.next < end {
		if err := ctx.Err(); err != nil {
			return link.next, fmt.Errorf("verify chain: stopped after %d of %d records: %w", link.next, end, err)
		}
		from := link.next
		records, err := c.chunk(from, end)
		if err != nil {
			return from, err
		}
		var wrong error
		list := make([]signed, 0, len(records))
		for _, r := range records {
			h, hash, err := link.step(r.header, r.content, false)
			if err == nil {
				if err = sdk.CheckOwn(&h, r.content); err != nil {
					link.next--
				}
			}
			if err != nil {
				wrong = c.damagedAt(link.next, err.Error())
				break
			}
			list = append(list, signed{hash, r.signature})
		}
		if i := firstForged(c.author, list); i >= 0 {
			return from + uint64(i), c.damagedAt(from+uint64(i), badSignature)
		}
		if wrong != nil {
			return link.next, wrong
		}
	}
	return link.next, nil
}
