package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
)

// call calls a function of the test DNA.
func call[Out any](t *testing.T, n *testNode, function string, in any) (out Out, err error) {
	t.Helper()
	payload, err := sdk.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
	defer cancel()
	reply, err := n.Node.Call(ctx, "test", function, payload)
	if err != nil {
		return out, err
	}
	return out, sdk.Unmarshal(reply, &out)
}

func sendTo(t *testing.T, from, to *testNode, m testMessage) (testMessage, error) {
	t.Helper()
	return call[testMessage](t, from, "send", testSend{To: to.Agent(), Message: m})
}

// notes are the texts of the "note" entries on a node's chain, which must verify.
func notes(t *testing.T, n *testNode) []string {
	t.Helper()
	return notesOf(t, n.Node, "test")
}

func notesOf(t *testing.T, n control.Node, dna string) []string {
	t.Helper()
	r, err := n.VerifyChain(t.Context(), dna)
	if err != nil || !r.Valid {
		t.Fatalf("the chain does not verify: %+v, %v", r, err)
	}
	records, err := n.Chain(t.Context(), dna, sdk.Query{Type: "note"})
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, r := range records {
		var m testMessage
		if err := sdk.Unmarshal(r.Content, &m); err != nil {
			t.Fatal(err)
		}
		texts = append(texts, m.Text)
	}
	return texts
}

func wantNotes(t *testing.T, n *testNode, want ...string) {
	t.Helper()
	if got := notes(t, n); strings.Join(got, "|") != strings.Join(want, "|") {
		t.Fatalf("the chain holds %q, want %q", got, want)
	}
}

func wantError(t *testing.T, err error, code sdk.Code, delivered sdk.Delivered, retry bool) *sdk.Error {
	t.Helper()
	var e *sdk.Error
	if !errors.As(err, &e) || e.Code != code || e.Delivered != delivered || e.Retry != retry {
		t.Fatalf("got  %v\nwant %s, delivered %s, retry %t", err, code, delivered, retry)
	}
	return e
}

func testConfig() Config {
	return Config{Network: "test", Listen: "127.0.0.1:0", ResendFor: time.Second, Sandbox: testSandbox()}
}

// newPair starts Alice, who bootstraps from Bob, and Bob behind a proxy. Alice
// only dials: the proxy is the one way between them.
func newPair(t *testing.T) (alice, bob *testNode, p *proxy) {
	t.Helper()
	p = newProxy(t)
	dir := shortTempDir(t)
	cfg := testConfig()
	cfg.Handlers = []sdk.Handler{testDNA()}
	cfg.DataDir, cfg.Advertise = filepath.Join(dir, "bob"), []netip.AddrPort{p.addr()}
	bob = startNode(t, cfg)
	p.forward(bob.Addr())
	cfg = testConfig()
	cfg.Handlers = []sdk.Handler{testDNA()}
	cfg.DataDir, cfg.Listen, cfg.Bootstrap = filepath.Join(dir, "alice"), "", []Peer{{Agent: bob.Agent(), Host: p.addr().String()}}
	return startNode(t, cfg), bob, p
}

// await waits until something that the test can only look at has happened. The
// test's own deadline is the only bound.
func await(t *testing.T, happened func() bool) {
	t.Helper()
	for !happened() {
		if !sleep(t.Context(), time.Millisecond) {
			t.Fatal("the test was over before it happened")
		}
	}
}

// awaitFile waits for a file that a handler writes to say that it runs.
func awaitFile(t *testing.T, path string) {
	t.Helper()
	await(t, func() bool { _, err := os.Stat(path); return err == nil })
}

func TestOneReceiveWhenTheSessionBreaks(t *testing.T) {
	t.Parallel()
	alice, bob, p := newPair(t)
	if _, err := sendTo(t, alice, bob, testMessage{Do: "echo"}); err != nil {
		t.Fatal(err)
	}
	// The receive runs, its answer is swallowed, the session breaks: the node
	// sends again and gets the first outcome.
	swallowed := p.setMute(true)
	done := make(chan error, 1)
	go func() {
		_, err := sendTo(t, alice, bob, testMessage{Do: "commit", Text: "once"})
		done <- err
	}()
	<-swallowed
	p.setMute(false)
	p.cut()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	wantNotes(t, bob, "once")
}

// A receive outlives its session, and its sender can still cancel it: through
// the repeated message, or, before there is one, by a message of its own.
func TestReceiveOutlivesItsSession(t *testing.T) {
	t.Parallel()
	for _, repeated := range []bool{true, false} {
		t.Run(fmt.Sprintf("repeated %t", repeated), func(t *testing.T) {
			t.Parallel()
			alice, bob, p := newPair(t)
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
				await(t, func() bool { return bob.traffic.messages.Load() == 2 })
			} else {
				await(t, func() bool { return len(alice.endpoint.Sessions()) == 0 })
			}
			giveUp()
			wantError(t, <-done, sdk.Canceled, sdk.DeliveredUnknown, false)
			awaitFile(t, file+".ended")
			wantNotes(t, bob)
		})
	}
}

func TestOutcomeUnknown(t *testing.T) {
	t.Parallel()
	alice, bob, p := newPair(t)
	file := filepath.Join(t.TempDir(), "runs")
	done := make(chan error, 1)
	go func() {
		_, err := sendTo(t, alice, bob, testMessage{Do: "commit and wait", Text: file})
		done <- err
	}()
	awaitFile(t, file)
	p.end()
	e := wantError(t, <-done, sdk.OutcomeUnknown, sdk.DeliveredUnknown, false)
	if e.Limit == nil || e.Limit.Setting != "resend-for" {
		t.Errorf("the error does not name its setting: %v", e)
	}
}

func TestErrorsOfASend(t *testing.T) {
	t.Parallel()
	w := newTestNetwork(t, testDNA)
	alice, bob := w.start("alice"), w.start("bob")
	w.base.DNAs = map[string]DNASettings{"test": {NetworkSeed: "another group"}}
	carol := w.start("carol")
	w.handler = nil
	dave := w.start("dave")

	t.Run("unknown agent", func(t *testing.T) {
		id := newIdentity(testPrivateKey(77)).agent
		began := time.Now()
		_, err := call[testMessage](t, alice, "send", testSend{To: id, Message: testMessage{Do: "echo"}})
		e := wantError(t, err, sdk.UnknownAgent, sdk.DeliveredNo, true)
		if took := time.Since(began); took > 2*time.Second || !strings.Contains(e.Text, id.String()) || !strings.Contains(e.Text, "is its node running") {
			t.Errorf("in %s: %v", took, e)
		}
	})
	t.Run("no agent's key", func(t *testing.T) {
		_, err := call[testMessage](t, alice, "send", testSend{To: sdk.AgentID{1}, Message: testMessage{Do: "echo"}})
		wantError(t, err, sdk.UnknownAgent, sdk.DeliveredNo, true)
	})
	t.Run("another hash", func(t *testing.T) {
		_, err := sendTo(t, alice, carol, testMessage{Do: "echo"})
		e := wantError(t, err, sdk.NoHandler, sdk.DeliveredNo, true)
		if e.Side != sdk.SideRemoteNode || !strings.Contains(e.Text, "under another hash") {
			t.Errorf("got %v", e)
		}
	})
	t.Run("no DNA", func(t *testing.T) {
		_, err := sendTo(t, alice, dave, testMessage{Do: "echo"})
		wantError(t, err, sdk.NoHandler, sdk.DeliveredNo, true)
	})
	t.Run("reply too large", func(t *testing.T) {
		_, err := sendTo(t, alice, bob, testMessage{Do: "big reply", Data: make([]byte, 100<<10)})
		e := wantError(t, err, sdk.TooLarge, sdk.DeliveredYes, true)
		if e.Limit == nil || e.Limit.Max != 1<<20 || e.Limit.Setting != "max-payload" {
			t.Errorf("got %v", e)
		}
	})
	t.Run("own function missing", func(t *testing.T) {
		_, err := call[testMessage](t, alice, "nothing", sdk.None{})
		wantError(t, err, sdk.NoHandler, sdk.DeliveredNo, true)
	})
	t.Run("the handler's own", func(t *testing.T) {
		_, err := sendTo(t, alice, bob, testMessage{Do: "commit and fail"})
		e := wantError(t, err, sdk.HandlerFailed, sdk.DeliveredYes, true)
		if e.HandlerCode != "declined" || e.Side != sdk.SideRemoteHandler {
			t.Errorf("got %v", e)
		}
		wantNotes(t, bob)
	})
	t.Run("unreachable", func(t *testing.T) {
		gone := freshRecord(t, 78, 1, closedPort(t))
		newStranger(t, 79).put(gone, alice)
		_, err := call[testMessage](t, alice, "send", testSend{To: sdk.AgentID(gone.Key), Message: testMessage{Do: "echo"}})
		e := wantError(t, err, sdk.Unreachable, sdk.DeliveredNo, true)
		if len(e.Attempts) != 1 || e.Attempts[0].Address != gone.Addrs[0].String() {
			t.Errorf("attempts: %v", e)
		}
	})
	t.Run("offline", func(t *testing.T) {
		bob.stop()
		_, err := sendTo(t, alice, bob, testMessage{Do: "echo"})
		e := wantError(t, err, sdk.Unreachable, sdk.DeliveredNo, true)
		if !strings.Contains(e.Text, "has gone offline") {
			t.Errorf("got %v", e)
		}
	})
}

func TestManyMessagesBothWays(t *testing.T) {
	t.Parallel()
	w := newTestNetwork(t, testDNA)
	alice, bob := w.start("alice"), w.start("bob")
	var wg sync.WaitGroup
	const each = 50
	for i := range 8 {
		from, to := alice, bob
		if i%2 == 1 {
			from, to = bob, alice
		}
		wg.Go(func() {
			_, err := call[[]int64](t, from, "drive", testDrive{To: to.Agent(), N: each, Commit: true})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, n := range []*testNode{alice, bob} {
		if got := len(notes(t, n)); got != 100 { // a query's default limit
			t.Errorf("%d notes", got)
		}
		if a := n.apps.all()[0]; a.chain.Len() != 4*each+1 {
			t.Errorf("%d records, want %d", a.chain.Len(), 4*each+1)
		}
	}
}

func TestStopLeavesNothing(t *testing.T) {
	t.Parallel()
	w := newTestNetwork(t, testDNA)
	alice, bob := w.start("alice"), w.start("bob")
	file := filepath.Join(t.TempDir(), "runs")
	done := make(chan error, 1)
	go func() {
		_, err := sendTo(t, alice, bob, testMessage{Do: "commit and wait", Text: file})
		done <- err
	}()
	awaitFile(t, file)
	bob.stop()
	var e *sdk.Error
	if err := <-done; !errors.As(err, &e) {
		t.Fatalf("got %v", err)
	}
	alice.stop()
	for _, n := range []*testNode{alice, bob} {
		if err := n.Run(t.Context()); err == nil {
			t.Error("a node ran twice")
		}
		entries, err := os.ReadDir(n.cfg.DataDir)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range entries {
			if strings.HasSuffix(x.Name(), ".sock") || strings.HasPrefix(x.Name(), ".") {
				t.Errorf("left behind: %s", x.Name())
			}
		}
	}
}
