package node

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-p2p/parley/dht"
	"github.com/parley-p2p/parley/sdk"
)

func addrN(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 7480)
}

func TestAddressCache(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // for its clock
		c := newAddressCache()
		id := newIdentity(testPrivateKey(1)).agent
		want := func(what string, addrs ...netip.AddrPort) {
			t.Helper()
			if got := c.get(time.Now(), id); !slices.Equal(got, addrs) {
				t.Errorf("%s: %v, want %v", what, got, addrs)
			}
		}
		want("nothing is known")
		c.worked(time.Now(), id, addrN(1))
		c.worked(time.Now(), id, addrN(2))
		c.worked(time.Now(), id, addrN(1))
		want("the latest first", addrN(1), addrN(2))
		for i := range 2 * maxWorked {
			c.worked(time.Now(), id, addrN(10+i))
		}
		if n := len(c.get(time.Now(), id)); n != maxWorked {
			t.Errorf("%d addresses", n)
		}
		c.failed(id, []netip.AddrPort{addrN(25)})
		if got := c.get(time.Now(), id); slices.Contains(got, addrN(25)) || len(got) != maxWorked-1 {
			t.Errorf("after one failed: %v", got)
		}
		c.worked(time.Now(), id, addrN(3))
		if !c.learn(freshRecord(t, 1, 7, addrN(4), addrN(3), addrN(5)), true) {
			t.Error("a first record is not newer")
		}
		want("a record leaves behind what it does not name", addrN(3), addrN(4), addrN(5))
		if c.learn(freshRecord(t, 1, 7, addrN(9)), true) || c.learn(freshRecord(t, 1, 6, addrN(9)), true) {
			t.Error("an older record was taken")
		}
		c.failed(id, []netip.AddrPort{addrN(3), addrN(4), addrN(5)})
		want("what is signed stays", addrN(4), addrN(3), addrN(5))
		c.worked(time.Now(), id, addrN(5))
		time.Sleep(time.Hour)
		want("the record has expired", addrN(5))
		time.Sleep(addressAge)
		want("that was long ago")
		c.worked(time.Now(), id, addrN(5))
		c.learn(freshRecord(t, 1, 8), false)
		want("it has withdrawn")
		if r := c.record(id); r == nil || r.Seq != 8 {
			t.Errorf("record %+v", r)
		}
		c.failed(newIdentity(testPrivateKey(2)).agent, []netip.AddrPort{addrN(1)}) // unknown
	})
}

// However many agents push records of themselves, those that this node dialled stay.
func TestAddressCacheIsBounded(t *testing.T) {
	t.Parallel()
	c := newAddressCache()
	now := time.Now()
	agent := func(i int) (id sdk.AgentID) { copy(id[:], fmt.Sprint(i)); return id }
	for i := range maxAddresses - 1 {
		c.worked(now, agent(i), addrN(1))
	}
	for key := range 3 {
		c.learn(freshRecord(t, byte(key+1), 1, addrN(2)), false)
	}
	if len(c.byID) != maxAddresses || c.recent.Len() != maxAddresses || c.get(now, agent(0)) == nil {
		t.Errorf("%d agents", len(c.byID))
	}
	pushed := newIdentity(testPrivateKey(1)).agent
	if c.record(pushed) == nil {
		t.Error("there was room for one")
	}
	c.worked(now, agent(maxAddresses), addrN(1))
	if c.record(pushed) != nil || c.get(now, agent(0)) == nil {
		t.Error("who was dialled went before who pushed")
	}
	c.worked(now, agent(maxAddresses+1), addrN(1))
	if c.get(now, agent(0)) != nil || len(c.all()) != maxAddresses || c.all()[0].agent != agent(1) {
		t.Error("not the longest unused has gone")
	}
	c.learn(freshRecord(t, 9, 1, addrN(2)), true)
	if c.get(now, agent(1)) != nil || len(c.byID) != maxAddresses {
		t.Error("who is looked for has no place")
	}
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	b := newBackoff()
	now := time.Unix(1e9, 0)
	alice, bob := sdk.AgentID{1}, sdk.AgentID{2}
	due := func(a netip.AddrPort) bool { return len(b.due(now, []netip.AddrPort{a})) == 1 }
	want := time.Second
	for i := range 14 {
		if !due(addrN(1)) {
			t.Fatalf("failure %d: not due", i)
		}
		b.failed(now, alice, []netip.AddrPort{addrN(1)})
		now = now.Add(want - want/10 - 1)
		if due(addrN(1)) {
			t.Errorf("failure %d: due too early", i)
		}
		now = now.Add(want/5 + 1)
		if !due(addrN(1)) {
			t.Errorf("failure %d: due too late", i)
		}
		want = min(2*want, backoffMost)
	}
	b.failed(now, alice, []netip.AddrPort{addrN(1), addrN(2)})
	b.failed(now, bob, []netip.AddrPort{addrN(3)})
	if got := b.due(now, []netip.AddrPort{addrN(1), addrN(2), addrN(3), addrN(4)}); !slices.Equal(got, []netip.AddrPort{addrN(4)}) {
		t.Errorf("due: %v", got)
	}
	b.clear(alice)
	if !due(addrN(1)) || !due(addrN(2)) || due(addrN(3)) {
		t.Error("a newer record ends the pauses of its agent, and no others")
	}
	b.worked(addrN(3))
	if !due(addrN(3)) {
		t.Error("who answered is left alone")
	}
	for i := range 2 * maxBackoffs {
		b.failed(now, bob, []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 1)})
	}
	if len(b.byAddr) != maxBackoffs {
		t.Errorf("%d are remembered", len(b.byAddr))
	}
	now = now.Add(backoffMost + backoffKept)
	b.failed(now, bob, []netip.AddrPort{addrN(9)})
	if due(addrN(9)) || len(b.byAddr) != 1 {
		t.Errorf("what is over stays: %d", len(b.byAddr))
	}
}

func TestParseCache(t *testing.T) {
	t.Parallel()
	n, err := New(Config{DataDir: shortTempDir(t), Network: "test"})
	if err != nil {
		t.Fatal(err)
	}
	ids := []sdk.AgentID{newIdentity(testPrivateKey(1)).agent, newIdentity(testPrivateKey(2)).agent, newIdentity(testPrivateKey(3)).agent}
	at := time.Unix(1_800_000_000, 0)
	n.addresses.learn(testRecord(t, 1), true)
	n.addresses.worked(at, ids[1], addrN(1))
	n.addresses.worked(at.Add(time.Second), ids[1], addrN(2))
	n.addresses.learn(testRecord(t, 3), true)
	n.addresses.worked(at, ids[2], testRecord(t, 3).Addrs[0])
	b, err := n.encodeCache()
	if err != nil {
		t.Fatal(err)
	}
	agents, snapshot, err := parseCache(b)
	if err != nil || len(agents) != 3 || len(snapshot) == 0 {
		t.Fatalf("%d agents, %v", len(agents), err)
	}
	for i, k := range agents {
		want := n.addresses.all()[i]
		if k.agent != ids[i] || !slices.Equal(k.worked, want.worked) || (k.record == nil) != (i == 1) ||
			k.record != nil && !slices.Equal(k.record.Bytes(), want.record.Bytes()) {
			t.Errorf("agent %d: %+v, want %+v", i, k, want)
		}
	}

	old, err := sdk.Marshal(cacheContent{Version: 1, DHT: []byte("x"), Addresses: []cacheAddress{
		{ids[0][:], "192.0.2.1:7480", at.Unix()}, {ids[1][:5], "192.0.2.1:7480", 5}, {ids[1][:], "nowhere", 5}}})
	if err != nil {
		t.Fatal(err)
	}
	agents, snapshot, err = parseCache(old)
	if err != nil || len(agents) != 1 || agents[0].agent != ids[0] || !slices.Equal(agents[0].worked, []workedAddr{{addrN(1), at}}) || string(snapshot) != "x" {
		t.Errorf("version 1: %+v, %v", agents, err)
	}
	// As they are in files.
	for name, golden := range map[string]string{
		"version 1": goldenCache1,
		"version 2": goldenCache2,
	} {
		file, err := hex.DecodeString(golden)
		if err != nil {
			t.Fatal(err)
		}
		agents, _, err := parseCache(file)
		if err != nil || len(agents) != 1 || agents[0].agent != ids[0] || !slices.Equal(agents[0].worked, []workedAddr{{addrN(1), at}}) ||
			(agents[0].record != nil) != (name == "version 2") {
			t.Errorf("%s: %+v, %v", name, agents, err)
		}
	}
	for name, c := range map[string]cacheContent{"version 0": {}, "version 3": {Version: 3}} {
		b, err := sdk.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := parseCache(b); err == nil {
			t.Errorf("%s was read", name)
		}
	}
	foreign := cacheAgent{Agent: ids[0][:], Record: testRecord(t, 2).Bytes()}
	if k := foreign.known(); k != nil {
		t.Errorf("another agent's record: %+v", k)
	}
}

// A cache file of each version: the agent of test key 1 at 192.0.2.1:7480 at 1800000000, and its testRecord.
const (
	goldenCache1 = "83a96164647265737365739183a161c4208a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5ca170ae3139322e302e322e" +
		"313a37343830a174ce6b49d200a3646874c0a17601"
	goldenCache2 = "83a66167656e74739183a161c4208a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5ca172c4820101018a88e3dd7409f1" +
		"95fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c0000000000000007000001a3185c500000001c20010104c00002011d380000b695ee7a" +
		"aa4088ce6f166d004694e52d7e9364ad06264c9fc27515cb7be2992a3bd1aea797d2fbe9598382e367d1dc8d658c043adb0c7c9e0ef07f0b6b446601" +
		"a1779182a170ae3139322e302e322e313a37343830a174ce6b49d200a3646874c0a17602"
)

// What a file says is taken as far as it makes sense, within the bounds.
func FuzzParseCache(f *testing.F) {
	r := testRecord(f, 1)
	for _, c := range []cacheContent{
		{Version: 2, DHT: []byte{1}, Agents: []cacheAgent{{Agent: r.Key[:], Record: r.Bytes(), Worked: []cacheWorked{{"192.0.2.1:1", 5}}}}},
		{Version: 1, Addresses: []cacheAddress{{r.Key[:], "192.0.2.1:1", 5}}},
	} {
		b, err := sdk.Marshal(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		agents, _, err := parseCache(b)
		if err != nil && agents != nil || len(agents) > maxAddresses {
			t.Fatalf("%d agents, %v", len(agents), err)
		}
		c := newAddressCache()
		for _, k := range agents {
			if len(k.worked) > maxWorked || k.record == nil && len(k.worked) == 0 || k.record != nil && k.record.Key != dht.Key(k.agent) {
				t.Fatalf("%+v", k)
			}
			c.restore(k)
			c.get(time.Now(), k.agent)
		}
	})
}
