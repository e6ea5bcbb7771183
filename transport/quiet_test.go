package transport

import (
	"context"
	"errors"
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
	}{
		{1 * s, 0, false, 0},
		{2 * s, 0, true, 2 * s}, // a request of the DHT
		{3 * s, 0, true, 2 * s},
		{4 * s, 0, false, 0},
		{5 * s, 1, true, 5 * s}, // a message
		{6 * s, 1, false, 5 * s},
		{60 * s, 2, false, 5 * s}, // another, between two looks
		{180 * s, 2, false, 5 * s},
		{181 * s, 2, false, 0},
		{182 * s, 3, false, 182 * s},
	} {
		if l.look(c.at, c.messages, c.inFlight, false); l.busy != c.busy {
			t.Errorf("%d: busy since %d, not %d", i, l.busy/s, c.busy/s)
		}
	}
	old := liveness{} // the peer does not know quiet sessions
	if old.look(7*s, 0, false, false); old.busy != 7*s {
		t.Error("quiet with a peer that is not")
	}
}

// A quiet session costs next to nothing and lives, whatever each side has chosen.
func TestQuietSessionLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet()
		a := memNode(t, n, 1, nil, func(c *Config) { c.RenewAfter = 24 * time.Hour })
		b := memNode(t, n, 2, nil, func(c *Config) { c.RenewAfter = 24 * time.Hour })
		often := memNode(t, n, 3, nil, func(c *Config) { c.QuietPingAfter = 10 * time.Second })
		seldom := memNode(t, n, 4, nil, func(c *Config) { c.QuietPingAfter = maxQuiet })
		s, other := a.to(t, b), often.to(t, seldom)
		sent := func() uint64 { i := s.info(); return i.BytesIn + i.BytesOut }
		before := sent()
		time.Sleep(50 * time.Minute)
		if err := errors.Join(s.Err(), other.Err()); err != nil {
			t.Fatal(err)
		}
		if got := sent() - before; got == 0 || got > 2200 { // a ping and a pong in 90 s, 30 bytes each
			t.Errorf("%d bytes in 50 minutes", got)
		}
		for _, n := range []*node{a, b, often, seldom} {
			n.stop()
		}
	})
}

// When the death of a peer that says nothing is noticed.
func TestDeathOnQuietSession(t *testing.T) {
	for name, c := range map[string]struct {
		kind   uint8         // of a request before; 0: none
		idle   time.Duration // from then to the death
		asks   bool          // a request is sent after it
		within time.Duration
		least  time.Duration
	}{
		"a message a minute ago":       {kind: 2, idle: time.Minute, within: 25 * time.Second},
		"of the DHT alone":             {kind: 1, idle: time.Minute, within: 252 * time.Second, least: 100 * time.Second},
		"nothing ever":                 {idle: 30 * time.Minute, within: 252 * time.Second, least: 100 * time.Second},
		"it is asked":                  {idle: 30 * time.Minute, asks: true, within: 7 * time.Second},
		"it is asked, after a message": {kind: 2, idle: time.Minute, asks: true, within: 25 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newMemNet()
				change := func(c *Config) { c.Background = 1; c.BackgroundIdle = 24 * time.Hour }
				a, b := memNode(t, n, 1, nil, change), memNode(t, n, 2, nil, change)
				s := a.to(t, b)
				if c.kind != 0 {
					if _, err := s.Request(t.Context(), Outgoing{Kind: c.kind}); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(c.idle)
				n.freeze()
				frozen := time.Now()
				if c.asks {
					_, err := s.Request(t.Context(), Outgoing{Kind: 2})
					if re := requestError(t, err); re.Code != Lost || !errors.Is(err, ErrPeerDead) {
						t.Errorf("%v", err)
					}
					if next := a.to(t, b); next == s { // it goes on over a new session
						t.Error("the same session")
					}
				}
				<-s.Done()
				if took := time.Since(frozen); took > c.within || took < c.least {
					t.Errorf("noticed after %s", took)
				}
				if !errors.Is(s.Err(), ErrPeerDead) {
					t.Error(s.Err())
				}
				a.stop()
				b.stop()
			})
		})
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
