package dht

import (
	"net/netip"
	"slices"
	"testing"
	"time"
)

func testStore(records, bytes, floors int) *store {
	return newStore(NodeID(pub(testKey(0))), &Config{MaxRecords: records, MaxBytes: bytes, MaxFloors: floors})
}

func TestConflictRule(t *testing.T) {
	t.Parallel()
	s := testStore(10, 1<<20, 10)
	put := func(what string, now time.Time, r *Record, want Status, newer *Record) {
		t.Helper()
		if got, rec := s.put(now, r, netip.Prefix{}); got != want || rec != newer {
			t.Errorf("%s: %s, %v; want %s", what, got, rec, want)
		}
	}
	r5, r6 := testRecord(t, 1, 5, epoch), testRecord(t, 1, 6, epoch)
	put("first", epoch, r5, StatusOK, nil)
	put("again", epoch, r5, StatusOK, nil)
	put("higher", epoch, r6, StatusOK, nil)
	put("lower", epoch, r5, StatusNewer, r6)
	put("expired", epoch.Add(2*time.Hour), testRecord(t, 1, 7, epoch), StatusExpired, nil)
	put("future", epoch, testRecord(t, 1, 8, epoch.Add(11*time.Minute)), StatusFuture, nil)
	forged, err := ParseRecord(testRecord(t, 1, 9, epoch).Bytes())
	if err != nil {
		t.Fatal(err)
	}
	forged.raw[len(forged.raw)-1] ^= 1
	put("forged", epoch, forged, StatusInvalid, nil)
	late := epoch.Add(3 * time.Hour)
	s.sweep(late)
	if s.records.len() != 0 || s.bytes != 0 {
		t.Errorf("after the sweep: %d records, %d bytes", s.records.len(), s.bytes)
	}
	put("below the floor of a record that is gone", late, testRecord(t, 1, 5, late), StatusNewer, nil)
	put("above the floor", late, testRecord(t, 1, 10, late), StatusOK, nil)
	s.sweep(late.Add(60 * time.Hour))
	if len(s.floors) != 0 {
		t.Errorf("%d floors for ever", len(s.floors))
	}
}

// Two records with one seq: all holders keep the same one, whatever came first.
func TestEquivocation(t *testing.T) {
	t.Parallel()
	recs := []*Record{testRecord(t, 1, 5, epoch), testRecord(t, 1, 5, epoch.Add(time.Second)), testRecord(t, 1, 5, epoch.Add(2*time.Second))}
	var kept []byte
	for range 6 {
		recs = append(recs[1:], recs[0])
		for _, order := range [][]*Record{recs, {recs[1], recs[0], recs[2]}} {
			s := testStore(10, 1<<20, 10)
			for _, r := range order {
				s.put(epoch, r, netip.Prefix{})
			}
			got := s.get(epoch, NodeID(recs[0].Key)).Bytes()
			if kept == nil {
				kept = got
			}
			if !slices.Equal(kept, got) {
				t.Error("the order of arrival decides")
			}
		}
	}
}

func TestStoreRate(t *testing.T) {
	t.Parallel()
	s := testStore(10, 1<<20, 10)
	for i := range writeBurst {
		if st, _ := s.put(epoch, testRecord(t, 1, uint64(i+1), epoch), netip.Prefix{}); st != StatusOK {
			t.Errorf("change %d: %s", i, st)
		}
	}
	// A forger does not use up what is left to the agent.
	s = testStore(10, 1<<20, 10)
	s.put(epoch, testRecord(t, 1, 1, epoch), netip.Prefix{})
	for i := range 2 * writeBurst {
		forged, err := ParseRecord(testRecord(t, 1, uint64(50+i), epoch).Bytes())
		if err != nil {
			t.Fatal(err)
		}
		forged.raw[len(forged.raw)-1] ^= 1
		if st, _ := s.put(epoch, forged, netip.Prefix{}); st != StatusInvalid {
			t.Errorf("forged: %s", st)
		}
	}
	for i := range writeBurst - 1 {
		if st, _ := s.put(epoch, testRecord(t, 1, uint64(i+2), epoch), netip.Prefix{}); st != StatusOK {
			t.Errorf("change %d after forgeries: %s", i, st)
		}
	}
	next := testRecord(t, 1, 100, epoch)
	if st, _ := s.put(epoch, next, netip.Prefix{}); st != StatusBusy {
		t.Errorf("one too many: %s", st)
	}
	if st, _ := s.put(epoch.Add(writeEvery), next, netip.Prefix{}); st != StatusOK {
		t.Errorf("later: %s", st)
	}
}

// A full store keeps what is nearest, within its bounds in number and bytes.
func TestStoreBounds(t *testing.T) {
	t.Parallel()
	size := len(testRecord(t, 1, 1, epoch).Bytes())
	for _, s := range []*store{testStore(20, 1<<20, 30), testStore(1000, 20*size, 30)} {
		var ids []ID
		for i := range 120 {
			r := testRecord(t, i+1, 1, epoch)
			ids = append(ids, NodeID(r.Key))
			st, _ := s.put(epoch, r, netip.Prefix{})
			if kept := s.get(epoch, NodeID(r.Key)) != nil; st != StatusOK && st != StatusNotClose || kept != (st == StatusOK) {
				t.Errorf("record %d: %s, and it is kept: %t", i, st, kept)
			}
			if s.records.len() > 20 || s.bytes > 20*size || len(s.floors) > 30 {
				t.Fatalf("%d records, %d bytes, %d floors", s.records.len(), s.bytes, len(s.floors))
			}
		}
		slices.SortFunc(ids, func(a, b ID) int { return compare(s.self, a, b) })
		for i, id := range ids[:20] {
			if s.get(epoch, id) == nil {
				t.Errorf("the record %d nearest is not kept", i)
			}
		}
	}
}

// Of too many floors those go that end first, and none of a record that is kept.
func TestFloorBounds(t *testing.T) {
	t.Parallel()
	s := testStore(4, 1<<20, 64)
	for i := range 4 {
		s.put(epoch, testRecord(t, i+1, 7, epoch), netip.Prefix{})
	}
	for i := range 1000 {
		s.raise(ID{byte(i), byte(i >> 8), 1}, floor{1, toMillis(epoch.Add(100*time.Hour + time.Duration(i)*time.Second))})
		if len(s.floors) > 64 {
			t.Fatalf("%d floors", len(s.floors))
		}
	}
	for id := range s.records.ids() {
		if s.floors[id].seq != 7 {
			t.Error("the floor of a record that is kept is gone")
		}
	}
	for i := 999; i > 999-50; i-- {
		if _, ok := s.floors[ID{byte(i), byte(i >> 8), 1}]; !ok {
			t.Errorf("floor %d of 1000 is gone, older ones are there", i)
		}
	}
}
