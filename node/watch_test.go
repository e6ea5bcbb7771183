package node

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
)

// take reads everything that a watcher has.
func take(s *signals, w *watcher) (seqs []uint64, lost uint64) {
	for sig, ok, _ := s.pop(w); ok; sig, ok, _ = s.pop(w) {
		seqs = append(seqs, sig.Seq)
		lost += sig.Lost
	}
	return seqs, lost
}

// Who does not read loses the oldest, and only he. What is lost is counted, and
// nothing twice.
func TestWatchBounds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		n, size, buffer, kept int
	}{
		"all fit":                 {1024, 1, 1024, 1024},
		"one too many":            {1025, 1, 1024, 1024},
		"a small buffer":          {100, 1, 1, 1},
		"many bytes":              {10, 300 << 10, 1024, 3},
		"one larger than all":     {1, 2 << 20, 1024, 1},
		"each larger than all":    {3, 2 << 20, 1024, 1},
		"none":                    {0, 0, 1024, 0},
		"exactly the bytes":       {4, 256 << 10, 1024, 4},
		"one byte over the bytes": {4, 256<<10 + 1, 1024, 3},
	} {
		s, a := newSignals(), &app{name: "d", hash: sdk.DNAHash{1}}
		other, quick := &app{name: "e", hash: sdk.DNAHash{2}}, 0
		slow, first := s.join(a.hash, c.buffer)
		fast, _ := s.join(a.hash, 1)
		foreign, _ := s.join(other.hash, 1)
		for range c.n {
			s.emit(time.Time{}, a, make([]byte, c.size))
			got, lost := take(s, fast)
			if quick += len(got); lost != 0 {
				t.Fatalf("%s: one who reads lost %d", name, lost)
			}
		}
		got, lost := take(s, slow)
		if len(got) != c.kept || int(lost) != c.n-c.kept || c.kept > 0 && got[c.kept-1] != uint64(c.n) || quick != c.n || first != 0 {
			t.Errorf("%s: %d kept, %d lost of %d; one who reads got %d", name, len(got), lost, c.n, quick)
		}
		if slow.bytes != 0 || slow.lost != 0 || s.lost != lost || int(s.count) != c.n {
			t.Errorf("%s: %d bytes and %d lost remain; in all %d of %d", name, slow.bytes, slow.lost, s.lost, s.count)
		}
		if got, _ := take(s, foreign); len(got) != 0 {
			t.Errorf("%s: who watches another DNA got %d", name, len(got))
		}
		s.leave(a.hash, slow)
		s.leave(a.hash, fast)
		if len(s.byDNA[a.hash].watchers) != 0 {
			t.Errorf("%s: somebody still watches", name)
		}
	}
}

// A client that stands still holds up nobody, and is told what it lost.
func TestWatchSlowClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &Node{signals: newSignals(), apps: newApps(), attached: make(chan struct{}), cfg: Config{}.withDefaults()}
		n.life, n.end = context.WithCancelCause(context.Background())
		close(n.attached)
		a := &app{name: "d", hash: sdk.DNAHash{1}}
		n.apps.byName["d"] = a
		resume := make(chan struct{})
		var got []control.Signal
		ended := make(chan error)
		go func() {
			ended <- n.Watch(t.Context(), control.WatchQuery{DNA: "d", Buffer: 10}, func(s control.Signal) error {
				if got = append(got, s); len(got) == 2 {
					<-resume
				}
				return nil
			})
		}()
		synctest.Wait()
		for i := range 100 {
			n.signals.emit(time.Now(), a, []byte{byte(i)})
			if i == 0 {
				synctest.Wait() // it holds the first one
			}
		}
		close(resume)
		synctest.Wait()
		if len(got) != 12 || !got[0].Began || got[1].Seq != 1 || got[2].Seq != 91 || got[2].Lost != 89 || got[11].Seq != 100 || got[11].Lost != 0 {
			t.Errorf("it was told %+v", got)
		}
		n.end(nil)
		if err := <-ended; err != nil {
			t.Errorf("at the node's end: %v", err)
		}
	})
}

// Who watches a DNA hears what was emitted before its handler was removed, and then
// that there is no more.
func TestWatchEndsWithTheDNA(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &Node{signals: newSignals(), apps: newApps(), attached: make(chan struct{}), cfg: Config{}.withDefaults()}
		n.life, n.end = context.WithCancelCause(context.Background())
		close(n.attached)
		a := &app{name: "d", hash: sdk.DNAHash{1}}
		n.apps.byName["d"] = a
		told := 0
		ended := make(chan error)
		go func() {
			ended <- n.Watch(t.Context(), control.WatchQuery{DNA: "d"}, func(control.Signal) error { told++; return nil })
		}()
		synctest.Wait()
		n.signals.emit(time.Now(), a, nil)
		n.signals.removed(a.hash)
		if err := <-ended; !errors.Is(err, sdk.NoHandler) || told != 2 {
			t.Errorf("told %d times, then %v", told, err)
		}
	})
}

// A handler's signals reach the agent's own clients, at once, whatever becomes of the
// call, and nobody else's.
func TestEmit(t *testing.T) {
	t.Parallel()
	w := newTestNetwork(t, testDNA)
	alice, bob := w.start("alice"), w.start("bob")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	client, err := control.Dial(filepath.Join(w.dir, "alice"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	stop := errors.New("enough")
	var got []string
	err = client.Watch(ctx, control.WatchQuery{DNA: "test"}, func(s control.Signal) error {
		if s.Began {
			for i := range 3 {
				ask[testMessage](t, bob.Call, "send", testSend{To: alice.ID(), Message: testMessage{Do: "emit", Text: fmt.Sprint(i)}})
			}
			_, err := call[testMessage](t, alice, "do", testMessage{Do: "emit and fail", Text: "last"})
			if !errors.Is(err, sdk.HandlerFailed) {
				return fmt.Errorf("a call that was to fail: %w", err)
			}
			return nil
		}
		var text string
		if err := sdk.Unmarshal(s.Payload, &text); err != nil {
			return err
		}
		if got = append(got, fmt.Sprint(s.Seq, " ", text)); text == "last" {
			return stop
		}
		return nil
	})
	if want := "[1 0 2 1 3 2 4 last]"; err != stop || fmt.Sprint(got) != want {
		t.Errorf("%v, %v; want %s", got, err, want)
	}
	for name, q := range map[string]control.WatchQuery{"an unknown DNA": {DNA: "nothing"}, "a large buffer": {DNA: "test", Buffer: maxWatchSignals + 1}, "a negative one": {DNA: "test", Buffer: -1}} {
		if err := client.Watch(ctx, q, func(control.Signal) error { return nil }); err == nil {
			t.Errorf("%s is watched", name)
		}
	}
	st, err := client.Status(ctx)
	if err != nil || st.Traffic.Signals != 4 || st.Traffic.SignalsLost != 0 {
		t.Errorf("status %+v, %v", st.Traffic, err)
	}
}

// An agent is online while there is a session, and remembered afterwards.
func TestOnline(t *testing.T) {
	t.Parallel()
	w := newTestNetwork(t, testDNA)
	alice, bob := w.start("alice"), w.start("bob")
	ask[testMessage](t, alice.Call, "send", testSend{To: bob.ID(), Message: testMessage{Do: "echo"}})
	p, err := alice.Online(t.Context(), bob.ID())
	if err != nil || !p.Online || time.Since(p.LastHeard) > time.Minute {
		t.Fatalf("with a session: %+v, %v", p, err)
	}
	if p, _ := alice.Online(t.Context(), alice.ID()); !p.Online {
		t.Errorf("oneself: %+v", p)
	}
	if p, _ := alice.Online(t.Context(), sdk.AgentID{1}); p.Online || !p.LastHeard.IsZero() {
		t.Errorf("nobody: %+v", p)
	}
	last := p.LastHeard
	bob.stop()
	for deadline := time.Now().Add(20 * time.Second); p.Online && time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		p, _ = alice.Online(t.Context(), bob.ID())
	}
	if p.Online || p.LastHeard.Before(last) {
		t.Errorf("after its end: %+v", p)
	}
}
