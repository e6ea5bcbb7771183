package transport

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// roundTripper is one request and its reply, on whatever is measured.
type roundTripper func(body []byte) error

// measure runs c requests at a time and reports the rate and the median.
func measure(b *testing.B, c, size int, rt roundTripper) {
	b.Helper()
	body := make([]byte, size)
	var left atomic.Int64
	left.Store(int64(b.N))
	took := make([][]time.Duration, c)
	var wg sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	begin, spent := time.Now(), processorTime()
	for i := range c {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				t := time.Now()
				if err := rt(body); err != nil {
					b.Error(err)
					return
				}
				if len(took[i]) < 1<<16 {
					took[i] = append(took[i], time.Since(t))
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64((processorTime()-spent).Nanoseconds())/float64(b.N), "cpu-ns/op")
	b.ReportMetric(float64(b.N)/time.Since(begin).Seconds(), "req/s")
	all := slices.Concat(took...)
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)/2].Nanoseconds()), "p50-ns")
	b.ReportMetric(float64(all[len(all)*99/100].Nanoseconds()), "p99-ns")
}

// floorKind is what a floor's records are sealed by.
type floorKind int

const (
	floorTCP floorKind = iota
	floorNoise
	floorTLS // TLS 1.3, both sides with a certificate
)

func floorPair(b *testing.B, kind floorKind) roundTripper {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			accepted <- c
		}
	}()
	dialled, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	far, near := <-accepted, dialled
	if kind == floorTLS {
		far, near = tlsPair(b, far, near)
	}
	server, client := newFloor(far, kind == floorNoise, true), newFloor(near, kind == floorNoise, false)
	b.Cleanup(func() {
		client.close()
		server.close()
	})
	return client.request
}

func sessionPair(b *testing.B) (client, server *node, s *Session) {
	server, client = startNode(b, testConfig(b, nil)), startNode(b, testConfig(b, nil))
	s, _, err := client.Session(context.Background(), server.key(), []netip.AddrPort{server.Addr()})
	if err != nil {
		b.Fatal(err)
	}
	return client, server, s
}

// BenchmarkSend measures one request and its reply between two endpoints over
// loopback TCP, beside the floors: bare TCP, TLS 1.3 and Noise (the same
// framing and packing, and nothing else). cpu-ns/op is the processor time of
// both sides together, which holds where others load the machine.
func BenchmarkSend(b *testing.B) {
	for _, size := range []int{100, 64 << 10} {
		for _, c := range []int{1, 16, 128} {
			if size > 100 && c != 16 {
				continue
			}
			name := func(what string) string { return fmt.Sprintf("%s/size=%d/c=%d", what, size, c) }
			b.Run(name("tcp"), func(b *testing.B) { measure(b, c, size, floorPair(b, floorTCP)) })
			b.Run(name("tls"), func(b *testing.B) { measure(b, c, size, floorPair(b, floorTLS)) })
			b.Run(name("noise"), func(b *testing.B) { measure(b, c, size, floorPair(b, floorNoise)) })
			b.Run(name("parley"), func(b *testing.B) {
				_, _, s := sessionPair(b)
				measure(b, c, size, func(body []byte) error {
					_, err := s.Request(context.Background(), Outgoing{Kind: 2, Body: body})
					return err
				})
			})
		}
	}
}

// BenchmarkBeside measures a 100-byte request while 16 MiB ones are under way
// on the same session.
func BenchmarkBeside(b *testing.B) {
	_, _, s := sessionPair(b)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			s.Request(ctx, Outgoing{Kind: 2, Body: make([]byte, 16<<20)})
		}
	})
	measure(b, 1, 100, func(body []byte) error {
		_, err := s.Request(context.Background(), Outgoing{Kind: 2, Body: body})
		return err
	})
	cancel()
	wg.Wait()
}

// BenchmarkHandshake measures connect, handshake and first answer.
func BenchmarkHandshake(b *testing.B) {
	c := testConfig(b, nil)
	c.HandshakeRatePerIP, c.HandshakeBurstPerIP = 1<<20, 1<<20
	server, client := startNode(b, c), startNode(b, testConfig(b, nil))
	b.ResetTimer()
	for b.Loop() {
		s, _, err := client.Session(context.Background(), server.key(), []netip.AddrPort{server.Addr()})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := s.Request(context.Background(), Outgoing{Kind: 2}); err != nil {
			b.Fatal(err)
		}
		s.fail(ErrClosed)
	}
}
