package chain

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

func TestAppendAndReopen(t *testing.T) {
	t.Parallel()
	o := testOptions(t)
	c := mustOpen(t, o)
	if seq, hash := c.Head(); seq != 0 || hash.IsZero() {
		t.Fatalf("a new chain's head is %d, %s", seq, hash)
	}
	if first := mustAppend(t, c, Batch{Entries: entries("bid", 3, 100), Cause: function(1)}); first != 1 {
		t.Fatalf("first record %d", first)
	}
	empty := Batch{Entries: []sdk.Entry{{Type: "note"}}, Cause: receive(2), KeepReply: true}
	if first := mustAppend(t, c, empty); first != 4 {
		t.Fatalf("first record %d", first)
	}
	if first := mustAppend(t, c, Batch{Cause: function(3)}); first != 5 || c.Len() != 5 {
		t.Fatalf("an empty batch: first %d, %d records", first, c.Len())
	}
	mustVerify(t, c, 5)
	seq, hash := c.Head()
	mustClose(t, c)

	c = mustOpen(t, o)
	if s, h := c.Head(); s != seq || h != hash {
		t.Fatalf("after a restart the head is %d %s, it was %d %s", s, h, seq, hash)
	}
	r, err := c.Record(4)
	if err != nil || r.Content == nil || len(r.Content) != 0 || r.Header.Cause != receive(2) || r.Hash() != hash {
		t.Fatalf("record 4: %+v, %v", r, err)
	}
	if err := r.Verify(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Record(5); !errors.Is(err, ErrNotFound) {
		t.Fatalf("beyond the head: %v", err)
	}
	if reply, found, err := c.Reply(agentOf(bob), messageID(2)); !found || err != nil || reply == nil || len(reply) != 0 {
		t.Fatalf("kept empty reply: %v %v %v", reply, found, err)
	}
	if info, err := os.Stat(o.Path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	mustVerify(t, c, 5)
}

func TestGenesis(t *testing.T) {
	t.Parallel()
	r, err := mustOpen(t, testOptions(t)).Record(0)
	if err != nil {
		t.Fatal(err)
	}
	name, integrity, err := parseGenesis(r.Content)
	if err != nil || name != testDNA.Name || integrity != testDNA.Integrity {
		t.Fatalf("%q %q %v", name, integrity, err)
	}
	h := r.Header
	if h.Kind != sdk.KindGenesis || h.DNA != testDNA.Hash() || h.Author != agentOf(alice) || !h.Prev.IsZero() || h.Visibility != sdk.Public {
		t.Fatalf("%+v", h)
	}
}

func sdkError(t *testing.T, err error) *sdk.Error {
	t.Helper()
	var e *sdk.Error
	if !errors.As(err, &e) {
		t.Fatalf("%v is no *sdk.Error", err)
	}
	return e
}

func TestStrict(t *testing.T) {
	t.Parallel()
	c := mustOpen(t, testOptions(t))
	strict := Batch{Entries: entries("bid", 2, 10), Cause: function(1)}
	strict.Entries[1].Ordering = sdk.Strict
	mustAppend(t, c, strict)
	_, err := c.Append(context.Background(), strict)
	e := sdkError(t, err)
	if !errors.Is(err, sdk.ChainMoved) || e.Side != sdk.SideNode || e.Delivered != sdk.DeliveredYes || !e.Retry {
		t.Fatal(err)
	}
	strict.Base = 2
	mustAppend(t, c, strict)
	mustVerify(t, c, 5)
}

// A group of one transaction, taken by hand: the committer is stopped.
func TestGroupFailsOneByOne(t *testing.T) {
	t.Parallel()
	c := mustOpen(t, testOptions(t))
	ask := func(b Batch) *request {
		t.Helper()
		r, err := c.request(b)
		if err != nil {
			t.Fatal(err)
		}
		r.state.Store(taken)
		return r
	}
	strict := entries("bid", 1, 10)
	strict[0].Ordering = sdk.Strict
	group := []*request{
		ask(Batch{Entries: strict, Cause: function(1)}),                                                     // 1: base 0 is the head
		ask(Batch{Entries: strict, Cause: function(2)}),                                                     // moved by the one before it
		ask(Batch{Entries: entries("x", 2, 9), Cause: receive(3), KeepReply: true, Reply: []byte("first")}), // 2, 3
		ask(Batch{Entries: entries("x", 2, 9), Cause: receive(3), KeepReply: true, Reply: []byte("again")}), // a duplicate
		ask(Batch{Entries: entries("y", 1, 9), Cause: function(4)}),                                         // 4
	}
	close(c.closing) // the committer and the keeper end: this goroutine writes instead
	<-c.ended
	<-c.kept
	c.commit(group)
	firsts := []uint64{1, 0, 2, 0, 4}
	for i, r := range group {
		o := <-r.done
		switch i {
		case 1:
			if !errors.Is(o.err, sdk.ChainMoved) {
				t.Errorf("batch %d: %v", i, o.err)
			}
		case 3:
			var d *DuplicateError
			if !errors.As(o.err, &d) || string(d.Reply) != "first" || d.ID != messageID(3) || d.From != agentOf(bob) {
				t.Errorf("batch %d: %v", i, o.err)
			}
		default:
			if o.err != nil || o.first != firsts[i] {
				t.Errorf("batch %d: first %d, %v", i, o.first, o.err)
			}
		}
	}
	if c.Len() != 5 {
		t.Fatalf("%d records", c.Len())
	}
	mustVerify(t, c, 5)
	c.closing = make(chan struct{}) // for Close
}

func TestLimits(t *testing.T) {
	t.Parallel()
	o := testOptions(t)
	o.MaxEntries, o.MaxEntry, o.MaxBatch = 3, 1000, 2000
	c := mustOpen(t, o)
	long := strings.Repeat("x", 65)
	for _, test := range []struct {
		name, setting string
		b             Batch
	}{
		{"too many", "chain-max-entries", Batch{Entries: entries("a", 4, 1), Cause: function(1)}},
		{"entry", "chain-max-entry", Batch{Entries: entries("a", 1, 1001), Cause: function(1)}},
		{"batch", "chain-max-batch", Batch{Entries: entries("a", 3, 700), Cause: function(1)}},
		{"reply", "chain-max-batch", Batch{Entries: entries("a", 1, 700), Cause: receive(1), Reply: make([]byte, 1301), KeepReply: true}},
		{"no type", "", Batch{Entries: entries("", 1, 1), Cause: function(1)}},
		{"long type", "", Batch{Entries: entries(long, 1, 1), Cause: function(1)}},
		{"the node's own type", "", Batch{Entries: entries(genesisType, 1, 1), Cause: function(1)}},
		{"no UTF-8", "", Batch{Entries: entries("\xff", 1, 1), Cause: function(1)}},
		{"no cause", "", Batch{Entries: entries("a", 1, 1)}},
		{"visibility", "", Batch{Entries: []sdk.Entry{{Type: "a", Visibility: 2}}, Cause: function(1)}},
		{"ordering", "", Batch{Entries: []sdk.Entry{{Type: "a", Ordering: 2}}, Cause: function(1)}},
		{"kept reply of a post_commit", "", Batch{Entries: entries("a", 1, 1), Cause: sdk.Cause{Kind: sdk.CallPostCommit, From: agentOf(bob)}, KeepReply: true}},
		{"the node's type, by a handler", "", Batch{Entries: entries("parley.grant", 1, 1), Cause: function(1)}},
		{"a handler's type, by the node", "", Batch{Entries: entries("a", 1, 1), Cause: function(1), Own: true}},
		{"genesis, by the node", "", Batch{Entries: entries(genesisType, 1, 1), Cause: function(1), Own: true}},
		{"init's mark, by the node", "", Batch{Entries: entries(initType, 1, 1), Cause: function(1), Own: true}},
		{"long type, by the node", "", Batch{Entries: entries("parley."+long, 1, 1), Cause: function(1), Own: true}},
		{"a handler's type, along with others", "", Batch{Entries: entries("a", 1, 1), Also: entries("a", 1, 1), Cause: function(1)}},
	} {
		_, err := c.Append(context.Background(), test.b)
		e := sdkError(t, err)
		if test.setting == "" {
			if e.Code != sdk.HandlerFailed || e.HandlerCode != sdk.HandlerCodeCommit {
				t.Errorf("%s: %v", test.name, err)
			}
			continue
		}
		if e.Code != sdk.TooLarge || e.Limit.Setting != test.setting || e.Limit.Value <= e.Limit.Max || !strings.Contains(err.Error(), test.setting) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	if c.Len() != 1 {
		t.Fatalf("%d records", c.Len())
	}
	mustAppend(t, c, Batch{Entries: entries("a", 2, 1000), Cause: function(1)})
	mustVerify(t, c, 3)
}

func TestContext(t *testing.T) {
	t.Parallel()
	c := mustOpen(t, testOptions(t))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	b := Batch{Entries: entries("a", 1, 1), Cause: function(1)}
	if _, err := c.Append(ctx, b); !errors.Is(err, sdk.Canceled) || !sdkError(t, err).Retry {
		t.Fatal(err)
	}
	past, cancel := context.WithDeadline(context.Background(), time.Unix(1, 0))
	defer cancel()
	if _, err := c.Append(past, b); !errors.Is(err, sdk.Timeout) {
		t.Fatal(err)
	}
	if c.Len() != 1 {
		t.Fatalf("%d records", c.Len())
	}
}

// Cancel while the committer is in the middle of a transaction: the batch that
// it took is reported as committed, the ones that wait as withdrawn.
func TestCancelUnderWay(t *testing.T) {
	t.Parallel()
	c, seam := openSeams(t, testOptions(t))
	mustAppend(t, c, Batch{Entries: entries("a", 1, 1), Cause: function(0)}) // makes the log
	inside, release := make(chan struct{}), make(chan struct{})
	seam.set(func(s *hooks) { s.sync = func() { inside <- struct{}{}; <-release } })
	ctx, cancel := context.WithCancel(context.Background())
	b := Batch{Entries: entries("a", 1, 1), Cause: function(1)}
	var wg sync.WaitGroup
	var taken, waiting error
	wg.Go(func() { _, taken = c.Append(ctx, b) })
	<-inside
	later, give := context.WithCancel(context.Background())
	wait := make(chan struct{})
	wg.Go(func() { _, waiting = c.Append(later, b); close(wait) })
	cancel()
	give()
	<-wait
	seam.set(func(s *hooks) { s.sync = nil })
	close(release)
	wg.Wait()
	if taken != nil {
		t.Errorf("the batch that was taken: %v", taken)
	}
	if !errors.Is(waiting, sdk.Canceled) {
		t.Errorf("the batch that waited: %v", waiting)
	}
	mustAppend(t, c, b)
	mustVerify(t, c, 4)
}

// Batches that came by the queue and were taken are waited for all the same.
func TestCancelTakenFromQueue(t *testing.T) {
	t.Parallel()
	c, seam := openSeams(t, testOptions(t))
	mustAppend(t, c, Batch{Entries: entries("a", 1, 1), Cause: function(0)}) // makes the log
	inside, release := make(chan struct{}), make(chan struct{})
	seam.set(func(s *hooks) { s.sync = func() { inside <- struct{}{}; <-release } })
	b := Batch{Entries: entries("a", 1, 1), Cause: function(1)}
	const rounds = 20
	for range rounds {
		// Until the committer has let go of the last round: the first batch is to
		// commit by itself, so that the committer takes one of the others.
		for !c.writing.TryLock() {
			runtime.Gosched()
		}
		c.writing.Unlock()
		var wg sync.WaitGroup
		wg.Go(func() { mustAppend(t, c, b) })
		<-inside
		ctx, cancel := context.WithCancel(context.Background())
		for range 2 {
			wg.Go(func() {
				if _, err := c.Append(ctx, b); err != nil {
					t.Errorf("taken, and it says: %v", err)
				}
			})
		}
		for len(c.queue) != 1 { // the committer has one in hand, the other waits
			runtime.Gosched()
		}
		release <- struct{}{}
		<-inside
		cancel()
		for range 1000 { // time to see it
			runtime.Gosched()
		}
		release <- struct{}{}
		wg.Wait()
	}
	mustVerify(t, c, 2+3*rounds)
}

func TestConcurrent(t *testing.T) {
	t.Parallel()
	c := mustOpen(t, testOptions(t))
	const workers, rounds = 24, 12
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range rounds {
				n := uint64(w*rounds + i + 1)
				first, err := c.Append(context.Background(), Batch{Entries: entries("bid", 1+i%3, 50), Cause: receive(n), KeepReply: true, Reply: []byte{byte(w), byte(i)}})
				if err != nil {
					t.Error(err)
					return
				}
				// A batch stands together, and is readable once Append returned.
				for k := range uint64(1 + i%3) {
					r, err := c.Record(first + k)
					if err != nil || r.Header.Cause != receive(n) {
						t.Errorf("record %d: %+v, %v", first+k, r.Header, err)
					}
				}
				if reply, ok, err := c.Reply(agentOf(bob), messageID(n)); !ok || err != nil || !reflect.DeepEqual(reply, []byte{byte(w), byte(i)}) {
					t.Errorf("reply %d: %v %v %v", n, reply, ok, err)
				}
			}
		})
	}
	wg.Wait()
	mustVerify(t, c, 1+workers*rounds*2)
}

func TestClosed(t *testing.T) {
	t.Parallel()
	o := testOptions(t)
	c := mustOpen(t, o)
	mustClose(t, c)
	mustClose(t, c)
	b := Batch{Entries: entries("a", 1, 1), Cause: receive(1)}
	_, errAppend := c.Append(context.Background(), b)
	_, errRecord := c.Record(0)
	_, errQuery := c.Query(sdk.Query{})
	_, errType := c.Query(sdk.Query{Type: strings.Repeat("x", 99)})
	_, errVerify := c.Verify(context.Background())
	_, _, errReply := c.Reply(agentOf(bob), messageID(1))
	var sink strings.Builder
	errExport := c.Export(&sink)
	for i, err := range []error{errAppend, errRecord, errQuery, errType, errVerify, errReply, errExport} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%d: %v", i, err)
		}
	}
	mustOpen(t, o) // nothing holds the lock any more
}

// Close while many append: each is told the truth.
func TestCloseUnderLoad(t *testing.T) {
	t.Parallel()
	o := testOptions(t)
	o.Queue = 4
	c := mustOpen(t, o)
	var mu sync.Mutex
	acked := uint64(0)
	var wg sync.WaitGroup
	started := make(chan struct{}, 64)
	for range 16 {
		wg.Go(func() {
			for {
				_, err := c.Append(context.Background(), Batch{Entries: entries("a", 1, 1), Cause: function(1)})
				if errors.Is(err, ErrClosed) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				acked++
				mu.Unlock()
				select {
				case started <- struct{}{}:
				default:
				}
			}
		})
	}
	for range 32 {
		<-started
	}
	mustClose(t, c)
	wg.Wait()
	if c = mustOpen(t, o); c.Len() != acked+1 {
		t.Fatalf("%d records, %d acknowledged", c.Len(), acked)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	o := testOptions(t)
	c := mustOpen(t, o)
	if _, err := Open(o); !errors.Is(err, ErrLocked) {
		t.Errorf("a second process: %v", err)
	}
	mustClose(t, c)
	before := mustRead(t, o.Path)

	other := o
	other.DNA.NetworkSeed = "elsewhere"
	var d *DamagedError
	if _, err := Open(other); err == nil || errors.As(err, &d) || !strings.Contains(err.Error(), "belongs to DNA") {
		t.Errorf("another DNA: %v", err)
	}
	other = o
	other.Key = bob
	if _, err := Open(other); err == nil || errors.As(err, &d) || !strings.Contains(err.Error(), "belongs to agent") {
		t.Errorf("another agent: %v", err)
	}
	if err := os.Chmod(o.Path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(o); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("readable by others: %v", err)
	}
	if err := os.Chmod(o.Path, 0o600); err != nil {
		t.Fatal(err)
	}
	link := o
	link.Path += ".link"
	if err := os.Symlink(o.Path, link.Path); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(link); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a symbolic link: %v", err)
	}
	missing := o
	missing.Path = filepath.Join(t.TempDir(), "no", "dir", "x.chain")
	if _, err := Open(missing); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	if string(mustRead(t, o.Path)) != string(before) {
		t.Error("a refused file was changed")
	}
	if _, err := Open(Options{MaxEntry: -1, ReplyAge: time.Second}); err == nil || strings.Count(err.Error(), "\n") < 4 {
		t.Errorf("faulty options: %v", err)
	}
}

// What a crash while making a file leaves is no obstacle.
func TestLeftover(t *testing.T) {
	t.Parallel()
	o := testOptions(t)
	if err := os.WriteFile(o.Path+newSuffix, []byte(strings.Repeat("half a file", 5000)), 0o600); err != nil {
		t.Fatal(err)
	}
	c := mustOpen(t, o)
	mustAppend(t, c, Batch{Entries: entries("a", 1, 1), Cause: function(1)})
	mustVerify(t, c, 2)
	if _, err := os.Stat(o.Path + newSuffix); !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
}

// No goroutine and no descriptor stays behind. Not parallel: it counts.
func TestNothingLeft(t *testing.T) {
	o := testOptions(t)
	mustClose(t, mustOpen(t, o))
	fds, routines := openFiles(t), runtime.NumGoroutine()
	for range 5 {
		c := mustOpen(t, o)
		mustAppend(t, c, Batch{Entries: entries("a", 40, 1), Cause: function(1)})
		mustVerify(t, c, c.Len())
		mustClose(t, c)
		if _, err := Open(func() Options { p := o; p.Key = bob; return p }()); err == nil {
			t.Fatal("opened another agent's chain")
		}
	}
	if n := openFiles(t); n != fds {
		t.Errorf("%d descriptors, %d before", n, fds)
	}
	// A goroutine is counted until a moment after it said that it ended.
	for i := 0; runtime.NumGoroutine() > routines; i++ {
		if i == 1<<20 {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), routines)
		}
		runtime.Gosched()
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no /proc here")
	}
	return len(list)
}
