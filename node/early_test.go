package node

import (
	"fmt"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/parley-p2p/parley/dht"
	"github.com/parley-p2p/parley/transport"
)

// ask sends one request of the DHT and waits for its answer, early where that is possible.
func (s *stranger) ask(to *testNode, req *dht.Request) *dht.Response {
	s.t.Helper()
	body, err := encodeDHTRequest(req)
	if err != nil {
		s.t.Fatal(err)
	}
	reply, _, err := s.endpoint.Ask(s.t.Context(), transport.PeerKey(to.Agent()), []netip.AddrPort{to.Addr()},
		transport.Outgoing{Kind: kindDHT, Body: body})
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := decodeDHTResponse(reply)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp
}

// PING, FIND and GET need no record of the session that they open.
func TestReadsRideInTheHandshake(t *testing.T) {
	t.Parallel()
	w := newTestNetwork(t, testDNA)
	n := w.start("n")
	own := dht.NodeID(dht.Key(n.Agent()))
	for i, req := range []*dht.Request{{Op: dht.OpPing}, {Op: dht.OpFind, Target: own}, {Op: dht.OpGet, Target: own}} {
		s := newStranger(t, byte(20+i))
		resp := s.ask(n, req)
		if own := resp.Record; resp.Status != dht.StatusOK || (req.Op != dht.OpFind) != (own != nil && own.Key == dht.Key(n.Agent())) {
			t.Errorf("%s: %+v", req.Op, resp)
		}
		const message1, ping = 4096, 30 // a request, however short, would make it no multiple
		if in := s.endpoint.Sessions(); len(in) != 1 || (in[0].BytesOut-message1)%ping != 0 {
			t.Errorf("%s did not ride in the handshake: %+v", req.Op, in)
		}
		s.stop()
	}
	put := testRecord(t, 7)
	body, err := encodeDHTRequest(&dht.Request{Op: dht.OpPut, Record: put})
	if err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]*transport.EarlyRead{
		"a PUT":            {Kind: kindDHT, Body: body},
		"a message":        {Kind: kindMessage, Body: []byte("x")},
		"an unknown kind":  {Kind: 99},
		"garbage":          {Kind: kindDHT, Body: []byte("\xc1")},
		"nothing":          {Kind: kindDHT},
		"a GET of nothing": {Kind: kindDHT, Body: []byte{0x81, 0xa1, 'o', 9}},
	} {
		r.Peer = transport.PeerKey(testPrivateKey(9)[32:])
		if got := n.ReadEarly(r, 4096); got != nil {
			t.Errorf("%s: %x", name, got)
		}
	}
}

// A handshake with a PING has room for the record that is known, and hardly more.
func TestPingAnswer(t *testing.T) {
	t.Parallel()
	k := testPrivateKey(1)
	var addrs []netip.AddrPort
	for i := range maxAdvertised {
		addrs = append(addrs, netip.AddrPortFrom(netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", i+1)), 65535))
	}
	for n := 1; n <= len(addrs); n++ {
		for _, ext := range []int{0, dht.MaxExt} {
			r, err := dht.Record{Key: dht.Key(newIdentity(k).agent), Seq: 1<<64 - 1, IssuedAt: time.UnixMilli(1_800_000_000_000), TTL: time.Hour,
				Flags: dht.FlagServer, Addrs: addrs[:n], Ext: make([]byte, ext)}.Sign(k)
			if err != nil {
				t.Fatal(err)
			}
			b, err := encodeDHTResponse(&dht.Response{Seq: r.Seq, Time: 1<<48 - 1, Record: r})
			if err != nil {
				t.Fatal(err)
			}
			if room := pingAnswer(dht.Contact{Key: r.Key, Record: r}); len(b) > room || len(b) < room-2 {
				t.Errorf("%d addresses, extension of %d bytes: the answer has %d bytes, the room is %d", n, ext, len(b), room)
			}
			if room := pingAnswer(dht.Contact{Key: r.Key, Addrs: addrs[:n]}); ext == 0 && len(b) > room {
				t.Errorf("%d addresses, not known: the answer has %d bytes, the room is %d", n, len(b), room)
			}
		}
	}
}

// An early answer has as many of the nearest contacts as there is room for, and
// is left out where there is room for none.
func TestEncodeWithin(t *testing.T) {
	t.Parallel()
	resp := dht.Response{Record: testRecord(t, 99), Time: 1<<48 - 1, Seq: 1<<64 - 1}
	for i := range dht.MaxContacts {
		k := testPrivateKey(byte(i + 1))
		var addrs []netip.AddrPort
		for j := range 1 + i%maxAdvertised {
			addrs = append(addrs, netip.AddrPortFrom(netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", j+1)), 65535))
		}
		r, err := dht.Record{Key: dht.Key(newIdentity(k).agent), Seq: 1, IssuedAt: time.UnixMilli(1_800_000_000_000), TTL: time.Hour,
			Flags: dht.FlagServer, Addrs: addrs}.Sign(k)
		if err != nil {
			t.Fatal(err)
		}
		resp.Contacts = append(resp.Contacts, dht.Contact{Key: r.Key, Record: r})
	}
	all, err := encodeDHTResponse(&resp)
	if err != nil {
		t.Fatal(err)
	}
	most, none := -1, -1
	for room := len(all); room >= 0; room-- {
		b := encodeWithin(resp, room)
		if b == nil {
			none = room
			break
		}
		got, err := decodeDHTResponse(b)
		if err != nil || len(b) > room || !reflect.DeepEqual(got.Record, resp.Record) {
			t.Fatalf("%d bytes of room: %d bytes, %v", room, len(b), err)
		}
		n := len(got.Contacts)
		if n > 0 && !reflect.DeepEqual(got.Contacts, resp.Contacts[:n]) {
			t.Fatalf("%d bytes of room: not the first %d", room, n)
		}
		if most >= 0 && n > most || room == len(all) && n != dht.MaxContacts {
			t.Fatalf("%d bytes of room: %d contacts, with more room %d", room, n, most)
		}
		if most = n; n < dht.MaxContacts {
			more := resp
			more.Contacts = resp.Contacts[:n+1]
			if b, _ := encodeDHTResponse(&more); len(b) <= room-16 { // the arithmetic may leave a few bytes
				t.Fatalf("%d bytes of room: %d contacts, one more has %d", room, n, len(b))
			}
		}
	}
	if most != 0 || none < 0 {
		t.Errorf("in the end %d contacts, none at %d", most, none)
	}
}
