package node

import (
	"context"
	"errors"
	"testing"

	"github.com/parley-p2p/parley/node/control"
)

func eventNode(t *testing.T) *Node {
	n := &Node{events: newPluginEvents()}
	n.life, n.end = context.WithCancelCause(t.Context())
	return n
}

func collectEvents(t *testing.T, n *Node, q control.EventQuery) (seqs []uint64) {
	t.Helper()
	err := n.PluginEvents(t.Context(), q, func(e control.PluginEvent) error { seqs = append(seqs, e.Seq); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return seqs
}

// TestPluginEventsKept: the newest are kept, in order, and a number of an earlier
// run of the node gets all of them.
func TestPluginEventsKept(t *testing.T) {
	t.Parallel()
	n := eventNode(t)
	if got := collectEvents(t, n, control.EventQuery{}); got != nil {
		t.Errorf("at the start: %v", got)
	}
	const all = maxPluginEvents + 10
	for range all {
		n.events.add(control.PluginEvent{})
	}
	for after, first := range map[uint64]uint64{0: 11, 3: 11, 20: 21, all - 1: all, all + 5: 11} {
		got := collectEvents(t, n, control.EventQuery{After: after})
		if len(got) != int(all-first+1) || got[0] != first || got[len(got)-1] != all {
			t.Errorf("after %d: %d from %d to %d", after, len(got), got[0], got[len(got)-1])
		}
	}
	if got := collectEvents(t, n, control.EventQuery{After: all}); got != nil {
		t.Errorf("after the last: %v", got)
	}
}

// TestSlowReaderOfEvents: who does not read misses events, and keeps nobody waiting.
func TestSlowReaderOfEvents(t *testing.T) {
	t.Parallel()
	n := eventNode(t)
	n.events.add(control.PluginEvent{})
	inTell, goOn := make(chan struct{}), make(chan struct{})
	var seqs []uint64
	enough := errors.New("enough")
	ended := make(chan error, 1)
	const last = 1 + 3*maxPluginEvents
	go func() {
		ended <- n.PluginEvents(t.Context(), control.EventQuery{Follow: true}, func(e control.PluginEvent) error {
			if seqs = append(seqs, e.Seq); e.Seq == 1 {
				close(inTell)
				<-goOn
			}
			if e.Seq == last {
				return enough
			}
			return nil
		})
	}()
	<-inTell
	for range last - 1 {
		n.events.add(control.PluginEvent{}) // does not wait for the reader
	}
	close(goOn)
	if err := <-ended; err != enough {
		t.Error(err)
	}
	if len(seqs) != 1+maxPluginEvents || seqs[1] != last-maxPluginEvents+1 || seqs[len(seqs)-1] != last {
		t.Errorf("%d events, the second is %d", len(seqs), seqs[1])
	}
}

// TestFollowingEventsEnds: with its caller, and with the node.
func TestFollowingEventsEnds(t *testing.T) {
	t.Parallel()
	n := eventNode(t)
	none := func(control.PluginEvent) error { return nil }
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := n.PluginEvents(ctx, control.EventQuery{Follow: true}, none); !errors.Is(err, context.Canceled) {
		t.Errorf("its caller's end: %v", err)
	}
	n.end(nil)
	if err := n.PluginEvents(t.Context(), control.EventQuery{Follow: true}, none); err != nil {
		t.Errorf("the node's end: %v", err)
	}
}
