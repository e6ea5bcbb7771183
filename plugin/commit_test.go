package plugin

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/handlerpb"
)

// ledger is what a host was asked to commit, under limits like a node's.
type ledger struct {
	mu    sync.Mutex // guards what follows
	stage sdk.Stage
	texts []string
	asked int
}

func (l *ledger) add(e *sdk.Entry) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked++
	if err := l.stage.Add(e); err != nil {
		return err
	}
	l.texts = append(l.texts, string(e.Content))
	return nil
}

func (l *ledger) seen() (texts []string, asked int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.texts), l.asked
}

func unanswered(text string) *handlerpb.Callback {
	return &handlerpb.Callback{Op: handlerpb.OpCommit, Entry: sdk.Entry{Type: "t", Content: []byte(text)}}
}

// stageAll sends a commit of each text, none of which wants an answer.
func (r *rogue) stageAll(texts ...string) error {
	for _, text := range texts {
		if err := r.callback(unanswered(text)); err != nil {
			return err
		}
	}
	return nil
}

// write sends frames as one batch, also such as the stream would not.
func (r *rogue) write(frames ...*handlerpb.HandlerMessage) error {
	for _, f := range frames {
		f.Call = r.id
	}
	b, err := proto.Marshal(&handlerpb.HandlerBatch{Frames: frames})
	if err != nil {
		return err
	}
	_, err = r.conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
	return err
}

func wireCallback(c *handlerpb.CallbackRequest) *handlerpb.HandlerMessage {
	return &handlerpb.HandlerMessage{Message: &handlerpb.HandlerMessage_Callback{Callback: c}}
}

func wireCommit(text string) *handlerpb.HandlerMessage {
	return wireCallback(&handlerpb.CallbackRequest{Op: &handlerpb.CallbackRequest_Commit{Commit: &handlerpb.Entry{Type: "t", Content: []byte(text)}}})
}

var wireResult = &handlerpb.HandlerMessage{Message: &handlerpb.HandlerMessage_Result{Result: &handlerpb.CallResult{Reply: []byte("ok")}}}

// Commits that want no answer are performed in order, before their call's
// result; one that is refused fails the call, whatever the result says.
func TestUnansweredCommits(t *testing.T) {
	t.Parallel()
	const entries = 3
	failed := &handlerpb.Result{Err: sdk.Fail("x.no", "no")}
	for name, c := range map[string]struct {
		call  func(r *rogue) error
		want  []string
		asked int
		code  sdk.Code // 0: the call is answered
	}{
		"one batch": {func(r *rogue) error {
			return r.write(wireCommit("1"), wireCommit("2"), wireCommit("3"), proto.CloneOf(wireResult))
		}, []string{"1", "2", "3"}, 3, 0},
		"frame by frame": {func(r *rogue) error {
			return errors.Join(r.stageAll("1", "2", "3"), r.result())
		}, []string{"1", "2", "3"}, 3, 0},
		"held": {func(r *rogue) error {
			for _, text := range []string{"1", "2", "3"} {
				if queued, err := r.Commit(context.Background(), r.id, &unanswered(text).Entry); err != nil || !queued {
					return fmt.Errorf("queued %t, %w", queued, err)
				}
			}
			return r.result()
		}, []string{"1", "2", "3"}, 3, 0},
		"with answers between": {func(r *rogue) error {
			cb := unanswered("2")
			cb.ID = 1
			if err := errors.Join(r.stageAll("1"), r.callback(cb)); err != nil {
				return err
			}
			if f, err := r.next(); err != nil || f.Answer == nil || f.Answer.Hash != sdk.EntryHash([]byte("2")) {
				return fmt.Errorf("answer %+v, %w", f, err)
			}
			return errors.Join(r.stageAll("3"), r.result())
		}, []string{"1", "2", "3"}, 3, 0},
		"beside as many callbacks as may be open": {func(r *rogue) error {
			for id := range uint64(handlerpb.MaxCallbacks) {
				if err := r.callback(&handlerpb.Callback{ID: id + 1, Op: handlerpb.OpSend}); err != nil {
					return err
				}
			}
			return errors.Join(r.stageAll("1"), r.result())
		}, []string{"1"}, 1, 0},
		"refused": {func(r *rogue) error {
			return errors.Join(r.stageAll("1", "2", "3", "4", "5", ""), r.result())
		}, []string{"1", "2", "3"}, 4, sdk.TooLarge},
		"refused, and the call fails": {func(r *rogue) error {
			return errors.Join(r.stageAll("1", "2", "3", "4"), r.Result(r.id, failed, true))
		}, []string{"1", "2", "3"}, 4, sdk.TooLarge},
		"a flood": {func(r *rogue) error {
			for range 20_000 {
				if err := r.stageAll("x"); err != nil {
					return err
				}
			}
			return r.result()
		}, []string{"x", "x", "x"}, 4, sdk.TooLarge},
		"after the result": {func(r *rogue) error {
			return errors.Join(r.stageAll("1"), r.result(), r.stageAll("2", "3", "4", "5"))
		}, []string{"1"}, 1, 0},
		"and the process is gone": {func(r *rogue) error {
			return errors.Join(r.stageAll("1"), r.conn.Close())
		}, nil, -1, sdk.HandlerCrashed},
	} {
		bothWays(t, name, func(t *testing.T, way way) {
			l := &ledger{stage: sdk.Stage{Limits: sdk.CommitLimits{Entries: entries}}}
			host := &testHost{stage: l.add, send: func(ctx context.Context, _ []byte) ([]byte, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}}
			reply, err := way.call(withRogue(t, c.call), testContext(t), host, call("f", ""), 1<<20)
			if c.code == 0 && (err != nil || string(reply) != "ok") || c.code != 0 && !errors.Is(err, c.code) {
				t.Errorf("%q, %v; want %v", reply, err, c.code)
			}
			if e := (*sdk.Error)(nil); c.code == sdk.TooLarge && (!errors.As(err, &e) || e.Limit == nil || e.Limit.Value != entries+1) {
				t.Errorf("not the first refusal: %v", err)
			}
			if texts, asked := l.seen(); c.asked >= 0 && (asked != c.asked || !slices.Equal(texts, c.want)) {
				t.Errorf("%d commits reached the host, it staged %q", asked, texts)
			}
		})
	}
}

// Nothing reaches the host of a call that nobody waits for any more.
func TestCommitAfterGivingUp(t *testing.T) {
	t.Parallel()
	bothWays(t, "a call", testCommitAfterGivingUp)
}

func testCommitAfterGivingUp(t *testing.T, way way) {
	ctx, giveUp := context.WithCancel(testContext(t))
	p := withRogue(t, func(r *rogue) error {
		if err := r.stageAll("1"); err != nil {
			return err
		}
		if f, err := r.next(); err != nil || !f.Cancel {
			return fmt.Errorf("frame %+v, %w", f, err)
		}
		return errors.Join(r.stageAll("2"), r.result(), r.conn.Close())
	})
	l := &ledger{}
	host := &testHost{stage: func(e *sdk.Entry) error {
		giveUp()
		return l.add(e)
	}}
	_, err := way.call(p, ctx, host, call("f", ""), 1<<20)
	wantErrorCode(t, err, sdk.Canceled)
	<-p.stream.dead // all that the handler sent was looked at
	if texts, _ := l.seen(); !slices.Equal(texts, []string{"1"}) {
		t.Errorf("staged %q", texts)
	}
}

// Whoever asks for something else must take the answer.
func TestMalformedWithoutID(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]*handlerpb.CallbackRequest{
		"send":            {Op: &handlerpb.CallbackRequest_Send{Send: &handlerpb.Send{To: make([]byte, 32)}}},
		"notify, waits":   {Op: &handlerpb.CallbackRequest_Notify{Notify: &handlerpb.Notify{To: [][]byte{make([]byte, 32)}, Wait: true}}},
		"emit":            {Op: &handlerpb.CallbackRequest_Emit{Emit: &handlerpb.Emit{}}},
		"query":           {Op: &handlerpb.CallbackRequest_Query{Query: &handlerpb.Query{}}},
		"get":             {Op: &handlerpb.CallbackRequest_Get{Get: &handlerpb.Get{Record: make([]byte, 32)}}},
		"nothing":         {},
		"commit, no type": {Op: &handlerpb.CallbackRequest_Commit{Commit: &handlerpb.Entry{}}},
	} {
		bothWays(t, name, func(t *testing.T, way way) {
			p := withRogue(t, func(r *rogue) error { return r.write(wireCallback(c), proto.CloneOf(wireResult)) })
			_, err := way.call(p, testContext(t), &testHost{}, call("f", ""), 1<<20)
			e := wantError(t, err, sdk.HandlerCrashed, sdk.SideHandler, sdk.DeliveredYes)
			if !strings.Contains(e.Text, "malformed") {
				t.Errorf("got %v", e)
			}
		})
	}
}

// Notifications that want no answer reach the host in order, before their call's
// result; one that is refused fails the call.
func TestUnansweredNotifications(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sizes   []int
		refused int // the first that the host refuses; 0: none
		want    []int
		code    sdk.Code
	}{
		"taken":     {[]int{1, 2, 3}, 0, []int{1, 2, 3}, 0},
		"refused":   {[]int{1, 2, 3}, 2, []int{1}, sdk.Busy},
		"too large": {[]int{1, 1001, 3}, 0, []int{1}, sdk.TooLarge},
	} {
		bothWays(t, name, func(t *testing.T, way way) {
			p := withRogue(t, func(r *rogue) error {
				for _, n := range c.sizes {
					cb := &handlerpb.Callback{Op: handlerpb.OpNotify, Notice: sdk.Notice{To: []sdk.AgentID{{1}}, Payload: make([]byte, n)}}
					if err := r.callback(cb); err != nil {
						return err
					}
				}
				return r.result()
			})
			var got []int
			host := &testHost{notify: func(n sdk.Notice) error {
				if len(n.Payload) == c.refused {
					return &sdk.Error{Code: sdk.Busy}
				}
				got = append(got, len(n.Payload))
				return nil
			}}
			reply, err := way.call(p, testContext(t), host, call("f", ""), 1000)
			if c.code == 0 && (err != nil || string(reply) != "ok") || c.code != 0 && !errors.Is(err, c.code) {
				t.Errorf("%q, %v; want %v", reply, err, c.code)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("the host was asked for %v", got)
			}
		})
	}
}
