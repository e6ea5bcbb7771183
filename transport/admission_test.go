package transport

import (
	"net"
	"net/netip"
	"testing"
	"time"
)

// farListener hands on connections as if they came from another machine.
type farListener struct{ net.Listener }

type farConn struct{ net.Conn }

func (farConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1} }

func (l farListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return farConn{c}, err
}

func TestFloodPerAddress(t *testing.T) {
	t.Parallel()
	c := testConfig(t, nil)
	c.MaxHandshakesPerIP, c.HandshakeTimeout = 5, time.Hour
	near := startNode(t, c)
	c.Listener = func(a string) (net.Listener, error) {
		l, err := net.Listen("tcp", a)
		return farListener{l}, err
	}
	n := startNode(t, c)
	for range 5 {
		rawDial(t, n)
		rawDial(t, near)
	}
	silence(t, rawDial(t, n)) // one too many: closed at once, not after the timeout
	more := rawDial(t, near)  // of this machine there are as many as want to
	near.to(t, startNode(t, testConfig(t, nil)))
	if !open(more) {
		t.Error("a connection of this machine was closed")
	}
}

// open tells whether the other side has not closed c, of which nothing is to be read.
func open(c net.Conn) bool { return !hungUp(c) }

func TestAdmission(t *testing.T) {
	t.Parallel()
	c := Config{}.withDefaults()
	c.MaxHandshakes, c.MaxHandshakesPerIP, c.HandshakeBurstPerIP, c.HandshakeRatePerIP = 3, 2, 4, 1
	a := newAdmission(&c)
	now := time.Unix(0, 0)
	ip := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}) }
	h1, _ := a.begin(nil, ip(1), now)
	h2, _ := a.begin(nil, ip(1), now)
	if h, _ := a.begin(nil, ip(1), now); h != nil || h2 == nil {
		t.Fatal("a third of one address")
	}
	a.arrived(h1, messageMAC{1})
	h3, evicted := a.begin(nil, ip(2), now)
	if h3 == nil || evicted != nil {
		t.Fatal("a third in all is refused")
	}
	h4, evicted := a.begin(nil, ip(3), now)
	if h4 == nil || evicted != h2 {
		t.Fatalf("the oldest without message 1 must go, not %p", evicted)
	}
	a.arrived(h3, messageMAC{2})
	a.arrived(h4, messageMAC{3})
	if h, _ := a.begin(nil, ip(4), now); h != nil {
		t.Fatal("one that is under way was evicted")
	}
	for _, h := range []*halfOpen{h1, h2, h3, h4, h4} {
		a.end(h)
	}
	for i := range 3 {
		h, _ := a.begin(nil, ip(1), now)
		if (h != nil) != (i < 2) { // 4 in all
			t.Fatalf("%d: the burst is over or not", i)
		}
		a.end(h)
	}
	if h, _ := a.begin(nil, ip(1), now.Add(time.Second)); h == nil {
		t.Fatal("a second later there is one more")
	} else {
		a.end(h)
	}
	a.tick(now.Add(time.Hour))
	if len(a.byIP) != 0 || len(a.open) != 0 {
		t.Errorf("left over: %d %d", len(a.byIP), len(a.open))
	}
	six := netip.MustParseAddr
	if sourceOf(six("2001:db8::1")) != sourceOf(six("2001:db8::2:3")) || sourceOf(six("::ffff:10.0.0.1")) != ip(1) {
		t.Error("addresses are not grouped")
	}
}

func TestReplays(t *testing.T) {
	t.Parallel()
	r := newReplays(10)
	key := func(i int) messageMAC { return messageMAC{byte(i), 1} }
	for i := range 100 {
		if !r.add(key(i)) {
			t.Fatalf("%d is new", i)
		}
		for j := max(0, i-10); j <= i; j++ {
			if r.add(key(j)) {
				t.Fatalf("%d was there, %d ago", j, i-j)
			}
		}
		if len(r.now)+len(r.last) > 20 {
			t.Fatal("no bound")
		}
	}
}

// TestFloodFromFewAddresses fills the table from a few addresses that know the
// key and shake hands to the middle. Others still get in, and stay.
func TestFloodFromFewAddresses(t *testing.T) {
	t.Parallel()
	c := Config{}.withDefaults()
	c.MaxHandshakes, c.MaxHandshakesPerIP = 64, 16
	a := newAdmission(&c)
	now := time.Unix(0, 0)
	ip := func(net, i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(net), byte(i)}) }
	flood := func(i int) {
		if h, _ := a.begin(nil, ip(0, i%4), now); h != nil {
			a.arrived(h, messageMAC{byte(i), byte(i >> 8)})
		}
	}
	for i := range 64 {
		flood(i)
	}
	if len(a.open) != 64 {
		t.Fatalf("%d are open", len(a.open))
	}
	var honest []*halfOpen
	for i := range 20 {
		h, evicted := a.begin(nil, ip(1, i), now)
		if h == nil || evicted == nil || evicted.ip.As4()[2] != 0 {
			t.Fatalf("honest %d: %v for %v", i, h, evicted)
		}
		honest = append(honest, h)
		for j := range 8 {
			flood(1000 + 8*i + j)
		}
	}
	for i, h := range honest {
		if _, ok := a.open[h]; !ok {
			t.Errorf("honest %d was evicted by the flood", i)
		}
	}
}

func TestSourcesAreBounded(t *testing.T) {
	t.Parallel()
	c := Config{}.withDefaults()
	a := newAdmission(&c)
	now := time.Unix(0, 0)
	for i := range maxSources + 100 {
		h, _ := a.begin(nil, netip.AddrFrom4([4]byte{byte(i >> 16), byte(i >> 8), byte(i), 1}), now)
		if h == nil {
			t.Fatalf("address %d is kept out by those before", i)
		}
		a.end(h)
	}
	if len(a.byIP) > maxSources {
		t.Errorf("%d sources", len(a.byIP))
	}
}
