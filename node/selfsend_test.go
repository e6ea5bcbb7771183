package node

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"

	"github.com/parley-p2p/parley/sdk"
)

// Sending to oneself is the same cycle: its receive commits in a transaction of
// its own, ends with its sender's deadline, and rolls back.
func TestSendToOneself(t *testing.T) {
	t.Parallel()
	w := newTestNetwork(t, testDNA)
	n := w.start("n")
	if _, err := sendTo(t, n, n, testMessage{Do: "commit", Text: "mine"}); err != nil {
		t.Fatal(err)
	}
	_, err := sendTo(t, n, n, testMessage{Do: "commit and fail"})
	e := wantError(t, err, sdk.HandlerFailed, sdk.DeliveredYes, true)
	if e.Side != sdk.SideRemoteHandler || e.HandlerCode != "declined" {
		t.Errorf("got %v", e)
	}
	if err := cancelWhileItRuns(t, n, n); !errors.Is(err, sdk.Canceled) {
		t.Errorf("got %v", err)
	}
	wantNotes(t, n, "mine")
	records, err := n.Chain(t.Context(), "test", sdk.Query{Type: "note"})
	if err != nil {
		t.Fatal(err)
	}
	if c := records[0].Header.Cause; c.Kind != sdk.CallReceive || c.From != n.Agent() || c.Message == (sdk.MessageID{}) {
		t.Errorf("the record's cause is %+v", c)
	}
}

// Nodes that have no session send to one another at the same moment: both
// messages arrive, once each.
func TestBothSendAtOnce(t *testing.T) {
	t.Parallel()
	w := newTestNetwork(t, testDNA)
	nodes := []*testNode{w.start("first")}
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		nodes = append(nodes, w.start(name))
	}
	start := make(chan struct{})
	var wg sync.WaitGroup
	for _, from := range nodes {
		for _, to := range nodes {
			wg.Go(func() {
				<-start
				if _, err := sendTo(t, from, to, testMessage{Do: "commit", Text: from.Agent().Short()}); err != nil {
					t.Errorf("%s to %s: %v", from.Agent().Short(), to.Agent().Short(), err)
				}
			})
		}
	}
	close(start)
	wg.Wait()
	for _, n := range nodes {
		from := map[string]int{}
		for _, text := range notes(t, n) {
			from[text]++
		}
		for _, other := range nodes {
			if from[other.Agent().Short()] != 1 {
				t.Errorf("%d messages of %s", from[other.Agent().Short()], other.Agent().Short())
			}
		}
	}
}

// A call that is canceled while its message runs cancels that receive; nothing
// of either exists.
func TestCancelCrosses(t *testing.T) {
	t.Parallel()
	w := newTestNetwork(t, testDNA)
	alice, bob := w.start("alice"), w.start("bob")
	wantError(t, cancelWhileItRuns(t, alice, bob), sdk.Canceled, sdk.DeliveredUnknown, false)
	wantNotes(t, bob)
	wantNotes(t, alice)
}

// cancelWhileItRuns cancels a call while the receive of its message runs, waits
// for the end of both, and returns the call's error.
func cancelWhileItRuns(t *testing.T, from, to *testNode) error {
	t.Helper()
	file := filepath.Join(t.TempDir(), "runs")
	payload, err := sdk.Marshal(testSend{To: to.Agent(), Commit: true, Message: testMessage{Do: "commit and wait", Text: file}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := from.Node.Call(ctx, "test", "send", payload)
		done <- err
	}()
	awaitFile(t, file)
	cancel()
	err = <-done
	awaitFile(t, file+".ended")
	return err
}
