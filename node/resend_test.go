package node

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parley-p2p/parley/sdk"
)

// A message has left, its session breaks, and the node that it finds then does
// not take it. That says nothing of whether the first one took it.
func TestRefusedWhenSentAgain(t *testing.T) {
	t.Parallel()
	alice, bob, p := newPair(t)
	cfg := bob.cfg
	p.setMute(true)
	done := make(chan error, 1)
	go func() {
		_, err := sendTo(t, alice, bob, testMessage{Do: "commit", Text: "once"})
		done <- err
	}()
	await(t, func() bool { return len(notes(t, bob)) == 1 })
	p.cut() // before the node stops, so that Alice hears nothing of that
	p.forward(netip.MustParseAddrPort("127.0.0.1:1"))
	p.cut()
	bob.stop()
	cfg.Handlers = nil
	bob = startNode(t, cfg)
	p.setMute(false)
	p.forward(bob.Addr())
	e := wantError(t, <-done, sdk.OutcomeUnknown, sdk.DeliveredUnknown, false)
	if !strings.Contains(e.Text, "no handler") {
		t.Errorf("the error does not say what came of sending it again: %v", e)
	}
}

// The receiving node is killed in the middle of a receive that has committed
// nothing yet, and comes back: nobody can tell what the receive did, so it must
// not run a second time.
func TestNoSecondReceiveAfterTheReceiverWasKilled(t *testing.T) {
	t.Parallel()
	alice, bob, p := behindProxy(t)
	file := filepath.Join(t.TempDir(), "runs")
	done := make(chan error, 1)
	go func() {
		_, err := call[testMessage](t, alice, "send", testSend{To: bob.peer.Agent, Message: testMessage{Do: "commit and wait", Text: file}})
		done <- err
	}()
	awaitFile(t, file)
	bob.kill()
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	bob.start("-advertise", p.addr().String())
	p.forward(netip.MustParseAddrPort(bob.peer.Host))
	e := wantError(t, <-done, sdk.OutcomeUnknown, sdk.DeliveredUnknown, false)
	if e.Side != sdk.SideRemoteNode {
		t.Errorf("from %s", e.Side)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("receive ran twice")
	}
	if got := bob.notes(); len(got) != 0 {
		t.Errorf("the chain holds %q", got)
	}
	_, err := call[testMessage](t, alice, "send", testSend{To: bob.peer.Agent, Message: testMessage{Do: "commit", Text: "later"}})
	if err != nil {
		t.Fatal(err)
	}
}

// A node that stops in the middle of a receive rolls it back and says so: its
// sender, who did not give up, learns that nothing was delivered.
func TestReceiverStops(t *testing.T) {
	t.Parallel()
	alice, bob, p := newPair(t)
	file := filepath.Join(t.TempDir(), "runs")
	done := make(chan error, 1)
	go func() {
		_, err := sendTo(t, alice, bob, testMessage{Do: "commit and wait", Text: file})
		done <- err
	}()
	awaitFile(t, file)
	p.listener.Close()
	bob.stop()
	e := wantError(t, <-done, sdk.Unreachable, sdk.DeliveredNo, true)
	if len(e.Attempts) == 0 && !strings.Contains(e.Text, "has gone offline") { // it depends on what arrives first
		t.Errorf("no attempt is listed: %v", e)
	}
}

// The reply is larger than what the sender takes: the receive has run, and its
// commits stand.
func TestReplyLargerThanTheSenderTakes(t *testing.T) {
	t.Parallel()
	w := newTestNetwork(t, testDNA)
	bob := w.start("bob")
	w.base.MaxPayload = 64 << 10
	alice := w.start("alice")
	_, err := sendTo(t, alice, bob, testMessage{Do: "commit, big reply", Data: make([]byte, 2<<10)})
	e := wantError(t, err, sdk.TooLarge, sdk.DeliveredYes, false)
	if e.Limit == nil || e.Limit.Setting != "max-payload" || e.Limit.Max != 64<<10 {
		t.Errorf("got %v", e)
	}
	if got := notes(t, bob); len(got) != 1 {
		t.Errorf("the chain holds %q", got)
	}
}
