package demo

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
)

const (
	dna      = "auction"
	painting = "black velvet painting of a clown"
)

// findBob asks Alice's node for Bob and prints the route.
func (d *demo) findBob(ctx context.Context) error {
	began := time.Now()
	l, err := d.alice.client.Lookup(ctx, d.bob.agent)
	if err != nil {
		return err
	}
	d.printRoute(l, time.Since(began))
	return nil
}

// place is Alice's client: it places the bid with Bob.
func (d *demo) place(ctx context.Context) error {
	payload, err := sdk.Marshal(struct {
		To     sdk.AgentID `json:"to"`
		Item   string      `json:"item"`
		Amount uint64      `json:"amount"`
	}{d.bob.agent, painting, 50})
	if err != nil {
		return err
	}
	_, err = d.alice.client.Call(ctx, dna, "place_bid", payload)
	return err
}

func (d *demo) bid(ctx context.Context) error {
	began := time.Now()
	if err := d.place(ctx); err != nil {
		return err
	}
	returned := time.Since(began)
	bobs, err := newest(ctx, d.bob, "bid")
	if err != nil {
		return err
	}
	alices, err := newest(ctx, d.alice, "acknowledged")
	if err != nil {
		return err
	}
	ping, err := d.alice.client.Ping(ctx, d.bob.agent)
	if err != nil {
		return err
	}
	d.printCycle(began, returned, bobs, alices, ping)
	return nil
}

// newest is the newest record of a type on a node's chain.
func newest(ctx context.Context, p *process, entryType string) (*sdk.Record, error) {
	list, err := p.client.Chain(ctx, dna, sdk.Query{Type: entryType, Reverse: true, Limit: 1})
	if err != nil {
		return nil, err
	}
	if len(list) != 1 {
		return nil, fmt.Errorf("%s's chain has no %q: the bid left no trace there", p.name, entryType)
	}
	return &list[0], nil
}

// crash places a bid and kills Bob's handler while it thinks about it.
func (d *demo) crash(ctx context.Context) error {
	before, err := d.heads(ctx)
	if err != nil {
		return err
	}
	call := d.placeInBackground(ctx)
	defer call.stop()
	pid, err := awaitReceive(ctx, d.bob, call)
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill Bob's handler: %w", err)
	}
	killed := time.Now()
	<-call.done
	var e *sdk.Error
	if !errors.As(call.err, &e) || e.Code != sdk.HandlerCrashed {
		return fmt.Errorf("%q expected, place_bid ended with: %w", sdk.HandlerCrashed, orNoError(call.err))
	}
	d.printCrash(pid, time.Since(killed), e)
	after, err := d.heads(ctx)
	if err != nil {
		return err
	}
	if before != after {
		return fmt.Errorf("a chain was touched: heads were %v, are %v", before, after)
	}
	d.printf("   Both chains are untouched: their heads are as before the call.\n")
	return nil
}

// background is a bid that runs.
type background struct {
	cancel context.CancelFunc
	done   chan struct{}
	err    error // written before done is closed
}

func (d *demo) placeInBackground(ctx context.Context) *background {
	ctx, cancel := context.WithCancel(ctx)
	b := &background{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(b.done)
		b.err = d.place(ctx)
	}()
	return b
}

// stop cancels the bid if it still runs, and waits for it.
func (b *background) stop() {
	b.cancel()
	<-b.done
}

func orNoError(err error) error {
	if err == nil {
		return errors.New("no error")
	}
	return err
}

// awaitReceive waits until Bob's handler runs a receive and has had the time to
// stage its commit, and returns the handler's process.
func awaitReceive(ctx context.Context, bob *process, call *background) (pid int, err error) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for seen := 0; ; {
		s, err := bob.client.Status(ctx)
		if err != nil {
			return 0, err
		}
		for _, h := range s.Handlers {
			if h.DNA == dna && h.InFlight > 0 && h.PID > 0 {
				seen++
				pid = h.PID
			}
		}
		if seen >= 5 {
			return pid, nil
		}
		select {
		case <-tick.C:
		case <-call.done:
			return 0, fmt.Errorf("place_bid returned before its receive was seen to run: %w", orNoError(call.err))
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// heads are the heads of Alice's and Bob's chains.
func (d *demo) heads(ctx context.Context) (heads [2]sdk.Hash, err error) {
	for i, p := range []*process{d.alice, d.bob} {
		c, err := chainOf(ctx, p)
		if err != nil {
			return heads, err
		}
		heads[i] = c.Head
	}
	return heads, nil
}

func chainOf(ctx context.Context, p *process) (control.ChainInfo, error) {
	list, err := p.client.Chains(ctx)
	if err != nil {
		return control.ChainInfo{}, err
	}
	for _, c := range list {
		if c.DNA == dna {
			return c, nil
		}
	}
	return control.ChainInfo{}, fmt.Errorf("%s has no chain of %s", p.name, dna)
}

func (d *demo) retry(ctx context.Context) error {
	began := time.Now()
	if err := d.place(ctx); err != nil {
		return err
	}
	d.printf("   Acknowledged after %.2f s, 1.5 s of which the handler thinks.\n", time.Since(began).Seconds())
	return nil
}

// verifyChains has both nodes check their chains from the first record on.
func (d *demo) verifyChains(ctx context.Context) error {
	for _, p := range []*process{d.alice, d.bob} {
		v, err := p.client.VerifyChain(ctx, dna)
		if err != nil {
			return err
		}
		if !v.Valid {
			return fmt.Errorf("%s's chain: record %d is wrong: %s", p.name, v.Wrong, v.Reason)
		}
		d.printf("   %-5s valid: %d records, head %s\n", p.name, v.Records, v.Head)
	}
	return nil
}
