package transport

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestAskChaos has both sides ask while connections are cut and callers give up.
// Whoever gets an answer gets the one to its own question.
func TestAskChaos(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet()
		n.oneWay = 20 * time.Millisecond
		libraries := [2]*library{{}, {}}
		nodes := [2]*node{memNode(t, n, 1, libraries[0], pooling), memNode(t, n, 2, libraries[1], pooling)}
		end := time.Now().Add(8 * time.Second)
		var asked, answered atomic.Int64
		var wg sync.WaitGroup
		for w := range 12 {
			wg.Go(func() {
				from, to := nodes[w%2], nodes[1-w%2]
				for i := 0; time.Now().Before(end); i++ {
					timeout := 5 * time.Second
					if i%3 == 0 {
						timeout = time.Duration(i*7%130) * time.Millisecond
					}
					ctx, cancel := context.WithTimeout(t.Context(), timeout)
					body := fmt.Sprintf("question %d of %d", i, asked.Add(1))
					reply, _, err := from.Ask(ctx, to.key(), []netip.AddrPort{to.Addr()}, Outgoing{Kind: 1, Body: []byte(body)})
					cancel()
					var re *RequestError
					var de *DialError
					switch {
					case err == nil && string(reply) != strings.ToUpper(body):
						t.Errorf("%q to %q", reply, body)
					case err == nil:
						answered.Add(1)
					case !errors.As(err, &re) && !errors.As(err, &de):
						t.Errorf("%q: %v", body, err)
					}
					time.Sleep(time.Duration(w) * time.Millisecond)
				}
			})
		}
		wg.Go(func() {
			for i := 0; time.Now().Before(end); i++ {
				time.Sleep(time.Duration(30+i*37%150) * time.Millisecond)
				n.mu.Lock()
				for _, c := range n.conns {
					c.Close()
				}
				n.conns = nil
				n.mu.Unlock()
			}
		})
		wg.Wait()
		early := libraries[0].read.Load() + libraries[1].read.Load()
		served := libraries[0].served.Load() + libraries[1].served.Load()
		if answered.Load() < 100 || early < 20 || served < 20 {
			t.Errorf("%d of %d answered, %d early reads, %d requests", answered.Load(), asked.Load(), early, served)
		}
		time.Sleep(time.Minute)
		for i, n := range nodes {
			if in := n.Sessions(); len(in) > 1 {
				t.Errorf("node %d has %d sessions", i, len(in))
			}
			n.mu.Lock()
			if want := len(n.peers[nodes[1-i].key()]); n.inbound > want || len(n.dials) > 0 {
				t.Errorf("node %d counts %d inbound of %d, %d dials", i, n.inbound, want, len(n.dials))
			}
			n.mu.Unlock()
		}
		nothingLeft(t, nodes[:]...)
		stopAll(nodes[:]...)
		time.Sleep(time.Second) // the last bytes arrive
	})
}
