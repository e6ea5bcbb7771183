package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// Options say what the demo runs.
type Options struct {
	Parley  string    // the parley binary; each node is a process of it
	Auction string    // the auction handler's binary; empty: built from source
	Out     io.Writer // where the steps are printed
}

// limit bounds the whole demo.
const limit = 3 * time.Minute

// demo is one run of it.
type demo struct {
	opts  Options
	dir   string // of everything; removed at the end
	began time.Time
	step  int

	alice, bob *process
	others     []*process
}

// Run runs the demo. When it returns no process and no file of it is left. Its
// error says which step failed; the logs of the nodes are printed before.
func Run(ctx context.Context, opts Options) (err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	dir, err := os.MkdirTemp("", "parley-demo-")
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	d := &demo{opts: opts, dir: dir, began: time.Now()}
	defer func() {
		if err != nil && !interrupted(ctx) {
			d.printLogs()
		}
		err = errors.Join(err, d.stopAll(), os.RemoveAll(dir))
	}()
	for _, s := range []struct {
		title string
		run   func(context.Context) error
	}{
		{"Build the auction, a DNA as a standalone handler", d.build},
		{"Start five nodes: Carol, then Dave, Erin and Bob, then Alice", d.startAll},
		{"Alice's node looks for Bob, of whom it knows only the AgentID", d.findBob},
		{"Alice's client calls place_bid: $50 on the " + painting, d.bid},
		{"Kill -9 Bob's handler in the middle of a receive", d.crash},
		{"The same bid again, to the handler that the node started anew", d.retry},
		{"Both source chains, read back", d.showChains},
		{"Verify both chains: every hash, link and signature", d.verifyChains},
		{"Which node saw what, by each node's own counters", d.whoSawWhat},
	} {
		d.step++
		d.printf("\n%d. [%6.2f s] %s\n", d.step, time.Since(d.began).Seconds(), s.title)
		if err := s.run(ctx); err != nil {
			if ctx.Err() != nil {
				err = errors.Join(context.Cause(ctx), err)
			}
			return fmt.Errorf("demo, step %d: %w", d.step, err)
		}
	}
	if err := d.stopAll(); err != nil {
		return err
	}
	d.printf("\nDone in %.1f s. All five nodes have stopped; nothing is left of them.\n", time.Since(d.began).Seconds())
	return nil
}

// interrupted tells whether the caller ended ctx, and not its deadline.
func interrupted(ctx context.Context) bool { return errors.Is(ctx.Err(), context.Canceled) }

// all are the nodes that were started, in that order.
func (d *demo) all() []*process {
	var list []*process
	for _, p := range append(append([]*process{}, d.others...), d.bob, d.alice) {
		if p != nil {
			list = append(list, p)
		}
	}
	return list
}

func (d *demo) stopAll() error {
	errs := make([]error, len(d.all()))
	var wg sync.WaitGroup
	for i, p := range d.all() {
		wg.Go(func() { errs[i] = p.stop() })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// startAll starts Carol, through whom the others enter. Alice enters through
// Carol and Dave: nobody tells her Bob's address.
func (d *demo) startAll(ctx context.Context) error {
	plugins := filepath.Join(d.dir, "plugins")
	carol, err := d.start(ctx, "carol", plugins)
	if err != nil {
		return err
	}
	d.others = []*process{carol}
	names := []string{"dave", "erin", "bob"}
	started := make([]*process, len(names))
	errs := make([]error, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() { started[i], errs[i] = d.start(ctx, name, plugins, carol.peer) })
	}
	wg.Wait()
	for i, p := range started {
		switch {
		case p == nil:
		case names[i] == "bob":
			d.bob = p
		default:
			d.others = append(d.others, p)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if d.alice, err = d.start(ctx, "alice", plugins, carol.peer, d.others[1].peer); err != nil {
		return err
	}
	d.printNodes()
	return nil
}

// agentOf names an agent by its node.
func (d *demo) name(a sdk.AgentID) string {
	for _, p := range d.all() {
		if p.agent == a {
			return p.name
		}
	}
	return a.Short()
}
