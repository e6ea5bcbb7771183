package transport

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// slowListener gives what it accepts a slow line back.
type slowListener struct {
	net.Listener
	oneWay time.Duration
}

func (l slowListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return newSlowConn(c, l.oneWay), nil
}

// BenchmarkColdRead is a read of a peer without a session, from the SYN to the
// answer, over TCP on a line of 63 ms round trip that the connections emulate.
func BenchmarkColdRead(b *testing.B) {
	const oneWay = 63 * time.Millisecond / 2
	c := testConfig(b, &library{answer: func(*EarlyRead, int) []byte { return make([]byte, 2900) }})
	c.Listener = func(address string) (net.Listener, error) {
		l, err := net.Listen("tcp", address)
		return slowListener{l, oneWay}, err
	}
	server := startNode(b, c)
	ask := func(n *node, early bool) error {
		addrs := []netip.AddrPort{server.Addr()}
		if early {
			_, _, err := n.Ask(b.Context(), server.key(), addrs, Outgoing{Kind: 1, Body: make([]byte, 50)})
			return err
		}
		s, _, err := n.Session(b.Context(), server.key(), addrs)
		if err == nil {
			_, err = s.Request(b.Context(), Outgoing{Kind: 1, Body: make([]byte, 50)})
		}
		return err
	}
	for name, early := range map[string]bool{"request": false, "early": true} {
		b.Run(name, func(b *testing.B) {
			var took []time.Duration
			for b.Loop() {
				c := testConfig(b, nil)
				c.Listen = ""
				c.Dial = func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
					time.Sleep(oneWay)
					conn, err := dialTCP(ctx, to)
					if err != nil {
						return nil, err
					}
					time.Sleep(oneWay)
					return newSlowConn(conn, oneWay), nil
				}
				n := startNode(b, c)
				began := time.Now()
				if err := ask(n, early); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(began))
				n.stop()
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(took[0].Microseconds())/1000, "least-ms")
		})
	}
}
