package dht

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Nobody knows an agent: that is certain in less than 2 s, also right after a third
// of the nodes died, whether their machines refuse calls or swallow them.
func TestUnknownAgent(t *testing.T) {
	t.Parallel()
	for _, swallow := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			m := newMemNet()
			nodes := network(t, m, 20)
			defer func() { stopAll(nodes) }()
			ask := func(what string, agents, from int) {
				t.Helper()
				most := time.Duration(0)
				for i := range from {
					start := time.Now()
					_, err := nodes[i].Lookup(t.Context(), pub(testKey(agents+i)))
					if took := time.Since(start); !errors.Is(err, ErrNotFound) || took >= 2*time.Second {
						t.Errorf("%s, node %d: %s, %v", what, i, took, err)
					}
					most = max(most, time.Since(start))
				}
				t.Logf("%s: at most %s", what, most)
			}
			ask("all alive", 1000, 20)
			if swallow {
				m.mu.Lock()
				for _, n := range nodes[13:] {
					m.silent[n.key] = true
				}
				m.mu.Unlock()
			} else {
				stopAll(nodes[13:])
				nodes = nodes[:13]
			}
			ask("a third has died", 2000, 13)
		})
	}
}

// A lookup that is given up says whom it has asked until then.
func TestTraceOfWhatIsGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemNet()
		a := m.node(t, 1, nil, nil)
		boot := []Contact{a.contact()}
		b, c := m.node(t, 2, boot, nil), m.node(t, 3, boot, nil)
		time.Sleep(time.Minute)
		m.mu.Lock()
		m.silent[c.key] = true
		m.mu.Unlock()
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		r, err := a.Lookup(ctx, pub(testKey(99)))
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "1 nodes asked") || r.Record != nil ||
			len(r.Trace) != 1 || r.Trace[0].Key != b.key || r.Trace[0].Took == 0 {
			t.Errorf("%v, %+v", err, r)
		}
		stopAll([]*memNode{a, b, c})
	})
}
