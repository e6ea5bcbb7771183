package dht

import (
	"bytes"
	"net/netip"
	"testing"
	"time"
)

// A read that may be a replay is answered like any other and leaves nothing
// behind; that its session has begun is noted as Serve notes who asks.
func TestReadEarlyChangesNothing(t *testing.T) {
	t.Parallel()
	n := newMemNet().prepare(t, 1, nil, func(c *Config) { c.Now = func() time.Time { return epoch } })
	c := n.core
	c.setAddrs(epoch, n.cfg.Addrs())
	c.sched.joined = true
	asker, known := pub(testKey(2)), testRecord(t, 3, 5, epoch)
	held := testRecord(t, 4, 7, epoch)
	c.table.succeeded(epoch, Contact{Key: known.Key, Record: known}, time.Millisecond, checkFirst)
	if s, _ := c.store.put(epoch, held, netip.Prefix{}); s != StatusOK {
		t.Fatal(s)
	}
	before, stats := n.Snapshot(), c.statsNow()
	for name, r := range map[string]struct {
		from Key
		req  Request
	}{
		"a PING of a stranger":           {asker, Request{Op: OpPing, Seq: 9}},
		"a FIND of a stranger":           {asker, Request{Op: OpFind, Target: NodeID(held.Key), Seq: 9}},
		"a GET of a stranger":            {asker, Request{Op: OpGet, Target: NodeID(held.Key), Seq: 9}},
		"a GET of a known newer record":  {asker, Request{Op: OpGet, Target: NodeID(held.Key), KnownSeq: 7, Seq: 9}},
		"a FIND of a contact that moved": {known.Key, Request{Op: OpFind, Target: NodeID(held.Key), Seq: 9}},
	} {
		got := n.ReadEarly(r.from, &r.req)
		if got == nil {
			t.Errorf("%s: no answer", name)
			continue
		}
		if want := c.reply(epoch, r.from, &r.req); got.Status != want.Status || got.Record != want.Record || len(got.Contacts) != len(want.Contacts) {
			t.Errorf("%s: %+v, Serve says %+v", name, got, want)
		}
		if len(c.probes)+len(c.strangers) != 0 {
			t.Fatalf("%s: somebody is to be called back", name)
		}
	}
	for name, req := range map[string]*Request{
		"a PUT":         {Op: OpPut, Record: testRecord(t, 5, 1, epoch)},
		"a malformed":   {Op: OpPing, Target: NodeID(held.Key)},
		"no operation":  {},
		"no request":    nil,
		"unknown":       {Op: opEnd},
		"a GET and PUT": {Op: OpGet, Record: held},
	} {
		if got := n.ReadEarly(asker, req); got != nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if n.ReadEarly(c.self, &Request{Op: OpPing}) != nil {
		t.Error("it answers itself")
	}
	if after := n.Snapshot(); !bytes.Equal(after, before) || c.statsNow() != stats {
		t.Errorf("something has changed: %+v, before %+v", c.statsNow(), stats)
	}
	n.Visited(known.Key, 9, 100)
	n.Visited(asker, 9, 100)
	if len(c.probes) != 1 || len(c.strangers) != 1 || c.stats.Served != stats.Served+2 {
		t.Errorf("%d contacts and %d strangers are called back, %d served", len(c.probes), len(c.strangers), c.stats.Served)
	}
}

// Early answers are taken off the same budget as others, when their sessions begin.
func TestEarlyAnswersAreCharged(t *testing.T) {
	t.Parallel()
	now := epoch
	n := newMemNet().prepare(t, 1, nil, func(c *Config) { c.Now = func() time.Time { return now } })
	n.core.setAddrs(now, n.cfg.Addrs())
	asker, ping := pub(testKey(2)), &Request{Op: OpPing}
	got := 0
	for n.ReadEarly(asker, ping) != nil {
		n.Visited(asker, 0, 2500)
		if got += 2500; got > 2*answerBurst {
			t.Fatal("no bound")
		}
	}
	if got < answerBurst-earlyMost-2500 {
		t.Errorf("only %d bytes", got)
	}
	if n.ReadEarly(pub(testKey(3)), ping) == nil {
		t.Error("another asker is not answered")
	}
	resp, err := n.Serve(t.Context(), asker, testAddr(2), &Request{Op: OpPing})
	if err != nil || resp.Status == StatusBusy {
		t.Errorf("what is left is not given over the session: %+v, %v", resp, err)
	}
	n.Visited(asker, 0, answerBurst)
	if resp, err := n.Serve(t.Context(), asker, testAddr(2), ping); err != nil || resp.Status != StatusBusy {
		t.Errorf("over the session: %+v, %v", resp, err)
	}
	for range 1000 { // replays: no session begins
		n.ReadEarly(pub(testKey(3)), ping)
	}
	if n.core.budgets.find(pub(testKey(3))) != nil {
		t.Error("a replay has used something up")
	}
	if now = now.Add(time.Minute); n.ReadEarly(asker, ping) == nil {
		t.Error("not answered a minute later")
	}
}
