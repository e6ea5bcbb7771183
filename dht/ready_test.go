package dht

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// Ready speaks of the present: each way in which others can't find the node any
// more takes it back, and what ends it gives it again.
func TestReadyIsOfThePresent(t *testing.T) {
	t.Parallel()
	type world struct {
		*memNet
		nodes []*memNode
		x     *memNode
	}
	cut := func(is bool) func(*world) {
		return func(w *world) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.cut[w.x.key] = is
		}
	}
	refuse := func(w *world) { // all refuse what is PUT
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, n := range w.nodes {
			w.answer[n.key] = func(from Key, req *Request) (*Response, error) {
				if from == w.x.key && req.Op == OpPut {
					return &Response{Status: StatusNotClose, Time: uint64(time.Now().UnixMilli())}, nil
				}
				return n.Serve(context.Background(), from, w.x.addr, req)
			}
		}
	}
	move := func(w *world) {
		w.mu.Lock()
		delete(w.memNet.nodes, w.x.addr)
		w.x.addr = testAddr(7000)
		w.memNet.nodes[w.x.addr] = w.x
		w.mu.Unlock()
		w.x.AddrsChanged()
	}
	for name, c := range map[string]struct {
		nodes      int
		lose, gain func(*world)
		within     time.Duration // not ready then
		back       time.Duration // ready again then
	}{
		"the uplink is down":       {12, cut(true), cut(false), 40 * time.Minute, 3 * time.Minute},
		"all contacts are gone":    {3, cut(true), cut(false), 40 * time.Minute, 3 * time.Minute},
		"nobody takes the record":  {6, refuse, func(w *world) { w.mu.Lock(); defer w.mu.Unlock(); clear(w.answer) }, DefaultTTL + 2*time.Minute, 10 * time.Minute},
		"it is somewhere else now": {6, move, func(*world) {}, 0, 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := &world{memNet: newMemNet()}
				w.nodes = network(t, w.memNet, c.nodes)
				w.x = w.node(t, 40, []Contact{w.nodes[0].contact()}, nil)
				defer func() { stopAll(append(w.nodes, w.x)) }()
				ready(t, w.x)
				_ = wait(t.Context(), time.Minute)
				if !w.x.Ready() {
					t.Fatal("not ready")
				}
				c.lose(w)
				_ = wait(t.Context(), c.within+time.Millisecond)
				if s := w.x.Stats(); w.x.Ready() || s.Ready {
					t.Fatalf("still ready: %+v", s)
				}
				short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
				defer cancel()
				if err := w.x.WaitReady(short); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("waiting: %v", err)
				}
				c.gain(w)
				again, cancel := context.WithTimeout(t.Context(), c.back)
				defer cancel()
				if err := w.x.WaitReady(again); err != nil || !w.x.Ready() {
					t.Fatalf("not ready again: %v; %+v", err, w.x.Stats())
				}
				mustFind(t, w.nodes[1], w.x)
			})
		})
	}
}

// What this machine could not send blames nobody but the first few, and soon it is
// known that it is the machine's own network.
func TestLocalFaults(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	var u uplink
	for i, want := range []bool{true, true, false, false} {
		if got := u.cut(now, Key{1}, 40, true); got != want || !u.down.IsZero() == want {
			t.Errorf("call %d: blamed %t, down %s", i, got, u.down)
		}
	}
	if since, _ := u.heard(); since.IsZero() || !u.down.IsZero() || u.local != 0 {
		t.Errorf("heard: %s, %+v", since, u)
	}
	for range 10 { // one that is on a network to which there is no way, while others answer
		if !u.cut(now, Key{1}, 40, true) {
			t.Error("not blamed")
		}
		u.heard()
	}
}

// A contact that could not be dialled is asked at once and not minutes later, and
// dropped when it does not answer once. One that answers stays.
func TestSuspect(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemNet()
		nodes := network(t, m, 3)
		_ = wait(t.Context(), time.Minute)
		dead, x := nodes[2], nodes[1]
		dead.stop()
		defer stopAll(nodes[:2])
		x.Suspect(nodes[0].key)
		x.Suspect(dead.key)
		x.Suspect(pub(testKey(99))) // nobody
		_ = wait(t.Context(), checkRetry-time.Second)
		if s := x.Table(); len(s.Contacts) != 1 || s.Contacts[0].Key != nodes[0].key || s.Contacts[0].Fails != 0 || !s.Contacts[0].Sibling || s.Contacts[0].RTT == 0 {
			t.Errorf("contacts: %+v", s.Contacts)
		}
	})
}
