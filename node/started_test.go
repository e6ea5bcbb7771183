package node

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"runtime"
	"strings"
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

// A call of a function goes the same way, with the best claim that there is; where
// that is refused the others are tried, and each is noted.
func TestStartedCall(t *testing.T) {
	t.Parallel()
	alice, bob, _ := newPair(t)
	if _, err := sendTo(t, alice, bob, testMessage{Do: "echo"}); err != nil {
		t.Fatal(err)
	}
	call := func() error {
		t.Helper()
		in, err := sdk.Marshal(testMessage{Do: "echo"})
		if err != nil {
			t.Fatal(err)
		}
		limited, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		out := make(outcomeOf, 1)
		lc := &liveCall{node: alice.Node, app: alice.apps.all()[0], call: &sdk.Call{}}
		if !lc.StartSend(&endingCtx{Context: limited}, &sdk.Message{To: bob.Agent(), Function: "do", Payload: in}, out) {
			t.Fatal("it was not started")
		}
		return <-out
	}
	wantError(t, call(), sdk.Refused, sdk.DeliveredNo, true)
	var claims []sdk.Claim
	for _, functions := range [][]string{{"do"}, nil} { // the first one goes first
		c, err := bob.AddGrant(t.Context(), "test", sdk.Grant{Kind: sdk.GrantTransferable, Functions: functions})
		if err == nil {
			claims = append(claims, c)
			err = alice.AddClaim(t.Context(), "test", c)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	refused := func() (reasons []string) {
		list, err := alice.Claims(t.Context(), "test")
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range list {
			if c.Refused != "" {
				reasons = append(reasons, c.Grant.String()+" "+c.Refused)
			}
		}
		return reasons
	}
	wrong := claims[0]
	wrong.Secret[0] ^= 1
	if err := alice.AddClaim(t.Context(), "test", wrong); err != nil {
		t.Fatal(err)
	}
	if err := call(); err != nil {
		t.Fatal(err)
	}
	if got := refused(); len(got) != 1 || !strings.HasPrefix(got[0], claims[0].Grant.String()) {
		t.Errorf("refused claims: %q", got)
	}
	wrong = claims[1]
	wrong.Secret[0] ^= 1
	if err := alice.AddClaim(t.Context(), "test", wrong); err != nil {
		t.Fatal(err)
	}
	wantError(t, call(), sdk.Refused, sdk.DeliveredNo, true)
	if got := refused(); len(got) != 2 {
		t.Errorf("refused claims: %q", got)
	}
}
