package chain

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/parley-p2p/parley/sdk"
)

var errNotNow = errors.New("not now")

// noCheckpoint keeps everything in the log.
func noCheckpoint(s *hooks) {
	s.commit = func(tx *bolt.Tx) error { return errors.Join(tx.Rollback(), errNotNow) }
}

func TestGoldenWAL(t *testing.T) {
	t.Parallel()
	id := walID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	head := appendWALHead(nil, id, defaultHalf)
	p := goldenPlan(t)
	p.records = p.records[1:] // record 0 is never in a log
	p.number, p.firstReply, p.nextReply, p.drop = 3, 4, 9, 2
	r := keptReply{from: agentOf(bob), id: messageID(7), micro: 1_700_000_000_000_000, reply: []byte("ok")}
	r.value = encodeReply(seqKey(9), &r)
	p.replies = []keptReply{r}
	b := id.appendFrame(nil, p)
	v := 4 + len(p.records[0].value)
	golden(t, "wal.hex", "head of a log, without its zeros, and a frame with the record of record1.hex and one reply", []part{
		{"magic", head[:16]}, {"id", head[16:32]}, {"size of a half", head[32:40]}, {"CRC-32C of all above", head[40:walHeadUsed]},
		{"frame: magic", b[:4]}, {"check of the head behind it", b[4:8]}, {"check of the body", b[8:12]}, {"length of the body", b[12:16]},
		{"records, replies", b[16:24]}, {"number", b[24:32]}, {"sequence of the first record", b[32:40]},
		{"order of the first reply", b[40:48]}, {"order of the oldest kept reply", b[48:56]},
		{"length and value of the record", b[56 : 56+v]}, {"length and value of the reply", b[56+v:]}})
	if int64(len(b)) != p.frameSize() {
		t.Errorf("%d bytes, %d counted", len(b), p.frameSize())
	}
	if got, half, err := parseWALHead(head); err != nil || got != id || half != defaultHalf {
		t.Errorf("head: %v %d %v", got, half, err)
	}
	f, n, err := id.parseFrame(append(bytes.Clone(b), 1, 2, 3))
	if err != nil || n != len(b) || f.number != 3 || f.seq != 1 || f.reply != 9 || f.oldest != 6 ||
		len(f.records) != 1 || len(f.replies) != 1 || !bytes.Equal(f.records[0], p.records[0].value) || !bytes.Equal(f.replies[0], r.value) {
		t.Errorf("frame: %+v, %d, %v", f, n, err)
	}
	other := id
	other[7]++
	if _, _, err := other.parseFrame(b); err == nil {
		t.Error("a frame of another log was taken")
	}
}

// crashed is what a killed process left: a chain file that lacks the last
// batches, and the log that has them.
type crashed struct {
	o        Options
	db, log  []byte
	ends     []int    // where each frame ends in the log
	firsts   []uint64 // number of the first record of each frame
	len      uint64
	head     sdk.Hash
	lastKept uint64 // message whose reply only the last frame has
}

func newCrashed(t testing.TB) *crashed {
	t.Helper()
	o := testOptions(t)
	c, seam := openSeams(t, o)
	mustAppend(t, c, Batch{Entries: entries("bid", 2, 40), Cause: receive(100), KeepReply: true, Reply: []byte("early")})
	if err := c.checkpoint(); err != nil {
		t.Fatal(err)
	}
	k := &crashed{}
	seam.set(func(s *hooks) {
		noCheckpoint(s)
		s.write = func(_ walFile, b []byte, at int64) { k.ends = append(k.ends, int(at)+len(b)) }
	})
	for i := range uint64(6) {
		k.lastKept = i
		k.firsts = append(k.firsts, mustAppend(t, c, Batch{Entries: entries([]string{"bid", "note"}[i%2], 1+int(i%3), 30), Cause: receive(i), KeepReply: true, Reply: []byte("ok")}))
	}
	k.db, k.log, k.len = mustRead(t, o.Path), mustRead(t, o.Path+walSuffix), c.Len()
	_, k.head = c.Head()
	seam.set(func(s *hooks) { *s = hooks{} })
	k.o = o
	k.o.Path = filepath.Join(t.TempDir(), "crashed.chain")
	return k
}

// open opens the crashed chain with another log; nil for none.
func (k *crashed) open(t testing.TB, log []byte) (*Chain, error) {
	t.Helper()
	if err := os.WriteFile(k.o.Path, k.db, 0o600); err != nil {
		t.Fatal(err)
	}
	os.Remove(k.o.Path + walSuffix)
	if log != nil {
		if err := os.WriteFile(k.o.Path+walSuffix, log, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := Open(k.o)
	if err != nil {
		if !bytes.Equal(mustRead(t, k.o.Path), k.db) || log != nil && !bytes.Equal(mustRead(t, k.o.Path+walSuffix), log) {
			t.Fatalf("a refused file was changed: %v", err)
		}
	}
	return c, err
}

// Whatever a crash leaves of the last frame, all before it are there; and the
// next commits go on from there.
func TestTornFrame(t *testing.T) {
	t.Parallel()
	k := newCrashed(t)
	last := len(k.ends) - 1
	from, end := k.ends[last-1], k.ends[last]
	for _, stale := range []byte{0, 0xa5} {
		for cut := from; cut <= end; cut = min(cut+1+(cut-from)%41, max(end, cut+1)) {
			log := bytes.Clone(k.log)
			for i := cut; i < end; i++ {
				log[i] = stale
			}
			want, last := k.firsts[last], cut == end
			if last {
				want = k.len
			}
			c, err := k.open(t, log)
			if err != nil {
				t.Fatalf("cut at %d of %d to %d: %v", cut, from, end, err)
			}
			mustVerify(t, c, want)
			if isKept(t, c, k.lastKept) != last || !isKept(t, c, 0) || !isKept(t, c, 100) {
				t.Fatalf("cut at %d: the wrong replies are kept", cut)
			}
			mustAppend(t, c, Batch{Entries: entries("bid", 1, 10), Cause: receive(50), KeepReply: true})
			mustClose(t, c)
			if _, err := os.Stat(k.o.Path + walSuffix); !errors.Is(err, os.ErrNotExist) {
				t.Fatalf("a closed chain has a log: %v", err)
			}
			c = mustOpen(t, k.o)
			mustVerify(t, c, want+1)
			mustClose(t, c)
		}
	}
}

// A changed byte in any frame but the last is damage, and the first wrong
// record is named.
func TestFlippedFrame(t *testing.T) {
	t.Parallel()
	k := newCrashed(t)
	// The frame before those of k.ends is in the chain file already.
	_, n, err := k.id().parseFrame(k.log[walHeadLen:])
	if err != nil {
		t.Fatal(err)
	}
	from := walHeadLen + n
	for i, end := range k.ends[:len(k.ends)-1] {
		for at := from; at < end; at += 1 + (at-from)%23 {
			log := bytes.Clone(k.log)
			log[at] ^= 0x41
			_, err := k.open(t, log)
			var d *DamagedError
			if !errors.As(err, &d) || d.Seq != k.firsts[i] || d.Part != partLog {
				t.Fatalf("frame %d, byte %d: %v; want record %d", i, at-from, err, k.firsts[i])
			}
		}
		from = end
	}
}

func (k *crashed) id() *walID {
	id, _, err := parseWALHead(k.log)
	if err != nil {
		panic(err)
	}
	return &id
}

func TestLogRefused(t *testing.T) {
	t.Parallel()
	k := newCrashed(t)
	change := func(at int) []byte { b := bytes.Clone(k.log); b[at] ^= 1; return b }
	other := newCrashed(t)
	for name, test := range map[string]struct {
		log  []byte
		says string
	}{
		"missing":         {nil, "is missing"},
		"empty":           {[]byte{}, "head can't be read"},
		"cut short":       {k.log[:len(k.log)-1], "bytes, "},
		"too long":        {append(bytes.Clone(k.log), 0), "bytes, "},
		"no log":          {bytes.Repeat([]byte("text "), len(k.log)/5+1)[:len(k.log)], "known version"},
		"id changed":      {change(20), "checksum of its head"},
		"of another file": {other.log, "belongs to another"},
	} {
		_, err := k.open(t, test.log)
		var d *DamagedError
		if !errors.As(err, &d) || d.Part != partLog || d.Seq != 3 || !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), "backup") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.Chmod(k.o.Path+walSuffix, 0o644); !errors.Is(err, os.ErrNotExist) && err != nil {
		t.Fatal(err)
	}
	c, err := k.open(t, k.log) // and as it was it is fine
	if err != nil {
		t.Fatal(err)
	}
	if _, h := c.Head(); h != k.head {
		t.Error("another head")
	}
	mustClose(t, c)
}

// A log whose maker was killed before the chain file knew of it, or after it
// no longer did, goes; one with other records stays and is refused.
func TestLogOfNobody(t *testing.T) {
	t.Parallel()
	o := testOptions(t)
	c := mustOpen(t, o)
	mustAppend(t, c, Batch{Entries: entries("a", 1, 1), Cause: function(1)})
	mustClose(t, c)
	path := o.Path + walSuffix
	for name, log := range map[string][]byte{
		"half a head": []byte("parley-wal"),
		"empty frames": func() []byte {
			b := appendWALHead(nil, walID{1}, 32<<10)
			return append(b, make([]byte, 64<<10)...)
		}(),
	} {
		if err := os.WriteFile(path, log, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Open(o)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		mustAppend(t, c, Batch{Entries: entries("a", 1, 1), Cause: function(1)})
		mustClose(t, c)
	}
	foreign := newCrashed(t).log
	if err := os.WriteFile(path, foreign, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(o); !errors.Is(err, errOther) || !strings.Contains(err.Error(), "backup") {
		t.Errorf("records of somebody else: %v", err)
	}
	if !bytes.Equal(mustRead(t, path), foreign) {
		t.Error("a refused log was changed")
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(o); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("readable by others: %v", err)
	}
}

// A process that is killed between a frame's write and its sync leaves it to be
// read, and not yet on disk. What Open shows of the log is synced first.
func TestRecoveredFramesAreSynced(t *testing.T) {
	t.Parallel()
	k := newCrashed(t)
	var s seams
	k.o.wrapWAL = func(f walFile) walFile { return &seamFile{f, &s} }
	s.set(func(h *hooks) { h.fail = func(string) error { return errNotNow } })
	if _, err := k.open(t, k.log); !errors.Is(err, errNotNow) {
		t.Fatalf("the sync of what was read failed, and Open says %v", err)
	}
	synced := 0
	s.set(func(h *hooks) { *h = hooks{sync: func() { synced++ }} })
	c, err := k.open(t, k.log)
	if err != nil || synced != 1 {
		t.Fatalf("synced %d times, %v", synced, err)
	}
	mustVerify(t, c, k.len)
	mustClose(t, c)
}

// At any time the power may go: what was synced is there, of what was written
// since any part. Every acknowledged batch survives, again and again.
func TestPowerLoss(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(5, 6))
	o := testOptions(t)
	o.walHalf = 8 << 10 // many turns
	var acked []uint64  // messages, each of which appended one or two records
	n := uint64(0)
	for round := range 20 {
		c, seam := openSeams(t, o)
		var db, log []byte // what the disk has when the power goes
		after := rng.IntN(25)
		seam.set(func(s *hooks) {
			s.write = func(_ walFile, b []byte, at int64) {
				if after--; after >= 0 || at < walHeadLen || db != nil || len(b) > 2<<10 {
					return
				}
				c.storing.Lock() // bbolt writes nothing now
				defer c.storing.Unlock()
				db, log = mustRead(t, o.Path), mustRead(t, o.Path+walSuffix)
				for from := 0; from < len(b); {
					// Sectors reach the disk in any order.
					to := min(len(b), from+512-(int(at)+from)%512)
					if rng.IntN(3) > 0 {
						copy(log[int(at)+from:], b[from:to])
					}
					from = to
				}
			}
		})
		for db == nil {
			n++
			_, err := c.Append(context.Background(), Batch{Entries: entries("bid", 1+int(n%2), 20+rng.IntN(500)), Cause: receive(n), KeepReply: true, Reply: fmt.Append(nil, n)})
			if err != nil {
				t.Fatal(err)
			}
			if db == nil {
				acked = append(acked, n)
			}
			if rng.IntN(9) == 0 {
				if err := c.checkpoint(); err != nil {
					t.Fatal(err)
				}
			}
		}
		seam.set(func(s *hooks) { s.write = nil })
		mustClose(t, c)
		if err := errors.Join(os.WriteFile(o.Path, db, 0o600), os.WriteFile(o.Path+walSuffix, log, 0o600)); err != nil {
			t.Fatal(err)
		}
		c, err := Open(o)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		mustVerify(t, c, c.Len())
		for _, m := range acked {
			if reply, found, err := c.Reply(agentOf(bob), messageID(m)); !found || err != nil || string(reply) != fmt.Sprint(m) {
				t.Fatalf("round %d: message %d: %q %v %v", round, m, reply, found, err)
			}
		}
		if isKept(t, c, n) { // it was whole, though nobody was told
			acked = append(acked, n)
		}
		if rng.IntN(2) == 0 {
			mustClose(t, c)
		} else { // killed
			db, log := mustRead(t, o.Path), mustRead(t, o.Path+walSuffix)
			mustClose(t, c)
			if err := errors.Join(os.WriteFile(o.Path, db, 0o600), os.WriteFile(o.Path+walSuffix, log, 0o600)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// Each step that a commit takes on the disk fails once. Nothing acknowledged
// is lost, nothing refused exists, and only a failed sync leaves doubt.
func TestFaults(t *testing.T) {
	t.Parallel()
	for nth := 1; nth <= 24; nth++ {
		for _, short := range []bool{false, true} {
			o := testOptions(t)
			o.walHalf = minHalf // a frame fits in it, two don't
			c, seam := openSeams(t, o)
			var mu sync.Mutex // guards count and broke: the keeper commits too
			count := 0
			broke := ""
			strike := func(step string) error {
				mu.Lock()
				defer mu.Unlock()
				if count++; count != nth {
					return nil
				}
				broke = step
				return syscall.EIO
			}
			next := func() int { mu.Lock(); defer mu.Unlock(); return count + 1 }
			broken := func() string { mu.Lock(); defer mu.Unlock(); return broke }
			seam.set(func(s *hooks) {
				s.fail = strike
				s.commit = func(tx *bolt.Tx) error {
					if err := strike("commit"); err != nil {
						return errors.Join(tx.Rollback(), err)
					}
					return tx.Commit()
				}
				if short {
					s.write = func(f walFile, b []byte, at int64) {
						if next() == nth {
							_, _ = f.WriteAt(b[:len(b)/2], at)
						}
					}
				}
			})
			acked, unknown := uint64(0), false
			for n := range uint64(12) {
				_, err := c.Append(context.Background(), Batch{Entries: entries("a", 1, 600), Cause: receive(n), KeepReply: true})
				var e *sdk.Error
				switch {
				case err == nil:
					acked++
				case !errors.As(err, &e) || broken() == "":
					t.Fatalf("step %d: %v", nth, err)
				case e.Code == sdk.OutcomeUnknown:
					unknown = true
				case !e.Retry || isKept(t, c, n):
					t.Fatalf("step %d (%s): %v", nth, broken(), err)
				}
			}
			if unknown && broken() != "sync" {
				t.Fatalf("step %d (%s) left doubt", nth, broke)
			}
			seam.set(func(s *hooks) { *s = hooks{} })
			mustVerify(t, c, acked+1)
			mustClose(t, c)
			c = mustOpen(t, o)
			if got := c.Len() - 1; got != acked && !(unknown && got == acked+1) {
				t.Fatalf("step %d (%s): %d records, %d acknowledged", nth, broken(), got, acked)
			}
			mustVerify(t, c, c.Len())
			mustClose(t, c)
		}
	}
}

// The keeper takes over what rests, not what moves, and tries again.
func TestKeeper(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := testOptions(t)
		o.walHalf = defaultHalf
		c, seam := openSeams(t, o)
		one := func(n uint64) {
			mustAppend(t, c, Batch{Entries: entries("a", 1, 10), Cause: function(n)})
		}
		for n := range uint64(30) { // for three seconds
			one(n)
			time.Sleep(quiet - time.Millisecond)
		}
		if n := c.unstored(); n != 30 {
			t.Errorf("%d frames wait while the chain moves, 30 expected", n)
		}
		time.Sleep(2 * quiet)
		if n := c.unstored(); n != 0 || len(c.tail.plans) != 0 {
			t.Errorf("%d frames wait when the chain rests", n)
		}
		var tries atomic.Int32
		seam.set(func(s *hooks) {
			s.commit = func(tx *bolt.Tx) error { tries.Add(1); return errors.Join(tx.Rollback(), errNotNow) }
		})
		one(31)
		time.Sleep(10 * storeRetry)
		if n := tries.Load(); n < 9 || n > 12 || c.unstored() != 1 {
			t.Errorf("%d tries in 10 s, %d frames wait", n, c.unstored())
		}
		seam.set(func(s *hooks) { s.commit = nil })
		time.Sleep(2 * storeRetry)
		if c.unstored() != 0 {
			t.Error("not tried again")
		}
		// A half that is full is taken over while the chain moves.
		for n := uint64(0); c.wal.half == 0; n++ {
			mustAppend(t, c, Batch{Entries: entries("a", 10, 20_000), Cause: function(n)})
		}
		synctest.Wait()
		if n := c.unstored(); n > 1 {
			t.Errorf("%d frames wait after the turn", n)
		}
		mustClose(t, c)
		mustVerify(t, mustOpen(t, o), c.Len())
	})
}

// FuzzWAL gives the log's reader whole halves of its own making.
func FuzzWAL(f *testing.F) {
	k := newCrashed(f)
	id := *k.id()
	f.Add(k.log[walHeadLen:][:k.ends[len(k.ends)-1]-walHeadLen], []byte{}, uint64(1), -1)
	f.Add(k.log[walHeadLen:][:k.ends[2]], k.log[k.ends[2]:k.ends[4]], uint64(0), 300)
	f.Fuzz(func(t *testing.T, a, b []byte, stored uint64, seal int) {
		if seal >= 0 && seal+frameHead <= len(a) { // a frame with right checks at that place
			a = bytes.Clone(a)
			h := a[seal:]
			n := min(int(uint32(h[14])<<8|uint32(h[15])), len(h)-frameHead)
			copy(h, frameMagic)
			copy(h[12:], []byte{0, 0, byte(n >> 8), byte(n)})
			crc := id.bodyCheck(h[frameHead:][:n])
			copy(h[8:], []byte{byte(crc >> 24), byte(crc >> 16), byte(crc >> 8), byte(crc)})
			crc = id.headCheck(h)
			copy(h[4:], []byte{byte(crc >> 24), byte(crc >> 16), byte(crc >> 8), byte(crc)})
		}
		s, err := id.scan([2][]byte{a, b}, stored)
		if err != nil {
			return
		}
		link := linker{dna: testDNA.Hash(), author: agentOf(alice), next: 3}
		replies := newReplyIndex()
		for i := range s.frames {
			if s.frames[i].number != stored+uint64(i)+1 {
				t.Fatal("a gap was taken")
			}
			if p, err := s.frames[i].replay(&link, &replies); err != nil {
				return
			} else if p.head+1 != link.next {
				t.Fatal("the plan ends elsewhere")
			}
		}
	})
}

func FuzzWALHead(f *testing.F) {
	f.Add(appendWALHead(nil, walID{1}, defaultHalf))
	f.Fuzz(func(t *testing.T, b []byte) {
		if id, half, err := parseWALHead(b); err == nil && !bytes.Equal(appendWALHead(nil, id, half)[:walHeadUsed], b[:walHeadUsed]) {
			t.Fatal("a head has two encodings")
		}
	})
}
