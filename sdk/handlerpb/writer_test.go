package handlerpb

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/parley-p2p/parley/sdk"
)

// slowConn hands what is written to the test, which takes it when it likes.
type slowConn struct{ writes chan []byte }

func (c slowConn) Write(b []byte) (int, error) {
	c.writes <- bytes.Clone(b)
	return len(b), nil
}
func (c slowConn) Read([]byte) (int, error) { return 0, io.EOF }

// slow runs f with a stream whose socket takes only what the test takes.
func slow(t *testing.T, f func(t *testing.T, s *NodeStream, c slowConn)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := slowConn{make(chan []byte)}
		s := NewNodeStream(c, DefaultMaxPayload)
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
		f(t, s, c)
	})
}

// take gives the frames of the next batch, and puts pieces into r's assembly.
func take(t *testing.T, c slowConn, r *receiver) (frames []FromNode, size int) {
	t.Helper()
	b := <-c.writes
	r.r.Reset(bytes.NewReader(b))
	err := r.recv(func(msg []byte) error {
		f, err := parseFromNode(msg)
		frames = append(frames, f)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	return frames, len(b)
}

func testReceiver() *receiver { return new(newReceiver(nil, DefaultMaxPayload)) }

func start(t *testing.T, s *NodeStream, id uint64, payload []byte) *Ticket {
	t.Helper()
	ticket := new(Ticket)
	err := s.Start(t.Context(), id, &sdk.Call{Kind: sdk.CallReceive, Payload: payload}, 0, false, ticket)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	return ticket
}

// While the socket is busy what waits becomes one batch.
func TestPacking(t *testing.T) {
	slow(t, func(t *testing.T, s *NodeStream, c slowConn) {
		for id := range uint64(101) {
			start(t, s, id+1, []byte("x"))
		}
		r := testReceiver()
		first, _ := take(t, c, r)
		rest, _ := take(t, c, r)
		if len(first) != 1 || len(rest) != 100 || rest[99].ID != 101 {
			t.Errorf("%d frames, then %d", len(first), len(rest))
		}
		if s.Blocked() != 0 {
			t.Error("blocked")
		}
	})
}

// A large frame goes in pieces, and small ones go between them.
func TestLargeFrames(t *testing.T) {
	slow(t, func(t *testing.T, s *NodeStream, c slowConn) {
		payload := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
		start(t, s, 1, payload)
		start(t, s, 2, nil)
		r := testReceiver()
		var order []uint64
		for batches := 1; len(order) < 2; batches++ {
			frames, size := take(t, c, r)
			if size > piece+1<<10 {
				t.Fatalf("batch of %d bytes", size)
			}
			for _, f := range frames {
				if f.ID == 2 && batches != 2 {
					t.Errorf("the small frame came in batch %d", batches)
				}
				if f.ID == 1 && !bytes.Equal(f.Start.Call.Payload, payload) {
					t.Error("another payload")
				}
				order = append(order, f.ID)
			}
		}
		if order[0] != 2 || r.asm.size != 0 {
			t.Errorf("order %v, %d bytes left", order, r.asm.size)
		}
	})
}

// Who gives up gets his payload back at once. What had begun is sent to its
// end, with the cancel behind it; the rest is not sent.
func TestGiveUpLarge(t *testing.T) {
	slow(t, func(t *testing.T, s *NodeStream, c slowConn) {
		payload := bytes.Repeat([]byte("x"), 700<<10)
		begun := start(t, s, 1, payload)
		second := start(t, s, 2, payload[:20<<10])
		if !s.Handed(begun) || s.Handed(second) {
			t.Errorf("handed: %t, %t", s.Handed(begun), s.Handed(second))
		}
		if on, err := s.Cancel(1, *begun); !on || err != nil {
			t.Errorf("the first: %t, %v", on, err)
		}
		if on, err := s.Cancel(2, *second); on || err != nil {
			t.Errorf("the second: %t, %v", on, err)
		}
		clear(payload)
		r := testReceiver()
		var got []FromNode
		for len(got) < 2 {
			frames, _ := take(t, c, r)
			got = append(got, frames...)
		}
		if got[0].Start == nil || bytes.Count(got[0].Start.Call.Payload, []byte("x")) != 700<<10 || got[1].ID != 1 || !got[1].Cancel {
			t.Errorf("%+v, %+v", got[0].ID, got[1])
		}
		third := start(t, s, 3, nil)
		if frames, _ := take(t, c, r); len(frames) != 1 || frames[0].ID != 3 || !s.Handed(third) {
			t.Errorf("%+v", frames)
		}
	})
}

// What waits is bounded. Callers wait with their context; what can't wait fails.
func TestFullQueue(t *testing.T) {
	slow(t, func(t *testing.T, s *NodeStream, c slowConn) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		call := &sdk.Call{Kind: sdk.CallReceive, Payload: make([]byte, 10<<10)}
		var err error
		var id uint64
		for err == nil {
			id++
			err = s.Start(ctx, id, call, 0, true, new(Ticket))
		}
		if !errors.Is(err, context.DeadlineExceeded) || id > 2*maxQueued/(10<<10)+4 {
			t.Fatalf("frame %d: %v", id, err)
		}
		if s.Blocked() != time.Minute {
			t.Errorf("blocked for %s", s.Blocked())
		}
		large := &sdk.Call{Kind: sdk.CallReceive, Payload: make([]byte, 1<<20)}
		if err := s.Start(t.Context(), 1000, large, 0, false, new(Ticket)); err != nil {
			t.Errorf("a large frame has room of its own: %v", err)
		}
		waits := make(chan error, 2)
		go func() { waits <- s.Start(t.Context(), 1001, large, 0, false, new(Ticket)) }()
		go func() { waits <- s.Start(t.Context(), 1002, call, 0, false, new(Ticket)) }()
		synctest.Wait()
		if len(waits) != 0 {
			t.Error("no bound")
		}
		for err = nil; err == nil && id < 1e6; id++ {
			err = s.Refuse(1, id, &sdk.Error{Code: sdk.Busy, Side: sdk.SideNode})
		}
		if !errors.Is(err, ErrUnread) {
			t.Errorf("after %d refusals: %v", id, err)
		}
		r := testReceiver()
		for len(waits) < 2 {
			take(t, c, r)
		}
		if err := errors.Join(<-waits, <-waits); err != nil {
			t.Error(err)
		}
	})
}

// What must not wait finds no room in the same queue, and leaves no trace there.
func TestTryWithFullQueue(t *testing.T) {
	slow(t, func(t *testing.T, s *NodeStream, c slowConn) {
		call := &sdk.Call{Kind: sdk.CallReceive, Payload: make([]byte, 10<<10)}
		var tickets []*Ticket
		for len(tickets) < maxQueued/1000 {
			ticket := new(Ticket)
			if !s.TryStart(uint64(len(tickets)+1), call, 0, true, ticket) {
				if *ticket != (Ticket{}) || s.Handed(ticket) {
					t.Errorf("the ticket of what was not queued: %+v", ticket)
				}
				break
			}
			tickets = append(tickets, ticket)
			synctest.Wait()
		}
		if n := len(tickets); n < maxQueued/(10<<10) || n > maxQueued/(10<<10)+4 {
			t.Errorf("%d were queued", n)
		}
		if !s.Handed(tickets[0]) || s.Handed(tickets[1]) || s.Handed(tickets[len(tickets)-1]) {
			t.Error("only the first was handed to the system")
		}
		if s.TryAnswer(1, &Answer{ID: 7, Op: OpSend, Reply: []byte("x")}, true) {
			t.Error("an answer found room")
		}
		r := testReceiver()
		seen := 0
		for _, want := range []int{1, len(tickets) - 1} {
			frames, _ := take(t, c, r)
			if seen += len(frames); len(frames) != want {
				t.Errorf("%d frames, want %d", len(frames), want)
			}
		}
		silent(t, c)
		if !s.Handed(tickets[len(tickets)-1]) {
			t.Error("the last was not handed to the system")
		}
		last := new(Ticket)
		if !s.TryAnswer(1, &Answer{ID: 7, Op: OpSend, Reply: []byte("x")}, true) || !s.TryStart(1000, call, time.Second, true, last) {
			t.Error("there is room again")
		}
		var got []FromNode
		for len(got) < 2 {
			frames, _ := take(t, c, r)
			got = append(got, frames...)
		}
		if a := got[0].Answer; a == nil || got[0].ID != 1 || a.ID != 7 || string(a.Reply) != "x" {
			t.Errorf("%+v", got[0])
		}
		if got[1].ID != 1000 || got[1].Start == nil || got[1].Start.Remaining != time.Second || !bytes.Equal(got[1].Start.Call.Payload, call.Payload) || !s.Handed(last) {
			t.Errorf("%+v", got[1])
		}
	})
}

// What is large, out of bounds or of a broken stream is not tried.
func TestTryRefuses(t *testing.T) {
	slow(t, func(t *testing.T, s *NodeStream, c slowConn) {
		ticket := new(Ticket)
		no := func(what string, ok bool) {
			t.Helper()
			if ok || *ticket != (Ticket{}) {
				t.Errorf("%s was queued", what)
			}
		}
		no("a large call", s.TryStart(1, &sdk.Call{Kind: sdk.CallReceive, Payload: make([]byte, SmallFrame)}, 0, true, ticket))
		no("a call of no kind", s.TryStart(1, &sdk.Call{}, 0, true, ticket))
		no("a large answer", s.TryAnswer(1, &Answer{ID: 7, Op: OpSend, Reply: make([]byte, SmallFrame)}, true))
		no("an answer that says nothing", s.TryAnswer(1, &Answer{Op: OpSend}, true))
		synctest.Wait()
		silent(t, c)
		s.Fail(io.ErrClosedPipe)
		no("a call after the end", s.TryStart(1, &sdk.Call{Kind: sdk.CallReceive}, 0, true, ticket))
		no("an answer after the end", s.TryAnswer(1, &Answer{ID: 7, Op: OpSend}, true))
	})
}

// When the socket breaks, those who wait and those who come learn why.
func TestBrokenSocket(t *testing.T) {
	slow(t, func(t *testing.T, s *NodeStream, c slowConn) {
		call := &sdk.Call{Kind: sdk.CallReceive, Payload: make([]byte, 1<<20)}
		errs := make(chan error, 4)
		for id := range uint64(4) {
			go func() { errs <- s.Start(t.Context(), id+1, call, 0, true, new(Ticket)) }()
		}
		synctest.Wait()
		queued := len(errs)
		broken := errors.New("broken")
		s.Fail(broken)
		for range 4 {
			if err := <-errs; err != nil && !errors.Is(err, broken) {
				t.Error(err)
			}
		}
		if err := s.Start(t.Context(), 9, call, 0, true, new(Ticket)); !errors.Is(err, broken) || queued == 4 {
			t.Errorf("%v; %d of 4 were queued", err, queued)
		}
	})
}

// The golden vector of a batch: two frames, and the first piece of a third.
func TestBatchVector(t *testing.T) {
	t.Parallel()
	head, _, err := startHead(nil, 10, &sdk.Call{Kind: sdk.CallReceive, Payload: []byte("payload")}, 0)
	if err != nil {
		t.Fatal(err)
	}
	b := appendBatched(make([]byte, lengthSize), callCancel(nil, 9), nil)
	b = appendBatched(b, head, []byte("payload"))
	b = append(appendLen(b, fieldPart, 5), "begin"...)
	b[3] = byte(len(b) - lengthSize)
	text := "# length, then parley.handler.v1.HostBatch: a cancel of call 9, a receive (call 10), and the first piece of another frame\n" +
		wrap(hex.EncodeToString(b)) + "\n"
	file := filepath.Join("testdata", "batch.hex")
	if *update {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(file); err != nil || string(want) != text {
		t.Errorf("encoded as\n%s\nwant\n%s\n%v", text, want, err)
	}
	var w HostBatch
	if err := proto.Unmarshal(b[lengthSize:], &w); err != nil || len(w.Frames) != 2 || w.Frames[0].Call != 9 ||
		string(w.Frames[1].GetStart().GetPayload()) != "payload" || string(w.Part) != "begin" {
		t.Errorf("%v, %v", &w, err)
	}
}

// fragments gives its bytes in pieces of n.
type fragments struct {
	r io.Reader
	n int
}

func (f fragments) Read(b []byte) (int, error) { return f.r.Read(b[:min(f.n, len(b))]) }

// FuzzBatches: whatever arrives, and in whatever pieces, is taken or refused,
// in bounded memory, and the same for all pieces.
func FuzzBatches(f *testing.F) {
	if text, err := os.ReadFile(filepath.Join("testdata", "batch.hex")); err == nil {
		_, digits, _ := strings.Cut(string(text), "\n")
		b, _ := hex.DecodeString(strings.ReplaceAll(digits, "\n", ""))
		f.Add(b)
		f.Add(append(append(b, b...), 0, 0, 0, 3, 0x1a, 1, 'x'))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var want [][]byte
		var wantErr error
		for i, n := range []int{1 << 20, 1, 7} {
			r := newReceiver(fragments{bytes.NewReader(b), n}, 1000)
			var got [][]byte
			var err error
			for err == nil {
				err = r.recv(func(msg []byte) error { got = append(got, bytes.Clone(msg)); return nil })
			}
			if r.asm.size > r.max || r.asm.size > len(b) {
				t.Fatalf("%d bytes are kept", r.asm.size)
			}
			if i == 0 {
				want, wantErr = got, err
			} else if !slices.EqualFunc(got, want, bytes.Equal) || (err == io.EOF) != (wantErr == io.EOF) {
				t.Fatalf("in pieces of %d: %d frames, %v; whole: %d, %v", n, len(got), err, len(want), wantErr)
			}
		}
	})
}
