package transport

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
)

func TestPushBack(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	now, most := 0, 0
	c := testConfig(t, startsSome(t, handlerFunc{request: func(ctx context.Context, r *Request) ([]byte, error) {
		mu.Lock()
		now++
		most = max(most, now)
		mu.Unlock()
		runtime.Gosched()
		mu.Lock()
		now--
		mu.Unlock()
		return r.Body, nil
	}}, func(r *Request) bool { return r.ID[0]%3 > 0 }))
	c.MaxRequests = 4
	b := startNode(t, c)
	c = testConfig(t, nil)
	c.MaxWaiting = 100
	a := startNode(t, c)
	s := a.to(t, b)
	var wg sync.WaitGroup
	for n := range 50 {
		wg.Go(func() {
			for i := range 50 {
				ctx, cancel := context.WithCancel(t.Context())
				if i%7 == 0 {
					go cancel() // the slot of a cancelled one stays taken until the peer says so
				}
				_, err := ways[n%2].request(s, ctx, Outgoing{Kind: 2, ID: [16]byte{byte(i)}, Body: make([]byte, i*500)})
				var re *RequestError
				if err != nil && (!errors.As(err, &re) || re.Code != Canceled) {
					t.Error(err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	mu.Lock()
	defer mu.Unlock()
	if most > 4 {
		t.Errorf("%d at once", most)
	}
}

func TestBothSidesFull(t *testing.T) {
	t.Parallel()
	a, b := startNode(t, testConfig(t, nil)), startNode(t, testConfig(t, nil))
	sa := a.to(t, b)
	// An answer shows that b has the session too.
	if _, err := sa.Request(t.Context(), Outgoing{}); err != nil {
		t.Fatal(err)
	}
	sb, ok := b.Live(a.key())
	if !ok {
		t.Fatal("no session")
	}
	var wg sync.WaitGroup
	for _, s := range []*Session{sa, sb} {
		for i := range 16 {
			wg.Go(func() {
				body := bytes.Repeat([]byte{byte(i)}, 2<<20)
				reply, err := ways[i%2].request(s, t.Context(), Outgoing{Kind: 2, Body: body})
				if err != nil || !bytes.Equal(reply, body) {
					t.Errorf("%v", err)
				}
			})
		}
	}
	wg.Wait()
}
