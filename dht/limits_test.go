package dht

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// Whoever asks for much waits; others don't, and he is forgotten when his budget is full.
func TestBudgets(t *testing.T) {
	t.Parallel()
	c := joinedCore(t)
	for i := range 40 {
		c.meet(t, 100+i)
	}
	greedy, other := pub(testKey(1000)), pub(testKey(1001))
	now := epoch
	ask := func(k Key) *Response {
		return c.serve(now, k, netip.Addr{}, &Request{Op: OpFind, Target: NodeID(k)})
	}
	served := 0
	for ; ask(greedy).Status == StatusOK; served++ {
		if served > answerBurst/64 {
			t.Fatal("no end")
		}
	}
	resp := ask(greedy)
	if resp.Status != StatusBusy || resp.RetryAfter == 0 || len(resp.Contacts) != 0 || resp.Validate() != nil {
		t.Errorf("%+v", resp)
	}
	if served < 20 || ask(other).Status != StatusOK {
		t.Errorf("%d served, another peer: %s", served, ask(other).Status)
	}
	now = now.Add(time.Duration(resp.RetryAfter) * time.Millisecond)
	if r := ask(greedy); r.Status != StatusOK {
		t.Errorf("when it was told to come back: %s", r.Status)
	}
	for i := range 2 * maxBudgets {
		c.budgets.of(now, Key{byte(i), byte(i >> 8), 3}).answers.take(now, 1, answerBurst, answerRate)
	}
	if len(c.budgets.peers) > maxBudgets {
		t.Errorf("%d peers are counted", len(c.budgets.peers))
	}
	c.budgets.sweep(now.Add(time.Hour))
	if len(c.budgets.peers) != 0 {
		t.Errorf("%d peers are remembered", len(c.budgets.peers))
	}
}

// Forged PUTs cost their sender his budget, and all together a bounded number of signatures.
func TestPutBudget(t *testing.T) {
	t.Parallel()
	c := joinedCore(t)
	verified := 0
	c.store.verify = func(*Record) error { verified++; return errors.New("forged") }
	busy := false
	for i := range 2 * verifyBurst {
		r := c.serve(epoch, pub(testKey(1000)), netip.Addr{}, &Request{Op: OpPut, Record: testRecord(t, 2000+i%50, uint64(i+1), epoch)})
		busy = busy || r.Status == StatusBusy
	}
	if verified > verifyBurst || !busy {
		t.Errorf("%d signatures of one peer, busy: %t", verified, busy)
	}
	for i := range 20 * verifyBurst {
		c.serve(epoch, Key{byte(i), byte(i >> 8), 5}, netip.Addr{}, &Request{Op: OpPut, Record: testRecord(t, 2000+i%50, uint64(i+1), epoch)})
	}
	if verified > verifyAll {
		t.Errorf("%d signatures of all peers at one moment, at most %d", verified, verifyAll)
	}
}

// What one network brings displaces nobody else's records (A13).
func TestStoreSources(t *testing.T) {
	t.Parallel()
	s := newStore(NodeID(pub(testKey(1))), &Config{MaxRecords: 64, MaxBytes: 1 << 20, MaxFloors: 1 << 10})
	attacker := netip.MustParsePrefix("203.0.0.0/16")
	for i := range 40 {
		s.put(epoch, testRecord(t, 100+i, 1, epoch), netip.MustParsePrefix(fmt.Sprintf("198.%d.0.0/16", i)))
	}
	for i := range 300 {
		s.put(epoch, testRecord(t, 200+i, 1, epoch), attacker)
	}
	honest := 0
	for _, h := range s.records.held {
		if !slices.Contains(h.nets(), attacker) {
			honest++
		}
	}
	if honest != 40 || brought(s)[attacker] != 64/8 || s.records.len() != 48 {
		t.Errorf("%d honest records, %d of the attacker, %d in all", honest, brought(s)[attacker], s.records.len())
	}
	for _, id := range s.recordIDs() {
		s.drop(id)
	}
	if len(s.nets) != 0 || s.bytes != 0 {
		t.Errorf("%d sources of nothing, %d bytes", len(s.nets), s.bytes)
	}
}

// An address that a crowd names is dialled once, and left alone after it failed (A10).
func TestShutAddresses(t *testing.T) {
	t.Parallel()
	c := joinedCore(t)
	victim := netip.MustParseAddrPort("203.0.113.5:80")
	by := func(int) uint32 { return 7 }
	named := func(n int) Contact {
		r, err := Record{Key: pub(testKey(n)), Flags: FlagServer, Seq: 1, IssuedAt: epoch, TTL: time.Hour, Addrs: []netip.AddrPort{victim}}.Sign(testKey(n))
		if err != nil {
			t.Fatal(err)
		}
		return Contact{Key: r.Key, Record: r, by: by(n)}
	}
	dials := func(now time.Time) (n int) {
		for i := range 50 {
			c.probe(named(100+i), probeCheck)
		}
		for calls := c.poll(now); len(calls) > 0; calls = c.poll(now) {
			for _, cl := range calls {
				n++
				c.answered(now, cl.id, nil, fmt.Errorf("%w: nobody", ErrDial))
			}
		}
		return n
	}
	if n := dials(epoch); n != 1 {
		t.Errorf("%d dials", n)
	}
	if n := dials(epoch.Add(shutKept - time.Second)); n != 0 {
		t.Errorf("%d dials of an address that is left alone", n)
	}
	if n := dials(epoch.Add(shutKept + time.Second)); n != 1 {
		t.Errorf("%d dials when its time is over", n)
	}
	by = func(n int) uint32 { return uint32(n) }
	if n := dials(epoch.Add(3 * shutKept)); n != maxReferrers {
		t.Errorf("%d dials where each is named by another network", n)
	}
	for i := range 2 * maxShut {
		c.shutOut(epoch, at(Key{1}, fmt.Sprintf("203.0.%d.%d:1", i>>8, i&255)))
	}
	if c.shut.len() > maxShut {
		t.Errorf("%d addresses are remembered", c.shut.len())
	}
}

// Strangers come after those that the node finds itself; with a table of its own
// few of them enter, and what they name is not heard before somebody vouches (A8).
func TestStrangersAreFew(t *testing.T) {
	t.Parallel()
	c := joinedCore(t)
	for i := range 40 {
		c.meet(t, 100+i)
	}
	known := c.table.n
	friend := testRecord(t, 9000, 1, epoch)
	answer := func(cl *call) *Response {
		for i := range 200 {
			if cl.to.Key == pub(testKey(1000+i)) {
				return &Response{Record: testRecord(t, 1000+i, 1, epoch), Seq: 1}
			}
		}
		return &Response{}
	}
	for i := range 200 {
		c.serve(epoch, pub(testKey(1000+i)), netip.Addr{}, &Request{Op: OpPing, Seq: 1})
	}
	for calls := c.poll(epoch); len(calls) > 0; calls = c.poll(epoch) {
		for _, cl := range calls {
			c.answered(epoch, cl.id, answer(cl), nil)
		}
	}
	came := 0
	var one *entry
	c.table.each(func(e *entry) {
		if e.called {
			came++
			one = e
		}
	})
	if came == 0 || came > max(smallTable/8, c.table.n/20) || c.table.n != known+came {
		t.Fatalf("%d of %d came by themselves", came, c.table.n)
	}
	c.alive(epoch, &call{query: query{to: one.contact(), req: &Request{Op: OpFind}}}, &Response{Contacts: []Contact{{Key: friend.Key, Record: friend}}})
	if c.table.bucket(friend.id).spare(friend.id.top(), friend.Key) >= 0 {
		t.Error("who came by himself vouches for another")
	}
	var old *entry
	c.table.each(func(e *entry) {
		if !e.called {
			old = e
		}
	})
	c.alive(epoch, &call{query: query{to: old.contact(), req: &Request{Op: OpFind}}}, &Response{Contacts: []Contact{one.contact()}})
	checkTable(t, &c.table)
	if one.called {
		t.Error("a contact has vouched, and it does not count")
	}
}

// When all fail one after the other, it is our own uplink: nobody is dropped, and
// the first answer ends that.
func TestUplink(t *testing.T) {
	t.Parallel()
	c := joinedCore(t)
	for i := range 30 {
		c.meet(t, 100+i)
	}
	n := c.table.n
	now := epoch
	fail := func() {
		c.table.each(func(e *entry) { c.probe(e.contact(), probeCheck) })
		for calls := c.poll(now); len(calls) > 0; calls = c.poll(now) {
			for _, cl := range calls {
				c.answered(now, cl.id, nil, fmt.Errorf("%w: nobody", ErrDial))
			}
		}
	}
	c.table.each(func(e *entry) { c.suspect(now, e.key()) })
	for range 5 {
		fail()
		now = now.Add(time.Minute)
	}
	if c.table.n < n-uplinkRun || c.up.down.IsZero() || c.statsNow().UplinkDown.IsZero() {
		t.Fatalf("%d of %d contacts are left, down since %s", c.table.n, n, c.up.down)
	}
	checkTable(t, &c.table)
	c.table.each(func(e *entry) {
		if e.fails > 0 {
			t.Errorf("%s is blamed for what the uplink did", e.key())
		}
	})
	c.serve(now, pub(testKey(5)), netip.Addr{}, &Request{Op: OpPing})
	if dropped := n - c.table.n; dropped == 0 || c.queued.len() != dropped {
		t.Errorf("%d were dropped, %d are asked again", dropped, c.queued.len())
	}
	if !c.up.down.IsZero() || c.dead.len()+c.shut.len() != 0 {
		t.Errorf("somebody calls: down since %s, %d dead, %d addresses left alone", c.up.down, c.dead.len(), c.shut.len())
	}
	// One that really is gone is dropped as before.
	var gone, lives Contact
	c.table.each(func(e *entry) { gone, lives = e.contact(), gone })
	for range maxFails {
		now = now.Add(time.Minute)
		c.blame(now, &call{query: query{to: gone}, sent: now}, errRefused)
		c.answered(now, c.begin(now, query{to: lives, req: &Request{Op: OpPing}}).id, &Response{Record: lives.Record}, nil)
	}
	if c.table.get(gone.Key) != nil || c.table.get(lives.Key) == nil {
		t.Error("who is gone is still there, or who answers is not")
	}
}

// Calls that this machine can't send, to nodes that are no contacts, cost nobody the uplink as long as others
// answer between: they can have addresses of a family to which it has no way.
func TestUplinkOfOneFamily(t *testing.T) {
	t.Parallel()
	c := joinedCore(t)
	var lives *Record
	for i := range 30 {
		lives = c.meet(t, 100+i)
	}
	now := epoch
	call := func(to Contact, resp *Response, err error) {
		now = now.Add(time.Second)
		c.answered(now, c.begin(now, query{to: to, req: &Request{Op: OpFind, Target: ID{1}}}).id, resp, err)
	}
	stray := func(i int) {
		call(at(pub(testKey(500+i)), fmt.Sprintf("[2001:db8:%x::1]:1", i)), nil, fmt.Errorf("%w: network is unreachable", ErrUplink))
	}
	for i := range 2 * localRun {
		stray(i)
		call(Contact{Key: lives.Key, Record: lives}, &Response{}, nil)
		if !c.up.down.IsZero() || c.lost(now) {
			t.Fatalf("the uplink is said to be down after %d calls, and others answer", 1+i)
		}
	}
	for i := range localRun {
		stray(100 + i)
	}
	if c.up.down.IsZero() {
		t.Errorf("%d calls were not sent and nobody was heard: the uplink is up", localRun)
	}
	if call(Contact{Key: lives.Key, Record: lives}, &Response{}, nil); !c.up.down.IsZero() {
		t.Error("somebody answers, and the uplink is down")
	}
}

// The measured median follows the deaths that were seen.
func TestLifetimes(t *testing.T) {
	t.Parallel()
	var l lifetimes
	l.init(epoch)
	if m := l.median(); m.Round(time.Minute) != sessionPrior {
		t.Errorf("before anything was seen: %s", m)
	}
	for _, want := range []time.Duration{24 * time.Minute, 8 * time.Hour} {
		now := l.at
		left := 0.0
		for range 10 * 24 * 60 { // 100 contacts, ten days
			now = now.Add(time.Minute)
			l.watch(now, 100)
			for left += 100 * 0.6931 / want.Minutes(); left >= 1; left-- {
				l.died()
			}
		}
		if m := l.median(); m < want*8/10 || m > want*13/10 {
			t.Errorf("median %s, it is %s", m, want)
		}
	}
	c := joinedCore(t)
	for range 1000 {
		c.lives.died()
	}
	if c.renewAfter() != minRenew {
		t.Errorf("where nobody stays a record is put again after %s", c.renewAfter())
	}
}

// Who can't be dialled is a client: findable by its own word, in no table, and a
// server as soon as it can be dialled. Nobody dials where an asker does not come from.
func TestDialBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemNet()
		m.behind = map[Key]bool{}
		var nodes []*memNode
		start := func(i int, boot []Contact) *memNode {
			n := m.prepareBack(t, i, boot)
			n.run()
			nodes = append(nodes, n)
			return n
		}
		first := start(0, nil)
		for i := range 7 {
			start(i+1, []Contact{first.contact()})
		}
		m.mu.Lock()
		m.behind[pub(testKey(50))] = true
		m.mu.Unlock()
		hidden := start(50, []Contact{first.contact()})
		defer stopAll(nodes)
		ready(t, nodes...)
		for i, n := range nodes {
			if s := n.Stats(); s.Server != (n != hidden) {
				t.Errorf("node %d is a server: %t", i, s.Server)
			}
			n.mu.Lock()
			if n.core.table.get(hidden.key) != nil {
				t.Errorf("node %d has a client in its table", i)
			}
			n.mu.Unlock()
		}
		if r, err := nodes[3].Lookup(t.Context(), hidden.key); err != nil || r.Record.Flags != FlagClient {
			t.Errorf("the client's record: %+v, %v", r.Record, err)
		}
		for name, addr := range map[string]netip.AddrPort{"a third party": first.where(), "an unknown address": netip.MustParseAddrPort("203.0.113.9:1")} {
			resp, err := nodes[2].Serve(t.Context(), hidden.key, hidden.where(), &Request{Op: OpDialBack, Addr: addr})
			if err != nil || resp.Status != StatusInvalid {
				t.Errorf("%s: %+v, %v", name, resp, err)
			}
		}
		busy := false
		for range 3 * backBurst {
			began := time.Now()
			resp, err := nodes[2].Serve(t.Context(), hidden.key, hidden.where(), &Request{Op: OpDialBack, Addr: hidden.where()})
			if err != nil || resp.Status == StatusOK {
				t.Errorf("it is reached: %+v, %v", resp, err)
			}
			if took := time.Since(began); resp.Status == StatusNone && took != dialBackLimit {
				t.Errorf("it took %s to tell that nobody answers: that tells why", took)
			}
			busy = busy || resp.Status == StatusBusy
		}
		if !busy || nodes[2].backs != 0 {
			t.Errorf("busy: %t, %d under way", busy, nodes[2].backs)
		}
		m.mu.Lock()
		m.behind = map[Key]bool{}
		m.mu.Unlock()
		if err := wait(t.Context(), 3*proveMost); err != nil {
			t.Fatal(err)
		}
		if !hidden.Stats().Server {
			t.Error("it can be dialled and is a client still")
		}
		if r := mustFind(t, nodes[5], hidden); r.Record.Flags != FlagServer {
			t.Errorf("its record says %d", r.Record.Flags)
		}
	})
}

// However many keys a network has, it has others dial it at a bounded rate. Nobody
// else's are used up.
func TestDialBacksOfOneNetwork(t *testing.T) {
	t.Parallel()
	var b budgets
	now := epoch
	net, other := netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("198.51.100.0/24")
	allowed := func(net netip.Prefix, keys int) (n int) {
		for i := range keys {
			if b.mayDialBack(now, pub(testKey(i)), net) == 0 {
				n++
			}
		}
		return n
	}
	if n := allowed(net, 100); n != backNetBurst {
		t.Errorf("%d of 100 keys", n)
	}
	if n := allowed(other, 10); n != 10 {
		t.Errorf("%d of another network's", n)
	}
	if n := allowed(netip.Prefix{}, 100); n != 100 {
		t.Errorf("%d of this machine's own network", n)
	}
	if now = now.Add(time.Minute); allowed(net, 100) != 6 {
		t.Error("not one in 10 s")
	}
	for i := range 2 * maxBudgets {
		b.mayDialBack(now, pub(testKey(0)), netip.PrefixFrom(netip.AddrFrom4([4]byte{11, byte(i >> 8), byte(i), 0}), 24))
	}
	if len(b.nets) > maxBudgets {
		t.Errorf("%d networks are remembered", len(b.nets))
	}
	if b.sweep(now.Add(time.Hour)); len(b.nets) != 0 {
		t.Errorf("%d networks are remembered for ever", len(b.nets))
	}
}

// begin is emit for a call that belongs to no operation; nil if it did not begin.
func (c *core) begin(now time.Time, q query) *call {
	cl := &call{query: q}
	if !c.emit(now, cl) {
		return nil
	}
	return cl
}
