package node

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/parley-p2p/parley/dht"
	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/transport"
)

// freshRecord is a current record of the agent of a test key; a tombstone without addresses.
func freshRecord(t testing.TB, key byte, seq uint64, addrs ...netip.AddrPort) *dht.Record {
	t.Helper()
	priv := testPrivateKey(key)
	r := dht.Record{Key: dht.Key(newIdentity(priv).agent), Seq: seq, IssuedAt: time.Now(), TTL: time.Hour, Flags: dht.FlagServer, Addrs: addrs}
	if len(addrs) == 0 {
		r.Flags |= dht.FlagTombstone
	}
	signed, err := r.Sign(priv)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// put has nodes keep a record.
func (s *stranger) put(r *dht.Record, nodes ...*testNode) {
	s.t.Helper()
	for _, n := range nodes {
		body, err := encodeDHTRequest(&dht.Request{Op: dht.OpPut, Record: r})
		if err != nil {
			s.t.Fatal(err)
		}
		reply, err := s.session(n).Request(s.t.Context(), transport.Outgoing{Kind: kindDHT, ID: newMessageID(), Body: body})
		if err != nil {
			s.t.Fatal(err)
		}
		if resp, err := decodeDHTResponse(reply); err != nil || resp.Status != dht.StatusOK {
			s.t.Fatalf("PUT: %+v, %v", resp, err)
		}
	}
}

// connectTo opens a session as a send does.
func connectTo(t *testing.T, n *testNode, to sdk.AgentID) *connection {
	t.Helper()
	c, e := n.connect(t.Context(), to)
	if e != nil {
		t.Fatal(e)
	}
	return c
}

// listening is a peer that can be dialled, whatever the DHT says of it.
func listening(t *testing.T, key byte) (*stranger, netip.AddrPort) {
	t.Helper()
	s := newStranger(t, key)
	return s, s.endpoint.Addr()
}

// However it is said where an agent is, the address that is right wins, and the
// next time it is known at once.
func TestOpenTriesAll(t *testing.T) {
	t.Parallel()
	w := newTestNetwork(t, testDNA)
	alice, x, y, z := w.start("alice"), w.start("x"), w.start("y"), w.start("z")
	helper := newStranger(t, 60)
	for i, c := range []struct {
		name        string
		cached, old bool // a dead address in the cache; an older record with one, at three holders
		source      source
	}{
		{"the DHT alone", false, false, sourceDHT},
		{"a stale cache", true, false, sourceDHT},
		{"three holders that are behind", false, true, sourceDHT},
		{"both", true, true, sourceDHT},
	} {
		t.Run(c.name, func(t *testing.T) {
			key := byte(61 + i)
			s, addr := listening(t, key)
			id := newIdentity(testPrivateKey(key)).agent
			if c.cached {
				alice.addresses.worked(alice.now(), id, closedPort(t))
			}
			if c.old {
				helper.put(freshRecord(t, key, 5, closedPort(t)), alice, x, y)
			}
			helper.put(freshRecord(t, key, 6, addr), z)
			alice.backoff.failed(alice.now(), id, []netip.AddrPort{addr}) // what is sent bypasses it
			got := connectTo(t, alice, id)
			if got.source != c.source || got.session.RemoteAddr() != addr {
				t.Errorf("%s from %s, want %s", got.session.RemoteAddr(), got.source, addr)
			}
			if len(alice.backoff.due(alice.now(), []netip.AddrPort{addr})) == 0 {
				t.Error("who answered is still left alone")
			}
			if r := alice.addresses.record(id); r == nil || r.Seq != 6 {
				t.Errorf("cached: %+v", r)
			}
			if known := alice.addresses.get(alice.now(), id); len(known) != 1 || known[0] != addr {
				t.Errorf("cached: %v", known)
			}
			s.stop()
			<-got.session.Done()
		})
	}
}

// A record that an agent pushes over its own session is known at once; another's,
// an older one and garbage change nothing. A tombstone ends all that was known.
func TestPushedRecords(t *testing.T) {
	t.Parallel()
	w := newTestNetwork(t, testDNA)
	alice := w.start("alice")
	s, addr := listening(t, 70)
	session := s.session(alice)
	id := newIdentity(testPrivateKey(70)).agent
	push := func(body []byte) {
		t.Helper()
		if err := session.Notify(t.Context(), transport.Outgoing{Kind: kindDHT, ID: newMessageID(), Body: body}); err != nil {
			t.Fatal(err)
		}
	}
	served := func() uint64 { return alice.traffic.dhtRequests.Load() }
	pushed := func(body []byte) {
		t.Helper()
		before := served()
		push(body)
		for served() == before { // it is counted before it is looked at
			time.Sleep(time.Millisecond)
		}
		if _, err := session.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	until := func(what string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal(what)
			}
		}
	}
	elsewhere := netip.MustParseAddrPort("192.0.2.7:7480")
	first := freshRecord(t, 70, 10, addr)
	push(first.Bytes())
	until("not learnt", func() bool { r := alice.addresses.record(id); return r != nil && r.Seq == 10 })
	if known := alice.addresses.get(alice.now(), id); len(known) != 1 || known[0] != addr {
		t.Errorf("known: %v", known)
	}
	alice.backoff.failed(alice.now(), id, []netip.AddrPort{elsewhere})

	forged := bytes.Clone(freshRecord(t, 70, 11, elsewhere).Bytes())
	forged[len(forged)-1] ^= 1
	for name, body := range map[string][]byte{
		"nothing":   {},
		"garbage":   []byte("\xff\xff"),
		"too long":  append(bytes.Clone(first.Bytes()), make([]byte, 2000)...),
		"another's": freshRecord(t, 71, 11, elsewhere).Bytes(),
		"older":     freshRecord(t, 70, 9, elsewhere).Bytes(),
		"forged":    forged,
	} {
		pushed(body)
		if r := alice.addresses.record(id); r == nil || r.Seq != 10 {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if r := alice.addresses.record(newIdentity(testPrivateKey(71)).agent); r != nil {
		t.Errorf("another agent's: %+v", r)
	}
	if len(alice.backoff.due(alice.now(), []netip.AddrPort{elsewhere})) != 0 {
		t.Error("no newer record, and the pause has ended")
	}

	push(freshRecord(t, 70, 12, elsewhere).Bytes())
	until("not learnt", func() bool { return alice.addresses.record(id).Seq == 12 })
	until("the pause goes on", func() bool { return len(alice.backoff.due(alice.now(), []netip.AddrPort{elsewhere})) == 1 })
	push(freshRecord(t, 70, 13).Bytes())
	until("not learnt", func() bool { return alice.addresses.record(id).Seq == 13 })
	if known := alice.addresses.get(alice.now(), id); len(known) != 0 {
		t.Errorf("of one who has withdrawn: %v", known)
	}
}

// A node that stops tells those who have a session with it, and the DHT.
func TestStopWithdraws(t *testing.T) {
	t.Parallel()
	w := newTestNetwork(t, testDNA)
	alice, bob := w.start("alice"), w.start("bob")
	connectTo(t, alice, bob.Agent())
	if err := bob.dht.WaitReady(t.Context()); err != nil { // what is not published can't be withdrawn
		t.Fatal(err)
	}
	seq := bob.dht.OwnRecord().Seq
	bob.stop()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if r := alice.addresses.record(bob.Agent()); r != nil && r.Withdrawn() && r.Seq > seq {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("not told: %+v", alice.addresses.record(bob.Agent()))
		}
	}
	gone := alice.addresses.record(bob.Agent()).Seq
	again := w.start("bob")
	if c := connectTo(t, alice, again.Agent()); c.session.RemoteAddr() != again.Addr() && c.source != sourceSession {
		t.Errorf("%+v", c)
	}
	if now := again.dht.OwnRecord().Seq; now <= gone {
		t.Errorf("seq %d after the tombstone's %d", now, gone)
	}
}

// An agent that has said that it goes is offline also for a node that finds but
// older records of it in the DHT.
func TestOlderRecordsOfOneWhoHasGone(t *testing.T) {
	t.Parallel()
	w := newTestNetwork(t, testDNA)
	alice, bob := w.start("alice"), w.start("bob")
	s, addr := listening(t, 80)
	newStranger(t, 81).put(freshRecord(t, 80, 5, addr), alice, bob)
	alice.addresses.learn(freshRecord(t, 80, 6), false)
	c, e := alice.connect(t.Context(), sdk.AgentID(freshRecord(t, 80, 5, addr).Key))
	if e == nil {
		t.Fatalf("it was dialled at %s", c.session.RemoteAddr())
	}
	wantError(t, e, sdk.Unreachable, sdk.DeliveredNo, true)
	if !strings.Contains(e.Text, "has gone offline") || len(s.endpoint.Sessions()) != 0 {
		t.Errorf("%v", e)
	}
}

// A node says that others can't find it when all whom it knew are gone, and that
// they can when one is back.
func TestReadyOnlyWithOthers(t *testing.T) {
	t.Parallel()
	w := newTestNetwork(t, testDNA)
	w.base.Listen = closedPort(t).String()
	alice := w.start("alice")
	listen := w.base.Listen
	w.base.Listen = "127.0.0.1:0"
	bob := w.start("bob")
	status := func() control.Status {
		s, err := bob.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if s := status(); !s.Ready || s.NotReady != "" || !s.DHT.Server || s.DHT.WhyClient != "" {
		t.Errorf("at first: %+v", s)
	}
	alice.stop()
	for end := time.Now().Add(3 * time.Minute); status().Ready; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("still ready")
		}
	}
	if s := status(); s.NotReady != "all nodes that were known are gone" && s.NotReady != "no node of the network answered" {
		t.Errorf("alone: %q", s.NotReady)
	}
	w.base.Listen, w.first = listen, nil
	w.start("alice")
	if err := bob.WaitReady(t.Context()); err != nil || !status().Ready {
		t.Errorf("not ready again: %v", err)
	}
}
