package transport

import (
	"sync/atomic"
	"testing"
	"time"
)

// countingReader counts the questions of message 1.
type countingReader struct {
	Handler
	asked atomic.Int64
}

func (c *countingReader) ReadEarly(*EarlyRead, int) []byte { c.asked.Add(1); return nil }
func (c *countingReader) EarlyBegan(*EarlyRead)            {}

// Nothing costly is done for an initiator that has given up before its turn came.
func TestHungUpIsNotAnswered(t *testing.T) {
	t.Parallel()
	c := testConfig(t, nil)
	h := &countingReader{Handler: c.Handler}
	c.Handler = h
	n := startNode(t, c)
	id, err := newIdentity(testKey(t, 5), "test")
	if err != nil {
		t.Fatal(err)
	}
	if !tryWriteSupported {
		t.Skip("this platform can't look at what a socket has")
	}
	for range cap(n.costly) {
		n.costly <- struct{}{} // all processors are at work
	}
	const gone, waiting = 4, 3
	for i := range gone + waiting {
		in, err := newInitiator(id, n.key(), entropy{})
		if err != nil {
			t.Fatal(err)
		}
		m1, err := in.message1(hello{maxRequests: 1}, (&question{kind: 1, body: []byte{1}}).extensions(hello{}))
		if err != nil {
			t.Fatal(err)
		}
		conn := rawDial(t, n)
		if _, err := conn.Write(m1); err != nil {
			t.Fatal(err)
		}
		if i < gone {
			conn.Close()
		}
	}
	n.await(t, "all have sent their message 1", func() bool {
		n.admit.mu.Lock()
		defer n.admit.mu.Unlock()
		return len(n.admit.seen.now) == gone+waiting
	})
	for range cap(n.costly) {
		<-n.costly
	}
	n.await(t, "those who wait are answered, and the others forgotten", func() bool {
		n.admit.mu.Lock()
		defer n.admit.mu.Unlock()
		return h.asked.Load() == waiting && len(n.admit.open) == waiting
	})
}

// await waits for a condition that other goroutines bring about.
func (n *node) await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not so: %s", what)
		}
	}
}
