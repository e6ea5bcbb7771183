package dht

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"
)

func pinned(t *table) (out []Contact) {
	t.pinned(func(e *entry) { out = append(out, e.contact()) })
	return out
}

func TestPinned(t *testing.T) {
	t.Parallel()
	self := NodeID(pub(testKey(1)))
	tb := newTable(self, noGroups)
	if got := pinned(tb); len(got) != 0 {
		t.Fatalf("an empty table: %d", len(got))
	}
	for i := range 400 {
		c := Contact{Key: pub(testKey(2 + i)), Addrs: []netip.AddrPort{testAddr(i)}}
		tb.succeeded(epoch.Add(time.Duration(i)*time.Second), c, time.Millisecond, checkFirst)
	}
	near := tb.closest(self, siblingSize, nil)
	near[3].fails = 1
	var first *entry // the longest-lived of the widest bucket
	for i := range tb.buckets {
		if len(tb.buckets[i].entries) > 0 {
			first = &tb.buckets[i].entries[0]
			break
		}
	}
	first.fails = 1
	got := pinned(tb)
	if again := pinned(tb); fmt.Sprint(again) != fmt.Sprint(got) {
		t.Error("others at the next call")
	}
	kept := make(map[Key]bool)
	for _, k := range tb.kept() {
		kept[k] = true
	}
	if len(kept) != tb.n || len(tb.kept()) != tb.n || !kept[first.key()] {
		t.Errorf("%d of %d are kept, the failed one: %t", len(kept), tb.n, kept[first.key()])
	}
	has := func(e *entry) bool { return slices.ContainsFunc(got, func(c Contact) bool { return c.Key == e.key() }) }
	for i, e := range near {
		if !has(e) {
			t.Errorf("sibling %d is missing", i)
		}
	}
	siblings := 0
	for i := range tb.buckets {
		b, n := &tb.buckets[i], 0
		for j := range b.entries {
			e := &b.entries[j]
			switch {
			case !has(e):
			case slices.Contains(near, e):
				siblings++
			default:
				n++
				if longest := &b.entries[0]; n == 1 && longest != first && !slices.Contains(near, longest) && e != longest {
					t.Error("not the longest-lived")
				}
			}
		}
		if n > pinnedPerBucket {
			t.Errorf("%d of one bucket", n)
		}
	}
	if has(first) || siblings != siblingSize || len(got) < siblings+pinnedPerBucket {
		t.Errorf("%d pinned, %d siblings, the failed one: %t", len(got), siblings, has(first))
	}
	for i := range got {
		for j := range i {
			if got[i].Key == got[j].Key {
				t.Error("one twice")
			}
		}
	}
}
