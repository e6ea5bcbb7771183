package chain

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

func kept(n uint64, reply string) Batch {
	return Batch{Entries: entries("bid", 1, 10), Cause: receive(n), KeepReply: true, Reply: []byte(reply)}
}

func isKept(t *testing.T, c *Chain, n uint64) bool {
	t.Helper()
	_, found, err := c.Reply(agentOf(bob), messageID(n))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// At most once: the first outcome stands, across a restart too.
func TestDuplicate(t *testing.T) {
	t.Parallel()
	o := testOptions(t)
	c := mustOpen(t, o)
	mustAppend(t, c, kept(1, "accepted"))
	for range 2 {
		_, err := c.Append(context.Background(), kept(1, "another"))
		var d *DuplicateError
		if !errors.As(err, &d) || string(d.Reply) != "accepted" || c.Len() != 2 {
			t.Fatalf("%v, %d records", err, c.Len())
		}
		mustClose(t, c)
		c = mustOpen(t, o)
	}
	// The same id of another sender is another message.
	other := kept(1, "")
	other.Cause.From = agentOf(alice)
	mustAppend(t, c, other)
	mustVerify(t, c, 3)
}

// A group of nothing but repeated messages leaves no trace in the log.
func TestDuplicateThenCrash(t *testing.T) {
	t.Parallel()
	o := testOptions(t)
	c, seam := openSeams(t, o)
	mustAppend(t, c, Batch{Entries: entries("a", 1, 1), Cause: function(0)}) // makes the log
	seam.set(noCheckpoint)
	defer seam.set(func(h *hooks) { *h = hooks{} })
	for n := range uint64(3) {
		mustAppend(t, c, kept(n, "ok"))
		var d *DuplicateError
		if _, err := c.Append(context.Background(), kept(n, "")); !errors.As(err, &d) {
			t.Fatal(err)
		}
	}
	crashed := o
	crashed.Path += ".copy"
	if err := errors.Join(os.WriteFile(crashed.Path, mustRead(t, o.Path), 0o600),
		os.WriteFile(crashed.Path+walSuffix, mustRead(t, o.Path+walSuffix), 0o600)); err != nil {
		t.Fatal(err)
	}
	again := mustOpen(t, crashed)
	mustVerify(t, again, 5)
	if !isKept(t, again, 0) || !isKept(t, again, 2) {
		t.Error("a reply is lost")
	}
}

func TestReplyBounds(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		setting string
		count   int
		bytes   int64
	}{
		{"chain-reply-count", 10, 1 << 20},
		{"chain-reply-bytes", 1000, 10 * (8 + replyHead + crcLen + 5)},
	} {
		t.Run(test.setting, func(t *testing.T) {
			t.Parallel()
			o := testOptions(t)
			cl := &clock{micro: 1}
			o.Now, o.ReplyCount, o.ReplyBytes = cl.now, test.count, test.bytes
			c := mustOpen(t, o)
			for n := range uint64(10) {
				mustAppend(t, c, kept(n, "12345"))
			}
			// All are within the longest deadline: none may go.
			_, err := c.Append(context.Background(), kept(10, "12345"))
			if e := sdkError(t, err); e.Code != sdk.Busy || e.Limit.Setting != test.setting || !e.Retry {
				t.Fatal(err)
			}
			if c.Len() != 11 {
				t.Fatalf("%d records", c.Len())
			}
			cl.micro += LongestDeadline.Microseconds()
			mustAppend(t, c, kept(10, "12345"))
			mustAppend(t, c, kept(11, "12345"))
			for n := range uint64(12) {
				if isKept(t, c, n) != (n >= 2) {
					t.Errorf("message %d", n)
				}
			}
			// A call that keeps no reply is not held up.
			mustAppend(t, c, Batch{Entries: entries("x", 1, 1), Cause: function(1)})
			mustClose(t, c)
			c = mustOpen(t, o)
			for n := range uint64(12) {
				if isKept(t, c, n) != (n >= 2) {
					t.Errorf("message %d after a restart", n)
				}
			}
		})
	}
}

func TestReplyAge(t *testing.T) {
	t.Parallel()
	o := testOptions(t)
	cl := &clock{micro: 1}
	o.Now, o.ReplyAge = cl.now, 5*time.Minute
	c := mustOpen(t, o)
	mustAppend(t, c, kept(1, ""))
	cl.micro += (4 * time.Minute).Microseconds()
	mustAppend(t, c, kept(2, ""))
	if !isKept(t, c, 1) {
		t.Fatal("dropped before its age")
	}
	cl.micro += (2 * time.Minute).Microseconds()
	mustAppend(t, c, kept(3, ""))
	if isKept(t, c, 1) || !isKept(t, c, 2) || !isKept(t, c, 3) {
		t.Fatal("the wrong replies are kept")
	}
	cl.micro -= (time.Hour).Microseconds() // the clock is set back: nothing goes early
	mustAppend(t, c, kept(4, ""))
	if !isKept(t, c, 2) || !isKept(t, c, 3) {
		t.Fatal("dropped by a clock that went back")
	}
	mustClose(t, c)
	mustVerify(t, mustOpen(t, o), 5)
}

// Replies that were kept while the clock was far ahead go by age all the same.
func TestReplyClockWasAhead(t *testing.T) {
	t.Parallel()
	o := testOptions(t)
	cl := &clock{micro: (1000 * time.Hour).Microseconds()}
	o.Now, o.ReplyAge, o.ReplyCount = cl.now, 5*time.Minute, 3
	c := mustOpen(t, o)
	for n := range uint64(3) {
		mustAppend(t, c, kept(n, ""))
	}
	mustClose(t, c)
	cl.micro = (100 * time.Hour).Microseconds()
	c = mustOpen(t, o)
	if _, err := c.Append(context.Background(), kept(3, "")); !errors.Is(err, sdk.Busy) {
		t.Fatalf("their age is not known, and one was dropped at once: %v", err)
	}
	cl.micro += (LongestDeadline + time.Second).Microseconds()
	mustAppend(t, c, kept(3, ""))
	if isKept(t, c, 0) || !isKept(t, c, 1) {
		t.Fatal("the wrong one was dropped")
	}
}

func TestReplyIndex(t *testing.T) {
	t.Parallel()
	x := newReplyIndex()
	reply := func(n uint64) *keptReply { return &keptReply{from: agentOf(bob), id: messageID(n), micro: int64(n)} }
	if !x.load(7, reply(1)) || !x.load(8, reply(2)) {
		t.Fatal("refused what is in order")
	}
	if x.load(10, reply(3)) || x.load(9, reply(2)) {
		t.Fatal("took a gap or a repetition")
	}
	x.drop(2)
	if x.first != 9 || x.next() != 9 || x.bytes != 0 || len(x.at) != 0 {
		t.Fatalf("%+v", x)
	}
	// Many old ones go a part at a time.
	for n := range uint64(3000) {
		x.add(reply(n), int64(n))
	}
	drop, _, ok := x.room(replyBounds{1 << 20, 1 << 30, time.Minute}, time.Hour.Microseconds(), 1, 10)
	if !ok || drop != maxIdleDrops {
		t.Fatalf("%d go, %v", drop, ok)
	}
}
