package node

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/parley-p2p/parley/node/chain"
	"github.com/parley-p2p/parley/sdk"
)

var planStart = time.UnixMicro(1_700_000_000_000_000)

// onChain is an entry that was committed so many seconds after planStart.
func onChain(a *app, seq uint64, second, size int) publicEntry {
	return publicEntry{chain.Public{Seq: seq, Time: planStart.Add(time.Duration(second) * time.Second), Size: size}, a}
}

func seqs(p *publishPlan) (out []uint64) {
	for _, k := range p.order {
		out = append(out, k.seq)
	}
	return out
}

// The newest entries of all DNAs are kept, as many as the bound has room for.
func TestPublishPlanBound(t *testing.T) {
	t.Parallel()
	a, b := &app{name: "a", hash: sdk.DNAHash{1}}, &app{name: "b", hash: sdk.DNAHash{2}}
	for name, c := range map[string]struct {
		max     int
		entries []publicEntry
		want    []uint64
	}{
		"none":            {4, nil, nil},
		"all":             {4, []publicEntry{onChain(a, 1, 0, 300), onChain(a, 2, 1, 300)}, []uint64{2, 1}},
		"too many":        {2, []publicEntry{onChain(a, 3, 0, 300), onChain(a, 2, 1, 300), onChain(a, 1, 2, 300)}, []uint64{1, 2}},
		"of two DNAs":     {3, []publicEntry{onChain(a, 1, 0, 300), onChain(a, 2, 4, 300), onChain(b, 7, 3, 300), onChain(b, 8, 5, 300)}, []uint64{8, 2, 7}},
		"at once":         {3, []publicEntry{onChain(a, 1, 0, 300), onChain(b, 9, 0, 300), onChain(a, 2, 0, 300), onChain(b, 3, 0, 300)}, []uint64{2, 1, 9}},
		"too large":       {2, []publicEntry{onChain(a, 1, 0, 300), onChain(a, 2, 1, 4096), onChain(a, 3, 2, 300)}, []uint64{3}},
		"just fit":        {2, []publicEntry{onChain(a, 1, 0, 2048), onChain(a, 2, 1, 2048)}, []uint64{2, 1}},
		"the clock moved": {2, []publicEntry{onChain(a, 1, 50, 300), onChain(a, 2, 1, 300), onChain(a, 3, 2, 300)}, []uint64{1, 3}},
	} {
		p := newPublishPlan(c.max)
		if dropped := p.set(planStart, c.entries, uint64(len(c.entries))+5); dropped != 0 {
			t.Errorf("%s: %d dropped", name, dropped)
		}
		if got := seqs(p); !slices.Equal(got, c.want) || p.leftOut != uint64(len(c.entries)-len(c.want)+5) || len(p.items) != len(c.want) {
			t.Errorf("%s: %d, %d left out; want %d", name, got, p.leftOut, c.want)
		}
	}
}

func TestPublishPlanTimes(t *testing.T) {
	t.Parallel()
	a := &app{name: "a", hash: sdk.DNAHash{1}}
	p := newPublishPlan(2)
	now := planStart
	if e, wait := p.next(now); e != nil || wait != 0 {
		t.Fatalf("an empty plan: %+v, %s", e, wait)
	}
	one, two, three := onChain(a, 1, 0, 300), onChain(a, 2, 1, 300), onChain(a, 3, 2, 300)
	p.set(now, []publicEntry{one, two}, 2)
	expect := func(seq uint64) *publishing {
		t.Helper()
		e, wait := p.next(now)
		if e == nil || e.Seq != seq || wait != 0 {
			t.Fatalf("next is %+v in %s, want %d", e, wait, seq)
		}
		return e
	}
	wait := func(least, most time.Duration) {
		t.Helper()
		e, d := p.next(now)
		if e != nil || d < least || d > most {
			t.Fatalf("next is %+v in %s, want none for %s to %s", e, d, least, most)
		}
		now = now.Add(d)
	}
	p.published(now, expect(2), 16, nil, 1) // the newest first
	p.published(now, expect(1), 16, nil, 0)
	if n, waiting := p.count(); n != 2 || waiting != 0 {
		t.Fatalf("%d, %d", n, waiting)
	}
	wait(11*time.Hour, 11*time.Hour)
	p.published(now, expect(2), 0, errors.New("no"), 0.5)
	if n, waiting := p.count(); n != 1 || waiting != 1 {
		t.Fatalf("%d, %d", n, waiting)
	}
	for _, pause := range []time.Duration{5 * time.Second, 10 * time.Second, 20 * time.Second, 40 * time.Second} {
		wait(pause, pause)
		p.published(now, expect(2), 0, nil, 0.5) // nobody took it
	}
	for i := range 4 {
		wait(time.Minute, publishPauseMax*5/4)
		p.published(now, expect(2), 0, errors.New("no"), float64(i%2))
	}
	if left := p.items[publicKey{a.hash, 2}].due.Sub(now); left != publishPauseMax*5/4 {
		t.Errorf("the longest pause is %s", left)
	}
	wait(publishPauseMax*5/4, publishPauseMax*5/4)
	p.published(now, expect(2), fewHolders, nil, 0)
	wait(0, publishSoon) // 1 is due again, or 2
	// What is on the chain stays as it is, and what is new is due at once.
	before := *p.items[publicKey{a.hash, 2}]
	if dropped := p.set(now, []publicEntry{one, two, three}, 3); dropped != 1 || p.leftOut != 1 {
		t.Errorf("%d dropped, %d left out", dropped, p.leftOut)
	}
	if after := *p.items[publicKey{a.hash, 2}]; after.due != before.due || after.done != before.done {
		t.Errorf("%+v was %+v", after, before)
	}
	expect(3)
	// The DNA is gone, and comes back.
	if dropped := p.set(now, nil, 0); dropped != 0 || len(p.items)+len(p.order) != 0 {
		t.Errorf("%d dropped, %d left", dropped, len(p.items))
	}
	p.set(now, []publicEntry{one}, 1)
	expect(1)
}

// Every pause is spread, and none is longer than what a holder waits for.
func TestPublishPlanSpread(t *testing.T) {
	t.Parallel()
	for _, spread := range []float64{0, 0.3, 1} {
		for fails := range 40 {
			e := &publishing{fails: fails}
			newPublishPlan(1).published(planStart, e, 0, errors.New("no"), spread)
			if d := e.due.Sub(planStart); d < publishPause*3/4 || d > publishPauseMax*5/4 || e.fails != fails+1 {
				t.Errorf("after %d failures: %s", fails, d)
			}
		}
		for _, holders := range []int{1, fewHolders, fewHolders + 1, 16} {
			e := &publishing{fails: 3}
			newPublishPlan(1).published(planStart, e, holders, nil, spread)
			if d := e.due.Sub(planStart); d > publishAgain || d < publishSoon*11/12 || holders > fewHolders && d < 11*time.Hour || e.fails != 0 {
				t.Errorf("%d holders: %s", holders, d)
			}
		}
	}
	if fmt.Sprint(publishAgain*2) != "24h0m0s" {
		t.Error("a holder keeps an entry for 24 h: one publication may fail")
	}
}
