package transport

import (
	"bytes"
	"context"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// library is a Handler that answers reads of kind 1 early: each body with itself
// in capitals.
type library struct {
	handlerFunc
	read, began, served atomic.Int32
	answer              func(r *EarlyRead, most int) []byte
}

func (l *library) ReadEarly(r *EarlyRead, most int) []byte {
	l.read.Add(1)
	switch {
	case l.answer != nil:
		return l.answer(r, most)
	case r.Kind != 1:
		return nil
	}
	return bytes.ToUpper(r.Body)
}

func (l *library) EarlyBegan(*EarlyRead) { l.began.Add(1) }

func (l *library) ServeRequest(ctx context.Context, r *Request) ([]byte, error) {
	l.served.Add(1)
	return bytes.ToUpper(r.Body), nil
}

// TestColdReadTakesTwoRoundTrips counts them from the SYN on, with every way to ask.
func TestColdReadTakesTwoRoundTrips(t *testing.T) {
	const rtt = 100 * time.Millisecond
	read := Outgoing{Kind: 1, Body: []byte("a read")}
	ask := func(ctx context.Context, a, b *node, o Outgoing) ([]byte, error) {
		reply, _, err := a.Ask(ctx, b.key(), []netip.AddrPort{b.Addr()}, o)
		return reply, err
	}
	for name, c := range map[string]struct {
		handler Handler
		o       Outgoing
		ask     func(ctx context.Context, a, b *node, o Outgoing) ([]byte, error)
		trips   int // of the first and of the second
		reads   int32
		served  int32
	}{
		"a request over a new session": {&library{}, read, func(ctx context.Context, a, b *node, o Outgoing) ([]byte, error) {
			s, _, err := a.Session(ctx, b.key(), []netip.AddrPort{b.Addr()})
			if err != nil {
				return nil, err
			}
			return s.Request(ctx, o)
		}, 3, 0, 2},
		"early":                      {&library{}, read, ask, 2, 1, 1},
		"early, of the largest size": {&library{}, Outgoing{Kind: 1, Body: bytes.Repeat([]byte("a"), MaxEarly)}, ask, 2, 1, 1},
		"too large to be early":      {&library{}, Outgoing{Kind: 1, Body: bytes.Repeat([]byte("a"), MaxEarly+1)}, ask, 3, 0, 2},
		"with a header":              {&library{}, Outgoing{Kind: 1, Header: []byte("h"), Body: []byte("a")}, ask, 3, 0, 2},
		"a peer that knows none": {handlerFunc{request: func(ctx context.Context, r *Request) ([]byte, error) {
			return bytes.ToUpper(r.Body), nil
		}}, read, ask, 3, 0, 0},
		"a kind that is not read early": {&library{}, Outgoing{Kind: 2, Body: []byte("b")}, ask, 3, 1, 2},
		"no room for the answer": {&library{answer: func(r *EarlyRead, most int) []byte { return make([]byte, most+1) }},
			read, ask, 3, 1, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newMemNet()
				n.oneWay = rtt / 2
				a, b := memNode(t, n, 1, nil, nil), memNode(t, n, 2, c.handler, nil)
				for i, trips := range []int{c.trips, 1} {
					began := time.Now()
					reply, err := c.ask(t.Context(), a, b, c.o)
					if err != nil || !bytes.Equal(reply, bytes.ToUpper(c.o.Body)) {
						t.Fatalf("%q, %v", reply, err)
					}
					if took := time.Since(began); took != time.Duration(trips)*rtt {
						t.Errorf("question %d took %s, not %d round trips of %s", i, took, trips, rtt)
					}
				}
				if l, ok := c.handler.(*library); ok {
					began := c.reads
					if c.trips == 3 {
						began = 0
					}
					if l.read.Load() != c.reads || l.served.Load() != c.served || l.began.Load() != began {
						t.Errorf("%d early reads of which %d began, %d requests", l.read.Load(), l.began.Load(), l.served.Load())
					}
				}
				if len(a.Sessions()) != 1 || len(b.Sessions()) != 1 {
					t.Error("the session is not kept")
				}
				stopAll(a, b)
				time.Sleep(time.Second) // the last bytes arrive
			})
		})
	}
}

// TestAskOverSockets: the same over TCP.
func TestAskOverSockets(t *testing.T) {
	t.Parallel()
	l := &library{}
	a, b := startNode(t, testConfig(t, nil)), startNode(t, testConfig(t, l))
	for i, want := range []int32{0, 1} {
		reply, s, err := a.Ask(t.Context(), b.key(), []netip.AddrPort{b.Addr()}, Outgoing{Kind: 1, Body: []byte("a read")})
		if err != nil || string(reply) != "A READ" || s.Peer() != b.key() {
			t.Fatalf("%q, %v", reply, err)
		}
		if l.read.Load() != 1 || l.served.Load() != want {
			t.Errorf("question %d: %d early reads, %d requests", i, l.read.Load(), l.served.Load())
		}
	}
}

// TestAnswerOfAnotherDial: a dial that was given up and yet ends well brings its
// session to whoever dials now, but not the answer to its own question.
func TestAnswerOfAnotherDial(t *testing.T) {
	t.Parallel()
	c := testConfig(t, nil)
	c.Listen = ""
	e, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	mine, others := &question{kind: 1}, &question{kind: 1}
	for i, q := range []*question{mine, others, nil} {
		peer := PeerKey(testKey(t, 2+i)[32:])
		s, err := e.newSession(&nullConn{}, peer, &keys{peer: hello{maxRequests: 1}}, true)
		if err != nil {
			t.Fatal(err)
		}
		s.early = &earlyAnswer{to: mine, body: []byte("answer")}
		d := &dialing{q: q, done: make(chan struct{})}
		e.dials[peer] = d
		if err := e.register(s); err != nil {
			t.Fatal(err)
		}
		if <-d.done; d.s != s || (d.answer != nil) != (q == mine) {
			t.Errorf("question %d has the answer %q", i, d.answer)
		}
		s.fail(ErrClosed)
	}
}

// TestReplayAfterRestart: a node that has forgotten what it has seen answers a
// replay once more. That changes nothing, is no longer than the replay, and begins
// no session: whoever replays can't make a record.
func TestReplayAfterRestart(t *testing.T) {
	t.Parallel()
	first := &library{}
	c := testConfig(t, first)
	b := startNode(t, c)
	m := messages1(t, b, 1, &question{kind: 1, body: []byte("a read")})[0]
	conn := rawDial(t, b)
	conn.Write(m)
	if _, err := readMessage(conn, minMessage2, maxMessage2); err != nil {
		t.Fatal(err)
	}
	b.stop()
	second := &library{}
	c.Handler = second
	again := startNode(t, c)
	replay := rawDial(t, again)
	replay.Write(m)
	reply, err := readMessage(replay, minMessage2, len(m)-2)
	if err != nil || bytes.Contains(reply, []byte("A READ")) {
		t.Errorf("%d bytes, %v", len(reply), err)
	}
	rec := make([]byte, recordHead+minCiphertext) // of somebody who has not the keys
	rec[1] = minCiphertext
	replay.Write(rec)
	silence(t, replay)
	if second.read.Load() != 1 || first.began.Load()+second.began.Load() != 0 || len(again.Sessions()) != 0 {
		t.Errorf("%d early reads, %d in earnest, %d sessions", second.read.Load(), second.began.Load(), len(again.Sessions()))
	}
}

// Message 1 is as long as the answer that is hoped for, and no longer.
func TestQuestionRoom(t *testing.T) {
	t.Parallel()
	a, _ := newIdentity(testKey(t, 1), "test")
	b, _ := newIdentity(testKey(t, 2), "test")
	body := []byte("question")
	for answer, want := range map[int]int{
		0:    earlyMessage1,
		1:    minMessage1 + extensionHead + 1 + len(body) + extensionHead,
		512:  minMessage2 + extensionHead + 512,
		2937: earlyMessage1,
		9999: earlyMessage1,
	} {
		in, err := newInitiator(a, b.agent, entropy{})
		if err != nil {
			t.Fatal(err)
		}
		m, err := in.message1(hello{maxRequests: 1}, (&question{kind: 1, body: body, answer: answer}).extensions(hello{}))
		if err != nil || len(m)-2 != want || answer <= 2937 && answerRoom(len(m)-2, hello{}) < answer {
			t.Errorf("hoping for %d bytes: %d, want %d, with room for %d: %v", answer, len(m)-2, want, answerRoom(len(m)-2, hello{}), err)
		}
	}
}
