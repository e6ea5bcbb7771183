package transport

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// nullConn is a connection on which nothing happens.
type nullConn struct{ net.Conn }

func (*nullConn) Write(b []byte) (int, error) { return len(b), nil }
func (*nullConn) Read([]byte) (int, error)    { return 0, io.EOF }
func (*nullConn) Close() error                { return nil }
func (*nullConn) SetDeadline(time.Time) error { return nil }
func (*nullConn) RemoteAddr() net.Addr        { return memAddr("10.0.0.9:1") }

// TestMain fails if a test leaves goroutines or descriptors behind.
func TestMain(m *testing.M) {
	if l, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		l.Close() // the poller has its descriptors from here on
	}
	before := descriptors()
	code := m.Run()
	for _, name := range []string{"test.fuzz", "test.fuzzworker"} {
		if f := flag.Lookup(name); f != nil && f.Value.String() != "" && f.Value.String() != "false" {
			os.Exit(code) // the fuzzing engine keeps goroutines and files of its own
		}
	}
	for i := 0; i < 300 && code == 0 && (runtime.NumGoroutine() > 1 || descriptors() > before); i++ {
		runtime.GC() // stops every thread, so that one that the system holds up can't keep its goroutines
		runtime.Gosched()
	}
	if n := runtime.NumGoroutine(); code == 0 && n > 1 {
		buf := make([]byte, 1<<20)
		fmt.Fprintf(os.Stderr, "%d goroutines are left:\n%s\n", n-1, buf[:runtime.Stack(buf, true)])
		code = 1
	}
	if n := descriptors(); code == 0 && n > before {
		fmt.Fprintf(os.Stderr, "%d descriptors are left, %d were there\n", n, before)
		code = 1
	}
	os.Exit(code)
}

func descriptors() int {
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(d)
}

func rawDial(t *testing.T, n *node) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", n.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// silence checks that the other side closes without a byte.
func silence(t *testing.T, c net.Conn) {
	t.Helper()
	b, err := io.ReadAll(c)
	if len(b) != 0 {
		t.Errorf("%d bytes of answer: %x", len(b), b)
	}
	if err != nil && !isReset(err) {
		t.Errorf("%v", err)
	}
}

func TestStrangersGetNothing(t *testing.T) {
	t.Parallel()
	c := testConfig(t, nil)
	c.HandshakeTimeout = 300 * time.Millisecond
	n := startNode(t, c)
	stranger, _ := newIdentity(testKey(t, 5), "test")
	in, _ := newInitiator(stranger, PeerKey(testKey(t, 6)[32:]), entropy{})
	wrongKey, _ := in.message1(hello{maxRequests: 1}, nil)
	foreign, _ := newIdentity(testKey(t, 5), "elsewhere")
	in, _ = newInitiator(foreign, n.key(), entropy{})
	wrongNetwork, _ := in.message1(hello{maxRequests: 1}, nil)
	for name, b := range map[string][]byte{
		"silent":          nil,
		"one byte":        {0},
		"http":            []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		"zeros":           make([]byte, 4096),
		"short":           {0, 5, 1, 2, 3, 4, 5},
		"oversized":       append([]byte{0xff, 0xff}, make([]byte, 100)...),
		"random":          append([]byte{byte(minMessage1 >> 8), byte(minMessage1 & 0xff)}, bytes.Repeat([]byte{7}, minMessage1)...),
		"another key":     wrongKey,
		"another network": wrongNetwork,
		"half":            wrongKey[:len(wrongKey)/2],
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := rawDial(t, n)
			conn.Write(b)
			silence(t, conn)
		})
	}
}

func TestReplayIsSilent(t *testing.T) {
	t.Parallel()
	n := startNode(t, testConfig(t, nil))
	id, _ := newIdentity(testKey(t, 5), "test")
	in, _ := newInitiator(id, n.key(), entropy{})
	m, _ := in.message1(hello{maxRequests: 1}, nil)
	first := rawDial(t, n)
	first.Write(m)
	if _, err := readMessage(first, minMessage2, maxMessage2); err != nil {
		t.Fatal(err)
	}
	again := rawDial(t, n)
	again.Write(m)
	silence(t, again)
	if len(n.Sessions()) != 0 {
		t.Error("a session without a record of the initiator")
	}
}

// rogue is a peer that keeps to the handshake and to nothing else.
type rogue struct {
	t    *testing.T
	conn net.Conn
	tx   *direction
	rx   *direction
}

func newRogue(t *testing.T, n *node) *rogue {
	t.Helper()
	return shakeRogue(t, n, rawDial(t, n))
}

// newMemRogue is one on a network in memory.
func newMemRogue(t *testing.T, net *memNet, n *node) *rogue {
	t.Helper()
	conn, err := net.dialFrom("10.0.0.99")(t.Context(), n.Addr())
	if err != nil {
		t.Fatal(err)
	}
	return shakeRogue(t, n, conn)
}

func shakeRogue(t *testing.T, n *node, conn net.Conn) *rogue {
	t.Helper()
	id, err := newIdentity(testKey(t, 9), "test")
	if err != nil {
		t.Fatal(err)
	}
	in, err := newInitiator(id, n.key(), entropy{})
	if err != nil {
		t.Fatal(err)
	}
	m, _ := in.message1(hello{maxMessage: 1 << 20, maxRequests: 1 << 20}, nil)
	r := &rogue{t: t, conn: conn}
	r.conn.Write(m)
	reply, err := readMessage(r.conn, minMessage2, maxMessage2)
	if err != nil {
		t.Fatal(err)
	}
	k, err := in.finish(reply)
	if err != nil {
		t.Fatal(err)
	}
	r.tx, _ = newDirection(k.send)
	r.rx, _ = newDirection(k.recv)
	return r
}

// frame is one frame's bytes.
func rawFrame(typ, flags uint8, id uint64, payload []byte) []byte {
	b := make([]byte, frameHead, frameHead+len(payload))
	putFrameHead(b, typ, false, len(payload), id)
	b[1] = flags
	return append(b, payload...)
}

func (r *rogue) send(frames ...[]byte) {
	r.t.Helper()
	plain := bytes.Join(frames, nil)
	rec, err := r.tx.seal(append(make([]byte, recordHead, len(plain)+64), plain...))
	if err != nil {
		r.t.Fatal(err)
	}
	r.conn.Write(rec) // the node may have closed already
}

// next reads the next frames, or returns nil at the end.
func (r *rogue) next() []frame {
	var head [2]byte
	if _, err := io.ReadFull(r.conn, head[:]); err != nil {
		return nil
	}
	ct := make([]byte, binary.BigEndian.Uint16(head[:]))
	if _, err := io.ReadFull(r.conn, ct); err != nil {
		return nil
	}
	plain, err := r.rx.open(ct)
	if err != nil {
		r.t.Fatal(err)
	}
	var fs []frame
	for len(plain) > 0 {
		f, rest, err := nextFrame(plain)
		if err != nil {
			r.t.Fatal(err)
		}
		fs, plain = append(fs, f), rest
	}
	return fs
}

func request(kind uint8, header int, body uint32, part []byte) []byte {
	h := requestHead{kind: kind, header: uint16(header), body: body}
	return append(append(appendRequestHead(nil, &h), make([]byte, min(header, 2000))...), part...)
}

func TestProtocolViolationsEndTheSession(t *testing.T) {
	t.Parallel()
	n := startNode(t, testConfig(t, nil))
	ok := request(2, 0, 0, nil)
	open := rawFrame(typeRequest, 0, 1, request(2, 0, 1000, make([]byte, 10)))
	for name, frames := range map[string][][]byte{
		"unknown type":            {rawFrame(99, flagLast, 1, nil)},
		"type 0":                  {rawFrame(0, flagLast, 1, nil)},
		"unknown flag":            {rawFrame(typePing, 2, 1, nil)},
		"ping with a payload":     {rawFrame(typePing, flagLast, 1, []byte{1})},
		"ping without end":        {rawFrame(typePing, 0, 1, nil)},
		"frame over the record":   {rawFrame(typePing, flagLast, 1, nil), {typePing, flagLast, 0, 5, 0, 0, 0, 0, 0, 0, 0, 1, 9}},
		"request too short":       {rawFrame(typeRequest, flagLast, 1, ok[:10])},
		"header over limit":       {rawFrame(typeRequest, flagLast, 1, request(2, MaxHeader+1, 0, nil))},
		"header not there":        {rawFrame(typeRequest, flagLast, 1, request(2, 100, 0, nil)[:requestFixed+5])},
		"id twice":                {rawFrame(typeRequest, flagLast, 1, ok), rawFrame(typeRequest, flagLast, 1, ok)},
		"id goes back":            {rawFrame(typeRequest, flagLast, 2, ok), rawFrame(typeRequest, flagLast, 1, ok)},
		"id 0":                    {rawFrame(typeRequest, flagLast, 0, ok)},
		"body over its length":    {rawFrame(typeRequest, flagLast, 1, request(2, 0, 3, make([]byte, 10)))},
		"body under its length":   {rawFrame(typeRequest, flagLast, 1, request(2, 0, 30, make([]byte, 10)))},
		"end that is none":        {rawFrame(typeRequest, 0, 1, request(2, 0, 10, make([]byte, 10)))},
		"more before its request": {rawFrame(typeMore, flagLast, 5, []byte{1})},
		"more over the length":    {open, rawFrame(typeMore, 0, 1, make([]byte, 2000))},
		"endless empty fragments": {open, rawFrame(typeMore, 0, 1, nil)},
		"cancel of the future":    {rawFrame(typeCancel, flagLast, 5, []byte{1})},
		"response to nothing":     {rawFrame(typeResponse, flagLast, 1, make([]byte, 4))},
		"more of no response":     {rawFrame(typeMoreReply, flagLast, 1, make([]byte, 4))},
		"response too large":      {rawFrame(typeResponse, 0, 1, []byte{0xff, 0xff, 0xff, 0xff, 1})},
		"bye before go-away":      {rawFrame(typeGoAway, flagLast, 0, []byte{goAwayBye, 1})},
		"go-away phase":           {rawFrame(typeGoAway, flagLast, 0, []byte{9, 1})},
		"request after go-away":   {rawFrame(typeGoAway, flagLast, 0, []byte{goAwayDrain, 1}), rawFrame(typeRequest, flagLast, 1, ok)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRogue(t, n)
			r.send(frames...)
			for r.next() != nil {
			}
		})
	}
}

func TestGarbageRecordEndsTheSession(t *testing.T) {
	t.Parallel()
	n := startNode(t, testConfig(t, nil))
	for _, b := range [][]byte{make([]byte, 100), bytes.Repeat([]byte{0xff}, 70000), append([]byte{0, 40}, make([]byte, 40)...)} {
		r := newRogue(t, n)
		r.send(rawFrame(typePing, flagLast, 1, nil))
		if fs := r.next(); len(fs) == 0 || fs[0].typ != typePong {
			t.Fatalf("%+v", fs)
		}
		r.conn.Write(b)
		for r.next() != nil {
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	c := testConfig(t, handlerFunc{request: func(ctx context.Context, r *Request) ([]byte, error) {
		<-release
		return nil, nil
	}})
	c.MaxRequests, c.MaxMessage, c.MaxReassembly, c.MaxReassemblyTotal = 2, 1<<20, 1<<20, 1<<20
	n := startNode(t, c)
	r := newRogue(t, n)
	expect := func(id uint64, code Code, limit uint8) {
		t.Helper()
		for {
			for _, f := range r.next() {
				if f.typ != typeError {
					continue
				}
				h, _, err := parseError(f.payload)
				if err != nil || f.id != id || Code(h.code) != code || h.limit != limit || h.served {
					t.Fatalf("%+v: %+v, %v", f, h, err)
				}
				return
			}
		}
	}
	r.send(rawFrame(typeRequest, 0, 1, request(2, 0, 1<<20+1, make([]byte, 10))))
	expect(1, TooLarge, limitMessage)
	r.send(rawFrame(typeMore, 0, 1, make([]byte, 1000))) // the rest of a refused one is ignored
	// Two that hold all of the reassembly budget between them.
	for id := uint64(2); id <= 3; id++ {
		r.send(rawFrame(typeRequest, 0, id, request(2, 0, 1<<20, make([]byte, 10))))
	}
	r.send(rawFrame(typeRequest, flagLast, 4, request(2, 0, 0, nil)))
	expect(4, Busy, limitRequests)
	for range 10 {
		r.send(rawFrame(typeMore, 0, 2, make([]byte, 60000)))
		r.send(rawFrame(typeMore, 0, 3, make([]byte, 60000)))
	}
	expect(3, Busy, limitReassembly)
	r.send(rawFrame(typeCancel, flagLast, 2, []byte{4}))
	expect(2, Canceled, limitNone)
	if used := n.assembly.used.Load(); used != 0 {
		t.Errorf("%d bytes of the budget are still taken", used)
	}
	close(release)
}

func TestPortInUse(t *testing.T) {
	t.Parallel()
	n := startNode(t, testConfig(t, nil))
	c := testConfig(t, nil)
	c.Listen = n.Addr().String()
	e, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if err := e.Bind(); err == nil || !strings.Contains(err.Error(), c.Listen) {
		t.Errorf("%v", err)
	}
}

func TestDialAnotherKey(t *testing.T) {
	t.Parallel()
	a, b := startNode(t, testConfig(t, nil)), startNode(t, testConfig(t, nil))
	_, _, err := a.Session(t.Context(), PeerKey(testKey(t, 7)[32:]), []netip.AddrPort{b.Addr()})
	var de *DialError
	if !errors.As(err, &de) || len(de.Attempts) != 1 || !errors.Is(err, ErrNoAnswer) {
		t.Errorf("%v", err)
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	if _, err := New(Config{}); err == nil {
		t.Fatal("an empty Config")
	}
	c := testConfig(t, nil)
	c.Network, c.MaxMessage, c.MaxReassembly, c.MaxSessions = strings.Repeat("x", 65), 100, 50, -1
	c.BackgroundPingAfter, c.RenewBackgroundAfter = maxQuiet+1, time.Minute
	_, err := New(c)
	for _, name := range []string{"Network", "MaxReassembly", "MaxSessions", "BackgroundPingAfter", "RenewBackgroundAfter"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v does not name %s", err, name)
		}
	}
}
