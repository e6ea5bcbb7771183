package transport

import (
	"errors"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Who joins a dial brings addresses of his own: they are tried at once, each once.
func TestJoinersAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet()
		a, b := memNode(t, n, 1, nil, nil), memNode(t, n, 2, nil, nil)
		dead := memAddrOf(7)
		n.silent[dead] = true
		begin := time.Now()
		var wg sync.WaitGroup
		dial := func(after time.Duration, addrs ...netip.AddrPort) {
			wg.Go(func() {
				time.Sleep(after)
				s, _, err := a.Session(t.Context(), b.key(), addrs)
				if took := time.Since(begin); err != nil || s.RemoteAddr() != b.Addr() || took != 400*time.Millisecond {
					t.Errorf("after %s, in %s: %v", after, took, err)
				}
			})
		}
		dial(0, dead)
		dial(300*time.Millisecond, dead)
		dial(400*time.Millisecond, dead, b.Addr())
		wg.Wait()
		a.stop()
		b.stop()
	})
}

// The joiners of a dial that fails are told of the addresses of all; who comes
// when the last one has failed has his own dialled.
func TestJoinersFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet()
		a, b := memNode(t, n, 1, nil, nil), memNode(t, n, 2, nil, nil)
		for i := range 90 {
			n.silent[memAddrOf(10+i)] = true
		}
		var wg sync.WaitGroup
		for i := range 90 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond)
				_, _, err := a.Session(t.Context(), b.key(), []netip.AddrPort{memAddrOf(10), memAddrOf(10 + i)})
				var de *DialError
				if !errors.As(err, &de) || len(de.Attempts) != joinedDials*a.cfg.MaxAddresses {
					t.Errorf("%d: %v", i, err)
					return
				}
				var seen []netip.AddrPort
				for _, at := range de.Attempts {
					if slices.Contains(seen, at.Addr) {
						t.Errorf("%s was tried twice", at.Addr)
					}
					seen = append(seen, at.Addr)
				}
			})
		}
		wg.Wait()
		d := &dialing{addrs: []netip.AddrPort{memAddrOf(9)}, over: true, done: make(chan struct{}), cancel: func(error) {}}
		a.mu.Lock()
		a.dials[b.key()] = d // it has failed, and nobody has been told yet
		a.mu.Unlock()
		if s, _, err := a.Session(t.Context(), b.key(), []netip.AddrPort{b.Addr()}); err != nil || s.RemoteAddr() != b.Addr() {
			t.Error(err)
		}
		a.stop()
		b.stop()
	})
}
