package node

import (
	"testing"
	"testing/synctest"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/sdktest"
)

func TestExchangesWaitTheirTurn(t *testing.T) {
	t.Parallel()
	q, now := newExchanges(), time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	x := &exchange{request: sdk.ReceiptRequest{Message: sdk.MessageID{1}, Time: now}, due: now}
	if e := q.note(x); e != nil || q.known(x.key()) {
		t.Fatal(e)
	}
	q.add(x)
	tries, at := 0, now
	for ; ; tries++ {
		got, due := q.next(at)
		if got == nil {
			at = due
			got, _ = q.next(at)
		}
		if got != x || !q.known(x.key()) {
			t.Fatalf("try %d: %v", tries, got)
		}
		q.tried(x)
		if !q.again(at, x) {
			break
		}
	}
	if tries != tellTries-1 || at.Sub(now) > 25*time.Minute || q.known(x.key()) || len(q.takeEnded(9)) != 0 {
		t.Errorf("tried %d times in %s", tries+1, at.Sub(now))
	}
	q.end(string(x.key()))
	if !q.known(x.key()) {
		t.Error("what has ended may be begun again")
	}
}

// TestOneReceiverIsAskedForOneExchange: what waits for a receiver that is asked holds up
// no other one's.
func TestOneReceiverIsAskedForOneExchange(t *testing.T) {
	t.Parallel()
	q, now := newExchanges(), time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	of := func(to, id byte, due time.Duration) *exchange {
		return &exchange{request: sdk.ReceiptRequest{To: sdk.AgentID{to}, Message: sdk.MessageID{id}}, due: now.Add(due)}
	}
	first, second, other, later := of(1, 1, -3), of(1, 2, -2), of(2, 3, -1), of(3, 4, time.Second)
	for _, x := range []*exchange{later, other, second, first} {
		q.add(x)
	}
	for _, want := range []*exchange{first, other, nil} {
		if got, at := q.next(now); got != want || want == nil && !at.Equal(later.due) {
			t.Fatalf("got %v at %s, want %v", got, at, want)
		}
	}
	q.tried(first)
	if got, _ := q.next(now); got != second {
		t.Errorf("got %v, want the second one", got)
	}
}

// TestExchangesAreBounded: no more are noted than there is room for, of one receiver and
// of all, also while the disk does not let them go.
func TestExchangesAreBounded(t *testing.T) {
	t.Parallel()
	q, now, made := newExchanges(), time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC), 0
	one := func(to byte) (*exchange, *sdk.Error) {
		made++
		x := &exchange{request: sdk.ReceiptRequest{Message: sdk.MessageID{byte(made), byte(made >> 8), byte(made >> 16)}, To: sdk.AgentID{to}, Time: now}}
		return x, q.note(x)
	}
	full := func(to byte, max uint64) {
		t.Helper()
		_, e := one(to)
		if e == nil || e.Code != sdk.Busy || e.Delivered != sdk.DeliveredNo || !e.Retry || e.Limit == nil || e.Limit.Max != max || e.Limit.Value != max+1 {
			t.Errorf("got %v", e)
		}
	}
	var last *exchange
	for to := range byte(4) {
		for range maxExchangesTo {
			x, e := one(to)
			if e != nil {
				t.Fatal(e)
			}
			last = x
		}
		if to < 3 {
			full(to, maxExchangesTo)
		}
	}
	full(9, maxExchanges)
	for key := range q.noted {
		q.end(key)
	}
	full(9, maxExchanges) // they are in the file still
	keys := q.takeEnded(maxExchangesTo)
	q.removed(keys, false)
	if len(keys) != maxExchangesTo || len(q.ended) != maxExchanges {
		t.Errorf("%d were taken, %d have ended", len(keys), len(q.ended))
	}
	q.removed(q.takeEnded(maxExchanges), true)
	if len(q.noted) != 0 || len(q.to) != 0 || len(q.ended) != 0 || q.known(last.key()) {
		t.Errorf("left are %d, of %d receivers, %d ended", len(q.noted), len(q.to), len(q.ended))
	}
	waits, e := one(1)
	if e != nil {
		t.Fatal(e)
	}
	q.add(waits)
	if _, e = one(1); e != nil {
		t.Fatal(e)
	}
	q.expire(now.Add(exchangeFor - 1))
	if len(q.ended) != 0 {
		t.Error("one was let go of that is not too old")
	}
	q.expire(now.Add(exchangeFor))
	if len(q.ended) != 1 || q.known(waits.key()) && q.noted[string(waits.key())].ended {
		t.Errorf("%d have ended of one that is too old and one that is tried", len(q.ended))
	}
}

// TestOldExchangesLeaveTheDisk: what is noted leaves the file when it is over, or after
// a day, with the next one that is noted, while the node runs and at its start, of a DNA
// that does not run as well.
func TestOldExchangesLeaveTheDisk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newEntryNode(t, t.TempDir(), newFakeEntries(), nil)
		f, made := n.finisher, byte(0)
		kept := func(when string, want int) {
			t.Helper()
			got := 0
			if err := n.agencyDB.each(bucketExchanges, func(_, _ []byte) error { got++; return nil }); err != nil || got != want {
				t.Errorf("%s: %d are kept, want %d, %v", when, got, want, err)
			}
		}
		begin := func() *exchange {
			t.Helper()
			made++
			x := &exchange{cause: sdk.Cause{Kind: sdk.CallFunction, Message: sdk.MessageID{3}, From: n.id.agent},
				request: sdk.SignReceiptRequest(n.id.key, sdk.DNAHash{1}, sdk.MessageID{2, made}, &sdk.Message{To: sdktest.ID("bob")}, time.Now())}
			if e := f.begin(x); e != nil {
				t.Fatal(e)
			}
			return x
		}
		flush := func() {
			t.Helper()
			if err := f.flush(); err != nil {
				t.Fatal(err)
			}
		}
		f.end(begin())
		kept("ended", 1)
		begin()
		kept("with the next one", 1)
		time.Sleep(exchangeFor - time.Second)
		n.dropOld()
		flush()
		kept("for a day", 1)
		time.Sleep(time.Second)
		begin()
		n.dropOld()
		flush()
		kept("after a day", 1)

		start := func() {
			t.Helper()
			n.finisher = newFinisher(n.Node)
			f = n.finisher
			if err := n.loadExchanges(); err != nil {
				t.Fatal(err)
			}
		}
		if err := n.agencyDB.update(func(tx *bolt.Tx) error { return putAgency(tx, bucketExchanges, []byte("garbage"), []byte{1}) }); err != nil {
			t.Fatal(err)
		}
		start()
		kept("at the start", 1)
		if got := len(f.exchanges.noted); got != 1 {
			t.Errorf("%d are counted at the start", got)
		}
		time.Sleep(exchangeFor)
		start()
		kept("at a start a day later", 0)
	})
}
