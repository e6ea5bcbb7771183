package transport

import (
	"net/netip"
	"testing"
	"time"
)

func TestFloodPerAddress(t *testing.T) {
	t.Parallel()
	c := testConfig(t, nil)
	c.MaxHandshakesPerIP, c.HandshakeTimeout = 5, time.Hour
	n := startNode(t, c)
	for range 5 {
		rawDial(t, n)
	}
	silence(t, rawDial(t, n)) // one too many: closed at once, not after the timeout
}

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
	a.arrived(h1, [32]byte{1})
	h3, evicted := a.begin(nil, ip(2), now)
	if h3 == nil || evicted != nil {
		t.Fatal("a third in all is refused")
	}
	h4, evicted := a.begin(nil, ip(3), now)
	if h4 == nil || evicted != h2 {
		t.Fatalf("the oldest without message 1 must go, not %p", evicted)
	}
	a.arrived(h3, [32]byte{2})
	a.arrived(h4, [32]byte{3})
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
	if len(a.byIP) != 0 || len(a.open) != 0 || a.oldest != nil || a.newest != nil {
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
	key := func(i int) [32]byte { return [32]byte{byte(i), 1} }
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
