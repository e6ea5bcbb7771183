package handlerpb

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// slowHandler runs f with a handler's stream whose socket takes only what the
// test takes: take gives the frames of the next batch.
func slowHandler(t *testing.T, f func(t *testing.T, s *HandlerStream, c slowConn, take func() []FromHandler)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := slowConn{make(chan []byte)}
		s := NewHandlerStream(c, DefaultMaxPayload)
		var wg sync.WaitGroup
		wg.Go(s.Send)
		defer func() {
			s.Fail(io.EOF)
			go func() {
				for range c.writes { // a write that still waits
				}
			}()
			wg.Wait()
			close(c.writes)
		}()
		r := testReceiver()
		f(t, s, c, func() (frames []FromHandler) {
			t.Helper()
			r.r.Reset(bytes.NewReader(<-c.writes))
			err := r.recv(func(msg []byte) error {
				f, err := parseFromHandler(msg)
				frames = append(frames, f)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			return frames
		})
	})
}

func commit(t *testing.T, s *HandlerStream, size int) (queued bool) {
	t.Helper()
	queued, err := s.Commit(t.Context(), 1, &sdk.Entry{Type: "t", Content: make([]byte, size)})
	if err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	return queued
}

// silent fails the test if something is being sent.
func silent(t *testing.T, c slowConn) {
	t.Helper()
	select {
	case b := <-c.writes:
		t.Fatalf("%d bytes were sent", len(b))
	default:
	}
}

// Entries that want no answer wait for what is sent next, and go before it.
func TestHeldCommits(t *testing.T) {
	next := map[string]func(s *HandlerStream) error{
		"a result":       func(s *HandlerStream) error { return s.Result(1, &Result{}, true) },
		"a large result": func(s *HandlerStream) error { return s.Result(1, &Result{Reply: make([]byte, 100<<10)}, true) },
		"a send": func(s *HandlerStream) error {
			_, err := s.Callback(context.Background(), 1, &Callback{ID: 1, Op: OpSend}, false)
			return err
		},
		"a log line":            func(s *HandlerStream) error { return s.Log(1, &LogRecord{}) },
		"another call's result": func(s *HandlerStream) error { return s.Result(2, &Result{}, false) },
		"a refusal":             func(s *HandlerStream) error { return s.Refuse(2, fullError) },
	}
	for name, send := range next {
		t.Run(name, func(t *testing.T) {
			slowHandler(t, func(t *testing.T, s *HandlerStream, c slowConn, take func() []FromHandler) {
				for size := range 3 {
					if !commit(t, s, size) {
						t.Fatal("not queued")
					}
				}
				silent(t, c)
				sent := make(chan error, 1)
				go func() { sent <- send(s) }()
				frames := take()
				if err := <-sent; err != nil || len(frames) != 4 {
					t.Fatalf("%d frames, %v", len(frames), err)
				}
				for i, f := range frames[:3] {
					if c := f.Callback; c == nil || c.ID != 0 || c.Op != OpCommit || len(c.Entry.Content) != i {
						t.Errorf("frame %d is %+v", i, f)
					}
				}
				if c := frames[3].Callback; c != nil && c.Op == OpCommit {
					t.Errorf("the last frame is %+v", frames[3])
				}
				silent(t, c)
			})
		})
	}
}

// What could be overtaken is not queued.
func TestLargeCommits(t *testing.T) {
	slowHandler(t, func(t *testing.T, s *HandlerStream, c slowConn, take func() []FromHandler) {
		if commit(t, s, SmallFrame) {
			t.Error("a large entry was queued")
		}
		if _, err := s.Commit(t.Context(), 1, &sdk.Entry{}); !errors.Is(err, ErrMalformed) {
			t.Errorf("an entry without a type: %v", err)
		}
		silent(t, c)
	})
}

// Many entries are sent before the call ends, and where they are not taken their
// call waits.
func TestManyCommits(t *testing.T) {
	slowHandler(t, func(t *testing.T, s *HandlerStream, c slowConn, take func() []FromHandler) {
		const size = 1000
		n := 0
		for range maxHeld/size + 1 {
			commit(t, s, size)
			n++
		}
		if got := len(take()); got != n {
			t.Fatalf("%d frames of %d", got, n)
		}
		silent(t, c)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var err error
		n = 0
		for ; err == nil && n <= 2*maxQueued/size; n++ {
			_, err = s.Commit(ctx, 1, &sdk.Entry{Type: "t", Content: make([]byte, size)})
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("after %d entries: %v", n, err)
		}
		waits := make(chan error, 1)
		go func() { _, err := s.Commit(t.Context(), 1, &sdk.Entry{Type: "t"}); waits <- err }()
		synctest.Wait()
		if len(waits) != 0 {
			t.Error("no bound")
		}
		got := 0
		for got < n { // n-1 were queued, and the one that waits
			got += len(take())
		}
		if err := <-waits; err != nil || got != n {
			t.Errorf("%d frames of %d, %v", got, n, err)
		}
		s.Fail(io.ErrClosedPipe)
		if _, err := s.Commit(t.Context(), 1, &sdk.Entry{Type: "t"}); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("after the end: %v", err)
		}
	})
}
