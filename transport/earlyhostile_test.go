package transport

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func pad(n int) []byte { return appendExtension(nil, extPadding, make([]byte, n)) }

func early(value string) []byte { return appendExtension(nil, extEarly, []byte(value)) }

// TestEarlyDataOfStrangers sends extensions of every kind in message 1, and
// looks at what comes back and what the handler was asked.
func TestEarlyDataOfStrangers(t *testing.T) {
	t.Parallel()
	big := strings.Repeat("x", MaxEarly)
	for name, c := range map[string]struct {
		ext    []byte
		closed bool // without a byte
		read   int32
		answer string
	}{
		"none":                       {ext: nil},
		"a question":                 {bytes.Join([][]byte{early("\x01ab"), pad(100)}, nil), false, 1, "AB"},
		"padding before it":          {bytes.Join([][]byte{pad(100), early("\x01ab")}, nil), false, 1, "AB"},
		"an unknown extension":       {bytes.Join([][]byte{appendExtension(nil, 999, []byte("?")), early("\x01ab")}, nil), false, 1, "AB"},
		"no padding":                 {early("\x01ab"), false, 1, "AB"},
		"of the largest size":        {bytes.Join([][]byte{early("\x01" + big), pad(1000)}, nil), false, 1, strings.ToUpper(big)},
		"over the largest size":      {bytes.Join([][]byte{early("\x01x" + big), pad(1000)}, nil), false, 0, ""},
		"without a kind":             {early(""), false, 0, ""},
		"a kind that is not read":    {bytes.Join([][]byte{early("\x02ab"), pad(100)}, nil), false, 1, ""},
		"padding alone":              {pad(1000), false, 0, ""},
		"twice":                      {bytes.Join([][]byte{early("\x01ab"), early("\x01ab")}, nil), true, 0, ""},
		"twice, the first empty":     {bytes.Join([][]byte{early(""), early("\x01ab")}, nil), true, 0, ""},
		"padding that is not zero":   {bytes.Join([][]byte{early("\x01ab"), appendExtension(nil, extPadding, []byte{0, 0, 1})}, nil), true, 0, ""},
		"that ends in its value":     {early("\x01ab")[:6], true, 0, ""},
		"that ends in its head":      {append(early("\x01ab"), 0, 2, 0), true, 0, ""},
		"longer than a hello may be": {pad(maxHello - helloFixed - extensionHead + 1), true, 0, ""},
		"a hello of the full length": {pad(maxHello - helloFixed - extensionHead), false, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := &library{}
			n := startNode(t, testConfig(t, l))
			id, _ := newIdentity(testKey(t, 9), "test")
			in, err := newInitiator(id, n.key(), entropy{})
			if err != nil {
				t.Fatal(err)
			}
			m, err := in.message1(hello{maxMessage: 1 << 20, maxRequests: 9}, c.ext)
			if err != nil {
				t.Fatal(err)
			}
			conn := rawDial(t, n)
			conn.Write(m)
			if c.closed {
				silence(t, conn)
			} else {
				reply, err := readMessage(conn, minMessage2, maxMessage2)
				if err != nil {
					t.Fatal(err)
				}
				if len(reply)+2 > len(m) {
					t.Errorf("an answer of %d bytes to %d", len(reply)+2, len(m))
				}
				k, err := in.finish(reply)
				if err != nil || string(k.early) != c.answer || (k.early == nil) != (c.answer == "") {
					t.Fatalf("%q, %v", k.early, err)
				}
				// The same again: a replay.
				again := rawDial(t, n)
				again.Write(m)
				silence(t, again)
				if len(n.Sessions()) != 0 || l.began.Load() != 0 {
					t.Error("a session, or an asker in earnest, without a record")
				}
				r := &rogue{t: t, conn: conn}
				r.tx, _ = newDirection(k.send)
				r.rx, _ = newDirection(k.recv)
				r.send(rawFrame(typePing, flagLast, 1, nil))
				if r.next() == nil {
					t.Error("the session did not begin")
				}
			}
			began := int32(0)
			if c.answer != "" {
				began = 1
			}
			if l.read.Load() != c.read || l.began.Load() != began || l.served.Load() != 0 {
				t.Errorf("%d early reads, %d in earnest, %d requests", l.read.Load(), l.began.Load(), l.served.Load())
			}
		})
	}
}

// Whoever may not shake hands has nothing read either.
func TestEarlyDataComesAfterAdmission(t *testing.T) {
	t.Parallel()
	l := &library{}
	c := testConfig(t, l)
	c.MaxSessions = 1
	n := startNode(t, c)
	first := startNode(t, testConfig(t, nil))
	if _, err := first.to(t, n).Request(t.Context(), Outgoing{}); err != nil {
		t.Fatal(err)
	}
	id, _ := newIdentity(testKey(t, 9), "test")
	foreign, _ := newIdentity(testKey(t, 9), "elsewhere")
	message := func(id *identity) []byte {
		in, err := newInitiator(id, n.key(), entropy{})
		if err != nil {
			t.Fatal(err)
		}
		m, err := in.message1(hello{maxRequests: 1}, (&question{kind: 1, body: []byte("a")}).extensions(hello{}))
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	forged := message(id)
	forged[2]++
	for name, m := range map[string][]byte{"no session is left": message(id), "another network": message(foreign), "a wrong mac": forged} {
		conn := rawDial(t, n)
		conn.Write(m)
		silence(t, conn)
		if l.read.Load() != 0 {
			t.Errorf("%s: the handler was asked", name)
		}
	}
}

// A handler that panics, or gives more than there is room for, answers nothing;
// the question is asked again over the session.
func TestEarlyHandlerFails(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(r *EarlyRead, most int) []byte
		want   string
		panics bool
	}{
		"a panic":      {func(*EarlyRead, int) []byte { panic("a secret") }, "A READ", true},
		"one too many": {func(_ *EarlyRead, most int) []byte { return make([]byte, most+1) }, "A READ", false},
		"as many":      {func(_ *EarlyRead, most int) []byte { return bytes.Repeat([]byte("x"), most) }, strings.Repeat("x", 2931), false},
		"empty":        {func(*EarlyRead, int) []byte { return []byte{} }, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, log := newMemNet(), &lockedBuffer{}
				a := memNode(t, n, 1, nil, nil)
				b := memNode(t, n, 2, &library{answer: c.answer}, func(c *Config) { c.Log = slog.New(slog.NewTextHandler(log, nil)) })
				reply, _, err := a.Ask(t.Context(), b.key(), []netip.AddrPort{b.Addr()}, Outgoing{Kind: 1, Body: []byte("a read")})
				if err != nil || string(reply) != c.want {
					t.Errorf("%q, %v", reply, err)
				}
				if got := log.String(); strings.Contains(got, "a secret") != c.panics {
					t.Errorf("the log: %s", got)
				}
				stopAll(a, b)
			})
		})
	}
}

// badResponder answers each message 1 for key with the extensions ext.
func badResponder(t *testing.T, l net.Listener, key int, ext []byte) (ended chan struct{}) {
	t.Helper()
	id, err := newIdentity(testKey(t, key), "test")
	if err != nil {
		t.Fatal(err)
	}
	ended = make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			msg, err := readMessage(conn, minMessage1, maxMessage1)
			r := newResponder(id, entropy{})
			if err == nil {
				err = r.read(msg)
			}
			if err == nil {
				reply, _, _ := r.message2(hello{maxRequests: 1}, ext)
				conn.Write(reply)
				io.Copy(io.Discard, conn)
			}
			conn.Close()
		}
	}()
	return ended
}

// TestBadAnswers: what a responder must not put into message 2 ends the dial.
func TestBadAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		ext []byte
		ask bool
		ok  bool
	}{
		"an answer":                     {early("x"), true, true},
		"an answer to nothing":          {early("x"), false, false},
		"an empty answer to nothing":    {early(""), false, false},
		"an answer as long as it may":   {early(strings.Repeat("x", 2937)), true, true},
		"one byte more":                 {early(strings.Repeat("x", 2938)), true, false},
		"padding beyond message 1":      {pad(200), false, false},
		"padding up to message 1":       {pad(156), false, true},
		"two answers":                   {append(early("x"), early("y")...), true, false},
		"padding that is not zero":      {appendExtension(nil, extPadding, []byte{1}), true, false},
		"an unknown extension, skipped": {appendExtension(nil, 77, []byte{1}), false, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newMemNet()
				l, err := n.listen(memAddrOf(9).String())
				if err != nil {
					t.Fatal(err)
				}
				ended := badResponder(t, l, 9, c.ext)
				a := memNode(t, n, 1, nil, nil)
				peer, addrs := PeerKey(testKey(t, 9)[32:]), []netip.AddrPort{memAddrOf(9)}
				if c.ask {
					_, _, err = a.Ask(t.Context(), peer, addrs, Outgoing{Kind: 1})
				} else {
					_, _, err = a.Session(t.Context(), peer, addrs)
				}
				if (err == nil) != c.ok || err != nil && !errors.Is(err, ErrProtocol) {
					t.Errorf("%v", err)
				}
				a.stop()
				l.Close()
				<-ended
			})
		})
	}
}

// TestAskersShareADial: the question of who has begun it rides in message 1,
// the others' go over the session.
func TestAskersShareADial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet()
		n.oneWay = 50 * time.Millisecond
		l := &library{}
		a, b := memNode(t, n, 1, nil, nil), memNode(t, n, 2, l, nil)
		began := time.Now()
		type result struct {
			body, reply string
			err         error
			took        time.Duration
		}
		results := make(chan result, 4)
		ask := func(ctx context.Context, body string) {
			go func() {
				reply, _, err := a.Ask(ctx, b.key(), []netip.AddrPort{b.Addr()}, Outgoing{Kind: 1, Body: []byte(body)})
				results <- result{body, string(reply), err, time.Since(began)}
			}()
			synctest.Wait()
		}
		ctx, cancel := context.WithCancel(t.Context())
		ask(ctx, "left")
		for _, body := range []string{"b", "c"} {
			ask(t.Context(), body)
		}
		cancel()
		for range 3 {
			r := <-results
			switch {
			case r.body == "left":
				if re := requestError(t, r.err); re.Code != Canceled || re.Sent {
					t.Errorf("%+v", re)
				}
			case r.err != nil || r.reply != strings.ToUpper(r.body) || r.took != 300*time.Millisecond:
				t.Errorf("%q: %q after %s, %v", r.body, r.reply, r.took, r.err)
			}
		}
		if l.read.Load() != 1 || l.served.Load() != 2 {
			t.Errorf("%d early reads, %d requests", l.read.Load(), l.served.Load())
		}
		stopAll(a, b)
		time.Sleep(time.Second) // the last bytes arrive
	})
}

// TestAskManyAddresses: each address that is tried is asked, the first answer counts.
func TestAskManyAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet()
		n.silent[memAddrOf(8)] = true
		a, b, other := memNode(t, n, 1, nil, nil), memNode(t, n, 2, &library{}, nil), memNode(t, n, 3, &library{}, nil)
		began := time.Now()
		addrs := []netip.AddrPort{memAddrOf(8), other.Addr(), memAddrOf(7), b.Addr()}
		reply, s, err := a.Ask(t.Context(), b.key(), addrs, Outgoing{Kind: 1, Body: []byte("a read")})
		if err != nil || string(reply) != "A READ" || s.RemoteAddr() != b.Addr() {
			t.Fatalf("%q, %v", reply, err)
		}
		if took := time.Since(began); took != a.cfg.DialStagger {
			t.Errorf("took %s", took)
		}
		_, _, err = a.Ask(t.Context(), other.key(), []netip.AddrPort{memAddrOf(7)}, Outgoing{Kind: 1})
		var de *DialError
		if !errors.As(err, &de) || len(de.Attempts) != 1 {
			t.Errorf("%v", err)
		}
		stopAll(a, b, other)
	})
}

// TestAskWhileTheSessionEnds: a question that has not left goes over another session.
func TestAskWhileTheSessionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet()
		l := &library{}
		a, b := memNode(t, n, 1, nil, nil), memNode(t, n, 2, l, nil)
		s := a.to(t, b)
		release := hold(s)
		result := make(chan error, 1)
		go func() {
			reply, _, err := a.Ask(t.Context(), b.key(), []netip.AddrPort{b.Addr()}, Outgoing{Kind: 1, Body: []byte("a read")})
			if err == nil && string(reply) != "A READ" {
				err = errors.New("another reply")
			}
			result <- err
		}()
		synctest.Wait()
		s.fail(ErrPeerClosed)
		release()
		if err := <-result; err != nil {
			t.Error(err)
		}
		if l.read.Load() != 1 || l.served.Load() != 0 {
			t.Errorf("%d early reads, %d requests", l.read.Load(), l.served.Load())
		}
		stopAll(a, b)
	})
}

// TestAskFaults fails one side's n-th read or write, for every n until a question
// gets through. One that is answered has its own answer.
func TestAskFaults(t *testing.T) {
	for _, far := range []bool{false, true} {
		hit := true
		for at := int64(1); hit; at++ {
			synctest.Test(t, func(t *testing.T) {
				n := newMemNet()
				n.failAt, n.failFar = at, far
				l := &library{}
				a, b := memNode(t, n, 1, nil, nil), memNode(t, n, 2, l, nil)
				reply, _, err := a.Ask(t.Context(), b.key(), []netip.AddrPort{b.Addr()}, Outgoing{Kind: 1, Body: []byte("a read")})
				synctest.Wait()
				hit = false
				for _, c := range n.conns {
					hit = hit || c.failed.Load()
				}
				switch {
				case err == nil && string(reply) != "A READ":
					t.Errorf("fault %d, far %v: %q", at, far, reply)
				case err != nil && !hit:
					t.Errorf("without a fault: %v", err)
				case err != nil && !errors.Is(err, map[bool]error{false: errInjected, true: ErrNoAnswer}[far]):
					t.Errorf("fault %d, far %v: %v", at, far, err)
				case l.served.Load() != 0:
					t.Errorf("fault %d, far %v: asked again", at, far)
				}
				stopAll(a, b)
			})
			if !hit && at < 5 {
				t.Errorf("only %d operations could fail", at)
			}
		}
	}
}
