package transport

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// messages1 makes n messages 1 for the node, each with the question q if there is one.
func messages1(t testing.TB, to *node, n int, q *question) [][]byte {
	t.Helper()
	id, err := newIdentity(testKey(t, 9), "test")
	if err != nil {
		t.Fatal(err)
	}
	all := make([][]byte, n)
	for i := range all {
		in, err := newInitiator(id, to.key(), entropy{})
		if err == nil {
			all[i], err = in.message1(to.hello(), q.extensions(to.hello()))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// TestFloodOfEarlyReads is attack A12: 2,000 connections a second from one address,
// each with a right message 1 that asks something. What they cost is bounded by
// what the address may begin: the handler is asked for no more. Others don't notice.
func TestFloodOfEarlyReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet()
		l := &library{}
		b := memNode(t, n, 1, l, func(c *Config) { c.HandshakeBurstPerIP, c.HandshakeRatePerIP = 40, 8 })
		known, late := memNode(t, n, 2, nil, nil), memNode(t, n, 3, nil, nil)
		s := known.to(t, b)
		flood, ask := messages1(t, b, 100, &question{kind: 1, body: []byte("a read")}), Outgoing{Kind: 1, Body: []byte("honest")}
		dial := n.dialFrom("198.51.100.1")
		const seconds, perSecond = 3, 2000
		closed := 0
		for i := range seconds * perSecond {
			conn, err := dial(t.Context(), b.Addr())
			if err != nil {
				t.Fatal(err)
			}
			conn.SetDeadline(time.Now().Add(time.Nanosecond))
			if _, err := conn.Write(flood[i%len(flood)]); err != nil {
				closed++ // before a byte was read
			}
			conn.Close()
			if i%500 == 0 {
				began := time.Now()
				if _, err := s.Request(t.Context(), ask); err != nil || time.Since(began) != 0 {
					t.Errorf("a request took %s: %v", time.Since(began), err)
				}
			}
			if i == perSecond {
				began, before := time.Now(), l.read.Load()
				reply, _, err := late.Ask(t.Context(), b.key(), []netip.AddrPort{b.Addr()}, ask)
				if err != nil || string(reply) != "HONEST" || time.Since(began) != 0 {
					t.Errorf("another address was answered %q after %s: %v", reply, time.Since(began), err)
				}
				if l.read.Load() > before+1 {
					t.Errorf("%d early reads besides", l.read.Load()-before)
				}
			}
			time.Sleep(time.Second / perSecond)
		}
		synctest.Wait()
		if got, most := int(l.read.Load()), 40+8*seconds+2; got > most || got < 40 {
			t.Errorf("%d early reads, the address may have %d", got, most)
		}
		if closed < seconds*perSecond-40-8*seconds-2 {
			t.Errorf("%d connections were closed unread", closed)
		}
		if l.began.Load() != 1 {
			t.Errorf("%d were in earnest", l.began.Load())
		}
		if len(b.Sessions()) != 2 {
			t.Errorf("%d sessions", len(b.Sessions()))
		}
		stopAll(b, known, late)
	})
}

// BenchmarkBesideFlood is what a peer's requests take while another address opens
// 2,000 connections a second. Both ends and the flood share the processors.
func BenchmarkBesideFlood(b *testing.B) {
	local := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}
	if c, err := net.ListenTCP("tcp", local); err != nil {
		b.Skip("this system has one loopback address: ", err)
	} else {
		c.Close()
	}
	for _, bench := range []struct {
		name     string
		messages func(to *node) [][]byte
	}{
		{"quiet", nil},
		{"strangers", func(*node) [][]byte { return [][]byte{make([]byte, 4096)} }},
		{"handshakes", func(to *node) [][]byte { return messages1(b, to, 512, nil) }},
		{"early-reads", func(to *node) [][]byte { return messages1(b, to, 512, &question{kind: 1, body: []byte("a read")}) }},
	} {
		b.Run(bench.name, func(b *testing.B) {
			server, client := startNode(b, testConfig(b, &library{})), startNode(b, testConfig(b, nil))
			s := client.to(b, server)
			ctx, cancel := context.WithCancel(b.Context())
			var wg sync.WaitGroup
			if bench.messages != nil {
				messages := bench.messages(server)
				wg.Go(func() { floodWith(ctx, local, server.Addr(), messages) })
			}
			measure(b, 1, 100, func(body []byte) error {
				_, err := s.Request(ctx, Outgoing{Kind: 1, Body: body})
				return err
			})
			cancel()
			wg.Wait()
		})
	}
}

// floodWith opens 2,000 connections a second and writes a message to each.
func floodWith(ctx context.Context, from net.Addr, to netip.AddrPort, messages [][]byte) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	busy := make(chan struct{}, 64)
	for i := 0; ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		for range 10 {
			m := messages[i%len(messages)]
			i++
			busy <- struct{}{}
			wg.Go(func() {
				defer func() { <-busy }()
				d := net.Dialer{LocalAddr: from, Timeout: time.Second}
				conn, err := d.DialContext(ctx, "tcp", to.String())
				if err != nil {
					return
				}
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(50 * time.Millisecond))
				conn.Write(m)
				conn.Read(make([]byte, 4096))
			})
		}
	}
}
