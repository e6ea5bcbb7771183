package transport

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestSurplus(t *testing.T) {
	t.Parallel()
	const min, now = int64(time.Minute), int64(1000 * time.Minute)
	ago := func(m int64) int64 { return now - m*min }
	type set = map[string]pooled
	out := pooled{used: ago(5)}
	in := pooled{inbound: true, net: "a", used: ago(5)}
	with := func(p pooled, change func(*pooled)) pooled { change(&p); return p }
	many := func(n int, p pooled) set {
		all := set{}
		for i := range n {
			q := p
			q.used -= int64(i) * min / 10
			all[fmt.Sprint(i)] = q
		}
		return all
	}
	for name, c := range map[string]struct {
		all  set
		want []string
	}{
		"nothing": {set{}, nil},
		"idle for too long": {set{
			"used":          out,
			"idle":          with(out, func(p *pooled) { p.used = ago(10) }),
			"in flight":     with(out, func(p *pooled) { p.used, p.busy = ago(500), true }),
			"pinned":        with(out, func(p *pooled) { p.used, p.priority = ago(500), pinned }),
			"kept":          with(out, func(p *pooled) { p.used, p.priority = ago(500), kept }),
			"with messages": with(out, func(p *pooled) { p.used, p.message = ago(500), ago(500) }),
			"others'":       with(in, func(p *pooled) { p.used = ago(500) }),
		}, []string{"idle"}},
		"as many as there may be": {many(4, out), nil},
		"two too many":            {many(6, out), []string{"4", "5"}},
		"two too many, but one is fresh": {func() set {
			all := many(5, out)
			for name, p := range all {
				p.used = now - 1
				all[name] = p
			}
			all["old"] = out
			return all
		}(), []string{"old"}},
		"others' take none of ours": {func() set {
			all := many(5, with(in, func(p *pooled) { p.net = "" }))
			for i, p := range many(4, out) {
				all["out"+i] = p
			}
			return all
		}(), nil},
		"one too many of others":   {many(6, with(in, func(p *pooled) { p.net = "" })), []string{"5"}},
		"an eighth of the inbound": {many(8, with(in, func(p *pooled) { p.net, p.message = "", ago(100) })), []string{"7"}},
		"but used for messages":    {many(8, with(in, func(p *pooled) { p.net, p.message = "", ago(5) })), nil},
		"in flight all":            {many(8, with(in, func(p *pooled) { p.net, p.busy = "", true })), nil},
		"too many of one network":  {many(4, in), []string{"3"}},
		"of none that is limited":  {many(4, with(in, func(p *pooled) { p.net = "" })), nil},
		"pinned count, and are kept": {func() set {
			all := many(5, with(out, func(p *pooled) { p.priority = pinned }))
			all["one"] = out
			return all
		}(), []string{"one"}},
		"kept count, and go": {many(6, with(out, func(p *pooled) { p.priority = kept })), []string{"4", "5"}},
		"kept, after all others": {func() set {
			all := many(5, with(out, func(p *pooled) { p.used, p.priority = ago(500), kept }))
			all["new"] = out
			return all
		}(), []string{"4", "new"}},
		"kept of others go last": {func() set {
			all := many(5, with(in, func(p *pooled) { p.net, p.used, p.priority = "", ago(500), kept }))
			all["new"] = with(in, func(p *pooled) { p.net = "" })
			return all
		}(), []string{"new"}},
		"kept of others, for none that is fresh, or busy, or has carried a message": {func() set {
			all := many(3, with(in, func(p *pooled) { p.used, p.priority = ago(500), kept }))
			all["pinned"] = with(in, func(p *pooled) { p.net, p.used, p.priority = "", ago(500), pinned })
			for i, p := range many(6, with(in, func(p *pooled) { p.used = now - 1 })) {
				p.used = now - 1
				all["fresh"+i] = p
			}
			for i, p := range many(6, with(in, func(p *pooled) { p.busy = true })) {
				all["busy"+i] = p
			}
			for i, p := range many(6, with(in, func(p *pooled) { p.net, p.message = "", ago(5) })) {
				all["message"+i] = p
			}
			all["stranger"] = with(in, func(p *pooled) { p.net = "" })
			return all
		}(), []string{"stranger"}},
		"kept of ours, for none that is fresh or busy": {func() set {
			all := many(4, with(out, func(p *pooled) { p.used, p.priority = ago(500), kept }))
			for i, p := range many(6, with(out, func(p *pooled) { p.busy = true })) {
				all["busy"+i] = p
			}
			all["fresh"] = with(out, func(p *pooled) { p.used = now - 1 })
			all["stranger"] = out
			return all
		}(), []string{"stranger"}},
		"kept beside pinned ones, too many for a network": {func() set {
			all := many(4, with(in, func(p *pooled) { p.priority = kept }))
			all["pinned"] = with(in, func(p *pooled) { p.priority = pinned })
			return all
		}(), []string{"2", "3"}},
	} {
		cfg := &Config{Limits: Limits{MaxSessions: 100, MaxInbound: 8, MaxInboundPerNet: 4, MaxBackground: 4, MaxBackgroundInbound: 5}}
		*cfg = cfg.withDefaults()
		names := make(map[*Session]string)
		var all []pooled
		for name, p := range c.all {
			p.s = new(Session)
			names[p.s] = name
			all = append(all, p)
		}
		var got []string
		for _, s := range surplus(cfg, now, all) {
			got = append(got, names[s])
		}
		slices.Sort(got)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q are closed, want %q", name, got, c.want)
		}
	}
}

func TestDefaultGroup(t *testing.T) {
	t.Parallel()
	for a, want := range map[string]string{
		"127.0.0.1": "", "10.1.2.3": "", "192.168.1.1": "", "169.254.1.1": "", "::1": "", "fe80::1%eth0": "", "fd00::1": "",
		"192.0.2.77": "192.0.2.0/24", "::ffff:192.0.2.9": "192.0.2.0/24", "2001:db8:1:2::3": "2001:db8:1::/48",
	} {
		if got := DefaultGroup(netip.MustParseAddr(a)); got != want {
			t.Errorf("%s is of %q, not %q", a, got, want)
		}
	}
	if DefaultGroup(netip.Addr{}) != "" {
		t.Error("no address is of a network")
	}
}

// pooling has an endpoint close what only kind 1 went over.
func pooling(c *Config) { c.Background = 1 }

func (n *node) connected() map[PeerKey]bool {
	all := make(map[PeerKey]bool)
	for _, in := range n.Sessions() {
		all[in.Peer] = true
	}
	return all
}

// TestUnusedSessionsAreClosed: by the side that dialled, as a goodbye; what is
// pinned, has carried a message or has a request in flight stays.
func TestUnusedSessionsAreClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet()
		release := make(chan struct{})
		h := handlerFunc{request: func(ctx context.Context, r *Request) ([]byte, error) {
			if len(r.Body) > 0 {
				<-release
			}
			return nil, nil
		}}
		a := memNode(t, n, 1, nil, pooling)
		var to [7]*node
		for i := range to {
			to[i] = memNode(t, n, 2+i, h, pooling)
			a.to(t, to[i])
		}
		idle, used, message, busy, pinned, dialled := to[0], to[1], to[2], to[3], to[4], memNode(t, n, 20, nil, pooling)
		heard, kept := to[5], to[6]
		dialled.to(t, a) // its own to close
		dialled.Pin([]PeerKey{a.key()}, nil)
		a.Pin([]PeerKey{pinned.key()}, []PeerKey{kept.key()})
		request := func(from, to *node, o Outgoing) {
			t.Helper()
			s, _ := from.Live(to.key())
			if _, err := s.Request(t.Context(), o); err != nil {
				t.Error(err)
			}
		}
		request(a, message, Outgoing{Kind: 2})
		s, _ := a.Live(busy.key())
		done := make(chan error)
		go func() { _, err := s.Request(t.Context(), Outgoing{Kind: 1, Body: []byte{1}}); done <- err }()
		request(a, idle, Outgoing{Kind: 1})
		for range 5 { // of another side's requests, too
			time.Sleep(3 * time.Minute)
			request(a, used, Outgoing{Kind: 1})
			request(heard, a, Outgoing{Kind: 1})
		}
		synctest.Wait()
		got := a.connected()
		for _, x := range []*node{used, heard, message, busy, pinned, kept, dialled} {
			if !got[x.key()] {
				t.Errorf("a session is gone: %s", x.Addr())
			}
		}
		if got[idle.key()] || len(idle.Sessions()) != 0 {
			t.Error("the unused session is still there")
		}
		if err := s.Err(); err != nil {
			t.Error(err)
		}
		close(release)
		if err := <-done; err != nil {
			t.Error(err)
		}
		began := time.Now()
		if _, _, err := a.Ask(t.Context(), idle.key(), []netip.AddrPort{idle.Addr()}, Outgoing{Kind: 1}); err != nil || time.Since(began) != 0 {
			t.Errorf("another after %s: %v", time.Since(began), err)
		}
		dialled.Pin(nil, nil)
		time.Sleep(11 * time.Minute)
		if got := a.connected(); got[dialled.key()] || got[used.key()] || got[busy.key()] || !got[message.key()] || !got[pinned.key()] || !got[kept.key()] {
			t.Errorf("%d sessions are left", len(got))
		}
		stopAll(append(to[:], a, dialled)...)
	})
}

// TestRenewedSessionKeepsItsWorth: what a session has carried its successor inherits.
func TestRenewedSessionKeepsItsWorth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet()
		a, b := memNode(t, n, 1, nil, pooling), memNode(t, n, 2, nil, pooling)
		s := a.to(t, b)
		if _, err := s.Request(t.Context(), Outgoing{Kind: 2}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Hour)
		next, ok := a.Live(b.key())
		if !ok || next == s {
			t.Errorf("renewed: %t, there: %t", next != s, ok)
		}
		stopAll(a, b)
	})
}

// TestUnusedSessionIsCutOff: who does not take part in the goodbye has 2 s, but a
// request that has come meanwhile is served.
func TestUnusedSessionIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet()
		h := handlerFunc{request: func(ctx context.Context, r *Request) ([]byte, error) {
			time.Sleep(20 * time.Second)
			return []byte("late"), nil
		}}
		b := memNode(t, n, 1, h, func(c *Config) { c.Background, c.MaxBackgroundInbound = 1, 1 })
		r := newMemRogue(t, n, b)
		r.send(rawFrame(typePing, flagLast, 1, nil))
		synctest.Wait()
		s, _ := b.Live(PeerKey(testKey(t, 9)[32:]))
		s.startDrain(reasonUnused)
		began := time.Now()
		r.send(rawFrame(typeRequest, flagLast, 1, request(2, 0, 0, nil)))
		for answered := false; !answered; {
			fs := r.next()
			if fs == nil {
				t.Fatalf("cut off after %s: %v", time.Since(began), s.Err())
			}
			for _, f := range fs {
				answered = answered || f.typ == typeResponse
			}
		}
		for r.next() != nil {
		}
		if took := time.Since(began); took < 20*time.Second || took > 24*time.Second {
			t.Errorf("it ended after %s", took)
		}
		b.stop()
		r.conn.Close()
	})
}

// TestFullOfInboundSessions is attack A17: somebody with many addresses dials until
// nobody gets in any more. What the victim dials itself works as before. The
// control shows that the same without a budget of its own locks it out.
func TestFullOfInboundSessions(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Config)
		ok     bool
	}{
		"a budget for inbound":     {func(c *Config) {}, true},
		"the control: without one": {func(c *Config) { c.MaxInbound = c.MaxSessions }, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newMemNet()
				const places = 40
				victim := memNode(t, n, 1, nil, func(cfg *Config) {
					cfg.Background, cfg.MaxSessions = 1, places
					c.change(cfg)
				})
				var attackers []*node
				refused := 0
				for i := range places + 10 {
					a := memNode(t, n, 100+i, nil, func(cfg *Config) {
						cfg.Dial = n.dialFrom(fmt.Sprintf("198.51.%d.1", i)) // each of another network
					})
					attackers = append(attackers, a)
					s, _, err := a.Session(t.Context(), victim.key(), []netip.AddrPort{victim.Addr()})
					if err == nil { // a message, so that nobody takes the place away
						_, err = s.Request(t.Context(), Outgoing{Kind: 2})
					}
					if err != nil {
						refused++
					}
				}
				if refused == 0 {
					t.Error("not full")
				}
				found := 0
				var honest []*node
				for i := range 10 {
					h := memNode(t, n, 2+i, &library{}, nil)
					honest = append(honest, h)
					reply, _, err := victim.Ask(t.Context(), h.key(), []netip.AddrPort{h.Addr()}, Outgoing{Kind: 1, Body: []byte("where")})
					var re *RequestError
					switch {
					case err == nil && string(reply) == "WHERE":
						found++
					case !errors.As(err, &re) || re.Setting != "MaxSessions":
						t.Errorf("%q, %v", reply, err)
					}
				}
				if want := map[bool]int{true: 10, false: 0}[c.ok]; found != want {
					t.Errorf("%d of 10 were asked, want %d", found, want)
				}
				stopAll(append(append(attackers, honest...), victim)...)
			})
		})
	}
}

// TestOneNetworkFillsItsShareOnly: of one /24 only so many get in, and the place
// of one that is not used goes to another.
func TestOneNetworkFillsItsShareOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet()
		b := memNode(t, n, 1, nil, func(c *Config) { c.Background, c.MaxInboundPerNet = 1, 4 })
		var all []*node
		dial := func(ip string) error {
			a := memNode(t, n, 10+len(all), nil, func(c *Config) { c.Dial = n.dialFrom(ip) })
			all = append(all, a)
			_, _, err := a.Session(t.Context(), b.key(), []netip.AddrPort{b.Addr()})
			synctest.Wait() // b counts the session when the first record arrives
			return err
		}
		for i := range 8 {
			err := dial(fmt.Sprintf("198.51.100.%d", i+1))
			if (err == nil) != (i < 4) || err != nil && !errors.Is(err, ErrNoAnswer) {
				t.Errorf("number %d of one network: %v", i, err)
			}
		}
		for i, ip := range []string{"198.51.101.1", "10.0.0.200", "10.0.0.201", "10.0.0.202", "10.0.0.203", "10.0.0.204"} {
			if err := dial(ip); err != nil {
				t.Errorf("%d, another network: %v", i, err)
			}
		}
		time.Sleep(freshFor + 2*poolEvery)
		if err := dial("198.51.100.77"); err != nil {
			t.Errorf("after the one that was not used: %v", err)
		}
		b.mu.Lock()
		if b.inbound != 10 || b.inboundByNet["198.51.100.0/24"] != 4 {
			t.Errorf("%d inbound, %v", b.inbound, b.inboundByNet)
		}
		b.mu.Unlock()
		stopAll(all...)
		time.Sleep(time.Minute)
		b.mu.Lock()
		if b.inbound != 0 || len(b.inboundByNet) != 0 {
			t.Errorf("in the end %d inbound, %v", b.inbound, b.inboundByNet)
		}
		b.mu.Unlock()
		b.stop()
	})
}
