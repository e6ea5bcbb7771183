package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func memAddrOf(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 4000)
}

// memNode is node i of a network in memory.
func memNode(t *testing.T, n *memNet, i int, h Handler, change func(*Config)) *node {
	t.Helper()
	c := testConfig(t, h)
	a := memAddrOf(i)
	c.Listen, c.Listener, c.Dial = a.String(), n.listen, n.dialFrom(a.Addr().String())
	if change != nil {
		change(&c)
	}
	return startNode(t, c)
}

func requestError(t *testing.T, err error) *RequestError {
	t.Helper()
	var re *RequestError
	if !errors.As(err, &re) {
		t.Fatalf("%v (%T) is no *RequestError", err, err)
	}
	return re
}

// blocking is a handler whose requests end with their context; it reports the cause.
func blocking(ended chan<- error) Handler {
	return handlerFunc{request: func(ctx context.Context, r *Request) ([]byte, error) {
		<-ctx.Done()
		ended <- ctx.(*serveCtx).causeOf()
		return nil, ctx.Err()
	}}
}

func TestIdleSessionLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet()
		a, b := memNode(t, n, 1, nil, nil), memNode(t, n, 2, nil, nil)
		s := a.to(t, b)
		time.Sleep(30 * time.Minute)
		if err := s.Err(); err != nil {
			t.Fatal(err)
		}
		if again, reused, err := a.Session(t.Context(), b.key(), nil); again != s || !reused || err != nil {
			t.Fatalf("another session: %v, %v", reused, err)
		}
		if in := a.Sessions(); len(in) != 1 || time.Since(in[0].LastHeard) > 102*time.Second {
			t.Fatalf("%+v", in)
		}
		a.stop()
		b.stop()
	})
}

func TestDeadPeerIsNoticed(t *testing.T) {
	bothWaysSynced(t, func(t *testing.T, w way) {
		n := newMemNet()
		ended := make(chan error, 1)
		a, b := memNode(t, n, 1, nil, nil), memNode(t, n, 2, w.serve(t, blocking(ended)), nil)
		s := a.to(t, b)
		result := make(chan error, 1)
		go func() {
			_, err := w.request(s, t.Context(), Outgoing{Kind: 2})
			result <- err
		}()
		time.Sleep(time.Second)
		n.freeze()
		frozen := time.Now()
		re := requestError(t, <-result)
		if took := time.Since(frozen); took > 25*time.Second {
			t.Errorf("noticed after %s", took)
		}
		if re.Code != Lost || !re.Sent || re.Remote || !errors.Is(re, ErrPeerDead) {
			t.Errorf("%+v", re)
		}
		<-s.Done()
		time.Sleep(25*time.Second - time.Since(frozen))
		if got := b.Sessions(); len(got) != 0 {
			t.Errorf("the other side still has %d sessions", len(got))
		}
		select {
		case cause := <-ended:
			t.Errorf("the handler's context ended with the session: %v", cause)
		default:
		}
		a.stop()
		b.stop()
		<-ended
	})
}

func TestDeadlineTravels(t *testing.T) {
	bothWaysSynced(t, func(t *testing.T, w way) {
		n := newMemNet()
		ended := make(chan error, 1)
		a, b := memNode(t, n, 1, nil, nil), memNode(t, n, 2, w.serve(t, blocking(ended)), nil)
		s := a.to(t, b)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		begin := time.Now()
		_, err := w.request(s, ctx, Outgoing{Kind: 2})
		if re := requestError(t, err); re.Code != Timeout || !re.Sent {
			t.Errorf("%+v", re)
		}
		if cause := <-ended; !errors.Is(cause, context.DeadlineExceeded) && !errors.Is(cause, errPeerCanceled) {
			t.Errorf("cause %v", cause)
		}
		if took := time.Since(begin); took != 3*time.Second {
			t.Errorf("the handler's context ended after %s", took)
		}
		a.stop()
		b.stop()
	})
}

func TestCancelCrosses(t *testing.T) {
	bothWaysSynced(t, func(t *testing.T, w way) {
		n := newMemNet()
		ended := make(chan error, 1)
		a, b := memNode(t, n, 1, nil, nil), memNode(t, n, 2, w.serve(t, blocking(ended)), nil)
		s := a.to(t, b)
		cause := errors.New("changed my mind")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(cause) })
		_, err := w.request(s, ctx, Outgoing{Kind: 2})
		if re := requestError(t, err); re.Code != Canceled || !re.Sent || !errors.Is(re, cause) {
			t.Errorf("%+v", re)
		}
		if cause := <-ended; !errors.Is(cause, errPeerCanceled) {
			t.Errorf("cause %v", cause)
		}
		synctest.Wait()
		if in := a.Sessions()[0]; in.Outgoing != 0 {
			t.Errorf("the slot is still taken: %+v", in)
		}
		a.stop()
		b.stop()
	})
}

func TestRenewal(t *testing.T) {
	for _, by := range []string{"age", "bytes"} {
		t.Run(by, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testRenewal(t, by) })
		})
	}
}

func testRenewal(t *testing.T, by string) {
	n := newMemNet()
	h := startsSome(t, handlerFunc{request: func(ctx context.Context, r *Request) ([]byte, error) {
		time.Sleep(300 * time.Millisecond) // there is always something in flight
		return r.Body, nil
	}}, func(r *Request) bool { return r.ID[0]%3 > 0 })
	set := func(c *Config) {
		if by == "bytes" {
			c.RenewBytes = 8 << 20
		}
	}
	a, b := memNode(t, n, 1, h, set), memNode(t, n, 2, h, set)
	first := a.to(t, b)
	until := time.Now().Add(2*time.Hour + 30*time.Minute)
	if by == "bytes" {
		until = time.Now().Add(4 * time.Minute)
	}
	var wg sync.WaitGroup
	load := func(from *node, to PeerKey, w way) {
		defer wg.Done()
		s, _ := from.Live(to)
		for i := 0; time.Now().Before(until); i++ {
			body := bytes.Repeat([]byte{byte(i)}, i%3*20000)
			reply, err := w.request(s, t.Context(), Outgoing{Kind: 2, ID: [16]byte{byte(i)}, Body: body})
			if err != nil || !bytes.Equal(reply, body) {
				t.Errorf("request %d, %s: %v", i, w.name, err)
				return
			}
			if i%10 == 0 {
				s, _ = from.Live(to) // else the handle is an old one
			}
			time.Sleep(time.Until(until) / 1000)
		}
	}
	synctest.Wait()
	wg.Add(4)
	for _, w := range ways {
		go load(a, b.key(), w)
		go load(b, a.key(), w)
	}
	wg.Wait()
	time.Sleep(time.Minute)
	now, ok := a.Live(b.key())
	if !ok || now == first {
		t.Errorf("the session was not renewed")
	}
	if len(a.Sessions()) != 1 || len(b.Sessions()) != 1 {
		t.Errorf("%d and %d sessions", len(a.Sessions()), len(b.Sessions()))
	}
	if !errors.Is(first.Err(), ErrReplaced) {
		t.Errorf("the first session ended with %v", first.Err())
	}
	a.stop()
	b.stop()
}

func TestBothDialAtOnce(t *testing.T) {
	for i := range 20 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newMemNet()
				a, b := memNode(t, n, 1, nil, nil), memNode(t, n, 2, nil, nil)
				var wg sync.WaitGroup
				dial := func(from, to *node, delay time.Duration) {
					defer wg.Done()
					time.Sleep(delay)
					s, _, err := from.Session(t.Context(), to.key(), []netip.AddrPort{to.Addr()})
					if err != nil {
						t.Error(err)
						return
					}
					for j := range 50 {
						if _, err := s.Request(t.Context(), Outgoing{Kind: 2, Body: []byte{byte(j)}}); err != nil {
							t.Errorf("request %d: %v", j, err)
							return
						}
					}
				}
				for range 4 {
					wg.Add(2)
					go dial(a, b, 0)
					go dial(b, a, 0)
				}
				wg.Wait()
				time.Sleep(time.Second)
				sa, sb := a.Sessions(), b.Sessions()
				if len(sa) != 1 || len(sb) != 1 || sa[0].Initiator == sb[0].Initiator || sa[0].Draining || sb[0].Draining {
					t.Errorf("%+v and %+v", sa, sb)
				}
				a.stop()
				b.stop()
			})
		})
	}
}

func TestDialManyAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet()
		a, b := memNode(t, n, 1, nil, nil), memNode(t, n, 2, nil, nil)
		n.silent[memAddrOf(7)], n.silent[memAddrOf(8)] = true, true
		begin := time.Now()
		_, _, err := a.Session(t.Context(), b.key(), []netip.AddrPort{memAddrOf(7), memAddrOf(8), b.Addr()})
		if err != nil || time.Since(begin) != 500*time.Millisecond {
			t.Errorf("after %s: %v", time.Since(begin), err)
		}
		c := memNode(t, n, 3, nil, nil)
		begin = time.Now()
		_, _, err = a.Session(t.Context(), c.key(), []netip.AddrPort{memAddrOf(7), memAddrOf(9), b.Addr(), memAddrOf(8)})
		var de *DialError
		if !errors.As(err, &de) || len(de.Attempts) != 4 {
			t.Fatalf("%v", err)
		}
		if !errors.Is(err, errRefused) || !errors.Is(err, ErrNoAnswer) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("causes are missing: %v", err)
		}
		if took := time.Since(begin); took > 6*time.Second || took < 5*time.Second {
			t.Errorf("took %s", took)
		}
		for _, n := range []*node{a, b, c} {
			n.stop()
		}
	})
}

func TestDialIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet()
		a, b := memNode(t, n, 1, nil, nil), memNode(t, n, 2, nil, nil)
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if _, _, err := a.Session(t.Context(), b.key(), []netip.AddrPort{b.Addr()}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if len(n.conns) != 2 {
			t.Errorf("%d connections", len(n.conns)/2)
		}
		if _, _, err := a.Session(t.Context(), a.key(), []netip.AddrPort{a.Addr()}); !errors.Is(err, ErrSelf) {
			t.Errorf("dialling oneself: %v", err)
		}
		if _, _, err := a.Session(t.Context(), PeerKey{1}, nil); !errors.Is(err, ErrKey) {
			t.Errorf("a key that is none: %v", err)
		}
		a.stop()
		b.stop()
	})
}

func TestRunEnds(t *testing.T) {
	bothWaysSynced(t, func(t *testing.T, w way) {
		n := newMemNet()
		ended := make(chan error, 2)
		a, b := memNode(t, n, 1, nil, nil), memNode(t, n, 2, w.serve(t, blocking(ended)), nil)
		s := a.to(t, b)
		results := make(chan error, 2)
		ask := func() {
			_, err := w.request(s, t.Context(), Outgoing{Kind: 2})
			results <- err
		}
		go ask()
		synctest.Wait()
		b.stop() // the side that serves
		if re := requestError(t, <-results); re.Code != Lost || !re.Sent || !re.Remote || !re.Served {
			t.Errorf("%+v", re)
		}
		if cause := <-ended; !errors.Is(cause, ErrClosed) {
			t.Errorf("the handler's cause: %v", cause)
		}
		<-s.Done()
		if !errors.Is(s.Err(), ErrPeerClosed) {
			t.Errorf("the session ended with %v", s.Err())
		}
		if re := requestError(t, func() error { _, err := w.request(s, t.Context(), Outgoing{}); return err }()); re.Code != Lost || re.Sent {
			t.Errorf("on an ended session: %+v", re)
		}

		c := memNode(t, n, 3, w.serve(t, blocking(ended)), nil)
		s = a.to(t, c)
		go ask()
		synctest.Wait()
		a.stop() // the side that asks
		if re := requestError(t, <-results); re.Code != Lost || !re.Sent || re.Remote || !errors.Is(re, ErrClosed) {
			t.Errorf("%+v", re)
		}
		if cause := <-ended; !errors.Is(cause, errPeerCanceled) {
			t.Errorf("the handler's cause: %v", cause)
		}
		c.stop()
	})
}

// TestDrainWaitsForSlowTransfer: a large message that is under way on a slow
// line when the session is replaced is not cut off while it moves.
func TestDrainWaitsForSlowTransfer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet()
		b := memNode(t, n, 1, nil, nil)
		r := newMemRogue(t, n, b)
		const parts = 10
		r.send(rawFrame(typeRequest, 0, 1, request(2, 0, (parts+1)*1000, make([]byte, 1000))))
		synctest.Wait()
		s, ok := b.Live(PeerKey(testKey(t, 9)[32:]))
		if !ok {
			t.Fatal("no session")
		}
		var got []frame
		read := make(chan bool)
		go func() {
			defer close(read)
			for fs := r.next(); fs != nil; fs = r.next() {
				got = append(got, fs...)
			}
		}()
		s.startDrain(reasonReplaced)
		r.send(rawFrame(typeGoAway, flagLast, 0, []byte{goAwayDrain, reasonReplaced}))
		for i := range parts {
			for range 11 { // 110 s of pings only
				time.Sleep(10 * time.Second)
				r.send(rawFrame(typePing, flagLast, 1, nil))
			}
			flags := uint8(0)
			if i == parts-1 {
				flags = flagLast
			}
			r.send(rawFrame(typeMore, flags, 1, make([]byte, 1000)))
		}
		synctest.Wait()
		if err := s.Err(); err != nil {
			t.Fatalf("ended with %v", err)
		}
		for range 13 {
			time.Sleep(10 * time.Second)
			r.send(rawFrame(typePing, flagLast, 1, nil))
		}
		<-s.Done() // and when nothing moves any more, it ends
		<-read
		answered := false
		for _, f := range got {
			answered = answered || f.typ == typeResponse && f.id == 1
		}
		if !answered {
			t.Error("no answer")
		}
		r.conn.Close()
		b.stop()
	})
}
