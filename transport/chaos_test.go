package transport

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestChaos cuts connections while both sides send, in both ways, cancel and dial. Every
// request ends with its own reply or a typed error, one that says it was not
// sent was not served, and in the end a session works.
func TestChaos(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet()
		var served sync.Map
		h := startsSome(t, handlerFunc{request: func(ctx context.Context, r *Request) ([]byte, error) {
			served.Store(r.ID, true)
			time.Sleep(time.Duration(r.ID[7]) * time.Millisecond)
			return r.Body, nil
		}}, func(r *Request) bool { return r.ID[7]%3 > 0 })
		nodes := []*node{memNode(t, n, 1, h, nil), memNode(t, n, 2, h, nil)}
		var ids atomic.Uint64
		var ok, lost atomic.Int64
		end := time.Now().Add(20 * time.Second)
		ask := func(from, to *node, way way, i uint64) {
			var id [16]byte
			binary.BigEndian.PutUint64(id[:], i)
			timeout := 5 * time.Second
			if i%11 == 0 {
				timeout = time.Duration(i%100) * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			s, _, err := from.Session(ctx, to.key(), []netip.AddrPort{to.Addr()})
			if err != nil {
				return
			}
			body := bytes.Repeat([]byte{byte(i)}, int(i*7919%200000))
			reply, err := way.request(s, ctx, Outgoing{Kind: 2, ID: id, Body: body})
			var re *RequestError
			_, was := served.Load(id)
			switch {
			case err == nil && !bytes.Equal(reply, body):
				t.Errorf("request %d: a wrong reply", i)
			case err == nil:
				ok.Add(1)
			case !errors.As(err, &re) || re.Code != Lost && re.Code != Timeout:
				t.Errorf("request %d: %v", i, err)
			case !re.Sent && was:
				t.Errorf("request %d was served: %v", i, err)
			default:
				lost.Add(1)
			}
		}
		var wg sync.WaitGroup
		for w := range 16 {
			wg.Go(func() {
				for time.Now().Before(end) {
					ask(nodes[w%2], nodes[1-w%2], ways[w/2%2], ids.Add(1))
					time.Sleep(time.Millisecond)
				}
			})
		}
		wg.Go(func() {
			for i := 0; time.Now().Before(end); i++ {
				time.Sleep(time.Duration(50+i*37%300) * time.Millisecond)
				n.mu.Lock()
				for _, c := range n.conns {
					c.Close()
				}
				n.conns = nil
				n.mu.Unlock()
			}
		})
		wg.Wait()
		if ok.Load() < 100 || lost.Load() == 0 {
			t.Errorf("%d replies, %d lost", ok.Load(), lost.Load())
		}
		s, _, err := nodes[0].Session(t.Context(), nodes[1].key(), []netip.AddrPort{nodes[1].Addr()})
		if err == nil {
			_, err = s.Request(t.Context(), Outgoing{})
		}
		if err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		for _, n := range nodes {
			if got := n.Sessions(); len(got) != 1 || got[0].Outgoing != 0 || got[0].Incoming != 0 {
				t.Errorf("in the end: %+v", got)
			}
			if used := n.assembly.used.Load(); used != 0 {
				t.Errorf("%d bytes of the budget are taken", used)
			}
		}
		for _, n := range nodes {
			n.stop()
		}
	})
}
