package serve

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/handlerpb"
)

const large = 20 << 10 // an entry that would be overtaken

func entry(size int) sdk.Entry { return sdk.Entry{Type: "t", Content: make([]byte, size)} }

// committing serves one call that runs f, under limits.
func committing(t *testing.T, limits sdk.CommitLimits, f func(ctx context.Context, host sdk.Host) error) *node {
	t.Helper()
	p := connect(t, handlerFunc(func(ctx context.Context, host sdk.Host, _ *sdk.Call) ([]byte, error) {
		return []byte("ok"), f(ctx, host)
	}), 1<<20)
	p.commits = limits
	n := open(t, p)
	n.start("")
	return n
}

// wantCommits wants commits of these sizes that want no answer, then the result.
func (n *node) wantCommits(sizes ...int) {
	n.t.Helper()
	for _, size := range sizes {
		if c := n.callback(); c.ID != 0 || c.Op != handlerpb.OpCommit || c.Entry.Type != "t" || len(c.Entry.Content) != size {
			n.t.Errorf("callback %+v, want a commit of %d bytes", c, size)
		}
	}
	n.wantResult("ok")
}

// answer gives a commit its hash.
func (n *node) answer(c *handlerpb.Callback, hash sdk.Hash, err *sdk.Error) {
	n.t.Helper()
	if c.ID == 0 || c.Op != handlerpb.OpCommit {
		n.t.Fatalf("callback %+v, want a commit that is answered", c)
	}
	a := &handlerpb.Answer{ID: c.ID, Op: handlerpb.OpCommit, Hash: hash, Err: err}
	if err := n.Answer(testContext(n.t), n.call, a, true); err != nil {
		n.t.Fatal(err)
	}
}

// Small entries need nothing from the node, and go before the result.
func TestCommit(t *testing.T) {
	t.Parallel()
	committing(t, sdk.CommitLimits{}, func(ctx context.Context, host sdk.Host) error {
		for size := range 3 {
			e := entry(size)
			if hash, err := host.Commit(ctx, e); err != nil || hash != sdk.EntryHash(e.Content) {
				return fmt.Errorf("hash %s, %w", hash, err)
			}
		}
		return nil
	}).wantCommits(0, 1, 2)
}

// A large entry is answered, so that entries keep their order.
func TestCommitLarge(t *testing.T) {
	t.Parallel()
	hash, refusal := sdk.Hash{7}, sdk.Fail("x.no", "no")
	n := committing(t, sdk.CommitLimits{}, func(ctx context.Context, host sdk.Host) error {
		_, err := host.Commit(ctx, entry(1))
		got, err2 := host.Commit(ctx, entry(large))
		if err != nil || err2 != nil || got != hash {
			return fmt.Errorf("hash %s, %w, %w", got, err, err2)
		}
		if _, err := host.Commit(ctx, entry(large)); err == nil || err.Error() != refusal.Error() {
			return fmt.Errorf("got %w, want the node's refusal", err)
		}
		_, err = host.Commit(ctx, entry(2))
		return err
	})
	if c := n.callback(); c.ID != 0 || len(c.Entry.Content) != 1 {
		t.Errorf("callback %+v", c)
	}
	n.answer(n.callback(), hash, nil)
	n.answer(n.callback(), sdk.Hash{}, refusal)
	n.wantCommits(2)
}

// What the node would refuse is refused here, in the same words, and the call
// goes on.
func TestCommitRefused(t *testing.T) {
	t.Parallel()
	limits := sdk.CommitLimits{Entries: 3, Entry: 1000, Bytes: 2000}
	for name, c := range map[string]struct {
		before []int
		entry  sdk.Entry
	}{
		"entries":    {[]int{1, 1, 1}, entry(1)},
		"entry":      {nil, entry(1001)},
		"large":      {nil, entry(large)},
		"payload":    {nil, entry(2 << 20)},
		"bytes":      {[]int{1000, 900}, entry(101)},
		"type":       {[]int{1}, sdk.Entry{}},
		"long type":  {nil, sdk.Entry{Type: strings.Repeat("t", 65)}},
		"no UTF-8":   {nil, sdk.Entry{Type: "\xff"}},
		"own type":   {nil, sdk.Entry{Type: "parley.x"}},
		"visibility": {nil, sdk.Entry{Type: "t", Visibility: 2}},
		"ordering":   {nil, sdk.Entry{Type: "t", Ordering: 2}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			nodes := sdk.Stage{Limits: limits}
			committing(t, limits, func(ctx context.Context, host sdk.Host) error {
				for _, size := range c.before {
					_, err := host.Commit(ctx, entry(size))
					if err := errors.Join(err, nodes.Add(new(entry(size)))); err != nil {
						return err
					}
				}
				want := nodes.Add(&c.entry)
				if _, err := host.Commit(ctx, c.entry); err == nil || err.Error() != want.Error() {
					return fmt.Errorf("got %w, want %w", err, want)
				}
				return nil
			}).wantCommits(c.before...)
		})
	}
}

// Where the node told no limits it is the judge, but for what can't be sent.
func TestCommitUnlimited(t *testing.T) {
	t.Parallel()
	const many = 2000
	n := committing(t, sdk.CommitLimits{}, func(ctx context.Context, host sdk.Host) error {
		_, err := host.Commit(ctx, entry(1<<20+1))
		if e := (*sdk.Error)(nil); !errors.As(err, &e) || e.Code != sdk.TooLarge || e.Limit.Setting != "max-payload" {
			return fmt.Errorf("over the payload limit: %w", err)
		}
		for range many {
			if _, err := host.Commit(ctx, entry(1000)); err != nil {
				return err
			}
		}
		return nil
	})
	n.wantCommits(slices.Repeat([]int{1000}, many)...)
}

// As many commits succeed as the node takes, also where they compete.
func TestCommitConcurrently(t *testing.T) {
	t.Parallel()
	const most = 50
	n := committing(t, sdk.CommitLimits{Entries: most}, func(ctx context.Context, host sdk.Host) error {
		var wg sync.WaitGroup
		var refused atomic.Int64
		for range 2 * most {
			wg.Go(func() {
				if _, err := host.Commit(ctx, entry(1)); errors.Is(err, sdk.TooLarge) {
					refused.Add(1)
				}
			})
		}
		if wg.Wait(); refused.Load() != most {
			return fmt.Errorf("%d were refused, want %d", refused.Load(), most)
		}
		return nil
	})
	n.wantCommits(slices.Repeat([]int{1}, most)...)
}

// Under a context that has ended nothing is committed, and counts.
func TestCommitTooLate(t *testing.T) {
	t.Parallel()
	committing(t, sdk.CommitLimits{Entries: 1}, func(ctx context.Context, host sdk.Host) error {
		canceled, cancel := context.WithCancel(ctx)
		cancel()
		passed, cancel := context.WithDeadline(ctx, time.Now())
		defer cancel()
		for _, size := range []int{1, large} {
			_, err := host.Commit(canceled, entry(size))
			_, err2 := host.Commit(passed, entry(size))
			if !errors.Is(err, sdk.Canceled) || !errors.Is(err2, sdk.Timeout) {
				return fmt.Errorf("entry of %d bytes: %w, %w", size, err, err2)
			}
		}
		_, err := host.Commit(ctx, entry(7))
		return err
	}).wantCommits(7)
}

// ending is a context that ends once it was looked at.
type ending struct {
	context.Context
	looked atomic.Bool
}

func (c *ending) Done() <-chan struct{} { return closed }

func (c *ending) Err() error {
	if c.looked.Swap(true) {
		return context.Canceled
	}
	return nil
}

var closed = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// An entry that was not sent before its context ended does not count.
func TestCommitNotSent(t *testing.T) {
	t.Parallel()
	const most, size = 5000, 1000 // more than the queue and the socket hold
	full := make(chan struct{})
	n := committing(t, sdk.CommitLimits{Entries: most}, func(ctx context.Context, host sdk.Host) error {
		read := sync.OnceFunc(func() { close(full) })
		defer read()
		if _, err := host.Commit(&ending{Context: ctx}, entry(large)); !errors.Is(err, sdk.Canceled) {
			return err
		}
		taken := 0
		var err error
		for ; err == nil; taken++ {
			_, err = host.Commit(&ending{Context: ctx}, entry(size))
		}
		read()
		if taken--; !errors.Is(err, sdk.Canceled) {
			return fmt.Errorf("commit %d: %w", taken, err)
		}
		for err = nil; err == nil; taken++ {
			_, err = host.Commit(ctx, entry(size))
		}
		if taken--; !errors.Is(err, sdk.TooLarge) || taken != most {
			return fmt.Errorf("%d of %d were taken: %w", taken, most, err)
		}
		return nil
	})
	<-full
	n.wantCommits(slices.Repeat([]int{size}, most)...)
}

// Once the call has returned, or the node has given it up, nothing is committed.
func TestCommitAfterEnd(t *testing.T) {
	t.Parallel()
	var later sdk.Host
	n := committing(t, sdk.CommitLimits{}, func(ctx context.Context, host sdk.Host) error { later = host; return nil })
	n.wantCommits()
	for _, size := range []int{1, large} {
		_, err := later.Commit(context.Background(), entry(size))
		if e := (*sdk.Error)(nil); !errors.As(err, &e) || e.HandlerCode != sdk.HandlerCodeContext {
			t.Errorf("after the call: %v", err)
		}
	}
	n = committing(t, sdk.CommitLimits{}, func(ctx context.Context, host sdk.Host) error {
		<-ctx.Done()
		for _, size := range []int{1, large} {
			if _, err := host.Commit(context.Background(), entry(size)); !errors.Is(err, sdk.Canceled) {
				return fmt.Errorf("entry of %d bytes: %w", size, err)
			}
		}
		return nil
	})
	if onItsWay, err := n.Cancel(n.call, n.ticket); !onItsWay || err != nil {
		t.Fatalf("cancel: %t, %v", onItsWay, err)
	}
	n.wantCommits()
}
