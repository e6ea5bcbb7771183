package node

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/parley-p2p/parley/dht"
)

// fakeEntries is a DHT of holders that never fail but as a test says. It checks
// bodies where a DHT does: when one is put, and when one is handed out.
type fakeEntries struct {
	mu     sync.Mutex // guards what follows
	held   map[dht.ID][]byte
	puts   []dht.ID                            // in their order, the refused ones too
	gets   int                                 // that were begun
	refuse func(id dht.ID, body []byte) error  // a put; nil: none
	answer func(id dht.ID, body []byte) []byte // a holder's answer to a get; nil: body
	fail   error                               // of each get
	wait   chan struct{}                       // not nil: a get waits for its close
}

func newFakeEntries() *fakeEntries {
	return &fakeEntries{held: map[dht.ID][]byte{}}
}

func (f *fakeEntries) PutEntry(ctx context.Context, id dht.ID, body []byte) (int, error) {
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.puts = append(f.puts, id)
	if f.refuse != nil {
		if err := f.refuse(id, body); err != nil {
			return 0, err
		}
	}
	if got, _, err := checkEntry(body); err != nil || got != id {
		return 0, fmt.Errorf("every holder refused it: %s, %v", got, err)
	}
	f.held[id] = slices.Clone(body)
	return 16, nil
}

func (f *fakeEntries) GetEntry(ctx context.Context, id dht.ID) ([]byte, *dht.Result, error) {
	f.mu.Lock()
	f.gets++
	body, fail, answer, wait := f.held[id], f.fail, f.answer, f.wait
	f.mu.Unlock()
	if wait != nil {
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, &dht.Result{}, context.Cause(ctx)
		}
	}
	if fail != nil {
		return nil, &dht.Result{}, fail
	}
	if answer != nil {
		body = answer(id, body)
	}
	if got, _, err := checkEntry(body); err != nil || got != id { // another holder is asked, and there is none
		return nil, &dht.Result{}, fmt.Errorf("entry %s: %w", id, dht.ErrNotFound)
	}
	return slices.Clone(body), &dht.Result{}, nil
}

// set changes what the fake does.
func (f *fakeEntries) set(change func(*fakeEntries)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}
