package control

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// plainServer serves HTTP on a Unix socket and counts its connections.
type plainServer struct {
	l     net.Listener
	made  atomic.Int32
	conns sync.WaitGroup
}

// serve answers each connection with handle until it returns false.
func newPlainServer(t *testing.T, path string, handle func(*bufio.Reader, net.Conn) bool) *plainServer {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &plainServer{l: l}
	s.conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.made.Add(1)
			s.conns.Go(func() {
				defer c.Close()
				for in := bufio.NewReader(c); handle(in, c); {
				}
			})
		}
	})
	return s
}

func (s *plainServer) stop() {
	s.l.Close()
	s.conns.Wait()
}

// answer reads a request and echoes its body.
func answer(in *bufio.Reader, c net.Conn) bool {
	r, err := http.ReadRequest(in)
	if err != nil {
		return false
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return false
	}
	_, err = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	return err == nil
}

// socketPath is short enough for a socket, however long the test's name is.
func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "p")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

func tripper(t *testing.T, path string) *roundTripper {
	rt := &roundTripper{dial: func() (net.Conn, error) { return net.Dial("unix", path) }}
	t.Cleanup(rt.close)
	return rt
}

func exchange(ctx context.Context, rt *roundTripper, body string) (string, error) {
	r, err := http.NewRequestWithContext(ctx, "POST", "http://parley/x", strings.NewReader(body))
	if err != nil {
		return "", err
	}
	res, err := rt.RoundTrip(r)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(res.Body)
	return string(b), errors.Join(err, res.Body.Close())
}

func TestRoundTripReuse(t *testing.T) {
	t.Parallel()
	path := socketPath(t)
	s := newPlainServer(t, path, answer)
	rt := tripper(t, path)
	for i := range 5 {
		if got, err := exchange(t.Context(), rt, fmt.Sprint("call ", i)); err != nil || got != fmt.Sprint("call ", i) {
			t.Fatalf("%q, %v", got, err)
		}
	}
	if n := s.made.Load(); n != 1 {
		t.Errorf("%d connections for calls one after another", n)
	}
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			for j := range 5 {
				want := strings.Repeat(fmt.Sprint(i, j), 50)
				if got, err := exchange(t.Context(), rt, want); err != nil || got != want {
					t.Errorf("%q, %v", got, err)
				}
			}
		})
	}
	wg.Wait()
	if n := len(rt.idle); n > maxIdleConns {
		t.Errorf("%d idle connections are kept", n)
	}
	rt.close()
	if got, err := exchange(t.Context(), rt, "after close"); err != nil || got != "after close" || len(rt.idle) != 0 {
		t.Errorf("after close: %q, %v, %d idle", got, err, len(rt.idle))
	}
	s.stop()
}

// A connection that its node has closed is not used, and no request is sent twice.
func TestRoundTripAfterRestart(t *testing.T) {
	t.Parallel()
	path := socketPath(t)
	rt := tripper(t, path)
	for range 3 {
		one := make(chan struct{}, 1)
		s := newPlainServer(t, path, func(in *bufio.Reader, c net.Conn) bool {
			_ = answer(in, c)
			one <- struct{}{}
			return false // closes it
		})
		if got, err := exchange(t.Context(), rt, "x"); err != nil || got != "x" {
			t.Fatalf("%q, %v", got, err)
		}
		<-one
		s.stop()
	}
	if _, err := exchange(t.Context(), rt, "x"); err == nil {
		t.Error("an answer of nobody")
	}
	requests := atomic.Int32{}
	s := newPlainServer(t, path, func(in *bufio.Reader, c net.Conn) bool {
		_, err := http.ReadRequest(in)
		if err == nil {
			requests.Add(1)
		}
		return false
	})
	if _, err := exchange(t.Context(), rt, "x"); err == nil || requests.Load() != 1 {
		t.Errorf("a connection that broke: %v, sent %d times", err, requests.Load())
	}
	s.stop()
}

// A node refuses what is too large before it has read it, and closes.
func TestRoundTripEarlyAnswer(t *testing.T) {
	t.Parallel()
	path := socketPath(t)
	s := newPlainServer(t, path, func(in *bufio.Reader, c net.Conn) bool {
		if _, err := http.ReadRequest(in); err == nil {
			fmt.Fprint(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
		}
		return false
	})
	rt := tripper(t, path)
	for range 3 {
		r, err := http.NewRequestWithContext(t.Context(), "POST", "http://parley/x", bytes.NewReader(make([]byte, 8<<20)))
		if err != nil {
			t.Fatal(err)
		}
		res, err := rt.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(res.Body); err != nil || string(b) != "no" || res.StatusCode != 413 {
			t.Errorf("%d %q %v", res.StatusCode, b, err)
		}
		if err := res.Body.Close(); err != nil || len(rt.idle) != 0 {
			t.Errorf("close: %v, %d idle", err, len(rt.idle))
		}
	}
	s.stop()
}

func TestRoundTripCancel(t *testing.T) {
	t.Parallel()
	path := socketPath(t)
	waiting, gone := make(chan struct{}), make(chan struct{}, 3)
	s := newPlainServer(t, path, func(in *bufio.Reader, c net.Conn) bool {
		r, err := http.ReadRequest(in)
		if err != nil {
			return false
		}
		if r.Header.Get("Part") != "" {
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart")
		}
		waiting <- struct{}{}
		_, _ = io.Copy(io.Discard, in) // until the client closes
		gone <- struct{}{}
		return false
	})
	rt := tripper(t, path)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { _, err := exchange(ctx, rt, ""); ended <- err }()
	<-waiting
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("canceled while it waited: %v", err)
	}
	<-gone

	late, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	go func() { <-waiting }()
	if _, err := exchange(late, rt, ""); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("at its deadline: %v", err)
	}
	<-gone

	ctx, cancel = context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, "GET", "http://parley/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Part", "yes")
	go func() { <-waiting }()
	res, err := rt.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	part := make([]byte, 4)
	if _, err := io.ReadFull(res.Body, part); err != nil || string(part) != "part" {
		t.Fatalf("%q, %v", part, err)
	}
	cancel()
	if _, err := res.Body.Read(part); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled within a response: %v", err)
	}
	if err := res.Body.Close(); err != nil || len(rt.idle) != 0 {
		t.Errorf("close: %v, %d idle", err, len(rt.idle))
	}
	<-gone
	if _, err := exchange(ctx, rt, ""); !errors.Is(err, context.Canceled) || s.made.Load() != 3 {
		t.Errorf("begun after the end: %v, %d connections", err, s.made.Load())
	}
	s.stop()
}
