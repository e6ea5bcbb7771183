package node

import (
	"bytes"
	"context"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/sdktest"
)

// senderProcess is alice as a process of her own, who knows bob by the address of a
// proxy, and can be killed.
func senderProcess(t *testing.T, dir string, bob *testNode, p *proxy) *childNode {
	t.Helper()
	c := &childNode{t: t, dir: filepath.Join(dir, "alice"), plugins: pluginDir(t, "test")}
	c.startKnowing(Peer{Agent: bob.Agent(), Host: p.addr().String()})
	return c
}

func (c *childNode) startKnowing(p Peer) {
	c.t.Helper()
	c.role = startRole(c.t, "node", c.dir, c.plugins, p.String())
	var err error
	if c.peer, err = ParsePeer(c.line()); err != nil {
		c.t.Fatal(err)
	}
	if c.control, err = control.Dial(c.dir); err != nil {
		c.t.Fatal(err)
	}
}

// The sender is killed when the receiver has the receipt, and before it has the answer
// on its chain: its next run asks again, and both have the same receipt. What was on
// both chains before stays there once.
func TestReceiptAfterTheSenderWasKilled(t *testing.T) {
	t.Parallel()
	_, bob, p := newPair(t)
	alice := senderProcess(t, shortTempDir(t), bob, p)
	send := func(text string) error {
		_, err := alice.call("send", testSend{To: bob.Agent(), Receipt: true, Message: testMessage{Do: "commit", Text: text}})
		return err
	}
	if err := send("before"); err != nil {
		t.Fatal(err)
	}
	p.setMute(true)
	done := make(chan error, 1)
	go func() { done <- send("once") }()
	await(t, func() bool { return len(notes(t, bob)) == 2 })
	alice.kill()
	if err := <-done; err == nil {
		t.Fatal("the answer came through")
	}
	p.setMute(false)
	alice.startKnowing(Peer{Agent: bob.Agent(), Host: p.addr().String()})
	await(t, func() bool { return len(receipts(t, alice.control)) >= 2 })
	if err := send("after"); err != nil {
		t.Fatal(err)
	}
	ours, theirs := receipts(t, alice.control), receipts(t, bob)
	if len(ours) != 3 || !slices.Equal(ours, theirs) {
		t.Errorf("%d receipts of the sender, %d of the receiver, or others", len(ours), len(theirs))
	}
	if got := notes(t, bob); !slices.Equal(got, []string{"before", "once", "after"}) {
		t.Errorf("the receiver's chain holds %q", got)
	}
	records, err := alice.control.Chain(t.Context(), "test", sdk.Query{Type: sdk.TypeReceipt})
	if err != nil || len(records) != 3 {
		t.Fatal(records, err)
	}
	if c := records[1].Header.Cause; c.Kind != sdk.CallFunction || c.From != alice.peer.Agent || c.Message.IsZero() {
		t.Errorf("the cause of the receipt is %+v, not the call that had sent the message", c)
	}
}

// The call gives up before the answer comes: the receipt is completed in the background.
func TestReceiptOfACallThatGaveUp(t *testing.T) {
	t.Parallel()
	alice, bob, p := newPair(t)
	if _, err := call[testMessage](t, alice, "send", testSend{To: bob.Agent(), Message: testMessage{Do: "echo"}}); err != nil {
		t.Fatal(err)
	}
	p.setMute(true)
	in, err := sdk.Marshal(testSend{To: bob.Agent(), Receipt: true, Message: testMessage{Do: "commit", Text: "once"}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, giveUp := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := alice.Node.Call(ctx, "test", "send", in)
		done <- err
	}()
	await(t, func() bool { return len(notes(t, bob)) == 1 })
	giveUp()
	if err := <-done; err == nil {
		t.Fatal("the answer came through")
	}
	p.setMute(false)
	p.cut()
	await(t, func() bool { return len(receipts(t, alice)) == 1 })
	if ours, theirs := receipts(t, alice), receipts(t, bob); !slices.Equal(ours, theirs) {
		t.Errorf("%d receipts of the sender, %d of the receiver, or others", len(ours), len(theirs))
	}
}

// Who asks for the outcome of a message that never came gets none, and the message does
// not run.
func TestAskingAgainRunsNothing(t *testing.T) {
	t.Parallel()
	alice, bob, _ := newPair(t)
	a := alice.apps.all()[0]
	for _, payload := range [][]byte{nil, []byte("\x80")} {
		r := sdk.SignReceiptRequest(alice.id.key, a.hash, newMessageID(), &sdk.Message{To: bob.Agent(), Payload: payload}, time.Now())
		answer, again, err := alice.askAgain(t.Context(), a, &r)
		e := wantError(t, err, sdk.HandlerFailed, sdk.DeliveredNo, true)
		if answer != nil || again || e.HandlerCode != sdk.HandlerCodeReceipt {
			t.Errorf("%x, %t, %v", answer, again, e)
		}
	}
}

// functionsOnly is a DNA that has no receive.
type functionsOnly struct{ rawHandler }

func (h functionsOnly) Describe(ctx context.Context) (sdk.Description, error) {
	d, err := h.rawHandler.Describe(ctx)
	d.Receives = false
	return d, err
}

// Nor is one asked for for ever that was a call of a function of a DNA without receive.
func TestAskingAgainOfADNAWithoutReceive(t *testing.T) {
	t.Parallel()
	h := functionsOnly{rawHandler{func(context.Context, sdk.Host, *sdk.Call) ([]byte, error) {
		t.Error("it ran")
		return nil, nil
	}}}
	cfg := testConfig()
	cfg.DataDir, cfg.Handlers = shortTempDir(t), []sdk.Handler{h}
	bob := startNode(t, cfg)
	cfg.DataDir, cfg.Bootstrap = shortTempDir(t), []Peer{{Agent: bob.Agent(), Host: bob.Addr().String()}}
	alice := startNode(t, cfg)
	a := alice.apps.all()[0]
	r := sdk.SignReceiptRequest(alice.id.key, a.hash, newMessageID(), &sdk.Message{To: bob.Agent(), Function: "f", Payload: []byte("x")}, time.Now())
	_, again, err := alice.askAgain(t.Context(), a, &r)
	if e := wantError(t, err, sdk.HandlerFailed, sdk.DeliveredNo, true); again || e.HandlerCode != sdk.HandlerCodeReceipt {
		t.Errorf("%t, %v", again, e)
	}
}

func faultyExchange(p *faultyPair, step string) {
	t := p.t
	send := func() error {
		_, err := conform(t, p.bob, sdktest.Step{Op: "send", To: p.alice.Agent(), Receipt: true, Then: &sdktest.Step{Op: "commit", Text: "x"}})
		return err
	}
	count := func(n *testNode) int {
		t.Helper()
		list, err := n.Chain(t.Context(), conformanceDNA, sdk.Query{Type: sdk.TypeReceipt})
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	err := p.fails(step, send)
	if e := wantError(t, err, sdk.HandlerFailed, sdk.DeliveredNo, true); e.HandlerCode != sdk.HandlerCodeCommit || e.Side != sdk.SideNode {
		t.Errorf("got %v", e)
	}
	if count(p.alice) != 0 {
		t.Error("it was sent")
	}
	p.restart()
	if err := send(); err != nil {
		t.Fatal(err)
	}
	if ours, theirs := count(p.bob), count(p.alice); ours != 1 || theirs != 1 {
		t.Errorf("%d receipts of the sender, %d of the receiver", ours, theirs)
	}
	p.restart() // and afterwards nothing is left of it
	left := 0
	if err := p.bob.agencyDB.each(bucketExchanges, func(_, _ []byte) error { left++; return nil }); err != nil || left != 0 {
		t.Errorf("%d exchanges are left, %v", left, err)
	}
}

// A receiver that takes what it is asked and answers nothing holds up no other one's
// exchange, however many of its own wait.
func TestASilentReceiverHoldsUpNobody(t *testing.T) {
	t.Parallel()
	p, cfg := newProxy(t), testConfig()
	start := func(bootstrap ...Peer) *testNode {
		t.Helper()
		cfg.DataDir, cfg.Handlers, cfg.Bootstrap = shortTempDir(t), []sdk.Handler{testDNA()}, bootstrap
		return startNode(t, cfg)
	}
	carol := start()
	cfg.Advertise = []netip.AddrPort{p.addr()}
	bob := start()
	p.forward(bob.Addr())
	cfg.Advertise, cfg.Listen = nil, ""
	alice := start(Peer{Agent: bob.Agent(), Host: p.addr().String()}, Peer{Agent: carol.Agent(), Host: carol.Addr().String()})
	for _, to := range []*testNode{bob, carol} {
		if _, err := call[testMessage](t, alice, "send", testSend{To: to.Agent(), Message: testMessage{Do: "echo"}}); err != nil {
			t.Fatal(err)
		}
	}
	p.setMute(true)
	f, a := alice.finisher, alice.apps.all()[0]
	ask := func(to *testNode) *exchange {
		t.Helper()
		x := &exchange{cause: sdk.Cause{Kind: sdk.CallFunction, From: alice.Agent()},
			request: sdk.SignReceiptRequest(alice.id.key, a.hash, newMessageID(), &sdk.Message{To: to.Agent(), Payload: []byte("x")}, time.Now())}
		if e := f.begin(x); e != nil {
			t.Fatal(e)
		}
		f.unfinished(x)
		return x
	}
	var silent []*exchange
	for range 2 * finishAtOnce {
		silent = append(silent, ask(bob))
	}
	answered := string(ask(carol).key())
	await(t, func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		n := f.exchanges.noted[answered]
		return n == nil || n.ended
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, x := range silent {
		if x.tries > 0 || !f.exchanges.held[string(x.key())] {
			t.Fatalf("it waited for %d tries of the silent one", x.tries)
		}
	}
}

func testExchange() exchange {
	m := &sdk.Message{To: sdktest.ID("bob"), Function: "bid", Payload: []byte("12")}
	return exchange{cause: sdk.Cause{Kind: sdk.CallFunction, Message: sdk.MessageID{3}, From: sdktest.ID("alice")},
		request: sdk.SignReceiptRequest(sdktest.Key("alice"), sdk.DNAHash{1}, sdk.MessageID{2}, m, time.UnixMicro(1_800_000_000_000_000))}
}

func FuzzStoredExchange(f *testing.F) {
	x := testExchange()
	if back, err := decodeExchange(x.key(), x.encode()); err != nil || back.request != x.request || back.cause != x.cause {
		f.Fatalf("%+v comes back as %+v, %v", x, back, err)
	}
	f.Add(x.key(), x.encode())
	f.Fuzz(func(t *testing.T, k, v []byte) {
		x, err := decodeExchange(k, v)
		if err == nil && (!bytes.Equal(x.key(), k) || !bytes.Equal(x.encode(), v)) {
			t.Errorf("%x, %x are read as %+v", k, v, x)
		}
	})
}
