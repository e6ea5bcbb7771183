package transport

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// A peer whose answers take long is not dead on a session that wakes for the DHT,
// whether somebody waits for them or not; a message is not kept waiting for it.
func TestSlowPeerIsWoken(t *testing.T) {
	for name, c := range map[string]struct {
		kind   uint8
		rtt    time.Duration
		waits  time.Duration
		code   Code // of the error; 0 = none
		stands bool // the session, after it
	}{
		"the DHT's":                        {1, 7 * time.Second, time.Minute, 0, true},
		"the DHT's, slower still":          {1, 16 * time.Second, time.Minute, 0, true},
		"the DHT's, that nobody waits for": {1, 7 * time.Second, 2 * time.Second, Timeout, true},
		"a message":                        {2, 4 * time.Second, time.Minute, 0, true},
		// two ticks may pass besides: the one that sees the message, and the one that judges
		"a message, but slower than wakeAfter": {2, wakeAfter + 4*time.Second, time.Minute, Lost, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newMemNet()
				n.oneWay = c.rtt / 2
				change := func(cfg *Config) {
					cfg.Background, cfg.BackgroundIdle = 1, 24*time.Hour
					cfg.DialTimeout, cfg.HandshakeTimeout, cfg.DialStagger = 2*time.Minute, 2*time.Minute, 2*time.Minute
				}
				a, b := memNode(t, n, 1, nil, change), memNode(t, n, 2, nil, change)
				a.Dialable(true)
				b.Dialable(true)
				s := a.to(t, b)
				time.Sleep(5 * time.Minute)
				if s.Err() != nil {
					t.Fatal(s.Err())
				}
				ctx, cancel := context.WithTimeout(t.Context(), c.waits)
				_, err := s.Request(ctx, Outgoing{Kind: c.kind})
				cancel()
				if c.code == 0 && err != nil || c.code != 0 && requestError(t, err).Code != c.code {
					t.Error(err)
				}
				time.Sleep(time.Minute)
				if stands := s.Err() == nil; stands != c.stands {
					t.Errorf("it stands: %t, %v", stands, s.Err())
				}
				stopAll(a, b)
				time.Sleep(time.Minute) // what is under way
			})
		})
	}
}
