package dht

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// bring puts a record as its agent does, from a wide network.
func bring(s *store, r *Record, net netip.Prefix) Status {
	st, _ := s.take(epoch, r, origin{net, true}, func() bool { return true })
	return st
}

func wideNet(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(20 + i/256), byte(i), 0, 0}), 16)
}

// recordAt is the record of agent n at an address of each network.
func recordAt(t *testing.T, n int, seq uint64, nets ...netip.Prefix) *Record {
	t.Helper()
	r := Record{Key: pub(testKey(n)), Flags: FlagServer, Seq: seq, IssuedAt: epoch, TTL: time.Hour}
	for _, p := range nets {
		r.Addrs = append(r.Addrs, netip.AddrPortFrom(p.Addr().Next(), 4000))
	}
	out, err := r.Sign(testKey(n))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// What agents brought themselves is dropped for no number of records that others hand on,
// from however many networks these come and whatever addresses they have.
func TestHandedOnGoesFirst(t *testing.T) {
	t.Parallel()
	s := testStore(64, 1<<20, 1<<10)
	dropped := 0
	s.evicted = func(k Key) {
		if h := s.records.at(NodeID(k)); h.agent {
			dropped++
		}
	}
	for i := range 40 {
		if st := bring(s, recordAt(t, i, 1, wideNet(i)), wideNet(i)); st != StatusOK {
			t.Fatalf("record %d: %s", i, st)
		}
	}
	for i := range 400 {
		s.put(epoch, recordAt(t, 1000+i, 1, wideNet(i)), wideNet(500+i))
	}
	if dropped > 0 || s.records.len() != 64 {
		t.Errorf("%d dropped that agents brought, %d kept", dropped, s.records.len())
	}
	for i := range 24 { // what is handed on makes room
		if st := bring(s, recordAt(t, 100+i, 1, wideNet(100+i)), wideNet(100+i)); st != StatusOK {
			t.Errorf("record %d: %s", 100+i, st)
		}
	}
	if st, _ := s.put(epoch, recordAt(t, 3000, 1, wideNet(7)), wideNet(7)); st != StatusNotClose || dropped > 0 {
		t.Errorf("one more that is handed on: %s, %d dropped", st, dropped)
	}
}

// A network has an eighth of the store, whether its agents come themselves or neighbours hand on what
// names it.
func TestNetworkHasItsShare(t *testing.T) {
	t.Parallel()
	attacker := wideNet(0)
	for _, c := range []struct {
		name string
		take func(s *store, i int)
	}{
		{"they come themselves", func(s *store, i int) { bring(s, recordAt(t, i, 1, attacker), attacker) }},
		{"they come with other addresses", func(s *store, i int) { bring(s, recordAt(t, i, 1, wideNet(i)), attacker) }},
		{"neighbours hand them on", func(s *store, i int) { s.put(epoch, recordAt(t, i, 1, attacker), wideNet(i)) }},
		{"with further addresses", func(s *store, i int) { s.put(epoch, recordAt(t, i, 1, wideNet(400+i), attacker), wideNet(i)) }},
		{"one hands on what names all networks", func(s *store, i int) { s.put(epoch, recordAt(t, i, 1, wideNet(i)), attacker) }},
		{"handed on, and then they come", func(s *store, i int) {
			s.put(epoch, recordAt(t, i, 1, wideNet(400+i)), wideNet(i))
			bring(s, recordAt(t, i, 1, wideNet(400+i)), attacker)
			bring(s, recordAt(t, i, 2, wideNet(400+i)), attacker)
		}},
	} {
		s := testStore(64, 1<<20, 1<<10)
		for i := 1; i <= 200; i++ {
			c.take(s, i)
			if n := brought(s)[attacker]; n > 8 {
				t.Fatalf("%s: %d of its records", c.name, n)
			}
		}
		counted := map[netip.Prefix]int{}
		for _, h := range s.records.held {
			for i, n := range h.nets() {
				if !slices.Contains(h.nets()[:i], n) {
					counted[n]++
				}
			}
		}
		if fmt.Sprint(counted) != fmt.Sprint(brought(s)) || brought(s)[attacker] != 8 {
			t.Errorf("%s: counts %v, kept are %v", c.name, brought(s), counted)
		}
		for _, id := range s.recordIDs() {
			s.drop(id)
		}
		if len(s.nets) > 0 {
			t.Errorf("%s: counts %v of nothing", c.name, s.nets)
		}
	}
}

// Where a neighbour's network has handed on enough, that goes first which names a network that has brought much.
func TestCrowdedNetworkGivesWay(t *testing.T) {
	t.Parallel()
	neighbour := wideNet(0)
	s := testStore(64, 1<<20, 1<<10)
	for i := range 15 { // agents of three networks come themselves
		bring(s, recordAt(t, 100+i, 1, wideNet(1+i%3)), wideNet(1+i%3))
	}
	for i := range 200 { // of these three, and of 8 others, a neighbour tells
		s.put(epoch, recordAt(t, 1000+i, 1, wideNet(1+i%3)), neighbour)
		if i >= 100 && i < 108 {
			s.put(epoch, recordAt(t, i-100, 1, wideNet((10+i)*min(1, i-100))), neighbour) // the first is the neighbour's own network
		}
	}
	for i := range 8 {
		if s.get(epoch, NodeID(pub(testKey(i)))) == nil {
			t.Errorf("record %d is lost", i)
		}
	}
	if n := brought(s)[neighbour]; n != 8 {
		t.Errorf("%d of the neighbour's", n)
	}
}

// Handed on is what the agent brought from where it can be dialled.
func TestMayHandOn(t *testing.T) {
	t.Parallel()
	a, b := wideNet(1), wideNet(2)
	local := netip.MustParsePrefix("10.1.0.0/16")
	for _, c := range []struct {
		name  string
		rec   *Record
		agent bool
		from  netip.Prefix
		want  bool
	}{
		{"from there", recordAt(t, 1, 1, a), true, a, true},
		{"from one of its networks", recordAt(t, 1, 1, b, a), true, a, true},
		{"from elsewhere", recordAt(t, 1, 1, b), true, a, false},
		{"within one's own network", recordAt(t, 1, 1, local), true, netip.Prefix{}, true},
		{"by somebody else", recordAt(t, 1, 1, a), false, a, false},
		{"by somebody else of one's own network", recordAt(t, 1, 1, local), false, netip.Prefix{}, false},
	} {
		s := testStore(64, 1<<20, 1<<10)
		if st, _ := s.take(epoch, c.rec, origin{c.from, c.agent}, func() bool { return true }); st != StatusOK {
			t.Fatalf("%s: %s", c.name, st)
		}
		h := s.records.at(c.rec.id)
		if got := s.mayHandOn(h); got != c.want {
			t.Errorf("%s: %t", c.name, got)
		}
		again := recordAt(t, 1, 2, a)
		s.put(epoch, again, b) // what a reader repairs takes nothing back, and gives nothing
		if h.rec != again || h.agent != c.agent {
			t.Errorf("%s: after a newer one of somebody else: %v, its agent's: %t", c.name, h.rec, h.agent)
		}
		if bring(s, again, a); !s.mayHandOn(h) {
			t.Errorf("%s: its agent has come, and it is not handed on", c.name)
		}
	}
}

// Who names no network is no better off than who names some: what one host hands on by the
// hundreds gives way to an agent that others tell of.
func TestNamelessGiveWay(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		flags Flags
		addrs []netip.AddrPort
	}{
		{"tombstones", FlagServer | FlagTombstone, nil},
		{"local addresses", FlagServer, []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:4000")}},
	} {
		s := testStore(64, 1<<20, 1<<10)
		for i := range 20 {
			s.put(epoch, recordAt(t, i, 1, wideNet(i)), wideNet(100+i))
		}
		for i := range 400 {
			junk, err := Record{Key: pub(testKey(1000 + i)), Flags: c.flags, Seq: 1, IssuedAt: epoch, TTL: time.Hour, Addrs: c.addrs}.Sign(testKey(1000 + i))
			if err != nil {
				t.Fatal(err)
			}
			s.put(epoch, junk, wideNet(500+i%12))
		}
		kept := 0
		for i := range 20 {
			if s.get(epoch, NodeID(pub(testKey(i)))) != nil {
				kept++
			}
		}
		if kept < 20 || s.records.len() != 64 {
			t.Errorf("%s: %d of 20 are kept, %d records", c.name, kept, s.records.len())
		}
	}
}

// remembered is what farthest has said since anything changed.
func remembered(s *store) map[netip.Prefix]ID {
	said := map[netip.Prefix]ID{}
	if s.all.at == s.changes+1 {
		said[netip.Prefix{}] = s.all.far
	}
	for p, n := range s.nets {
		if n.memo != nil && n.memo.at == s.changes+1 {
			said[p] = n.memo.far
		}
	}
	return said
}

// counts are how many records count for each network, and name it.
func counts(s *store) map[netip.Prefix][2]int {
	all := map[netip.Prefix][2]int{}
	for p, n := range s.nets {
		all[p] = [2]int{int(n.brought), int(n.homes)}
	}
	return all
}

// recount is what counts should be.
func recount(s *store) map[netip.Prefix][2]int {
	all := map[netip.Prefix][2]int{}
	for _, h := range s.records.held {
		nets := h.nets()
		for i, p := range nets {
			c := all[p]
			c[0] += btoi(!slices.Contains(nets[:i], p))
			c[1] += btoi(i > 0 || h.agent)
			if p.IsValid() {
				all[p] = c
			}
		}
	}
	return all
}

func brought(s *store) map[netip.Prefix]int {
	all := map[netip.Prefix]int{}
	for p, c := range counts(s) {
		all[p] = c[0]
	}
	return all
}

// Whose agent comes from where there is no room counts as it did.
func TestPromotionThatFails(t *testing.T) {
	t.Parallel()
	s := testStore(64, 1<<20, 1<<10)
	r := recordAt(t, 1, 1, wideNet(2))
	if st, _ := s.put(epoch, r, wideNet(1)); st != StatusOK {
		t.Fatal(st)
	}
	for i := 2; s.nets[wideNet(3)] == nil || s.nets[wideNet(3)].brought < 8; i++ { // all are nearer
		if n := recordAt(t, i, 1, wideNet(3)); compare(s.self, n.id, r.id) < 0 {
			bring(s, n, wideNet(3))
		}
	}
	before := fmt.Sprint(s.records.at(r.id).nets(), counts(s))
	if st := bring(s, r, wideNet(3)); st != StatusOK {
		t.Fatal(st)
	}
	if h := s.records.at(r.id); h.agent || fmt.Sprint(h.nets(), counts(s)) != before {
		t.Errorf("promoted: %t; it counts for %v, before %v", h.agent, fmt.Sprint(h.nets(), counts(s)), before)
	}
}

// What farthest remembers is what it would find.
func TestFarthestRemembers(t *testing.T) {
	t.Parallel()
	s := testStore(64, 1<<20, 1<<10)
	check := func(i int) {
		t.Helper()
		nets := []netip.Prefix{{}}
		for n := range brought(s) {
			nets = append(nets, n)
		}
		for _, h := range s.records.held {
			if a, b := s.turn(h), s.turnOf(h.agent, h.nets(), 0); a != b {
				t.Fatalf("%d: the turn of %s is %d, and %d", i, h.rec.Key, a, b)
			}
		}
		said := map[netip.Prefix]ID{}
		for _, n := range nets {
			said[n] = s.farthest(n)
		}
		if kept := remembered(s); fmt.Sprint(kept) != fmt.Sprint(said) {
			t.Fatalf("%d: %v is kept, said was %v", i, kept, said)
		}
		if counted := recount(s); fmt.Sprint(counts(s)) != fmt.Sprint(counted) {
			t.Fatalf("%d: counts are %v, not %v", i, counts(s), counted)
		}
		s.changes++
		for _, n := range nets {
			if found := s.farthest(n); found != said[n] {
				t.Fatalf("%d: of %s %s goes first, not %s", i, n, found, said[n])
			}
		}
	}
	for i := range 300 {
		n := i % 90
		switch r := recordAt(t, n, uint64(1+i/90), wideNet(n%11), wideNet(20+n%7)); i % 4 {
		case 0:
			bring(s, r, wideNet(n%7))
		case 1:
			s.put(epoch, r, wideNet(n%5))
		case 2:
			bring(s, recordAt(t, n, 9, wideNet(n%3)), wideNet(n%3))
		case 3:
			s.drop(r.id)
			s.put(epoch, r, netip.Prefix{})
		}
		check(i)
		if i%50 == 49 {
			s.sweep(epoch.Add(30 * time.Minute))
			check(i)
		}
	}
	if s.sweep(epoch.Add(2 * time.Hour)); s.farthest(netip.Prefix{}) != s.self || len(remembered(s)) != 1 || len(s.nets) != 0 {
		t.Errorf("of nothing: %s, %v is remembered", s.farthest(netip.Prefix{}), remembered(s))
	}
}

// Who brings his own record again and again, from one network and another, is held back as who
// brings new ones is: each time it is counted anew.
func TestPromotionsAreCounted(t *testing.T) {
	t.Parallel()
	s, asked := testStore(64, 1<<20, 1<<10), 0
	r := recordAt(t, 1, 1, wideNet(1))
	take := func(net int, may bool) Status {
		st, _ := s.take(epoch, r, origin{wideNet(net), true}, func() bool { asked++; return may })
		return st
	}
	for i, c := range []struct {
		net   int
		may   bool
		want  Status
		asked int
	}{
		{1, true, StatusOK, 1}, {1, false, StatusOK, 1}, {2, false, StatusBusy, 2}, {2, true, StatusOK, 3}, {1, false, StatusBusy, 4}, {2, false, StatusOK, 4},
	} {
		if st := take(c.net, c.may); st != c.want || asked != c.asked {
			t.Errorf("%d: %s, asked %d times", i, st, asked)
		}
	}
	if h := s.records.at(r.id); h.nets()[0] != wideNet(2) {
		t.Errorf("it counts for %s", h.nets()[0])
	}
	if st, _ := s.take(epoch, r, origin{net: wideNet(3)}, func() bool { asked++; return false }); st != StatusOK || asked != 4 {
		t.Errorf("handed on: %s, asked %d times", st, asked)
	}
}

// A tombstone is handed on as the record was that it takes back: if its agent was here, from where it said
// that it can be dialled. One that takes nothing back is not.
func TestTombstonesAreHandedOn(t *testing.T) {
	t.Parallel()
	a, b, none := wideNet(1), wideNet(2), netip.Prefix{}
	local := netip.MustParsePrefix("10.1.0.0/16")
	type put struct {
		at    []netip.Prefix // of the record; nil: a tombstone
		agent bool
		from  netip.Prefix
	}
	for _, c := range []struct {
		name string
		puts []put
		want bool
	}{
		{"from there", []put{{[]netip.Prefix{a}, true, a}, {nil, true, a}}, true},
		{"from one of its networks", []put{{[]netip.Prefix{b, a}, true, a}, {nil, true, b}}, true},
		{"pushed over a session", []put{{[]netip.Prefix{a}, true, a}, {nil, false, none}}, true},
		{"pushed over a session, and then put", []put{{[]netip.Prefix{a}, true, a}, {nil, false, none}, {nil, true, a}}, true},
		{"renewed", []put{{[]netip.Prefix{a}, true, a}, {nil, true, a}, {nil, true, a}}, true},
		{"the record was handed on, the agent itself withdraws", []put{{[]netip.Prefix{a}, false, b}, {nil, true, a}}, true},
		{"within one's own network", []put{{[]netip.Prefix{local}, true, none}, {nil, true, none}}, true},
		{"alone", []put{{nil, true, a}}, false},
		{"alone, renewed", []put{{nil, true, a}, {nil, true, a}}, false},
		{"from elsewhere", []put{{[]netip.Prefix{b}, true, a}, {nil, true, a}}, false},
		{"it has moved meanwhile", []put{{[]netip.Prefix{a}, true, a}, {nil, true, b}}, false},
		{"all by somebody else", []put{{[]netip.Prefix{a}, false, a}, {nil, false, a}}, false},
		{"what it took back before does not count", []put{{[]netip.Prefix{a}, true, a}, {nil, true, a}, {[]netip.Prefix{b}, true, a}, {nil, true, a}}, false},
		{"it is back", []put{{[]netip.Prefix{a}, true, a}, {nil, true, a}, {[]netip.Prefix{b}, true, a}}, false},
	} {
		s := testStore(64, 1<<20, 1<<10)
		for i, p := range c.puts {
			r, err := Record{Key: pub(testKey(1)), Flags: FlagServer | FlagTombstone, Seq: uint64(1 + i), IssuedAt: epoch, TTL: time.Hour}.Sign(testKey(1))
			if err != nil {
				t.Fatal(err)
			}
			if p.at != nil {
				r = recordAt(t, 1, r.Seq, p.at...)
			}
			if st, _ := s.take(epoch, r, origin{p.from, p.agent}, func() bool { return true }); st != StatusOK {
				t.Fatalf("%s, %d: %s", c.name, i, st)
			}
		}
		if got := s.mayHandOn(s.records.at(NodeID(pub(testKey(1))))); got != c.want {
			t.Errorf("%s: %t", c.name, got)
		}
	}
}
