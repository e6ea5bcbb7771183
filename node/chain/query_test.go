package chain

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/parley-p2p/parley/sdk"
)

// model is the same query over a plain list.
func model(all []sdk.Record, q sdk.Query) (seqs []uint64) {
	limit := q.Limit
	if limit == 0 {
		limit = 100
	}
	list := slices.Clone(all)
	if q.Reverse {
		slices.Reverse(list)
	}
	for _, r := range list {
		h := r.Header
		if (q.Type == "" || h.EntryType == q.Type) && h.Seq >= q.From && (q.To == 0 || h.Seq < q.To) && len(seqs) < min(limit, 1000) {
			seqs = append(seqs, h.Seq)
		}
	}
	return seqs
}

func TestQuery(t *testing.T) {
	t.Parallel()
	o := testOptions(t)
	o.walHalf = defaultHalf
	c, seam := openSeams(t, o)
	// "a" is a prefix of "ab", and comes before and after it.
	for i, typ := range []string{"a", "ab", "b", "a", "\x00", "ab", "a"} {
		mustAppend(t, c, Batch{Entries: entries(typ, 40+i, 20), Cause: function(uint64(i))})
		if i == 3 { // the rest is in the log for most of the queries
			if err := c.checkpoint(); err != nil {
				t.Fatal(err)
			}
			seam.set(noCheckpoint)
		}
	}
	defer seam.set(func(s *hooks) { *s = hooks{} })
	var all []sdk.Record
	for seq := range c.Len() {
		r, err := c.Record(seq)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	rng := rand.New(rand.NewPCG(7, 8))
	types := []string{"", "a", "ab", "b", "\x00", "none", genesisType, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}
	for range 300 {
		q := sdk.Query{Type: types[rng.IntN(len(types))], Reverse: rng.IntN(2) == 0, Limit: []int{0, 1, 7, 5000}[rng.IntN(4)]}
		if rng.IntN(2) == 0 {
			q.From = rng.Uint64N(400)
		}
		if rng.IntN(2) == 0 {
			q.To = rng.Uint64N(400)
		}
		if rng.IntN(10) == 0 {
			q.To = ^uint64(0)
		}
		got, err := c.Query(q)
		if err != nil {
			t.Fatal(err)
		}
		var seqs []uint64
		for _, r := range got {
			seqs = append(seqs, r.Header.Seq)
			if err := r.Verify(); err != nil || r.Content == nil {
				t.Fatalf("record %d: %v", r.Header.Seq, err)
			}
		}
		if want := model(all, q); fmt.Sprint(seqs) != fmt.Sprint(want) {
			t.Fatalf("%+v: %v, want %v", q, seqs, want)
		}
	}
}

// What is not durable yet nobody sees: neither a frame before its sync, nor a
// transaction of the chain file, which bbolt shows before its last sync.
func TestQueryDurableOnly(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int{"log": 1, "chain file": defaultHalf} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, seam := openSeams(t, testOptions(t))
			seen := -1
			look := func() {
				for _, q := range []sdk.Query{{}, {Reverse: true}, {To: 5}, {Type: "a"}, {Type: "a", Reverse: true}} {
					rs, err := c.Query(q)
					if seen = max(seen, len(rs)); err != nil || len(rs) > 0 && rs[0].Header.Seq != 0 {
						t.Errorf("%+v: %v, %v", q, rs, err)
					}
				}
				if _, err := c.Record(1); !errors.Is(err, ErrNotFound) {
					t.Errorf("record 1: %v", err)
				}
			}
			seam.set(func(s *hooks) {
				if s.sync = look; size > 1 {
					s.sync, s.commit = nil, func(tx *bolt.Tx) error {
						err := tx.Commit() // written; say that its last sync is still under way
						look()
						return err
					}
				}
			})
			mustAppend(t, c, Batch{Entries: entries("a", 2, size), Cause: function(1)})
			seam.set(func(s *hooks) { s.sync, s.commit = nil, nil })
			if seen != 1 {
				t.Errorf("%d records are seen before the commit's end", seen)
			}
			if rs, err := c.Query(sdk.Query{Type: "a"}); err != nil || len(rs) != 2 {
				t.Errorf("after it: %d records, %v", len(rs), err)
			}
		})
	}
}

func TestQueryBytes(t *testing.T) {
	t.Parallel()
	o := testOptions(t)
	o.MaxQuery = 10_000
	c := mustOpen(t, o)
	mustAppend(t, c, Batch{Entries: entries("big", 3, 20_000), Cause: function(1)})
	mustAppend(t, c, Batch{Entries: entries("small", 30, 1000), Cause: function(2)})
	for typ, want := range map[string]int{"big": 1, "small": 7} {
		got, err := c.Query(sdk.Query{Type: typ})
		if err != nil || len(got) != want {
			t.Errorf("%s: %d records, %v; want %d", typ, len(got), err, want)
		}
	}
}
