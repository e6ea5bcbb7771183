package dht

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestPace(t *testing.T) {
	now := time.Unix(0, 0)
	p := pace{most: 64}
	if p.allowed() != paceFirst || p.slack() != 0 {
		t.Fatalf("begins with %d, slack %s", p.allowed(), p.slack())
	}
	for range 100 {
		p.answered()
	}
	if p.allowed() != 64 {
		t.Fatalf("%d after 100 answers in time", p.allowed())
	}
	p.ran(now, paceLate) // not too late
	if p.allowed() != 64 {
		t.Fatalf("%d after a delay that is none", p.allowed())
	}
	for i, want := range []int{32, 32, 16, 16, 8, 8, 4, 4, 2, 2, 2} { // one cut in paceCut
		p.ran(now.Add(time.Duration(i)*paceCut/2+paceCut), 100*time.Millisecond)
		if p.allowed() != want {
			t.Fatalf("delay %d: %d, not %d", i, p.allowed(), want)
		}
	}
	if s := p.slack(); s < 400*time.Millisecond || s > 800*time.Millisecond {
		t.Errorf("slack %s", s)
	}
	if p.answered(); p.allowed() != 2 {
		t.Error("an answer makes room while the loop is late")
	}
	p.ran(now, time.Hour) // the machine slept
	if s := p.slack(); s != maxSlack {
		t.Errorf("slack %s after an hour", s)
	}
	for range 60 {
		p.ran(now, 0)
	}
	if p.answered(); p.allowed() != 3 || p.slack() > 50*time.Millisecond {
		t.Errorf("%d, slack %s, when all is well again", p.allowed(), p.slack())
	}
}

// heldNetwork answers nothing before its time.
type heldNetwork struct {
	mu   sync.Mutex // guards:
	now  int
	most int
}

func (n *heldNetwork) Call(ctx context.Context, _ Contact, _ *Request) (*Response, error) {
	n.mu.Lock()
	n.now++
	n.most = max(n.most, n.now)
	n.mu.Unlock()
	<-ctx.Done()
	n.mu.Lock()
	n.now--
	n.mu.Unlock()
	return nil, ctx.Err()
}

// A machine that has too much to do makes few calls of its own accord, waits longer
// for them, and lets users' searches pass.
func TestBusyMachine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &heldNetwork{}
		var boot []Contact
		for i := range 30 {
			boot = append(boot, Contact{Key: pub(testKey(1 + i))})
		}
		d, err := New(Config{Key: testKey(0), Network: n, Bootstrap: boot})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 20 { // it runs half a second late
			d.core.pace.ran(d.cfg.Now().Add(time.Duration(i)*time.Second), 500*time.Millisecond)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- d.Run(ctx) }()
		time.Sleep(time.Second)
		synctest.Wait()
		n.mu.Lock()
		if n.most != paceLeast {
			t.Errorf("%d calls at once", n.most)
		}
		n.mu.Unlock()
		go d.Lookup(ctx, pub(testKey(40)))
		synctest.Wait()
		n.mu.Lock()
		if n.now != paceLeast+quorum {
			t.Errorf("%d calls at once, with a user's search", n.now)
		}
		n.mu.Unlock()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
