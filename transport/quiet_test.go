package transport

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// What a session is by what goes over it.
func TestWhenASessionIsQuiet(t *testing.T) {
	t.Parallel()
	const s = int64(time.Second)
	l := liveness{quiet: 100 * s}
	for i, c := range []struct {
		at       int64
		messages uint64
		inFlight bool
		busy     int64
		talking  int64
	}{
		{1 * s, 0, false, 0, 0},
		{2 * s, 0, true, 2 * s, 0}, // a request of the DHT
		{3 * s, 0, true, 2 * s, 0},
		{4 * s, 0, false, 0, 0},
		{5 * s, 0, true, 5 * s, 0}, // another, and a message
		{6 * s, 1, true, 5 * s, 6 * s},
		{7 * s, 1, false, 5 * s, 6 * s},
		{60 * s, 2, false, 5 * s, 6 * s}, // another, between two looks
		{180 * s, 2, false, 5 * s, 6 * s},
		{181 * s, 2, false, 0, 0},
		{182 * s, 3, false, 182 * s, 182 * s},
	} {
		if l.look(c.at, c.messages, c.inFlight, false); l.busy != c.busy || l.talking != c.talking {
			t.Errorf("%d: busy since %d, not %d; talking since %d, not %d", i, l.busy/s, c.busy/s, l.talking/s, c.talking/s)
		}
	}
	old := liveness{} // the peer does not know quiet sessions
	if old.look(7*s, 0, false, false); old.busy != 7*s {
		t.Error("quiet with a peer that is not")
	}
}

// What of the time that this side slept through counts, and for whom.
func TestSleepIsNoSilence(t *testing.T) {
	t.Parallel()
	const s = int64(time.Second)
	for name, c := range map[string]struct {
		heard, writing, busy, pinged int64 // before 100 s
		at, slept                    int64
		read                         int64 // when something came meanwhile; 0: it did not
		want                         condition
	}{
		"awake":               {heard: 95, writing: 96, busy: 97, pinged: 98, at: 101, want: condition{heard: 95, writing: 96, busy: 97, pinged: 98}},
		"asleep for an hour":  {heard: 95, writing: 96, busy: 97, pinged: 98, at: 3700, slept: 3600, want: condition{heard: 3695, writing: 3696, busy: 3697, pinged: 3698}},
		"nothing to put off":  {heard: 95, at: 3700, slept: 3600, want: condition{heard: 3695}},
		"late again":          {heard: 95, pinged: 98, at: 105, slept: 4, want: condition{heard: 99, pinged: 102}},
		"read before the end": {heard: 95, pinged: 98, at: 3700, slept: 3600, read: 200, want: condition{heard: 3700}},
		"read at the end":     {heard: 95, pinged: 98, at: 3700, slept: 3600, read: 3700, want: condition{heard: 3700}},
	} {
		var l liveness
		l.hears(100*s, 0, c.heard*s, c.writing*s, 7)
		l.busy, l.talking = c.busy*s, c.busy*s
		if c.pinged != 0 {
			l.pings(c.pinged*s, 7)
		}
		heard, in := c.heard, uint64(7)
		if c.read != 0 {
			heard, in = c.read, 8
		}
		l.hears(c.at*s, c.slept*s, heard*s, c.writing*s, in)
		got := condition{heard: l.heard.put() / s, writing: l.writing.put() / s, busy: l.busy / s, pinged: l.pinged / s}
		if got != c.want || l.talking != l.busy {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

// For how long nobody has looked.
func TestSlept(t *testing.T) {
	t.Parallel()
	e, err := New(testConfig(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for i, c := range []struct{ after, want time.Duration }{
		{time.Hour, 0}, // the first
		{time.Second, 0},
		{3 * time.Second, 0},
		{3*time.Second + 1, 3*time.Second + 1},
		{4 * time.Second, 3 * time.Second}, // late again: a Tick counts
		{time.Hour, time.Hour - time.Second},
		{time.Second, 0},
		{time.Hour, time.Hour},
	} {
		now = now.Add(c.after)
		if got := e.slept(now); got != int64(c.want) {
			t.Errorf("%d: %s, want %s", i, time.Duration(got), c.want)
		}
	}
}

// A quiet session costs next to nothing and lives, whatever each side has chosen and
// may do.
func TestQuietSessionLives(t *testing.T) {
	for name, c := range map[string]struct {
		a, b       time.Duration // QuietPingAfter; 0: the default
		background bool
		dialable   [2]bool
		message    bool
		beats      uint64 // in 90 minutes; each is a ping and a pong, 30 bytes each
	}{
		"defaults":                         {beats: 60},
		"often and seldom":                 {a: 10 * time.Second, b: maxQuiet, beats: 600},
		"seldom and often":                 {a: maxQuiet, b: 10 * time.Second, beats: 540},
		"background, nobody is dialable":   {background: true, beats: 24}, // it learns: lasting.go
		"background, both are":             {background: true, dialable: [2]bool{true, true}, beats: 6},
		"background, who dialled is":       {background: true, dialable: [2]bool{true, false}, beats: 22},
		"background, who was dialled is":   {background: true, dialable: [2]bool{false, true}, beats: 23},
		"both are, but it carried message": {background: true, dialable: [2]bool{true, true}, message: true, beats: 60},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newMemNet()
				start := func(i int, quiet time.Duration, dialable bool) *node {
					a := memNode(t, n, i, nil, func(cfg *Config) {
						cfg.QuietPingAfter, cfg.RenewAfter = quiet, 24*time.Hour
						if c.background {
							cfg.Background, cfg.BackgroundIdle = 1, 24*time.Hour
						}
					})
					a.Dialable(dialable)
					return a
				}
				a := start(1, c.a, c.dialable[0])
				time.Sleep(time.Second / 3) // else both tick at the same instants, and the scheduler says who is first
				b := start(2, c.b, c.dialable[1])
				time.Sleep(time.Second / 3)
				s := a.to(t, b)
				if c.message {
					if _, err := s.Request(t.Context(), Outgoing{Kind: 2}); err != nil {
						t.Fatal(err)
					}
				}
				if got, want := s.info().Background, c.background && !c.message; got != want {
					t.Errorf("background: %t", got)
				}
				sent := func() uint64 { i := s.info(); return i.BytesIn + i.BytesOut }
				time.Sleep(10 * time.Minute)
				before := sent()
				time.Sleep(90 * time.Minute)
				if err := s.Err(); err != nil {
					t.Fatal(err)
				}
				if got := (sent() - before) / 60; got > c.beats || got+1 < c.beats*9/10 {
					t.Errorf("%d beats, want %d", got, c.beats)
				}
				stopAll(a, b)
			})
		})
	}
}

// When the death of a peer that says nothing is noticed, by either side.
func TestDeathOnQuietSession(t *testing.T) {
	const least = 20 * time.Second
	for name, c := range map[string]struct {
		kind     uint8         // of a request before; 0: none
		dialable bool          // both sides are
		idle     time.Duration // from then to the death
		asks     uint8         // the kind of a request that is sent after it; 0: none
		within   time.Duration
		least    time.Duration
	}{
		"a message a minute ago":         {kind: 2, dialable: true, idle: time.Minute, within: 25 * time.Second},
		"a message an hour ago":          {kind: 2, dialable: true, idle: 55 * time.Minute, within: 122 * time.Second, least: least},
		"of the DHT alone, not dialable": {kind: 1, idle: time.Minute, within: 242 * time.Second, least: least},
		"of the DHT alone":               {kind: 1, dialable: true, idle: time.Minute, within: 922 * time.Second, least: 5 * time.Minute},
		"nothing ever":                   {dialable: true, idle: 35 * time.Minute, within: 922 * time.Second, least: least},
		"it is asked":                    {dialable: true, idle: 30 * time.Minute, asks: 2, within: 7 * time.Second},
		"it is asked, after a message":   {kind: 2, idle: time.Minute, asks: 2, within: 25 * time.Second},
		"the DHT asks":                   {dialable: true, idle: 30 * time.Minute, asks: 1, within: 22 * time.Second, least: least},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newMemNet()
				change := func(c *Config) { c.Background = 1; c.BackgroundIdle = 24 * time.Hour }
				a, b := memNode(t, n, 1, nil, change), memNode(t, n, 2, nil, change)
				a.Dialable(c.dialable)
				b.Dialable(c.dialable)
				s := a.to(t, b)
				if c.kind != 0 {
					if _, err := s.Request(t.Context(), Outgoing{Kind: c.kind}); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(c.idle)
				far, ok := b.Live(a.key())
				if !ok || s.Err() != nil {
					t.Fatal("it has ended before")
				}
				n.freeze()
				frozen := time.Now()
				if c.asks != 0 {
					_, err := s.Request(t.Context(), Outgoing{Kind: c.asks})
					if re := requestError(t, err); re.Code != Lost || !errors.Is(err, ErrPeerDead) {
						t.Errorf("%v", err)
					}
					if next := a.to(t, b); next == s { // it goes on over a new session
						t.Error("the same session")
					}
				}
				for i, x := range []*Session{s, far} {
					if c.asks != 0 && i == 1 {
						break
					}
					<-x.Done()
					if took := time.Since(frozen); took > c.within || took < c.least {
						t.Errorf("side %d: noticed after %s", i, took)
					}
					if !errors.Is(x.Err(), ErrPeerDead) {
						t.Error(x.Err())
					}
				}
				stopAll(a, b)
			})
		})
	}
}

// Whose peer sends more often than itself asks when that is overdue, and not before.
func TestOverduePeerIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet()
		a := memNode(t, n, 1, nil, func(c *Config) { c.QuietPingAfter = maxQuiet })
		b := memNode(t, n, 2, nil, nil)
		s := a.to(t, b)
		time.Sleep(30 * time.Minute)
		heard := s.info().LastHeard
		n.freeze()
		<-s.Done()
		if took := time.Since(heard); took < 145*time.Second || took > 148*time.Second { // 1.25 times 100 s, and 20 s
			t.Errorf("noticed %s after it was last heard", took)
		}
		stopAll(a, b)
	})
}

// Both sides sleep for long, as two laptops do, or a machine with both: no session
// ends for it. The control: who stays silent afterwards is dead.
func TestSleepersKeepTheirSessions(t *testing.T) {
	for name, c := range map[string]struct {
		kind   uint8 // of a request before; 0: none
		open   bool  // it is in flight all the time
		frozen bool
	}{
		"quiet":                    {},
		"of the DHT":               {kind: 1},
		"a message":                {kind: 2},
		"in flight":                {kind: 2, open: true},
		"the control":              {frozen: true},
		"the control, in flight":   {kind: 2, open: true, frozen: true},
		"the control, a message":   {kind: 2, frozen: true},
		"the control, of the DHT":  {kind: 1, frozen: true},
		"in flight, the DHT's own": {kind: 1, open: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newMemNet()
				slow := handlerFunc{request: func(ctx context.Context, r *Request) ([]byte, error) {
					if c.open {
						<-ctx.Done()
					}
					return nil, nil
				}}
				a, b := sleeper(t, n, 1, slow), sleeper(t, n, 2, slow)
				s, _, err := a.Session(t.Context(), b.id.agent, []netip.AddrPort{b.Addr()})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				asked := make(chan error, 1)
				go func() {
					var err error
					if c.kind != 0 {
						_, err = s.Request(ctx, Outgoing{Kind: c.kind})
					}
					asked <- err
				}()
				a.ticks(b, 15)
				for range 3 {
					time.Sleep(time.Hour) // nobody looks
					if c.frozen {
						n.freeze()
					}
					a.ticks(b, 40)
				}
				if ended := s.Err() != nil; ended != c.frozen {
					t.Errorf("ended: %t, %v", ended, s.Err())
				}
				cancel()
				<-asked
				a.end()
				b.end()
			})
		})
	}
}

// sleepy is an endpoint that is looked after only when it is told to.
type sleepy struct {
	*Endpoint
	ran chan error
	end func()
}

func sleeper(t *testing.T, n *memNet, i int, h Handler) *sleepy {
	c := testConfig(t, h)
	c.Listen, c.Listener, c.Dial = memAddrOf(i).String(), n.listen, n.dialFrom(memAddrOf(i).Addr().String())
	c.Background, c.BackgroundIdle, c.RenewAfter = 1, 24*time.Hour, 24*time.Hour
	c.Tick = 1000 * time.Hour // never by itself
	e, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Bind(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &sleepy{Endpoint: e, ran: make(chan error, 1)}
	go func() { s.ran <- e.Run(ctx) }()
	s.end = func() {
		cancel()
		if err := <-s.ran; err != nil {
			t.Error(err)
		}
	}
	synctest.Wait()
	e.cfg.Tick = time.Second // from here on it is read by ticks alone
	return s
}

// ticks has both look n times, a second apart.
func (s *sleepy) ticks(other *sleepy, n int) {
	for range n {
		s.tick(time.Now())
		other.tick(time.Now())
		synctest.Wait()
		time.Sleep(time.Second)
	}
}

// A request that takes long, over a session that was quiet, is no death: both sides
// know that it is in flight.
func TestLongRequestOnQuietSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet()
		slow := handlerFunc{request: func(_ context.Context, r *Request) ([]byte, error) {
			time.Sleep(10 * time.Minute)
			return r.Body, nil
		}}
		background := func(c *Config) { c.Background, c.BackgroundIdle = 1, 24*time.Hour }
		a, b := memNode(t, n, 1, nil, background), memNode(t, n, 2, slow, background)
		s := a.to(t, b)
		for _, kind := range []uint8{1, 2} {
			time.Sleep(5 * time.Minute)
			if _, err := s.Request(t.Context(), Outgoing{Kind: kind, Body: []byte("x")}); err != nil {
				t.Error(err)
			}
		}
		a.stop()
		b.stop()
	})
}
