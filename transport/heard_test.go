package transport

import (
	"testing"
	"testing/synctest"
	"time"
)

// Who has a session and is heard is online. When he was last heard is known after
// the session's end, too.
func TestPresence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet()
		a, b := memNode(t, n, 1, nil, nil), memNode(t, n, 2, nil, nil)
		if online, heard := a.Presence(b.key()); online || !heard.IsZero() {
			t.Fatalf("never met: online %t, heard %v", online, heard)
		}
		s := a.to(t, b)
		for range 100 {
			time.Sleep(a.cfg.PingAfter / 3)
			online, heard := a.Presence(b.key())
			if silent := time.Since(heard); !online || silent > a.cfg.PingAfter+2*a.cfg.Tick {
				t.Fatalf("over a live session: online %t, silent for %s", online, silent)
			}
		}
		ended := time.Now()
		b.stop()
		<-s.Done()
		time.Sleep(time.Hour)
		online, heard := a.Presence(b.key())
		if online || heard.Before(ended.Add(-a.cfg.PingAfter)) || heard.After(ended.Add(time.Second)) {
			t.Fatalf("after its end: online %t, heard %s after it", online, heard.Sub(ended))
		}
	})
}

// Over a quiet session a peer stays online while it beats as it has announced; who asks
// has it beat more often.
func TestPresenceOverQuietSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet()
		a, b := memNode(t, n, 1, nil, nil), memNode(t, n, 2, nil, nil)
		s := a.to(t, b)
		if s.live.quiet == 0 {
			t.Fatal("the session is never quiet, so that this says nothing")
		}
		for range 20 {
			time.Sleep(10 * time.Minute)
			if online, _ := a.Presence(b.key()); !online {
				t.Fatal("who beats quietly is not online")
			}
			time.Sleep(a.cfg.PingAfter + 3*a.cfg.Tick)
			if _, heard := a.Presence(b.key()); time.Since(heard) > a.cfg.PingAfter+3*a.cfg.Tick {
				t.Fatalf("asked for again it was heard %s ago", time.Since(heard))
			}
		}
	})
}

// For how long silence is no sign, by what the session is and who has announced what.
func TestSilentAfter(t *testing.T) {
	t.Parallel()
	const now = int64(time.Hour)
	for name, c := range map[string]struct {
		live     liveness
		dialable bool
		want     time.Duration
	}{
		"busy":                           {liveness{busy: now - int64(time.Minute), quiet: int64(15 * time.Minute)}, true, 14 * time.Second},
		"just woken":                     {liveness{busy: now - int64(wakeAfter), quiet: int64(15 * time.Minute), spoke: 1}, true, 114 * time.Second},
		"messages":                       {liveness{quiet: int64(15 * time.Minute), spoke: 1}, true, 114 * time.Second},
		"background":                     {liveness{quiet: int64(15 * time.Minute)}, true, 914 * time.Second},
		"background, not dialable":       {liveness{quiet: int64(15 * time.Minute)}, false, 114 * time.Second},
		"background, of one at 100 s":    {liveness{quiet: int64(100 * time.Second)}, true, 125 * time.Second},
		"background, of one at a second": {liveness{quiet: int64(time.Second)}, true, 14 * time.Second},
	} {
		cfg := testConfig(t, nil)
		cfg.Background = 1
		e, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		e.Dialable(c.dialable)
		s := &Session{ep: e, live: c.live}
		if got := s.silentAfter(now); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// A peer that falls silent is no longer online before its session counts as dead.
func TestPresenceOfTheSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet()
		a, b := memNode(t, n, 1, nil, nil), memNode(t, n, 2, nil, nil)
		s := a.to(t, b)
		synctest.Wait() // b's first record, too, is heard
		silent := time.Now().Add(-s.silentAfter(a.clock()) - a.cfg.Tick)
		s.stats.heard.Store(int64(silent.Sub(a.start)))
		if online, heard := a.Presence(b.key()); online || !heard.Equal(silent) {
			t.Errorf("online %t, heard %s ago", online, time.Since(heard))
		}
		if s.Err() != nil {
			t.Error("the session has ended, so that this says nothing")
		}
	})
}

func TestHeardIsBounded(t *testing.T) {
	t.Parallel()
	var l heardList
	peer := func(i int) PeerKey { return PeerKey{byte(i), byte(i >> 8)} }
	at := time.Unix(1000, 0)
	for i := range 2 * maxHeard {
		l.note(peer(i), at.Add(time.Duration(i)))
		l.note(peer(0), at)
	}
	if l.all.Len() != maxHeard || len(l.at) != maxHeard {
		t.Errorf("%d and %d are remembered", l.all.Len(), len(l.at))
	}
	if !l.last(peer(0)).Equal(at) || !l.last(peer(1)).IsZero() || l.last(peer(2*maxHeard-1)).IsZero() {
		t.Error("not the first ones were forgotten")
	}
	l.note(peer(0), at.Add(-time.Second))
	if !l.last(peer(0)).Equal(at) {
		t.Error("an older session's end took back when the peer was heard")
	}
}
