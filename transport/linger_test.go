package transport

import (
	"context"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Who gives up leaves a dial that goes on: the session is there for whoever asks next.
func TestDialOutlivesWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet()
		n.oneWay = time.Second
		a, b := memNode(t, n, 1, nil, nil), memNode(t, n, 2, nil, nil)
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		_, _, err := a.Session(ctx, b.key(), []netip.AddrPort{b.Addr()})
		if re := requestError(t, err); re.Code != Timeout {
			t.Errorf("%v", err)
		}
		begin := time.Now()
		if _, _, err := a.Session(t.Context(), b.key(), []netip.AddrPort{b.Addr()}); err != nil {
			t.Error(err)
		}
		if took := time.Since(begin); took > 2500*time.Millisecond { // two round trips, less what has passed
			t.Errorf("the second caller waited for %s: as for a dial of its own", took)
		}
		if got := len(n.conns) / 2; got != 1 {
			t.Errorf("%d connections", got)
		}
		a.stop()
		b.stop()
		time.Sleep(time.Minute) // what is still under way arrives
	})
}

// A dial that nobody waits for tries no further address, and ends: at DialTimeout,
// and before it if there are many.
func TestLingeringDialsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet()
		var dials atomic.Int64
		a := memNode(t, n, 1, nil, func(c *Config) {
			c.MaxDials = 8
			c.Dial = func(ctx context.Context, _ netip.AddrPort) (_ net.Conn, err error) {
				dials.Add(1)
				<-ctx.Done()
				return nil, ctx.Err()
			}
		})
		for i := range 6 {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			b := PeerKey(testKey(t, 20+i)[32:])
			if _, _, err := a.Session(ctx, b, []netip.AddrPort{memAddrOf(20 + i), memAddrOf(40 + i)}); err == nil {
				t.Error("a session")
			}
			cancel()
			synctest.Wait()
			a.mu.Lock()
			if len(a.dials) != min(i+1, 2) || a.lingers != len(a.dials) {
				t.Errorf("%d dials go on, %d are counted", len(a.dials), a.lingers)
			}
			a.mu.Unlock()
		}
		time.Sleep(a.cfg.DialTimeout)
		synctest.Wait()
		a.mu.Lock()
		if len(a.dials)+a.lingers != 0 {
			t.Errorf("%d dials are left, %d are counted", len(a.dials), a.lingers)
		}
		a.mu.Unlock()
		if n := dials.Load(); n != 6 {
			t.Errorf("%d addresses were tried", n)
		}
		a.stop()
	})
}

// The other side's dial comes first, while one that nobody waits for goes on: it ends.
func TestLingeringDialGivesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet()
		a, b := memNode(t, n, 1, nil, nil), memNode(t, n, 2, nil, nil)
		n.silent[memAddrOf(9)] = true
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, _, err := a.Session(ctx, b.key(), []netip.AddrPort{memAddrOf(9)}); err == nil {
			t.Error("a session")
		}
		if _, _, err := b.Session(t.Context(), a.key(), []netip.AddrPort{a.Addr()}); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		a.mu.Lock()
		if len(a.dials)+a.lingers != 0 {
			t.Errorf("%d dials are left, %d are counted", len(a.dials), a.lingers)
		}
		a.mu.Unlock()
		a.stop()
		b.stop()
	})
}
