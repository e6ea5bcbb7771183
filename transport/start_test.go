package transport

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// startFunc is a Handler whose requests go through start; one that it does not
// take is answered with "served".
type startFunc struct {
	handlerFunc
	start func(ctx context.Context, r *Request) bool
}

func (h startFunc) StartRequest(ctx context.Context, r *Request) bool { return h.start(ctx, r) }

func startFrom(start func(ctx context.Context, r *Request) bool) startFunc {
	return startFunc{handlerFunc{request: func(ctx context.Context, r *Request) ([]byte, error) {
		return []byte("served"), nil
	}}, start}
}

// taken is a request that a handler was given and has not answered.
type taken struct {
	ctx context.Context
	r   *Request
}

// keeping is a Starter that keeps what it takes.
func keeping(kept chan<- taken) startFunc {
	return startFrom(func(ctx context.Context, r *Request) bool { kept <- taken{ctx, r}; return true })
}

// hook is what OnEnd is given.
type hook struct{ ended atomic.Int32 }

func (h *hook) Ended() { h.ended.Add(1) }

func (k taken) onEnd() *hook {
	h := new(hook)
	k.ctx.(interface{ OnEnd(interface{ Ended() }) }).OnEnd(h)
	return h
}

// begin is start that must not be refused.
func begin(t *testing.T, s *Session, deadline time.Time, o Outgoing) *testReceiver {
	t.Helper()
	r := newTestReceiver()
	if !r.start(s, deadline, o) {
		t.Fatal("not started")
	}
	return r
}

// once checks that r was told once, and gives what it was told.
func (r *testReceiver) once(t *testing.T) ([]byte, error) {
	t.Helper()
	<-r.done
	if n := r.told.Load(); n != 1 {
		t.Errorf("told %d times", n)
	}
	return r.reply, r.err
}

// lost checks for a Lost.
func (r *testReceiver) lost(t *testing.T, sent bool, cause error) {
	t.Helper()
	_, err := r.once(t)
	if re := requestError(t, err); re.Code != Lost || re.Sent != sent || re.Remote || !errors.Is(re, cause) {
		t.Errorf("%+v, want Lost for %v, sent %t", re, cause, sent)
	}
}

// hold keeps the session from writing until the return value is called.
func hold(s *Session) (release func()) {
	synctest.Wait() // nobody writes
	set := func(busy bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.tx.busy = busy
	}
	set(true)
	return func() { set(false); s.wake() }
}

// nothingLeft checks that the requests between a and b have given everything back.
func nothingLeft(t *testing.T, nodes ...*node) {
	t.Helper()
	for i, n := range nodes {
		for _, in := range n.Sessions() {
			if in.Outgoing != 0 || in.Incoming != 0 {
				t.Errorf("node %d: slots are still taken: %+v", i, in)
			}
		}
		for _, b := range []*budget{&n.assembly, &n.serving, &n.replies, &n.served} {
			if used := b.used.Load(); used != 0 {
				t.Errorf("node %d: %d are still counted", i, used)
			}
		}
		n.contexts.mu.Lock()
		if n.contexts.first != nil {
			t.Errorf("node %d: a context is still listed", i)
		}
		n.contexts.mu.Unlock()
	}
}

func stopAll(nodes ...*node) {
	for _, n := range nodes {
		n.stop()
	}
}

// What StartRequest does not take is served as if it had not been asked.
func TestStartRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet()
		var asked atomic.Int32
		h := startFunc{handlerFunc{request: func(ctx context.Context, r *Request) ([]byte, error) {
			r.Reply([]byte("wrong"), nil) // is for requests that were taken
			return fmt.Appendf(nil, "%d %s %s", r.Kind, r.Header, r.Body), nil
		}}, func(ctx context.Context, r *Request) bool { asked.Add(1); return false }}
		a, b := memNode(t, n, 1, nil, nil), memNode(t, n, 2, h, nil)
		s := a.to(t, b)
		now := time.Now()
		o := Outgoing{Kind: 3, Header: []byte("head"), Body: []byte("body")}
		if reply, err := begin(t, s, time.Time{}, o).once(t); err != nil || string(reply) != "3 head body" {
			t.Errorf("%q, %v", reply, err)
		}
		if asked.Load() != 1 {
			t.Errorf("asked %d times", asked.Load())
		}
		big := Outgoing{Kind: 3, Body: make([]byte, fastLimit+1)}
		if _, err := begin(t, s, time.Time{}, big).once(t); err != nil || asked.Load() != 1 {
			t.Errorf("a large one: %v; asked %d times", err, asked.Load())
		}
		if err := s.Notify(t.Context(), Outgoing{}); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if asked.Load() != 1 {
			t.Error("asked for a notify")
		}
		b.contexts.stop(ErrClosed)
		if _, err := begin(t, s, time.Time{}, o).once(t); err != nil || asked.Load() != 1 {
			t.Errorf("one whose context has ended: %v; asked %d times", err, asked.Load())
		}
		if took := time.Since(now); took != 0 { // not with the next ping
			t.Errorf("served after %s", took)
		}
		synctest.Wait()
		nothingLeft(t, a, b)
		stopAll(a, b)
	})
}

// A panic of StartRequest is the request's, and is logged, however far it came.
func TestStartPanics(t *testing.T) {
	late := make(chan *Request, 1)
	for name, c := range map[string]struct {
		start func(r *Request)
		reply string // "" = Unsupported
	}{
		"at once":        {start: func(r *Request) {}},
		"after storing":  {start: func(r *Request) { late <- r }},
		"after replying": {func(r *Request) { r.Reply([]byte("ok"), nil) }, "ok"},
		"after another replied": {func(r *Request) {
			var wg sync.WaitGroup
			wg.Go(func() { r.Reply([]byte("ok"), nil) })
			wg.Wait()
		}, "ok"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newMemNet()
				log := &lockedBuffer{}
				h := startFrom(func(ctx context.Context, r *Request) bool {
					if r.Kind == 9 {
						return false
					}
					c.start(r)
					panic("a secret")
				})
				b := memNode(t, n, 1, h, func(c *Config) { c.Log = slog.New(slog.NewTextHandler(log, nil)) })
				a := memNode(t, n, 2, nil, nil)
				s := a.to(t, b)
				reply, err := begin(t, s, time.Time{}, Outgoing{Kind: 2}).once(t)
				if c.reply != "" {
					if err != nil || string(reply) != c.reply {
						t.Errorf("%q, %v", reply, err)
					}
				} else if re := requestError(t, err); re.Code != Unsupported || !re.Remote || !re.Served || strings.Contains(re.Error(), "secret") {
					t.Errorf("%+v", re)
				}
				next := begin(t, s, time.Time{}, Outgoing{Kind: 9})
				select {
				case r := <-late:
					r.Reply([]byte("too late"), nil)
				default:
				}
				if reply, err := next.once(t); err != nil || string(reply) != "served" {
					t.Errorf("the next one: %q, %v", reply, err)
				}
				synctest.Wait()
				if got := log.String(); strings.Count(got, "a secret") != 1 || !strings.Contains(got, "start_test.go") || !strings.Contains(got, "kind=2") {
					t.Errorf("not logged once, with its stack:\n%s", got)
				}
				nothingLeft(t, a, b)
				stopAll(a, b)
			})
		})
	}
}

// A panic while another goroutine replies: the request is the other's by then.
func TestStartPanicsWhileAnotherReplies(t *testing.T) {
	t.Parallel()
	var wg sync.WaitGroup
	b := startNode(t, testConfig(t, startFrom(func(ctx context.Context, r *Request) bool {
		wg.Go(func() { r.Reply(nil, nil) })
		for range r.Kind {
			runtime.Gosched()
		}
		panic("mine")
	})))
	a := startNode(t, testConfig(t, nil))
	s := a.to(t, b)
	for i := range 200 {
		_, err := begin(t, s, time.Time{}, Outgoing{Kind: uint8(i % 3)}).once(t)
		if err != nil && requestError(t, err).Code != Unsupported {
			t.Fatal(err)
		}
	}
	wg.Wait()
	nothingLeft(t, a, b)
}

// A second Reply does nothing: neither to its own request nor to one that came later.
func TestReplyTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet()
		kept := make(chan taken, 2)
		a, b := memNode(t, n, 1, nil, nil), memNode(t, n, 2, keeping(kept), nil)
		s := a.to(t, b)
		first := begin(t, s, time.Time{}, Outgoing{Kind: 2})
		one := <-kept
		one.r.Reply([]byte("one"), nil)
		if reply, err := first.once(t); err != nil || string(reply) != "one" {
			t.Errorf("%q, %v", reply, err)
		}
		second := begin(t, s, time.Time{}, Outgoing{Kind: 2})
		two := <-kept
		one.r.Reply([]byte("again"), nil)
		synctest.Wait()
		if second.told.Load() != 0 || b.Sessions()[0].Incoming != 1 || b.served.used.Load() != 1 {
			t.Errorf("the second request was answered: %q, %v", second.reply, second.err)
		}
		two.r.Reply(nil, &PeerError{Body: []byte("two")})
		two.r.Reply([]byte("again"), nil)
		var pe *PeerError
		if _, err := second.once(t); !errors.As(err, &pe) || string(pe.Body) != "two" {
			t.Errorf("%v", err)
		}
		synctest.Wait()
		nothingLeft(t, a, b)
		if err := s.Err(); err != nil {
			t.Error(err)
		}
		stopAll(a, b)
	})
}

// Of replies at the same moment one counts.
func TestRepliesRace(t *testing.T) {
	t.Parallel()
	var wg sync.WaitGroup
	b := startNode(t, testConfig(t, startFrom(func(ctx context.Context, r *Request) bool {
		for i := range 4 {
			wg.Go(func() { r.Reply([]byte{byte(i)}, nil) })
		}
		return true
	})))
	a := startNode(t, testConfig(t, nil))
	s := a.to(t, b)
	for range 50 {
		var asked [8]*testReceiver
		for i := range asked {
			asked[i] = begin(t, s, time.Time{}, Outgoing{Kind: 2})
		}
		for _, r := range asked {
			if reply, err := r.once(t); err != nil || len(reply) != 1 {
				t.Fatalf("%x, %v", reply, err)
			}
		}
	}
	wg.Wait()
	nothingLeft(t, b)
	if err := s.Err(); err != nil {
		t.Error(err)
	}
}

// A started request hears of every end of its context, once, and who asks after
// the end hears at once.
func TestOnEnd(t *testing.T) {
	for name, c := range map[string]struct {
		end   func(a, b *node, asked *testReceiver, k taken)
		cause error
	}{
		"the peer cancels":    {func(a, b *node, asked *testReceiver, k taken) { asked.pending.Cancel() }, errPeerCanceled},
		"the handler cancels": {func(a, b *node, asked *testReceiver, k taken) { k.r.Cancel(errInjected) }, errInjected},
		"the endpoint stops":  {func(a, b *node, asked *testReceiver, k taken) { go b.stop() }, ErrClosed},
		"the peer stops":      {func(a, b *node, asked *testReceiver, k taken) { go a.stop() }, errPeerCanceled},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newMemNet()
				kept := make(chan taken, 1)
				a, b := memNode(t, n, 1, nil, nil), memNode(t, n, 2, keeping(kept), nil)
				asked := begin(t, a.to(t, b), time.Time{}, Outgoing{Kind: 2})
				k := <-kept
				derived, cancel := context.WithCancel(k.ctx)
				defer cancel()
				h := k.onEnd()
				synctest.Wait()
				if h.ended.Load() != 0 || k.ctx.Err() != nil {
					t.Error("before the end")
				}
				c.end(a, b, asked, k)
				synctest.Wait()
				if h.ended.Load() != 1 || !errors.Is(k.ctx.Err(), context.Canceled) || derived.Err() == nil {
					t.Errorf("told %d times; %v, %v", h.ended.Load(), k.ctx.Err(), derived.Err())
				}
				if cause := k.ctx.(*serveCtx).causeOf(); !errors.Is(cause, c.cause) {
					t.Errorf("cause %v", cause)
				}
				if after := k.onEnd(); after.ended.Load() != 1 {
					t.Errorf("after the end: told %d times", after.ended.Load())
				}
				k.r.Reply(nil, k.ctx.Err())
				stopAll(a, b)
				if h.ended.Load() != 1 {
					t.Errorf("told %d times", h.ended.Load())
				}
				nothingLeft(t, a, b)
			})
		})
	}
}

// An OnEnd costs no timer: it is the tick that tells of the deadline.
func TestOnEndAtDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet()
		kept := make(chan taken, 1)
		a := memNode(t, n, 1, nil, nil)
		b := memNode(t, n, 2, keeping(kept), func(c *Config) { c.Tick = 10 * time.Second })
		running := time.Now()
		s := a.to(t, b)
		asked := begin(t, s, time.Now().Add(12*time.Second), Outgoing{Kind: 2}) // and nobody cancels it
		k := <-kept
		h := k.onEnd()
		time.Sleep(time.Until(running.Add(15 * time.Second)))
		if h.ended.Load() != 0 || k.ctx.Err() != context.DeadlineExceeded {
			t.Errorf("between deadline and tick: told %d times, %v", h.ended.Load(), k.ctx.Err())
		}
		time.Sleep(time.Until(running.Add(20*time.Second + time.Millisecond)))
		if err := k.ctx.Err(); h.ended.Load() != 1 || err != context.DeadlineExceeded || k.ctx.(*serveCtx).causeOf() != err {
			t.Errorf("after the tick: told %d times, %v", h.ended.Load(), err)
		}
		k.r.Reply(nil, k.ctx.Err())
		_, err := asked.once(t)
		if re := requestError(t, err); re.Code != Timeout || !re.Remote || !re.Served {
			t.Errorf("%+v", re)
		}
		synctest.Wait()
		nothingLeft(t, a, b)
		stopAll(a, b)
	})
}

// After a Reply nobody is told of an end, be OnEnd called before or after it.
func TestNoEndAfterReply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet()
		kept := make(chan taken, 1)
		a, b := memNode(t, n, 1, nil, nil), memNode(t, n, 2, keeping(kept), nil)
		asked := begin(t, a.to(t, b), time.Now().Add(2*time.Second), Outgoing{Kind: 2})
		k := <-kept
		before := k.onEnd()
		k.r.Reply([]byte("ok"), nil)
		after := k.onEnd()
		if err := k.ctx.Err(); err != context.Canceled {
			t.Errorf("the context: %v", err)
		}
		if reply, err := asked.once(t); err != nil || string(reply) != "ok" {
			t.Errorf("%q, %v", reply, err)
		}
		asked.pending.Cancel()
		k.r.Cancel(errInjected)
		time.Sleep(5 * time.Second) // the deadline and its tick
		nothingLeft(t, a, b)
		stopAll(a, b)
		if before.ended.Load() != 0 || after.ended.Load() != 0 {
			t.Errorf("told %d and %d times", before.ended.Load(), after.ended.Load())
		}
	})
}

// All that can happen to a context at the same moment.
func TestServeContextRaces(t *testing.T) {
	t.Parallel()
	e, err := New(testConfig(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	for range 200 {
		c := &serveCtx{ep: e, deadline: time.Now().Add(time.Hour)}
		h, late := taken{ctx: c}.onEnd(), new(hook)
		derived, cancel := context.WithCancel(c)
		var wg sync.WaitGroup
		for _, f := range []func(){
			func() { c.end(errPeerCanceled) },
			func() { c.replied() },
			func() { e.contexts.expire(c.deadline) },
			func() { <-c.Done() },
			func() { <-derived.Done() },
			func() { context.AfterFunc(c, late.Ended)() },
		} {
			wg.Go(f)
		}
		wg.Wait()
		if cause := c.causeOf(); h.ended.Load() > 1 || late.ended.Load() > 1 || cause == nil || e.contexts.first != nil {
			t.Fatalf("told %d and %d times, cause %v; listed: %t", h.ended.Load(), late.ended.Load(), cause, e.contexts.first != nil)
		}
		cancel()
	}
}

// A context that hears of the endpoint's stop only when somebody asks.
func TestOnEndAfterStop(t *testing.T) {
	t.Parallel()
	e, err := New(testConfig(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	c := &serveCtx{ep: e}
	if c.causeOf() != nil || c.Err() != context.Canceled {
		t.Errorf("%v, %v", c.causeOf(), c.Err())
	}
	if h := (taken{ctx: c}).onEnd(); h.ended.Load() != 1 || c.causeOf() != ErrClosed {
		t.Errorf("told %d times, %v", h.ended.Load(), c.causeOf())
	}
}

// A reply may come when its session, or all of the endpoint, is gone.
func TestReplyAfterTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet()
		kept := make(chan taken, 2)
		a, b := memNode(t, n, 1, nil, nil), memNode(t, n, 2, keeping(kept), func(c *Config) { c.CloseTimeout = time.Second })
		s := a.to(t, b)
		begin(t, s, time.Time{}, Outgoing{Kind: 2})
		begin(t, s, time.Time{}, Outgoing{Kind: 2})
		first, second := <-kept, <-kept
		here := b.contexts.cause() // no session breaks a context
		s.fail(errInjected)
		synctest.Wait()
		if here != nil || first.ctx.Err() != nil || len(b.Sessions()) != 0 {
			t.Errorf("%v, %v, %d sessions", here, first.ctx.Err(), len(b.Sessions()))
		}
		first.r.Reply(make([]byte, 1<<20), nil)
		if used := b.served.used.Load(); used != 1 {
			t.Errorf("%d are counted", used)
		}
		stopAll(a, b)
		second.r.Reply(nil, second.ctx.Err())
		nothingLeft(t, a, b)
	})
}

// Large replies are put together for a receiver, too.
func TestLargeReplyToStarted(t *testing.T) {
	t.Parallel()
	b := startNode(t, testConfig(t, startFrom(func(ctx context.Context, r *Request) bool {
		body := bytes.Repeat([]byte{r.ID[0]}, 300<<10)
		if r.Kind == 9 {
			r.Reply(nil, &PeerError{Body: body}) // from the reader
		} else {
			r.Reply(body, nil)
		}
		return true
	})))
	a := startNode(t, testConfig(t, nil))
	s := a.to(t, b)
	var asked [20]*testReceiver
	for i := range asked {
		kind := uint8(2)
		if i%2 == 1 {
			kind = 9
		}
		asked[i] = begin(t, s, time.Time{}, Outgoing{Kind: kind, ID: [16]byte{byte(i)}})
	}
	for i, r := range asked {
		reply, err := r.once(t)
		if i%2 == 1 {
			var pe *PeerError
			if !errors.As(err, &pe) {
				t.Fatalf("%d: %v", i, err)
			}
			reply, err = pe.Body, nil
		}
		if err != nil || !bytes.Equal(reply, bytes.Repeat([]byte{byte(i)}, 300<<10)) {
			t.Errorf("%d: %d bytes, %v", i, len(reply), err)
		}
	}
	nothingLeft(t, a, b)
}

// A reply that does not fit into the reassembly budget is given up on at once.
func TestNoRoomForReply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet()
		const size, part = 1 << 20, 32 << 10
		b := memNode(t, n, 1, nil, func(c *Config) { c.MaxMessage, c.MaxReassembly, c.MaxReassemblyTotal = size, size, size })
		r := newMemRogue(t, n, b)
		go func() {
			for r.next() != nil {
			}
		}()
		r.send(rawFrame(typePing, flagLast, 1, nil))
		synctest.Wait()
		s, _ := b.Live(PeerKey(testKey(t, 9)[32:]))
		asked := []*testReceiver{begin(t, s, time.Time{}, Outgoing{}), begin(t, s, time.Time{}, Outgoing{})}
		synctest.Wait()
		more := func(i int) { // a part of both replies
			typ, flags, head := uint8(typeMoreReply), uint8(0), []byte(nil)
			if i == 0 {
				typ, head = typeResponse, binary.BigEndian.AppendUint32(nil, size)
			} else if i == size/part-1 {
				flags = flagLast
			}
			for id := range uint64(2) {
				r.send(rawFrame(typ, flags, 1+id, append(head, make([]byte, part)...)))
			}
			synctest.Wait()
		}
		i := 0
		for ; asked[0].told.Load()+asked[1].told.Load() == 0 && i < size/part-1; i++ {
			more(i)
		}
		for _, a := range asked {
			if a.told.Load() == 0 {
				defer func() {
					if reply, err := a.once(t); err != nil || len(reply) != size {
						t.Errorf("the other one: %d bytes, %v", len(reply), err)
					}
				}()
			} else if re := requestError(t, a.err); re.Code != Busy || re.Remote || !re.Served || re.Setting != "MaxReassembly" {
				t.Errorf("%+v", re)
			} else if inTime, _ := a.pending.Cancel(); inTime {
				t.Error("a Cancel after the end came in time")
			}
		}
		if asked[0].told.Load()+asked[1].told.Load() != 1 {
			t.Fatalf("not one of them was told after %d of %d parts", i, size/part)
		}
		for ; i < size/part; i++ {
			more(i)
		}
		if in := s.info(); in.Outgoing != 0 || b.assembly.used.Load() != 0 {
			t.Errorf("%d slots and %d bytes are still taken", in.Outgoing, b.assembly.used.Load())
		}
		r.conn.Close()
		b.stop()
		asked[0].once(t)
		asked[1].once(t)
	})
}

// When a session fails, each of its started requests is told so, wherever it is.
func TestStartedRequestsFailOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet()
		kept := make(chan taken, 10)
		a, b := memNode(t, n, 1, nil, nil), memNode(t, n, 2, keeping(kept), nil)
		s := a.to(t, b)
		served := begin(t, s, time.Time{}, Outgoing{Kind: 2})
		canceled := begin(t, s, time.Time{}, Outgoing{Kind: 2})
		answered := begin(t, s, time.Time{}, Outgoing{Kind: 3})
		for range 3 {
			if k := <-kept; k.r.Kind == 3 {
				k.r.Reply(nil, nil)
			}
		}
		if _, err := answered.once(t); err != nil {
			t.Error(err)
		}
		if inTime, sent := canceled.pending.Cancel(); !inTime || !sent {
			t.Errorf("canceled: %t, %t", inTime, sent)
		}
		synctest.Wait()
		release := hold(s)
		defer release()
		half := begin(t, s, time.Time{}, Outgoing{Kind: 2, Body: make([]byte, 1<<20)})
		s.mu.Lock()
		s.out.pack(&writeBuf{b: make([]byte, batchSize)}, time.Now(), s.beganLocked, s.endedLocked)
		s.mu.Unlock()
		small, large := begin(t, s, time.Time{}, Outgoing{Kind: 2}), begin(t, s, time.Time{}, Outgoing{Kind: 2, Body: make([]byte, 1<<20)})
		gone := begin(t, s, time.Time{}, Outgoing{Kind: 2})
		if inTime, sent := gone.pending.Cancel(); !inTime || sent {
			t.Errorf("gone: %t, %t", inTime, sent)
		}
		for _, r := range []*testReceiver{served, half, small, large} {
			if r.told.Load() != 0 {
				t.Error("told too early")
			}
		}
		s.fail(errInjected)
		s.fail(errors.New("again"))
		s.goodbye()
		if newTestReceiver().start(s, time.Time{}, Outgoing{}) {
			t.Error("started after the end")
		}
		served.lost(t, true, errInjected)
		half.lost(t, true, errInjected)
		small.lost(t, false, errInjected) // what has not left may go over another session
		large.lost(t, false, errInjected)
		for _, r := range []*testReceiver{served, half, small, large} {
			if inTime, _ := r.pending.Cancel(); inTime {
				t.Error("a Cancel after the end came in time")
			}
		}
		stopAll(a, b)
		for _, r := range []*testReceiver{answered, served, half, small, large} {
			r.once(t)
		}
		if canceled.told.Load()+gone.told.Load() != 0 {
			t.Error("told in spite of Cancel")
		}
	})
}

// Connections break while requests are begun, by the goroutine that begins them, too.
func TestStartWhileConnectionBreaks(t *testing.T) {
	t.Parallel()
	b := startNode(t, testConfig(t, startFrom(func(ctx context.Context, r *Request) bool { r.Reply(nil, nil); return true })))
	a := startNode(t, testConfig(t, nil))
	var all []*testReceiver
	for i := range 20 {
		s := a.to(t, b)
		var wg sync.WaitGroup
		wg.Go(func() {
			for range i * 5 {
				runtime.Gosched()
			}
			s.conn.Close()
		})
		for s.Err() == nil {
			if r := newTestReceiver(); r.start(s, time.Time{}, Outgoing{Kind: 2}) {
				all = append(all, r)
			}
			runtime.Gosched()
		}
		wg.Wait()
	}
	a.stop()
	for _, r := range all {
		r.once(t)
	}
}

// A Cancel and an answer at the same moment: one of them counts.
func TestCancelRace(t *testing.T) {
	t.Parallel()
	replying := make(chan struct{}, 1)
	b := startNode(t, testConfig(t, startFrom(func(ctx context.Context, r *Request) bool {
		replying <- struct{}{}
		r.Reply(make([]byte, int(r.Kind)*20000), nil) // of kind 1 in parts
		return true
	})))
	a := startNode(t, testConfig(t, nil))
	s := a.to(t, b)
	var asked [400]*testReceiver
	var inTime [len(asked)]bool
	patience := 0
	for i := range asked {
		r := begin(t, s, time.Time{}, Outgoing{Kind: uint8(i % 2)})
		asked[i] = r
		<-replying
		for range patience {
			runtime.Gosched()
		}
		if i%50 == 0 {
			<-r.done
		}
		if inTime[i], _ = r.pending.Cancel(); inTime[i] { // nears the moment, however fast the machine is
			patience += 5
		} else {
			patience = max(patience-5, 0)
		}
	}
	if _, err := s.Request(t.Context(), Outgoing{}); err != nil { // the slots are not lost
		t.Error(err)
	}
	<-replying
	stopAll(a, b)
	var left [2]int
	for i, r := range asked {
		told := r.told.Load()
		if told != 1 && !inTime[i] || told != 0 && inTime[i] {
			t.Errorf("%d: told %d times, canceled in time %t", i, told, inTime[i])
			continue
		}
		left[told]++
	}
	t.Logf("%d answered, %d canceled", left[1], left[0])
}

// What is cancelled before it has left does not leave.
func TestCancelBeforeSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet()
		var served atomic.Int32
		a, b := memNode(t, n, 1, nil, nil), memNode(t, n, 2, startFrom(func(ctx context.Context, r *Request) bool {
			served.Add(1)
			r.Reply(r.Body, nil)
			return true
		}), func(c *Config) { c.MaxRequests = 2 })
		s := a.to(t, b)
		release := hold(s)
		body := []byte("mine again")
		for _, size := range []int{len(body), 1 << 20} {
			r := begin(t, s, time.Time{}, Outgoing{Kind: 2, Body: append(body, make([]byte, size-len(body))...)})
			if inTime, sent := r.pending.Cancel(); !inTime || sent || r.pending.call.msg.body != nil {
				t.Errorf("%d bytes: %t, %t", size, inTime, sent)
			}
			defer func() {
				if r.told.Load() != 0 {
					t.Error("told in spite of Cancel")
				}
			}()
		}
		one, two := begin(t, s, time.Time{}, Outgoing{Kind: 2, Body: body}), begin(t, s, time.Time{}, Outgoing{Kind: 2, Body: body})
		release()
		for _, r := range []*testReceiver{one, two} {
			if reply, err := r.once(t); err != nil || string(reply) != string(body) {
				t.Errorf("%q, %v", reply, err)
			}
		}
		if served.Load() != 2 {
			t.Errorf("%d were served", served.Load())
		}
		nothingLeft(t, a)
		stopAll(a, b)
	})
}

// Where Request would wait or fail, Start does nothing.
func TestStartIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet()
		kept := make(chan taken, 10)
		limits := func(c *Config) { c.MaxRequests, c.MaxMessage, c.MaxQueued = 2, 1<<20, 1<<20 }
		a, b := memNode(t, n, 1, nil, limits), memNode(t, n, 2, keeping(kept), limits)
		s := a.to(t, b)
		refused := newTestReceiver()
		no := func(what string, o Outgoing) {
			t.Helper()
			before := s.info().Outgoing
			if refused.pending = (Pending{}); refused.start(s, time.Time{}, o) {
				t.Errorf("%s: started", what)
			}
			if after := s.info().Outgoing; after != before {
				t.Errorf("%s: %d in flight, %d before", what, after, before)
			}
		}
		no("a large body", Outgoing{Body: make([]byte, 1<<20+1)})
		no("a large header", Outgoing{Header: make([]byte, MaxHeader+1)})

		release := hold(s)
		large := begin(t, s, time.Time{}, Outgoing{Body: make([]byte, 1<<20)})
		no("MaxQueued", Outgoing{Body: []byte{1}})
		release()
		if _, err := large.once(t); err != nil {
			t.Error(err)
		}
		first, second := begin(t, s, time.Time{}, Outgoing{}), begin(t, s, time.Time{}, Outgoing{})
		synctest.Wait()
		no("MaxRequests", Outgoing{})
		third := make(chan error, 1)
		go func() {
			_, err := s.Request(t.Context(), Outgoing{})
			third <- err
		}()
		synctest.Wait()
		s.mu.Lock()
		s.calls.max++ // there is room, but somebody was here before
		s.mu.Unlock()
		no("others wait", Outgoing{})
		s.mu.Lock()
		s.calls.max--
		s.mu.Unlock()
		go func() {
			for k := range kept {
				k.r.Reply(nil, nil)
			}
		}()
		defer close(kept)
		for _, r := range []*testReceiver{first, second} {
			if _, err := r.once(t); err != nil {
				t.Error(err)
			}
		}
		if err := <-third; err != nil {
			t.Error(err)
		}

		release = hold(s)
		s.startDrain(reasonReplaced)
		no("draining", Outgoing{})
		release()
		<-s.Done()
		no("ended", Outgoing{})
		stopAll(a, b)
		if refused.told.Load() != 0 {
			t.Error("told of what was not started")
		}
	})
}

// A session that is replaced takes along what waits in its queue. If it can't,
// that has not been sent.
func TestReplacedWithStartedInQueue(t *testing.T) {
	for _, fails := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			n := newMemNet()
			a, b := memNode(t, n, 1, nil, nil), memNode(t, n, 2, starts(t, handlerFunc{}), nil)
			s := a.to(t, b)
			release := hold(s)
			r := begin(t, s, time.Time{}, Outgoing{Kind: 2, Body: []byte("body")})
			s.startDrain(reasonReplaced)
			synctest.Wait()
			if r.told.Load() != 0 {
				t.Error("told before the session has ended")
			}
			if fails {
				s.fail(ErrReplaced)
				r.lost(t, false, ErrReplaced)
			}
			release()
			if reply, err := r.once(t); !fails && (err != nil || string(reply) != "body") {
				t.Errorf("%q, %v", reply, err)
			}
			<-s.Done()
			if !errors.Is(s.Err(), ErrReplaced) {
				t.Errorf("ended with %v", s.Err())
			}
			stopAll(a, b)
			r.once(t)
		})
	}
}

// The end of Run ends what has left and what has not.
func TestRunEndsWithStartedInQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet()
		kept := make(chan taken, 1)
		a, b := memNode(t, n, 1, nil, nil), memNode(t, n, 2, keeping(kept), nil)
		s := a.to(t, b)
		left := begin(t, s, time.Time{}, Outgoing{Kind: 2})
		k := <-kept
		h := k.onEnd()
		release := hold(s)
		queued := begin(t, s, time.Time{}, Outgoing{Kind: 2})
		stopped, stopping := make(chan struct{}), time.Now()
		go func() { defer close(stopped); a.stop() }()
		queued.lost(t, false, ErrClosed)
		left.lost(t, true, ErrClosed)
		release()
		synctest.Wait()
		if h.ended.Load() != 1 {
			t.Errorf("the peer's handler was told %d times", h.ended.Load())
		}
		k.r.Reply(nil, k.ctx.Err())
		<-stopped
		if took := time.Since(stopping); !errors.Is(s.Err(), ErrClosed) || took >= a.cfg.CloseTimeout {
			t.Errorf("ended with %v after %s", s.Err(), took)
		}
		b.stop()
		queued.once(t)
		left.once(t)
		nothingLeft(t, b)
	})
}
