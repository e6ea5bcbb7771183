package node

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"testing"

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
