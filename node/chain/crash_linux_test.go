package chain

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/parley-p2p/parley/sdk"
)

// A test that needs a process of its own starts this binary again with the
// work's name and the chain's path in the environment.
const (
	envChild = "PARLEY_CHAIN_TEST_CHILD"
	envPath  = "PARLEY_CHAIN_TEST_PATH"
	envSize  = "PARLEY_CHAIN_TEST_SIZE" // of an entry
)

// sizes are those of entries that go into the log and into the chain file, where
// the log's halves have childHalf bytes.
const childHalf = 16 << 10

var sizes = map[string]int{"log": 500, "chain file": 5000}

func TestMain(m *testing.M) {
	switch work := os.Getenv(envChild); work {
	case "":
		os.Exit(m.Run())
	case "append":
		childAppend(os.Getenv(envPath))
	case "full":
		childFull(os.Getenv(envPath), sizes[os.Getenv(envSize)])
	case "tmpfs":
		childTmpfs(os.Getenv(envPath), sizes[os.Getenv(envSize)])
	default:
		fatal(fmt.Errorf("unknown work %q", work))
	}
}

func fatal(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		os.Exit(1)
	}
}

func child(t *testing.T, work, path string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), envChild+"="+work, envPath+"="+path, "GOMAXPROCS=2")
	cmd.Stderr = os.Stderr
	return cmd
}

// childAppend appends without end on several goroutines, and says which
// receives were acknowledged.
func childAppend(path string) {
	c, err := Open(Options{Path: path, DNA: testDNA, Key: alice, walHalf: 32 << 10})
	fatal(err)
	start := c.Len()
	var mu sync.Mutex
	for w := range uint64(4) {
		go func() {
			for i := uint64(0); ; i++ {
				n := start*1000 + i*4 + w
				first, err := c.Append(context.Background(), Batch{Entries: entries("bid", 2, int(100+n%4000)), Cause: receive(n), KeepReply: true, Reply: fmt.Append(nil, n)})
				fatal(err)
				mu.Lock()
				fmt.Println(first, n)
				mu.Unlock()
			}
		}()
	}
	select {}
}

// Kill the process in the middle of commits, again and again: what it
// acknowledged is there, and the chain is whole.
func TestKill(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.chain")
	acked := map[uint64]uint64{} // first record -> message
	for round := range 12 {
		cmd := child(t, "append", path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			if n == round*7 { // in round 0 right after the first
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
			var first, id uint64
			if _, err := fmt.Sscan(lines.Text(), &first, &id); err == nil {
				acked[first] = id
			}
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("the child ended by itself")
		}
		checkAcked(t, path, acked)
	}
}

func checkAcked(t *testing.T, path string, acked map[uint64]uint64) {
	t.Helper()
	c, err := Open(Options{Path: path, DNA: testDNA, Key: alice})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	mustVerify(t, c, c.Len())
	if c.Len()%2 != 1 {
		t.Fatalf("%d records: half of a batch", c.Len())
	}
	for first, n := range acked {
		for seq := first; seq < first+2; seq++ {
			if r, err := c.Record(seq); err != nil || r.Header.Cause != receive(n) {
				t.Fatalf("acknowledged record %d: %+v, %v", seq, r.Header.Cause, err)
			}
		}
		if reply, found, err := c.Reply(agentOf(bob), messageID(n)); !found || err != nil || string(reply) != fmt.Sprint(n) {
			t.Fatalf("reply of acknowledged message %d: %q %v %v", n, reply, found, err)
		}
	}
}

// childFull appends while the file may not grow beyond a limit that moves, as
// on a disk that fills up and is emptied. The limit makes ftruncate and pwrite
// fail at a different place for each value.
func childFull(path string, size int) {
	signal.Ignore(syscall.SIGXFSZ)
	limit := func(n uint64) {
		var old syscall.Rlimit
		fatal(syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old))
		fatal(syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: n, Max: old.Max}))
	}
	c, err := Open(Options{Path: path, DNA: testDNA, Key: alice, walHalf: childHalf})
	fatal(err)
	failures, n := 0, uint64(0)
	one := func() error {
		n++
		before := c.Len()
		_, err := c.Append(context.Background(), Batch{Entries: entries("bid", 2, size), Cause: receive(n), KeepReply: true})
		_, found, errReply := c.Reply(agentOf(bob), messageID(n))
		fatal(errReply)
		if found != (err == nil) || err == nil && c.Len() != before+2 || err != nil && c.Len() != before {
			fatal(fmt.Errorf("message %d: %v, kept %v, %d records after %d", n, err, found, c.Len(), before))
		}
		return err
	}
	for round := range uint64(8) {
		info, err := os.Stat(path)
		fatal(err)
		limit(uint64(info.Size()) + round*4500)
		for err = nil; err == nil; {
			err = one()
		}
		var e *sdk.Error
		if !errors.As(err, &e) || e.Code != sdk.HandlerFailed || e.HandlerCode != sdk.HandlerCodeCommit || e.Side != sdk.SideNode ||
			!e.Retry || !strings.Contains(e.Text, "free space") {
			fatal(fmt.Errorf("round %d: %v", round, err))
		}
		failures++
		_ = one() // bbolt may have let go of pages meanwhile
		count, err := c.Verify(context.Background())
		if err != nil || count != c.Len() {
			fatal(fmt.Errorf("round %d: %d of %d: %v", round, count, c.Len(), err))
		}
		limit(^uint64(0) >> 1)
		fatal(one()) // there is room again
	}
	fatal(c.Close())
	c, err = Open(Options{Path: path, DNA: testDNA, Key: alice})
	fatal(err)
	_, err = c.Verify(context.Background())
	fatal(err)
	fatal(c.Close())
	fmt.Println("failures", failures)
	os.Exit(0)
}

func TestDiskFull(t *testing.T) {
	t.Parallel()
	for size := range sizes {
		t.Run(size, func(t *testing.T) {
			t.Parallel()
			cmd := child(t, "full", filepath.Join(t.TempDir(), "x.chain"))
			cmd.Env = append(cmd.Env, envSize+"="+size)
			out, err := cmd.Output()
			if err != nil || string(out) != "failures 8\n" {
				t.Fatalf("%q, %v", out, err)
			}
		})
	}
}

// childTmpfs works on a file system of 2 MiB of its own, which a filler fills:
// here a write fails half-way through a transaction's pages.
func childTmpfs(dir string, size int) {
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		fmt.Println("can't mount:", err)
		os.Exit(0)
	}
	filler, err := os.Create(filepath.Join(dir, "filler"))
	fatal(err)
	c, err := Open(Options{Path: filepath.Join(dir, "x.chain"), DNA: testDNA, Key: alice, walHalf: childHalf})
	fatal(err)
	failures := 0
	one := func() error {
		before := c.Len()
		_, err := c.Append(context.Background(), Batch{Entries: entries("bid", 2, size), Cause: function(before)})
		if err == nil && c.Len() != before+2 || err != nil && c.Len() != before {
			fatal(fmt.Errorf("%v, %d records after %d", err, c.Len(), before))
		}
		return err
	}
	for round := range 6 {
		_, err := io.Copy(filler, endless{})
		if !errors.Is(err, syscall.ENOSPC) {
			fatal(fmt.Errorf("filling the disk: %w", err))
		}
		info, err := filler.Stat()
		fatal(err)
		fatal(filler.Truncate(info.Size() - int64(round)*4096)) // a few pages are left
		for err = nil; err == nil; {
			err = one()
		}
		var e *sdk.Error
		if !errors.As(err, &e) || e.HandlerCode != sdk.HandlerCodeCommit || !strings.Contains(e.Text, syscall.ENOSPC.Error()) {
			fatal(fmt.Errorf("round %d: %v", round, err))
		}
		failures++
		fatal(filler.Truncate(0))
		if _, err = filler.Seek(0, io.SeekStart); err == nil {
			err = one()
		}
		fatal(err)
		n, err := c.Verify(context.Background())
		if err != nil || n != c.Len() {
			fatal(fmt.Errorf("round %d: %d of %d: %v", round, n, c.Len(), err))
		}
	}
	fatal(c.Close())
	c, err = Open(Options{Path: filepath.Join(dir, "x.chain"), DNA: testDNA, Key: alice})
	fatal(err)
	fatal(c.Close())
	fmt.Println("failures", failures)
	os.Exit(0)
}

type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

// A disk that is really full, in a mount namespace of the child's own.
func TestNoSpace(t *testing.T) {
	t.Parallel()
	for size := range sizes {
		t.Run(size, func(t *testing.T) {
			t.Parallel()
			noSpace(t, size)
		})
	}
}

func noSpace(t *testing.T, size string) {
	cmd := child(t, "tmpfs", t.TempDir())
	cmd.Env = append(cmd.Env, envSize+"="+size)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}}
	out, err := cmd.Output()
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.ENOSPC) || strings.HasPrefix(string(out), "can't mount") {
		t.Skipf("this machine gives no user namespace: %v %s", err, out)
	}
	if err != nil || string(out) != "failures 6\n" {
		t.Fatalf("%q, %v", out, err)
	}
}

// The last sync of a commit fails: what was written can be read, but nobody
// knows whether it is on disk.
func TestUnconfirmed(t *testing.T) {
	t.Parallel()
	cause := errors.New("the disk is gone")
	for name, test := range map[string]struct {
		size int
		fail func(*hooks)
	}{
		"log": {1, func(s *hooks) {
			s.fail = func(step string) error {
				if step == "sync" {
					return cause
				}
				return nil
			}
		}},
		"chain file": {defaultHalf, func(s *hooks) { s.commit = func(tx *bolt.Tx) error { return errors.Join(tx.Commit(), cause) } }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := testOptions(t)
			c, seam := openSeams(t, o)
			mustAppend(t, c, Batch{Entries: entries("a", 1, 1), Cause: receive(9), KeepReply: true, Reply: []byte("kept")})
			if err := c.checkpoint(); err != nil { // else the keeper's commit may be the one that fails
				t.Fatal(err)
			}
			seam.set(test.fail)
			b := Batch{Entries: entries("a", 1, test.size), Cause: receive(1), KeepReply: true}
			_, err := c.Append(context.Background(), b)
			if e := sdkError(t, err); e.Code != sdk.OutcomeUnknown || e.Retry || !strings.Contains(err.Error(), "the disk is gone") {
				t.Fatal(err)
			}
			_, err = c.Append(context.Background(), b) // the same message: nobody knows yet
			if e := sdkError(t, err); e.Code != sdk.OutcomeUnknown || e.Retry {
				t.Fatal(err)
			}
			other := b
			other.Cause = receive(2)
			_, err = c.Append(context.Background(), other)
			if e := sdkError(t, err); e.HandlerCode != sdk.HandlerCodeCommit || !e.Retry || !strings.Contains(err.Error(), "restart") {
				t.Fatal(err)
			}
			if rs, err := c.Query(sdk.Query{}); err != nil || len(rs) != 2 {
				t.Errorf("a query gives %d records, %v; only two are on disk for certain", len(rs), err)
			}
			if reply, found, err := c.Reply(agentOf(bob), messageID(9)); !found || err != nil || string(reply) != "kept" {
				t.Errorf("the reply of what is on disk: %q, %v, %v", reply, found, err)
			}
			mustClose(t, c)
			c = mustOpen(t, o) // what is there counts
			mustVerify(t, c, 3)
			var d *DuplicateError
			if _, err := c.Append(context.Background(), b); !errors.As(err, &d) {
				t.Fatal(err)
			}
		})
	}
}

// Two requests of one message in a group that the disk does not confirm: both
// learn that nobody knows.
func TestUnconfirmedDuplicate(t *testing.T) {
	t.Parallel()
	c, seam := openSeams(t, testOptions(t))
	mustAppend(t, c, Batch{Entries: entries("a", 1, 1), Cause: function(1)})
	seam.set(func(s *hooks) { s.fail = failOn("sync", 1, syscall.EIO) })
	group := make([]*request, 2)
	for i := range group {
		r, err := c.request(Batch{Entries: entries("a", 1, 1), Cause: receive(1), KeepReply: true})
		if err != nil {
			t.Fatal(err)
		}
		group[i] = r
	}
	c.writing.Lock()
	c.commit(group)
	c.writing.Unlock()
	for i, r := range group {
		if o := <-r.done; !errors.Is(o.err, sdk.OutcomeUnknown) {
			t.Errorf("request %d: %v", i, o.err)
		}
	}
}

// failOn makes the nth step of a name fail, and all after it.
func failOn(name string, nth int, err error) func(step string) error {
	n := 0
	return func(step string) error {
		if step == name {
			n++
		}
		if n >= nth && step == name {
			return err
		}
		return nil
	}
}

// A commit that fails and leaves nothing is followed by one that works.
func TestRolledBack(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		size int
		fail func(*hooks)
	}{
		"log":        {1, func(s *hooks) { s.fail = failOn("write", 1, syscall.EIO) }},
		"chain file": {defaultHalf, func(s *hooks) { s.commit = func(tx *bolt.Tx) error { return errors.Join(tx.Rollback(), syscall.EIO) } }},
	} {
		for _, first := range []bool{true, false} { // the commit that makes the log, or a later one
			t.Run(fmt.Sprintf("%s, first %v", name, first), func(t *testing.T) {
				t.Parallel()
				o := testOptions(t)
				c, seam := openSeams(t, o)
				n := uint64(1)
				if !first {
					mustAppend(t, c, Batch{Entries: entries("a", 1, 1), Cause: function(1)})
					n++
				}
				seam.set(test.fail)
				b := Batch{Entries: entries("a", 1, test.size), Cause: receive(1), KeepReply: true}
				_, err := c.Append(context.Background(), b)
				if e := sdkError(t, err); e.HandlerCode != sdk.HandlerCodeCommit || !e.Retry || !strings.Contains(err.Error(), "nothing of the call was committed") {
					t.Fatal(err)
				}
				seam.set(func(s *hooks) { s.fail, s.commit = nil, nil })
				mustAppend(t, c, b)
				mustVerify(t, c, n+1)
				mustClose(t, c)
				mustVerify(t, mustOpen(t, o), n+1)
			})
		}
	}
}

// A full disk while a chain is made leaves nothing behind.
func TestCreateFails(t *testing.T) {
	t.Parallel()
	o := testOptions(t)
	dir := filepath.Dir(o.Path)
	if err := os.Mkdir(o.Path+newSuffix, 0o700); err != nil { // it can't be opened as a file
		t.Fatal(err)
	}
	if _, err := Open(o); err == nil {
		t.Fatal("made a chain over a directory")
	}
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if e.Name() == filepath.Base(o.Path) {
			t.Fatal("half a chain has the chain's name")
		}
	}
}
