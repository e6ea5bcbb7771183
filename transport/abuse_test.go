package transport

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// lockedBuffer is a log that many write to.
type lockedBuffer struct {
	mu sync.Mutex // guards:
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestPanickingHandler: one peer's message must not take the node down, and
// the panic must not be hidden either.
func TestPanickingHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet()
		log := &lockedBuffer{}
		notified := make(chan bool)
		h := handlerFunc{
			request: func(ctx context.Context, r *Request) ([]byte, error) {
				if len(r.Body) > 0 {
					panic("a secret")
				}
				return []byte("ok"), nil
			},
			notify: func(ctx context.Context, r *Request) { defer close(notified); panic("again") },
		}
		b := memNode(t, n, 1, h, func(c *Config) { c.Log = slog.New(slog.NewTextHandler(log, nil)) })
		a := memNode(t, n, 2, nil, nil)
		s := a.to(t, b)
		for range 100 {
			_, err := s.Request(t.Context(), Outgoing{Body: []byte{1}})
			if re := requestError(t, err); re.Code != Unsupported || !re.Remote || !re.Served || strings.Contains(re.Error(), "secret") {
				t.Fatalf("%+v", re)
			}
		}
		if got := log.String(); strings.Count(got, "a secret") != 1 || !strings.Contains(got, "abuse_test.go") || !strings.Contains(got, "level=ERROR") {
			t.Errorf("not logged once, with its stack:\n%s", got)
		}
		time.Sleep(2 * time.Second)
		if err := s.Notify(t.Context(), Outgoing{}); err != nil {
			t.Fatal(err)
		}
		<-notified
		if reply, err := s.Request(t.Context(), Outgoing{}); err != nil || string(reply) != "ok" {
			t.Errorf("%q, %v", reply, err)
		}
		synctest.Wait()
		if got := log.String(); !strings.Contains(got, `not logged before"=99`) {
			t.Errorf("what was left out is not told:\n%s", got)
		}
		if in := b.Sessions()[0]; in.Incoming != 0 {
			t.Errorf("slots are still taken: %+v", in)
		}
		a.stop()
		b.stop()
	})
}

// TestSlowReaderIsBounded asks for far more than MaxQueued and reads nothing.
func TestSlowReaderIsBounded(t *testing.T) {
	bothWaysSynced(t, func(t *testing.T, w way) {
		n := newMemNet()
		const size, requests, queued = 64 << 10, 200, 1 << 20
		h := handlerFunc{request: func(ctx context.Context, r *Request) ([]byte, error) {
			if r.Kind == 9 { // all of these make their replies at the same moment
				time.Sleep(time.Second)
			}
			return make([]byte, size), nil
		}}
		b := memNode(t, n, 1, w.serve(t, h), func(c *Config) {
			c.MaxMessage, c.MaxQueued, c.MaxQueuedTotal = 1<<20, queued, 2*queued
		})
		r := newMemRogue(t, n, b)
		ask := func(kind uint8, first uint64) {
			for i := range uint64(requests) {
				r.send(rawFrame(typeRequest, flagLast, first+i, request(kind, 0, 0, nil)))
				synctest.Wait() // one handler after the other, as far as they don't sleep
			}
		}
		count := func() (replies, busy int) {
			for replies+busy < requests {
				fs := r.next()
				if fs == nil {
					t.Fatal("the session has ended")
				}
				for _, f := range fs {
					if f.typ == typeError {
						h, _, err := parseError(f.payload)
						if err != nil || Code(h.code) != Busy || h.limit != limitQueued || !h.served {
							t.Fatalf("%+v, %v", h, err)
						}
						busy++
					}
					if f.last && (f.typ == typeResponse || f.typ == typeMoreReply) {
						replies++
					}
				}
			}
			return replies, busy
		}
		ask(2, 1)
		synctest.Wait() // everything stands: r reads nothing
		s, _ := b.Live(PeerKey(testKey(t, 9)[32:]))
		s.mu.Lock()
		waiting := s.serve.ready.head != nil
		s.mu.Unlock()
		if used := s.serve.replies.used.Load(); used <= queued/2 || used > queued/2+size || !waiting {
			t.Errorf("%d bytes of replies wait, MaxQueued is %d; further requests wait: %v", used, queued, waiting)
		}
		if replies, busy := count(); replies < queued/size-1 {
			t.Errorf("one handler after the other: %d replies, %d dropped", replies, busy)
		}
		ask(9, 1+requests)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if used := s.serve.replies.used.Load(); used == 0 || used > queued {
			t.Errorf("%d bytes of replies wait, MaxQueued is %d", used, queued)
		}
		if replies, busy := count(); replies < queued/size-1 || busy == 0 {
			t.Errorf("all at once: %d replies, %d dropped", replies, busy)
		}
		synctest.Wait()
		if used := b.replies.used.Load(); used != 0 || b.served.used.Load() != 0 {
			t.Errorf("%d bytes and %d requests are still counted", used, b.served.used.Load())
		}
		b.stop()
		r.conn.Close()
	})
}

// TestSlowestReaderPays: replies to one who does not read don't keep those to
// others from being sent.
func TestSlowestReaderPays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet()
		h := handlerFunc{request: func(ctx context.Context, r *Request) ([]byte, error) { return make([]byte, 256<<10), nil }}
		b := memNode(t, n, 1, h, func(c *Config) {
			c.MaxMessage, c.MaxQueued, c.MaxQueuedTotal = 1<<20, 2<<20, 2<<20
		})
		r := newMemRogue(t, n, b)
		for id := range uint64(20) {
			r.send(rawFrame(typeRequest, flagLast, 1+id, request(2, 0, 0, nil)))
		}
		synctest.Wait()
		hog, _ := b.Live(PeerKey(testKey(t, 9)[32:]))
		hog.serve.replies.take(int(hog.serve.replies.max - hog.serve.replies.used.Load())) // what slow handlers would add
		<-hog.Done()
		if !errors.Is(hog.Err(), ErrSlowReader) {
			t.Errorf("ended with %v", hog.Err())
		}
		a := memNode(t, n, 2, nil, nil)
		if _, err := a.to(t, b).Request(t.Context(), Outgoing{}); err != nil {
			t.Error(err)
		}
		a.stop()
		b.stop()
		if used := b.replies.used.Load(); used != 0 {
			t.Errorf("%d bytes are still counted", used)
		}
		r.conn.Close()
	})
}

// TestServingIsBounded: large requests that handlers sit on, and requests of
// all peers together.
func TestServingIsBounded(t *testing.T) {
	bothWaysSynced(t, func(t *testing.T, w way) {
		n := newMemNet()
		release := make(chan struct{})
		h := handlerFunc{request: func(ctx context.Context, r *Request) ([]byte, error) {
			<-release
			return nil, nil
		}}
		b := memNode(t, n, 1, w.serve(t, h), func(c *Config) {
			c.MaxMessage, c.MaxServing, c.MaxServingTotal = 300<<10, 300<<10, 350<<10
			c.MaxRequests, c.MaxRequestsTotal = 4, 5
		})
		a, c := memNode(t, n, 2, nil, nil), memNode(t, n, 3, nil, nil)
		sa, sc := a.to(t, b), c.to(t, b)
		results := make(chan error, 10)
		ask := func(s *Session, size int) {
			go func() {
				_, err := w.request(s, t.Context(), Outgoing{Body: make([]byte, size)})
				results <- err
			}()
			synctest.Wait()
		}
		busy := func(setting string) {
			t.Helper()
			select {
			case err := <-results:
				if re := requestError(t, err); re.Code != Busy || re.Setting != setting || re.Served || !re.Remote {
					t.Errorf("%+v", re)
				}
			default:
				t.Errorf("not refused for %s", setting)
			}
		}
		ask(sa, 200<<10)
		ask(sa, 30<<10)
		ask(sa, 200<<10) // comes in many frames
		busy("MaxServing")
		ask(sa, 50<<10)
		ask(sa, 40<<10) // in one frame
		busy("MaxServing")
		ask(sc, 200<<10)
		busy("MaxServing") // of all sessions
		ask(sc, 100)
		ask(sc, 100)
		ask(sc, 100)
		busy("MaxRequestsTotal")
		close(release)
		for range 5 {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
		synctest.Wait()
		for _, x := range []*budget{&b.assembly, &b.serving, &b.served} {
			if used := x.used.Load(); used != 0 {
				t.Errorf("%d are still counted", used)
			}
		}
		for _, n := range []*node{a, b, c} {
			n.stop()
		}
	})
}

// TestBlockedHandlersDontHoldOthers: MaxRequests handlers block, each waiting
// for the one that comes after it.
func TestBlockedHandlersDontHoldOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet()
		const c = 50
		var turn [c + 1]chan struct{}
		for i := range turn {
			turn[i] = make(chan struct{})
		}
		close(turn[c])
		h := handlerFunc{request: func(ctx context.Context, r *Request) ([]byte, error) {
			<-turn[r.Body[0]+1]
			close(turn[r.Body[0]])
			return nil, nil
		}}
		a, b := memNode(t, n, 1, nil, nil), memNode(t, n, 2, h, nil)
		s := a.to(t, b)
		var wg sync.WaitGroup
		for i := range c {
			wg.Go(func() {
				if _, err := s.Request(t.Context(), Outgoing{Body: []byte{byte(i)}}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		synctest.Wait()
		b.workers.mu.Lock()
		idle := len(b.workers.idle)
		b.workers.mu.Unlock()
		if idle == 0 || idle > c {
			t.Errorf("%d workers for %d handlers at once", idle, c)
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		b.workers.mu.Lock()
		idle = len(b.workers.idle)
		b.workers.mu.Unlock()
		if idle != 0 {
			t.Errorf("%d idle workers are kept", idle)
		}
		a.stop()
		b.stop()
	})
}

// TestForgedMessageWithSeenKey: who sees a message 1 on its way can't have it
// refused by sending another with its ephemeral key first.
func TestForgedMessageWithSeenKey(t *testing.T) {
	t.Parallel()
	n := startNode(t, testConfig(t, nil))
	id, _ := newIdentity(testKey(t, 5), "test")
	in, err := newInitiator(id, n.key(), entropy{})
	if err != nil {
		t.Fatal(err)
	}
	m, _ := in.message1(hello{maxRequests: 1}, nil)
	forged := bytes.Clone(m)
	forged[len(forged)-1] ^= 1
	copy(forged[2:], message1MAC(in.macKey, forged[2+macSize:]))
	conn := rawDial(t, n)
	conn.Write(forged)
	silence(t, conn)
	conn = rawDial(t, n)
	conn.Write(m)
	reply, err := readMessage(conn, minMessage2, maxMessage2)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.finish(reply); err != nil {
		t.Error(err)
	}
}
