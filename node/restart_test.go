package node

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/parley-p2p/parley/sdk"
)

// The receiving node dies after its commit is durable and before its reply is
// there: the sender gets the reply of that one receive from the node that comes
// back.
func TestFirstReplyAfterTheReceiverWasKilled(t *testing.T) {
	t.Parallel()
	alice, bob, p := behindProxy(t)
	first, err := call[testMessage](t, alice, "send", testSend{To: bob.peer.Agent, Message: testMessage{Do: "commit and tell the process", Text: "before"}})
	if err != nil {
		t.Fatal(err)
	}
	p.setMute(true)
	type answer struct {
		reply testMessage
		err   error
	}
	done := make(chan answer, 1)
	go func() {
		reply, err := call[testMessage](t, alice, "send", testSend{To: bob.peer.Agent, Message: testMessage{Do: "commit and tell the process", Text: "once"}})
		done <- answer{reply, err}
	}()
	await(t, func() bool { return len(bob.notes()) == 2 })
	handler := bob.handlerPID()
	bob.kill()
	p.setMute(false)
	bob.start("-advertise", p.addr().String())
	p.forward(netip.MustParseAddrPort(bob.peer.Host))
	a := <-done
	if a.err != nil {
		t.Fatal(a.err)
	}
	if a.reply.Text != first.Text || handler == bob.handlerPID() {
		t.Errorf("the reply is that of the process of %s, not of %s; %d had committed, %d runs now", a.reply.Text, first.Text, handler, bob.handlerPID())
	}
	if got := bob.notes(); !slices.Equal(got, []string{"before", "once"}) {
		t.Errorf("the chain holds %q", got)
	}
}

func (c *childNode) handlerPID() int {
	c.t.Helper()
	s, err := c.control.Status(c.t.Context())
	if err != nil || len(s.Handlers) != 1 {
		c.t.Fatalf("%d handlers, %v", len(s.Handlers), err)
	}
	return s.Handlers[0].PID
}

// A handler's process is killed in the middle of a receive that has committed.
func TestHandlerKilledWhileItReceives(t *testing.T) {
	t.Parallel()
	w := newTestNetwork(t, testDNA)
	alice := w.start("alice")
	w.handler, w.base.PluginDir = nil, pluginDir(t, "test")
	w.base.handlerEnv = []string{"GORACE=atexit_sleep_ms=0"}
	bob := w.start("bob")
	file := t.TempDir() + "/runs"
	done := make(chan error, 1)
	go func() {
		_, err := sendTo(t, alice, bob, testMessage{Do: "commit and wait", Text: file})
		done <- err
	}()
	awaitFile(t, file)
	bob.Crash()
	e := wantError(t, <-done, sdk.HandlerCrashed, sdk.DeliveredYes, true)
	if e.Side != sdk.SideRemoteHandler {
		t.Errorf("from %s", e.Side)
	}
	wantNotes(t, bob)
	if _, err := sendTo(t, alice, bob, testMessage{Do: "commit", Text: "again"}); err != nil {
		t.Fatal(err)
	}
	wantNotes(t, bob, "again")
}

// The calling handler's process is killed while its message runs at the other
// end: that receive is canceled, and the call is not safe to repeat, since
// nobody can tell whether the message took effect.
func TestHandlerKilledWhileItSends(t *testing.T) {
	t.Parallel()
	w := newTestNetwork(t, testDNA)
	bob := w.start("bob")
	w.handler, w.base.PluginDir = nil, pluginDir(t, "test")
	w.base.handlerEnv = []string{"GORACE=atexit_sleep_ms=0"}
	alice := w.start("alice")
	file := t.TempDir() + "/runs"
	done := make(chan error, 1)
	go func() {
		_, err := sendTo(t, alice, bob, testMessage{Do: "commit and wait", Text: file})
		done <- err
	}()
	awaitFile(t, file)
	alice.Crash()
	e := wantError(t, <-done, sdk.HandlerCrashed, sdk.DeliveredYes, false)
	if e.Side != sdk.SideHandler {
		t.Errorf("from %s", e.Side)
	}
	awaitFile(t, file+".ended")
	wantNotes(t, bob)
	if _, err := sendTo(t, alice, bob, testMessage{Do: "commit", Text: "again"}); err != nil {
		t.Fatal(err)
	}
}
