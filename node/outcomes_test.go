package node

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

var t0 = time.Unix(1_800_000_000, 0)

func testKey(from, id int) messageKey {
	var k messageKey
	copy(k.from[:], fmt.Sprintf("agent %d", from))
	copy(k.id[:], fmt.Sprintf("message %d", id))
	return k
}

var nothing = cancelFunc(func(error) {})

// checkOutcomes holds the table's redundant parts against one another.
func checkOutcomes(t *testing.T, o *outcomes) {
	t.Helper()
	bytes, held, ended := 0, 0, 0
	for k, v := range o.byKey {
		if v.key != k {
			t.Fatalf("an outcome of %v stands under %v", v.key, k)
		}
		if v.held {
			bytes, held = bytes+len(v.reply)+errorSize(v.err), held+1
		}
		if !v.ended.IsZero() {
			ended++
		}
	}
	running, mine := 0, 0
	for from, s := range o.senders {
		if running, mine = running+s.running, mine+s.ended.n; s.running < 0 || s.running+s.ended.n == 0 || s.ended.n > outcomesPerSender {
			t.Fatalf("sender %v has %d outcomes and %d that run", from, s.ended.n, s.running)
		}
		checkList(t, &s.ended)
	}
	checkList(t, &o.ages)
	checkList(t, &o.replies)
	if running != len(o.byKey)-ended {
		t.Fatalf("%d counted as running, %d are", running, len(o.byKey)-ended)
	}
	if bytes != o.bytes || held != o.replies.n || ended != o.ages.n || mine != ended {
		t.Fatalf("bytes %d/%d, replies %d/%d, ended %d/%d/%d", bytes, o.bytes, held, o.replies.n, ended, o.ages.n, mine)
	}
	if o.bytes > outcomesBytes || o.ages.n > outcomesTotal {
		t.Fatalf("over a bound: %d bytes, %d outcomes", o.bytes, o.ages.n)
	}
}

// checkList walks a list both ways.
func checkList(t *testing.T, l *outcomeList) {
	t.Helper()
	n := 0
	var last *outcome
	for o := l.first; o != nil; o = o.links[l.kind].next {
		if o.links[l.kind].prev != last {
			t.Fatal("a list's links do not agree")
		}
		last = o
		n++
	}
	if last != l.last || n != l.n {
		t.Fatalf("a list of %d counts %d", n, l.n)
	}
}

func TestOutcomesAnswerARepeatedMessage(t *testing.T) {
	t.Parallel()
	o := newOutcomes(t0)
	a, first := o.begin(t0, testKey(1, 1), nothing)
	if !first {
		t.Fatal("the first arrival is not first")
	}
	if b, first := o.begin(t0, testKey(1, 1), nothing); first || b != a {
		t.Fatal("a repeated arrival of a running message does not join it")
	}
	o.end(t0, a, []byte("reply"), nil)
	b, first := o.begin(t0.Add(time.Minute), testKey(1, 1), nothing)
	if first || string(b.reply) != "reply" {
		t.Fatalf("a repeated message got %q, first %t", b.reply, first)
	}
	if _, first := o.begin(t0, testKey(2, 1), nothing); !first {
		t.Fatal("another sender's message of the same id is taken for a repeated one")
	}
	checkOutcomes(t, o)
	if _, first := o.begin(t0.Add(outcomesAge), testKey(1, 1), nothing); !first {
		t.Fatal("an outcome outlived its age")
	}
	checkOutcomes(t, o)
}

func TestOutcomesBounds(t *testing.T) {
	t.Parallel()
	t.Run("one sender does not push out another's", func(t *testing.T) {
		o := newOutcomes(t0)
		quiet, _ := o.begin(t0, testKey(1, 0), nothing)
		o.end(t0, quiet, []byte("kept"), nil)
		for i := range 3 * outcomesPerSender {
			x, _ := o.begin(t0, testKey(2, i), nothing)
			o.end(t0, x, []byte("r"), nil)
		}
		checkOutcomes(t, o)
		if _, first := o.begin(t0, testKey(1, 0), nothing); first {
			t.Fatal("the quiet sender's outcome is gone")
		}
		if _, first := o.begin(t0, testKey(2, 3*outcomesPerSender-1), nothing); first {
			t.Fatal("the newest outcome is gone")
		}
		if _, first := o.begin(t0, testKey(2, 0), nothing); !first {
			t.Fatal("the oldest outcome is still there")
		}
	})
	t.Run("replies are let go of, ids are not", func(t *testing.T) {
		o := newOutcomes(t0)
		big := make([]byte, outcomesBytes/4)
		for i := range 6 {
			x, _ := o.begin(t0, testKey(1, i), nothing)
			o.end(t0, x, big, nil)
			checkOutcomes(t, o)
		}
		for i := range 6 {
			x, first := o.begin(t0, testKey(1, i), nothing)
			if first || x.dropped != (i < 2) {
				t.Errorf("message %d: first %t, dropped %t", i, first, x.dropped)
			}
		}
	})
	t.Run("in total", func(t *testing.T) {
		o := newOutcomes(t0)
		for i := range outcomesTotal + 100 {
			x, _ := o.begin(t0, testKey(i%50, i), nothing)
			o.end(t0, x, nil, &sdk.Error{Code: sdk.HandlerFailed})
		}
		checkOutcomes(t, o)
	})
}

func TestOutcomesReachThoseWhoWait(t *testing.T) {
	t.Parallel()
	o := newOutcomes(t0)
	_, cancel := context.WithCancelCause(t.Context())
	a, _ := o.begin(t0, testKey(1, 1), cancelFunc(cancel))
	waiter, _ := o.begin(t0, testKey(1, 1), nothing)
	ended := o.wait(waiter)
	o.end(t0, a, make([]byte, outcomesBytes), nil)
	x, _ := o.begin(t0, testKey(1, 2), nothing)
	o.end(t0, x, []byte("pushes the large one out"), nil)
	checkOutcomes(t, o)
	<-ended
	<-o.wait(waiter)
	if waiter.dropped || len(waiter.reply) != outcomesBytes {
		t.Fatal("who waited for the outcome lost the reply")
	}
}

func TestOutcomesOfRunningReceives(t *testing.T) {
	t.Parallel()
	o := newOutcomes(t0)
	var running []*outcome
	for i := range runningPerSender {
		x, first := o.begin(t0, testKey(1, i), nothing)
		if !first {
			t.Fatal("not the first")
		}
		running = append(running, x)
	}
	if x, _ := o.begin(t0, testKey(1, runningPerSender), nothing); x != nil {
		t.Fatal("one more of the sender runs")
	}
	if x, first := o.begin(t0, testKey(1, 0), nothing); first || x != running[0] {
		t.Fatal("a repeated message does not join the first")
	}
	if _, first := o.begin(t0, testKey(2, 0), nothing); !first {
		t.Fatal("another sender is kept out")
	}
	checkOutcomes(t, o)
	o.end(t0, running[0], nil, nil)
	if _, first := o.begin(t0, testKey(1, runningPerSender), nothing); !first {
		t.Fatal("no room after one has ended")
	}
	checkOutcomes(t, o)
}

// The table knows from when on it holds every message.
func TestOutcomesComplete(t *testing.T) {
	t.Parallel()
	o := newOutcomes(t0)
	if o.complete(t0.Add(-time.Second)) || !o.complete(t0.Add(time.Second)) {
		t.Fatal("the table does not know when it began")
	}
	at := func(i int) time.Time { return t0.Add(time.Duration(i) * time.Millisecond) }
	for i := range outcomesTotal + 10 {
		x, _ := o.begin(at(i), testKey(i%50, i), nothing)
		o.end(at(i), x, nil, nil)
	}
	checkOutcomes(t, o)
	if o.complete(at(9)) || !o.complete(at(10)) {
		t.Fatalf("complete since %s, ten were forgotten", o.since.Sub(t0))
	}
}

func TestOutcomesCountErrors(t *testing.T) {
	t.Parallel()
	o := newOutcomes(t0)
	large := &sdk.Error{Code: sdk.HandlerFailed, Text: string(make([]byte, outcomesBytes/4))}
	for i := range 6 {
		x, _ := o.begin(t0, testKey(1, i), nothing)
		o.end(t0, x, nil, large)
		checkOutcomes(t, o)
	}
	if x, first := o.begin(t0, testKey(1, 0), nothing); first || !x.dropped || x.err != nil {
		t.Fatal("the oldest error is still held, or its message would run again")
	}
}
