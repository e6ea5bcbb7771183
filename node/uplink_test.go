package node

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/parley-p2p/parley/dht"
	"github.com/parley-p2p/parley/transport"
)

// dialErrorOf is a DialError with these causes, as a dial wraps them.
func dialErrorOf(causes ...error) error {
	e := &transport.DialError{}
	for i, c := range causes {
		e.Attempts = append(e.Attempts, transport.Attempt{Addr: addrN(i + 1),
			Err: fmt.Errorf("connect: %w", &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", c)})})
	}
	return e
}

func TestLocalFault(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want bool
	}{
		{errors.New("something"), false},
		{dialErrorOf(), false},
		{dialErrorOf(syscall.ENETUNREACH), true},
		{dialErrorOf(syscall.ENETUNREACH, syscall.ENETDOWN, syscall.EADDRNOTAVAIL), true},
		{dialErrorOf(syscall.ECONNREFUSED), false},
		{dialErrorOf(syscall.ENETUNREACH, syscall.ECONNREFUSED), false}, // one of them has left this machine
		{errors.Join(dialErrorOf(syscall.ENETUNREACH), dialErrorOf(syscall.ECONNREFUSED)), false},
		{fmt.Errorf("wrapped: %w", dialErrorOf(syscall.ENETUNREACH)), true},
	} {
		if got := localFault(c.err); got != c.want {
			t.Errorf("%v: %t", c.err, got)
		}
	}
}

// A dial that failed costs an address its place in the cache and a pause, unless
// it was this machine that could not send.
func TestDialFailed(t *testing.T) {
	t.Parallel()
	n, err := New(Config{DataDir: shortTempDir(t), Network: "test"})
	if err != nil {
		t.Fatal(err)
	}
	id := newIdentity(testPrivateKey(1)).agent
	n.addresses.worked(n.now(), id, addrN(1))
	n.dialFailed(id, dialErrorOf(syscall.ENETUNREACH))
	if len(n.addresses.get(n.now(), id)) != 1 || len(n.backoff.due(n.now(), []netip.AddrPort{addrN(1)})) != 1 {
		t.Error("blamed for this machine's network")
	}
	n.dialFailed(id, dialErrorOf(syscall.ECONNREFUSED))
	if len(n.addresses.get(n.now(), id)) != 0 || len(n.backoff.due(n.now(), []netip.AddrPort{addrN(1)})) != 0 {
		t.Error("not blamed")
	}
}

func TestAdvertised(t *testing.T) {
	t.Parallel()
	own := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("::1"), netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("fe80::1%eth0")}
	ap := func(list ...string) (out []netip.AddrPort) {
		for _, s := range list {
			out = append(out, netip.MustParseAddrPort(s))
		}
		return out
	}
	for name, c := range map[string]struct {
		set   []netip.AddrPort
		bound string
		own   []netip.Addr
		want  []netip.AddrPort
	}{
		"the operator's":         {ap("203.0.113.1:1"), "0.0.0.0:7480", own, ap("203.0.113.1:1")},
		"no listening":           {nil, "", own, nil},
		"one address":            {nil, "192.0.2.1:5", own, ap("192.0.2.1:5")},
		"one that has gone":      {nil, "192.0.2.9:5", own, nil},
		"nobody can say":         {nil, "192.0.2.9:5", nil, ap("192.0.2.9:5")},
		"loopback":               {nil, "127.0.0.2:5", own, ap("127.0.0.2:5")},
		"all of IPv4":            {nil, "0.0.0.0:5", own, ap("192.0.2.1:5")},
		"all":                    {nil, "[::]:5", own, ap("192.0.2.1:5", "[2001:db8::1]:5")},
		"nothing but loopback":   {nil, "0.0.0.0:5", own[:1], ap("127.0.0.1:5")},
		"no address of a family": {nil, "0.0.0.0:5", own[2:], nil},
	} {
		var bound netip.AddrPort
		if c.bound != "" {
			bound = netip.MustParseAddrPort(c.bound)
		}
		if got := advertised(c.set, bound, c.own); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestWhyNotReady(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	for _, c := range []struct {
		d         dht.Stats
		bootstrap bool
		want      string
	}{
		{dht.Stats{UplinkDown: now, PublishError: errors.New("x")}, true, "no other node answers since 2001-09-09T01:46:40Z"},
		{dht.Stats{PublishError: &dht.ClockError{Off: time.Hour, Peers: 2}}, true, "set the clock"},
		{dht.Stats{}, true, "no bootstrap node has answered yet"},
		{dht.Stats{Published: now}, true, "all nodes that were known are gone"},
		{dht.Stats{Contacts: 1, ReadBackUntil: now}, true, "has expired"},
		{dht.Stats{Contacts: 1, ReadBackUntil: now.Add(1), Published: now}, true, "is being read back"},
		{dht.Stats{Contacts: 1}, true, "is being published"},
		{dht.Stats{}, false, "is being published"},
	} {
		if got := notReady(&c.d, c.bootstrap, now); !strings.Contains(got, c.want) {
			t.Errorf("%+v: %q, want %q", c.d, got, c.want)
		}
	}
	for _, c := range []struct {
		d     dht.Stats
		addrs []netip.AddrPort
		want  string
	}{
		{dht.Stats{Server: true}, nil, ""},
		{dht.Stats{Proven: true}, nil, "--listen"},
		{dht.Stats{}, []netip.AddrPort{addrN(1)}, "no other node has tried yet"},
		{dht.Stats{Proven: true}, []netip.AddrPort{addrN(1)}, "192.0.2.1:7480: open the port"},
	} {
		if got := whyClient(&c.d, c.addrs); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%+v: %q, want %q", c.d, got, c.want)
		}
	}
}
