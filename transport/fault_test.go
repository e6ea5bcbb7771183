package transport

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// TestFaults fails one side's n-th read or write, for every n until a cycle of
// handshake, small and large requests gets through.
func TestFaults(t *testing.T) { bothWays(t, testFaults) }

func testFaults(t *testing.T, w way) {
	for _, far := range []bool{false, true} {
		hit := true
		for at := int64(1); hit; at++ {
			synctest.Test(t, func(t *testing.T) { hit = cycleWithFault(t, w, at, far) })
			if !hit && at < 10 {
				t.Errorf("only %d operations could fail", at)
			}
		}
	}
}

func cycleWithFault(t *testing.T, w way, at int64, far bool) (hit bool) {
	n := newMemNet()
	n.failAt, n.failFar = at, far
	a, b := memNode(t, n, 1, nil, nil), memNode(t, n, 2, w.serve(t, handlerFunc{}), nil)
	defer a.stop()
	defer b.stop()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, _, err := a.Session(ctx, b.key(), []netip.AddrPort{b.Addr()})
	if err != nil {
		if want := map[bool]error{false: errInjected, true: ErrNoAnswer}[far]; !errors.Is(err, want) {
			t.Errorf("fault %d, far %v: %v", at, far, err)
		}
		return true
	}
	for _, size := range []int{0, 100, 300 << 10} {
		body := bytes.Repeat([]byte{byte(size)}, size)
		reply, err := w.request(s, ctx, Outgoing{Kind: 2, Body: body})
		if err == nil && !bytes.Equal(reply, body) {
			t.Errorf("fault %d, far %v: a wrong reply of %d bytes", at, far, len(reply))
		}
		if err != nil {
			if re := requestError(t, err); re.Code != Lost || !far && !errors.Is(re, errInjected) {
				t.Errorf("fault %d, far %v: %v", at, far, err)
			}
			return true
		}
	}
	for _, c := range n.conns {
		hit = hit || c.failed.Load()
	}
	return hit
}
