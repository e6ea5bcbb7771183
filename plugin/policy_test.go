package plugin

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestRestartPolicy(t *testing.T) {
	t.Parallel()
	type death struct {
		after, lived time.Duration // since the last death; of the process
		delay        time.Duration
		failed       bool
	}
	for name, deaths := range map[string][]death{
		"doubles and fails": {
			{0, 0, 100 * time.Millisecond, false}, {time.Second, 0, 200 * time.Millisecond, false},
			{time.Second, 0, 400 * time.Millisecond, false}, {time.Second, 0, 800 * time.Millisecond, false}, {time.Second, 0, 0, true},
		},
		"healthy resets": {
			{0, 0, 100 * time.Millisecond, false}, {time.Minute, 59 * time.Second, 200 * time.Millisecond, false},
			{time.Minute, 60 * time.Second, 100 * time.Millisecond, false},
		},
		"old deaths are forgotten": {
			{0, 0, 100 * time.Millisecond, false}, {3 * time.Minute, 0, 200 * time.Millisecond, false},
			{3 * time.Minute, 0, 400 * time.Millisecond, false}, {3 * time.Minute, 0, 800 * time.Millisecond, false},
			{3 * time.Minute, 0, 1600 * time.Millisecond, false}, {3 * time.Minute, 0, 3200 * time.Millisecond, false},
			{3 * time.Minute, 0, 6400 * time.Millisecond, false}, {3 * time.Minute, 0, 12800 * time.Millisecond, false},
			{3 * time.Minute, 0, 25600 * time.Millisecond, false}, {3 * time.Minute, 0, 30 * time.Second, false},
		},
	} {
		p, now := &restartPolicy{jitter: func() float64 { return 0 }}, time.Unix(1_000_000, 0)
		for i, d := range deaths {
			now = now.Add(d.after)
			delay, failed := p.died(now, now.Add(-d.lived))
			if delay != d.delay || failed != d.failed {
				t.Errorf("%s, death %d: %s, %v; want %s, %v", name, i, delay, failed, d.delay, d.failed)
			}
		}
	}
}

func TestRestartJitter(t *testing.T) {
	t.Parallel()
	for range 1000 {
		d, _ := newRestartPolicy().died(time.Unix(1, 0), time.Unix(1, 0))
		if d < 80*time.Millisecond || d > 120*time.Millisecond {
			t.Fatalf("first delay %s", d)
		}
	}
}

func TestProbeCounter(t *testing.T) {
	t.Parallel()
	var c probeCounter
	for i, step := range []struct{ ok, kill bool }{{false, false}, {false, false}, {true, false}, {false, false}, {false, false}, {false, true}} {
		if kill := c.result(step.ok); kill != step.kill {
			t.Errorf("step %d: kill %v", i, kill)
		}
	}
}

// The gate is first come first served, and no slot is lost to who gives up.
func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gate{max: 1, queue: 2}
		ctx := t.Context()
		if full, err := g.enter(ctx); full || err != nil {
			t.Fatal(full, err)
		}
		var order []int
		cause := errors.New("no time")
		first, giveUp := context.WithCancelCause(ctx)
		failed := make(chan error, 1)
		go func() { _, err := g.enter(first); failed <- err }()
		synctest.Wait()
		done := make(chan struct{})
		go func() { _, _ = g.enter(ctx); order = append(order, 2); close(done) }()
		synctest.Wait()
		if full, _ := g.enter(ctx); !full {
			t.Fatal("a third one waits")
		}
		if r, w := g.load(); r != 1 || w != 2 {
			t.Fatalf("%d run, %d wait", r, w)
		}
		giveUp(cause)
		if err := <-failed; !errors.Is(err, cause) {
			t.Fatalf("gave up with %v", err)
		}
		drained := g.drained()
		g.leave()
		<-done
		select {
		case <-drained:
			t.Fatal("drained while a call runs")
		default:
		}
		g.leave()
		<-drained
		if r, w := g.load(); r != 0 || w != 0 || len(order) != 1 {
			t.Fatalf("%d run, %d wait, order %v", r, w, order)
		}
		<-g.drained()
	})
}

// A slot that comes at the moment of giving up goes to the next.
func TestGateRace(t *testing.T) {
	t.Parallel()
	g := gate{max: 2, queue: 100}
	done := make(chan struct{})
	const callers, rounds = 16, 500
	for range callers {
		go func() {
			defer func() { done <- struct{}{} }()
			for i := range rounds {
				ctx, cancel := context.WithCancel(context.Background())
				if i%2 == 0 {
					go cancel()
				}
				if _, err := g.enter(ctx); err == nil {
					g.leave()
				}
				cancel()
			}
		}()
	}
	for range callers {
		<-done
	}
	<-g.drained()
	if r, w := g.load(); r != 0 || w != 0 {
		t.Errorf("%d run, %d wait", r, w)
	}
}
