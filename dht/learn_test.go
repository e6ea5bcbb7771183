package dht

import (
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// What an agent sends of itself is taken if it is its own, valid and newer.
func TestLearn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemNet()
		nodes := network(t, m, 4)
		defer stopAll(nodes)
		a, b := nodes[1], nodes[2]
		sign := func(n int, seq uint64, issued time.Time, flags Flags) *Record {
			r := Record{Key: pub(testKey(n)), Flags: flags, Seq: seq, IssuedAt: issued, TTL: time.Hour}
			if flags&FlagTombstone == 0 {
				r.Addrs = []netip.AddrPort{testAddr(9000)}
			}
			rec, err := r.Sign(testKey(n))
			if err != nil {
				t.Fatal(err)
			}
			return rec
		}
		now, seq := time.Now(), b.Stats().Seq
		forged := *sign(2, seq+9, now, FlagServer)
		forged.raw = append([]byte{}, forged.raw...)
		forged.raw[len(forged.raw)-1] ^= 1
		for name, c := range map[string]struct {
			from Key
			rec  *Record
			want error // nil: not newer
		}{
			"nothing":     {b.key, nil, ErrRecord},
			"another's":   {b.key, sign(3, seq+9, now, FlagServer), ErrRecord},
			"expired":     {b.key, sign(2, seq+9, now.Add(-2*time.Hour), FlagServer), ErrRecord},
			"future":      {b.key, sign(2, seq+9, now.Add(time.Hour), FlagServer), ErrRecord},
			"forged":      {b.key, &forged, ErrRecord},
			"older":       {b.key, sign(2, seq-1, now, FlagServer), nil},
			"this node's": {a.key, sign(1, seq+9, now, FlagServer), ErrRecord},
			"own tombs":   {b.key, sign(2, seq-1, now, FlagServer|FlagTombstone), nil},
		} {
			if newer, err := a.Learn(c.from, c.rec); newer || !errors.Is(err, c.want) {
				t.Errorf("%s: newer %t, %v", name, newer, err)
			}
		}
		mustFind(t, a, b) // all of it changed nothing

		moved := sign(2, seq+1, now, FlagServer)
		if newer, err := a.Learn(b.key, moved); !newer || err != nil {
			t.Fatalf("newer %t, %v", newer, err)
		}
		if newest, err := a.Learn(b.key, moved); !newest || err != nil {
			t.Errorf("again: newest %t, %v", newest, err)
		}
		a.mu.Lock()
		e := a.core.table.get(b.key)
		if e == nil || e.record() != moved {
			t.Errorf("in the table: %+v", e)
		}
		a.mu.Unlock()

		if newer, err := a.Learn(b.key, sign(2, seq+2, now, FlagServer|FlagTombstone)); !newer || err != nil {
			t.Fatalf("tombstone: newer %t, %v", newer, err)
		}
		a.mu.Lock()
		if e := a.core.table.get(b.key); e != nil {
			t.Errorf("who has withdrawn is a contact: %+v", e)
		}
		a.mu.Unlock()

		// More of them than anybody needs are not looked at.
		wait(t.Context(), time.Minute)
		for i := range learnBurst + 2 {
			if newer, err := a.Learn(b.key, sign(2, seq+3+uint64(i), time.Now(), FlagServer)); newer != (i < learnBurst) || errors.Is(err, ErrBusy) == newer {
				t.Errorf("record %d: newer %t, %v", i, newer, err)
			}
		}
		wait(t.Context(), 10*time.Second)
		if newer, err := a.Learn(b.key, sign(2, seq+99, time.Now(), FlagServer)); !newer || err != nil {
			t.Errorf("10 s later: newer %t, %v", newer, err)
		}
	})
}
