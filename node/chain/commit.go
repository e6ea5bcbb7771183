package chain

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// Batch is what one call commits: all of it or nothing is appended. It must
// not be changed until Append has returned.
type Batch struct {
	Entries []sdk.Entry
	// Also are the node's own entries that come with the call's, behind them. They
	// are not counted against MaxEntries.
	Also []sdk.Entry
	// Cause names the call; it goes into each record.
	Cause sdk.Cause
	// Base is the head's sequence number when the call began. If an entry is
	// Strict and the head is another by now, Append fails with ChainMoved.
	Base uint64
	// Reply is kept with the records if KeepReply, for Chain.Reply: the outcome
	// of a receive, which may be empty.
	Reply     []byte
	KeepReply bool
	// Init appends, behind the entries, the record that says that init has run.
	Init bool
	// Own tells that the entries are the node's own, not a handler's: their types
	// begin with "parley.", and no others' do.
	Own bool
}

// A request is waiting until the committer takes it or its caller withdraws it.
const (
	waiting int32 = iota
	taken
	withdrawn
)

type request struct {
	batch  Batch
	hashes []sdk.Hash // of the entries
	strict bool
	bytes  int
	first  uint64 // number of its first record, once it is planned
	state  atomic.Int32
	done   chan outcome // holds one; the committer never waits on it
}

type outcome struct {
	first uint64
	err   error
}

// Append appends a batch's entries, and keeps its reply, in one transaction.
// When it returns nil everything is on disk. first is the sequence number of
// the batch's first record; the others follow it.
//
// Errors, nothing of the batch exists after any but the last:
//   - ChainMoved, TooLarge, Busy (no room for another kept reply)
//   - Canceled or Timeout: ctx ended before the batch was taken. Once it is
//     taken, Append waits and reports what became of it.
//   - HandlerFailed with HandlerCodeCommit: the disk is full or failed, or the
//     batch is not valid
//   - *DuplicateError: the receive that caused it was committed before
//   - ErrClosed
//   - OutcomeUnknown: the disk failed to confirm what was written
func (c *Chain) Append(ctx context.Context, b Batch) (first uint64, err error) {
	r, err := c.request(b)
	if err != nil {
		return 0, err
	}
	if err := c.alive(); err != nil {
		return 0, err
	}
	if ctx.Err() != nil {
		return 0, errGaveUp(ctx)
	}
	if len(r.batch.Entries) == 0 && !b.KeepReply {
		return c.Len(), nil
	}
	if len(c.queue) == 0 && c.writing.TryLock() {
		defer c.writing.Unlock()
		if err := c.alive(); err != nil {
			return 0, err
		}
		r.state.Store(taken)
		c.commit(c.gather([]*request{r}))
		o := <-r.done
		return o.first, o.err
	}
	select {
	case c.queue <- r:
	case <-ctx.Done():
		return 0, errGaveUp(ctx)
	case <-c.closing:
		return 0, ErrClosed
	}
	select {
	case o := <-r.done:
		return o.first, o.err
	case <-ctx.Done():
		if r.state.CompareAndSwap(waiting, withdrawn) {
			return 0, errGaveUp(ctx)
		}
	case <-c.ended:
		if r.state.CompareAndSwap(waiting, withdrawn) {
			return 0, ErrClosed
		}
	}
	// The committer took it, so it answers: always, and before it ends.
	o := <-r.done
	return o.first, o.err
}

// request checks a batch and hashes its entries in the caller's goroutine.
func (c *Chain) request(b Batch) (*request, error) {
	r := &request{batch: b, bytes: len(b.Reply), done: make(chan outcome, 1)}
	if !b.Cause.Kind.Commits() {
		return nil, errInput("a batch has cause %d, of which no records come", b.Cause.Kind)
	}
	if k := b.Cause.Kind; b.KeepReply && k != sdk.CallReceive && k != sdk.CallNotified && k != sdk.CallFunction {
		return nil, errInput("only the reply to another agent can be kept")
	}
	if b.Init && b.Cause.Kind != sdk.CallInit {
		return nil, errInput("only init can say that it has run")
	}
	if n := len(b.Entries); n > c.opts.MaxEntries {
		return nil, errTooLarge("entries of one call", "chain-max-entries", n, c.opts.MaxEntries)
	}
	if len(b.Also) > 0 {
		r.batch.Entries = slices.Concat(b.Entries, b.Also)
	}
	r.hashes = make([]sdk.Hash, len(r.batch.Entries))
	for i := range r.batch.Entries {
		e := &r.batch.Entries[i]
		if err := checkType(e.Type, b.Own || i >= len(b.Entries)); err != nil {
			return nil, errInput("entry %d: %v", i, err)
		}
		switch {
		case e.Visibility > sdk.Public || e.Ordering > sdk.Strict:
			return nil, errInput("entry %d has visibility %d and ordering %d, which are unknown", i, e.Visibility, e.Ordering)
		case len(e.Content) > c.opts.MaxEntry:
			return nil, errTooLarge("entry", "chain-max-entry", len(e.Content), c.opts.MaxEntry)
		}
		if r.bytes += len(e.Content); r.bytes > c.opts.MaxBatch {
			break
		}
		r.strict = r.strict || e.Ordering == sdk.Strict
		r.hashes[i] = sdk.EntryHash(e.Content)
	}
	if b.Init {
		e := initEntry()
		r.batch.Entries = append(slices.Clip(r.batch.Entries), e)
		r.hashes = append(r.hashes, sdk.EntryHash(e.Content))
	}
	if r.bytes > c.opts.MaxBatch {
		return nil, errTooLarge("entries and reply of one call", "chain-max-batch", r.bytes, c.opts.MaxBatch)
	}
	return r, nil
}

// checkType also refuses the node's own types that say something of the chain.
func checkType(entryType string, own bool) error {
	switch {
	case !own:
		return sdk.CheckEntryType(entryType)
	case !strings.HasPrefix(entryType, "parley.") || len(entryType) > sdk.MaxEntryType || entryType == genesisType || entryType == initType:
		return fmt.Errorf("entry type %q is none of the node's for an entry of its own", entryType)
	}
	return nil
}

// A group is bounded so that one transaction's memory and time are.
const (
	maxGroupRecords = 4096
	maxGroupBytes   = 32 << 20
)

// run is the committer: it takes what waits while another commit is under way.
// An Append that finds nobody ahead commits in its own goroutine, which saves
// two changes of goroutine, a sixth of the time of a lone commit.
func (c *Chain) run() {
	defer close(c.ended)
	for {
		select {
		case r := <-c.queue:
			c.writing.Lock()
			// Those whom the last commit woke come back before this goroutine does.
			runtime.Gosched()
			var group []*request
			if r.state.CompareAndSwap(waiting, taken) {
				group = append(group, r)
			}
			c.commit(c.gather(group))
			c.writing.Unlock()
		case <-c.closing:
			// Whoever waits withdraws when ended is closed.
			return
		}
	}
}

// gather adds to a group whatever else waits, without waiting for more.
func (c *Chain) gather(group []*request) []*request {
	records, bytes := 0, 0
	for _, r := range group {
		records, bytes = records+1+len(r.batch.Entries), bytes+r.bytes
	}
	for records < maxGroupRecords && bytes < maxGroupBytes {
		select {
		case r := <-c.queue:
			if r.state.CompareAndSwap(waiting, taken) {
				group = append(group, r)
				records, bytes = records+1+len(r.batch.Entries), bytes+r.bytes
			}
		default:
			return group
		}
	}
	return group
}

// commit appends a group in one transaction and answers each of its requests.
// The caller holds writing.
func (c *Chain) commit(group []*request) {
	if cause := c.stopReason(); cause != nil {
		c.refuse(group, cause)
		return
	}
	now := c.opts.Now()
	p := &plan{tick: c.tick(now), head: c.head, hash: c.hash, firstReply: c.replies.first, nextReply: c.replies.next()}
	var in []*request    // in the plan
	var twice []*request // committed before, or in this plan by another request
	for _, r := range group {
		if c.duplicate(p, r) {
			twice = append(twice, r)
			continue
		}
		var err error
		if r.first, err = c.batch(p, r, now); err != nil {
			r.done <- outcome{err: err}
			continue
		}
		in = append(in, r)
	}
	var err error
	if len(in) > 0 {
		err = c.append(p)
	}
	for _, r := range in {
		r.done <- outcome{first: r.first, err: err}
	}
	for _, r := range twice {
		c.answerDuplicate(r, err)
	}
}

// append signs a plan, makes it durable and then visible, or says what to answer
// its requests.
func (c *Chain) append(p *plan) error {
	p.sign(c.opts.Key)
	if err := c.write(p); err != nil {
		return c.failed(p, err)
	}
	c.advance(p)
	return nil
}

// tick is the time by which kept replies age, in µs: that of Open, and what a
// clock that nobody sets says has passed since. So setting the machine's clock
// neither drops them early nor keeps them for ever.
func (c *Chain) tick(now time.Time) int64 {
	return c.opened.UnixMicro() + now.Sub(c.opened).Microseconds()
}

// refuse answers a group after the chain has stopped.
func (c *Chain) refuse(group []*request, cause error) {
	for _, r := range group {
		err := errStopped(c.opts.Path, cause)
		if _, ok := c.unsure[r.replyID()]; ok && r.batch.KeepReply {
			err = errUnsynced(c.opts.Path, cause)
		}
		r.done <- outcome{err: err}
	}
}

func (r *request) replyID() replyID { return replyID{r.batch.Cause.From, r.batch.Cause.Message} }

func (c *Chain) duplicate(p *plan, r *request) bool {
	if !r.batch.KeepReply {
		return false
	}
	_, before := c.replies.at[r.replyID()]
	_, here := p.kept[r.replyID()]
	return before || here
}

// answerDuplicate runs after the group's commit, so the first outcome is known:
// commit is what the group's other requests were answered.
func (c *Chain) answerDuplicate(r *request, commit error) {
	cause := r.batch.Cause
	reply, found, err := c.Reply(cause.From, cause.Message)
	switch {
	case err != nil:
	case found:
		err = &DuplicateError{From: cause.From, ID: cause.Message, Reply: reply}
	case commit != nil:
		err = commit
	default:
		err = errInput("message %s is no longer kept", cause.Message)
	}
	r.done <- outcome{err: err}
}

// write makes a plan durable: in the log, or in the chain file where it is large.
// The caller holds writing.
func (c *Chain) write(p *plan) error {
	p.number = c.number + 1
	if c.wal == nil {
		if err := c.startLog(); err != nil {
			return err
		}
	}
	w := c.wal
	n := p.frameSize()
	if n > w.maxFrame() {
		p.large = true
		c.storing.Lock()
		defer c.storing.Unlock()
		return c.checkpointLocked(p)
	}
	half := w.half
	if !w.turn(n, c.storedNumber()) {
		if err := c.checkpoint(); err != nil {
			return err
		}
		w.turn(n, c.storedNumber()) // it has room: all of the other half is stored
	}
	if w.half != half {
		wake(c.full)
	}
	w.buf = w.id.appendFrame(w.buf[:0], p)
	return w.append(w.buf, p.number)
}

func wake(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// advance makes a durable plan visible.
func (c *Chain) advance(p *plan) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.head, c.hash = p.head, p.hash
	c.public.add(p.public)
	c.replies.drop(p.drop)
	for i := range p.replies {
		c.replies.add(&p.replies[i], p.tick)
	}
	c.number = p.number
	if p.large {
		return // it is in the chain file
	}
	if len(c.tail.plans) == 0 {
		wake(c.moved)
	}
	c.tail.add(p)
}

// failed returns what to answer the requests of a plan that was not written. If
// only a sync failed, nobody knows what is on disk: nothing more is appended
// then, since a crash could take away what later records were built upon.
func (c *Chain) failed(p *plan, cause error) error {
	c.opts.Log.Error("chain commit failed", "file", c.opts.Path, "records", len(p.records), "error", cause)
	damaged := (*DamagedError)(nil)
	switch {
	case errors.Is(cause, errUnsyncedWAL), p.large && (errors.Is(cause, errUnsure) || errors.As(cause, &damaged)):
		c.unsure = p.kept
		c.stop(cause)
		return errUnsynced(c.opts.Path, cause)
	case c.stopReason() != nil:
		return errStopped(c.opts.Path, cause)
	}
	return errCommit(c.opts.Path, cause)
}
