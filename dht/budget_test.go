package dht

import (
	"strconv"
	"testing"
	"time"
)

// Few peers or many: each has its own budget, and keeps what it owes when the others are forgotten.
func TestBudgetsOfEach(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, fewBudgets, listed, listed + 1, 3 * listed, maxBudgets} {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			t.Parallel()
			var b budgets
			key := func(i int) Key { return Key{1, byte(i), byte(i >> 8)} }
			for i := range n {
				b.of(epoch, key(i)).answers.take(epoch, answerBurst/2*float64(i%2), answerBurst, answerRate)
				b.of(epoch, key(i)).other().syncs.take(epoch, float64(i%3), syncBurst, syncRate)
			}
			b.sweep(epoch)
			for i := range n {
				p := b.find(key(i))
				switch owes := i%2 > 0 || i%3 > 0; {
				case (p != nil) != owes:
					t.Fatalf("peer %d of %d: kept %t, owes %t", i, n, p != nil, owes)
				case owes && (p.answers.left != answerBurst-answerBurst/2*float64(i%2) || p.rest.syncs.left != syncBurst-float64(i%3)):
					t.Fatalf("peer %d of %d: %+v, %+v", i, n, p, p.rest)
				case owes && b.of(epoch, key(i)) != p:
					t.Fatalf("peer %d of %d has two", i, n)
				}
			}
			if b.find(key(n)) != nil {
				t.Error("a stranger has a budget")
			}
			if b.sweep(epoch.Add(time.Hour)); len(b.peers) != 0 || b.find(key(1)) != nil {
				t.Errorf("%d peers are remembered", len(b.peers))
			}
		})
	}
}
