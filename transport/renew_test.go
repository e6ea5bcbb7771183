package transport

import (
	"testing"
	"testing/synctest"
	"time"
)

// What only the DHT has used is renewed once a day, and when a message comes: by
// who has dialled, whoever sends it, and without a request that fails for it.
func TestRenewalOfBackgroundSession(t *testing.T) {
	for name, c := range map[string]struct {
		kind     uint8 // of the request of the responder each hour
		first    uint8 // of the first one
		hours    int
		renewals int
	}{
		"the DHT's":            {kind: 1, first: 1, hours: 23, renewals: 0},
		"the DHT's for days":   {kind: 1, first: 1, hours: 60, renewals: 2},
		"a message at the 5th": {kind: 2, first: 1, hours: 7, renewals: 2},
		"a message long ago":   {kind: 1, first: 2, hours: 6, renewals: 5},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newMemNet()
				change := func(c *Config) { c.Background, c.BackgroundIdle = 1, 1000*time.Hour }
				a, b := memNode(t, n, 1, nil, change), memNode(t, n, 2, nil, change)
				last := a.to(t, b)
				ask := func(kind uint8) {
					t.Helper()
					s, ok := b.Live(a.key())
					if !ok {
						t.Fatal("no session")
					}
					if _, err := s.Request(t.Context(), Outgoing{Kind: kind}); err != nil {
						t.Error(err)
					}
				}
				synctest.Wait()
				ask(c.first)
				renewals := 0
				for range c.hours * 60 {
					time.Sleep(time.Minute)
					now, ok := a.Live(b.key())
					if !ok {
						t.Fatal("no session")
					}
					if now != last {
						renewals++
						last = now
					}
					switch age := time.Since(now.opened); {
					case c.kind == 1:
						ask(1)
					case renewals == 0 && age > 5*time.Hour: // a burst, while it is renewed
						for range 30 {
							ask(2)
							time.Sleep(time.Second / 10)
						}
					}
				}
				if renewals != c.renewals {
					t.Errorf("renewed %d times, want %d", renewals, c.renewals)
				}
				stopAll(a, b)
			})
		})
	}
}

// Who restarts after messages and dials before its peer has noticed knows nothing of
// them: the peer, which does, leaves the session to it, and one is there all the time.
func TestRenewalAfterARestart(t *testing.T) {
	for name, message := range map[string]bool{"no message more": false, "a message in the 8th hour": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newMemNet()
				change := func(c *Config) {
					c.Background, c.BackgroundIdle, c.RenewBackgroundAfter = 1, 1000*time.Hour, 5*time.Hour
				}
				a, b := memNode(t, n, 1, nil, change), memNode(t, n, 2, nil, change)
				first := a.to(t, b)
				if _, err := first.Request(t.Context(), Outgoing{Kind: 2}); err != nil {
					t.Fatal(err)
				}
				n.freeze() // b does not hear of the end
				a.stop()
				again := memNode(t, n, 3, nil, func(c *Config) { change(c); c.Key = a.cfg.Key }) // its next run
				last := again.to(t, b)
				synctest.Wait()
				if mine, ok := b.Live(again.key()); !ok || !mine.live.heir || mine.initiator {
					t.Fatal("the peer knows of no message before, so that this says nothing")
				}
				renewals := 0
				for hour := range 12 {
					time.Sleep(time.Hour)
					if message && hour == 7 {
						s, _ := b.Live(again.key())
						if _, err := s.Request(t.Context(), Outgoing{Kind: 2}); err != nil {
							t.Error(err)
						}
					}
					now, ok := again.Live(b.key())
					if !ok {
						t.Fatalf("no session after %d hours: %v", hour+1, last.Err())
					}
					if now != last {
						renewals, last = renewals+1, now
					}
				}
				if want := map[bool]int{false: 2, true: 5}[message]; renewals != want {
					t.Errorf("renewed %d times, want %d", renewals, want)
				}
				stopAll(b, again)
			})
		})
	}
}
