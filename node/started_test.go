package node

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"runtime"
	"testing"
	"time"
	"weak"

	"github.com/parley-p2p/parley/sdk"
)

// pluginPair is newPair with handler processes.
func pluginPair(t *testing.T) (alice, bob *testNode, p *proxy) {
	t.Helper()
	p = newProxy(t)
	dir := shortTempDir(t)
	cfg := testConfig()
	cfg.PluginDir = pluginDir(t, "test")
	cfg.DataDir, cfg.Advertise = filepath.Join(dir, "bob"), []netip.AddrPort{p.addr()}
	bob = startNode(t, cfg)
	p.forward(bob.Addr())
	cfg = testConfig()
	cfg.PluginDir = pluginDir(t, "test")
	cfg.DataDir, cfg.Listen, cfg.Bootstrap = filepath.Join(dir, "alice"), "", []Peer{{Agent: bob.Agent(), Host: p.addr().String()}}
	return startNode(t, cfg), bob, p
}

// A receive that nobody waits for is cancelled by its sender after its session
// broke, and the node goes on: it ends where the outcomes are kept.
func TestStartedReceiveOutlivesItsSession(t *testing.T) {
	t.Parallel()
	for _, repeated := range []bool{true, false} {
		t.Run(fmt.Sprintf("repeated %t", repeated), func(t *testing.T) {
			t.Parallel()
			alice, bob, p := pluginPair(t)
			if _, err := sendTo(t, alice, bob, testMessage{Do: "echo"}); err != nil {
				t.Fatal(err)
			}
			before := bob.traffic.messages.Load()
			file := filepath.Join(t.TempDir(), "runs")
			ctx, giveUp := context.WithCancel(t.Context())
			defer giveUp()
			done := make(chan error, 1)
			go func() {
				payload, _ := sdk.Marshal(testSend{To: bob.Agent(), Message: testMessage{Do: "commit and wait", Text: file}})
				_, err := alice.Node.Call(ctx, "test", "send", payload)
				done <- err
			}()
			awaitFile(t, file)
			p.cut()
			if repeated {
				await(t, func() bool { return bob.traffic.messages.Load() == before+2 })
			} else {
				await(t, func() bool { return len(alice.endpoint.Sessions()) == 0 })
			}
			giveUp()
			wantError(t, <-done, sdk.Canceled, sdk.DeliveredYes, false)
			awaitFile(t, file+".ended")
			wantNotes(t, bob)
			if _, err := sendTo(t, alice, bob, testMessage{Do: "echo"}); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// endingCtx is a callback's context: it tells one hook of its end.
type endingCtx struct {
	context.Context
	hook interface{ Ended() }
}

func (c *endingCtx) OnEnd(h interface{ Ended() }) { c.hook = h }

type outcomeOf chan error

func (o outcomeOf) Done(_ []byte, err error) { o <- err }

// A peer that does not answer a cancelled send keeps nothing of it in memory.
func TestCancelledSendIsLetGo(t *testing.T) {
	t.Parallel()
	alice, bob, p := newPair(t)
	if _, err := sendTo(t, alice, bob, testMessage{Do: "echo"}); err != nil {
		t.Fatal(err)
	}
	p.setMute(true) // no answer arrives any more
	before := bob.traffic.messages.Load()
	a := alice.apps.all()[0]
	send := func() weak.Pointer[byte] {
		payload := make([]byte, 512<<10)
		limited, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		ctx, out := &endingCtx{Context: limited}, make(outcomeOf, 1)
		lc := &liveCall{node: alice.Node, app: a, call: &sdk.Call{}}
		if !lc.StartSend(ctx, &sdk.Message{To: bob.Agent(), Payload: payload}, out) {
			t.Fatal("it was not started")
		}
		await(t, func() bool { return bob.traffic.messages.Load() > before }) // it has left, all of it
		cancel()
		ctx.hook.Ended()
		wantError(t, <-out, sdk.Canceled, sdk.DeliveredUnknown, false)
		return weak.Make(&payload[0])
	}
	payload := send()
	if s := alice.endpoint.Sessions(); len(s) != 1 || s[0].Outgoing == 0 {
		t.Fatalf("the session does not wait for the answer: %+v", s)
	}
	runtime.GC()
	runtime.GC()
	if payload.Value() != nil {
		t.Error("the payload is still in memory")
	}
}

// A send whose time is over does not leave: that is certain, and it is said.
func TestNoSendAfterTheDeadline(t *testing.T) {
	t.Parallel()
	alice, bob, _ := newPair(t)
	if _, err := sendTo(t, alice, bob, testMessage{Do: "echo"}); err != nil {
		t.Fatal(err)
	}
	limited, cancel := context.WithTimeout(t.Context(), -time.Second)
	defer cancel()
	lc := &liveCall{node: alice.Node, app: alice.apps.all()[0], call: &sdk.Call{}}
	if lc.StartSend(&endingCtx{Context: limited}, &sdk.Message{To: bob.Agent()}, make(outcomeOf, 1)) {
		t.Error("it was sent")
	}
}
