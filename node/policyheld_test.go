package node

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/agency"
	"github.com/parley-p2p/parley/sdk/sdktest"
	"github.com/parley-p2p/parley/transport"
)

// gatedNotified is a DNA whose notified waits until the gate is open.
type gatedNotified struct {
	rawHandler
	open chan struct{}

	mu  sync.Mutex // guards ran
	ran int
}

func newGatedNotified() *gatedNotified {
	h := &gatedNotified{open: make(chan struct{})}
	h.serve = func(ctx context.Context, _ sdk.Host, _ *sdk.Call) ([]byte, error) {
		h.mu.Lock()
		h.ran++
		h.mu.Unlock()
		select {
		case <-h.open:
		case <-ctx.Done():
		}
		return nil, nil
	}
	return h
}

func (h *gatedNotified) Describe(ctx context.Context) (sdk.Description, error) {
	d, err := h.rawHandler.Describe(ctx)
	d.Notified = true
	return d, err
}

func (h *gatedNotified) begun() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ran
}

func refusalOf(t *testing.T, err error, code sdk.Code) *sdk.Error {
	t.Helper()
	var peer *transport.PeerError
	if !errors.As(err, &peer) {
		t.Fatalf("got %v, want %v", err, code)
	}
	e := parsePeerError(peer.Body)
	if e.Code != code {
		t.Fatalf("got %v, want %v", e, code)
	}
	return e
}

// TestNotificationsThatWait: who is blocked while his notifications wait is not
// heard with them. One that comes again waits as a request, which is counted.
func TestNotificationsThatWait(t *testing.T) {
	t.Parallel()
	h := newGatedNotified()
	cfg := testConfig()
	cfg.DataDir, cfg.Handlers = shortTempDir(t), []sdk.Handler{h}
	n := startNode(t, cfg)
	a := n.apps.all()[0]
	s := newStranger(t, 9)
	who := sdk.AgentID(testPrivateKey(9).Public().(ed25519.PublicKey))
	change(t, n, control.PolicyChange{Limits: []control.AgentLimit{{Agent: who, Name: "agent-requests", Max: 1}}})
	session := s.session(n)
	notice := func(seq uint64) transport.Outgoing {
		header, err := messageHeader{Notified: true, Order: order{run: 1, seq: seq, base: 1}.encode()}.encode(a.hash, a.name, 0)
		if err != nil {
			t.Fatal(err)
		}
		return transport.Outgoing{Kind: kindMessage, ID: newMessageID(), Header: header}
	}
	type answer struct {
		seq uint64
		err error
	}
	answers := make(chan answer, 3+repeatsFree)
	request := func(seq uint64, o transport.Outgoing) {
		go func() {
			_, err := session.Request(context.Background(), o)
			answers <- answer{seq, err}
		}()
	}
	first := notice(1)
	request(1, first)
	await(t, func() bool { return h.begun() == 1 })
	request(2, notice(2))
	await(t, func() bool {
		n.received.mu.Lock()
		defer n.received.mu.Unlock()
		b := n.received.boxes.get(inboxKey{who, a.hash})
		return len(b.waits) == 1
	})
	repeats := func() int {
		n.outcomesMu.Lock()
		defer n.outcomesMu.Unlock()
		return n.outcomes.byKey[messageKey{who, a.hash, sdk.MessageID(first.ID)}].repeats
	}
	for range repeatsFree { // once more, as over new sessions: they are not counted
		request(3, first)
	}
	await(t, func() bool { return repeats() == repeatsFree })
	under := func() int {
		n.policy.mu.Lock()
		defer n.policy.mu.Unlock()
		return n.policy.load.Of(who)[agency.Requests]
	}
	if got := under(); got != 0 {
		t.Errorf("%d are counted", got)
	}
	request(3, first) // there is room for one that is counted
	await(t, func() bool { return under() == 1 })
	_, err := session.Request(t.Context(), first)
	if e := refusalOf(t, err, sdk.Busy); e.Limit == nil || e.Limit.Setting != "agent-requests" {
		t.Errorf("one more that waits again: %v", e)
	}
	change(t, n, control.PolicyChange{Block: []sdk.AgentID{who}})
	close(h.open)
	for range 3 + repeatsFree {
		got := <-answers
		if got.seq != 2 {
			if got.err != nil {
				t.Errorf("%d: %v", got.seq, got.err)
			}
			continue
		}
		if e := refusalOf(t, got.err, sdk.Refused); e.Text != "blocked" || e.Delivered != sdk.DeliveredNo {
			t.Errorf("what waited: %v", e)
		}
	}
	if ran := h.begun(); ran != 1 {
		t.Errorf("notified ran %d times", ran)
	}
	await(t, func() bool { return under() == 0 && repeats() == 0 })
}

// TestSentAgainWithinTheLimit: a message whose session breaks while it runs comes again
// and waits for its outcome, though its sender is at its limit: the one that runs is
// counted.
func TestSentAgainWithinTheLimit(t *testing.T) {
	t.Parallel()
	alice, bob, p := conformancePair(t)
	change(t, bob, control.PolicyChange{Limits: []control.AgentLimit{{Name: "agent-requests", Max: 1}, {Name: "agent-bytes", Max: 1000}}})
	token := rand.Text() // signals are the process's
	done := make(chan error, 1)
	go func() {
		_, err := step(t, alice, sdktest.Step{Op: "send", To: bob.Agent(), Then: &sdktest.Step{Op: "gate", Text: token, Then: &sdktest.Step{Op: "commit", Text: string(make([]byte, 600))}}})
		done <- err
	}()
	if _, err := step(t, bob, sdktest.Step{Op: "wait", Text: token + ".begun"}); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		p.cut()
		await(t, func() bool { return bob.traffic.messages.Load() == uint64(2+i) || len(done) > 0 }) // it came again
	}
	if _, err := step(t, bob, sdktest.Step{Op: "raise", Text: token + ".open"}); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	await(t, func() bool {
		bob.policy.mu.Lock()
		defer bob.policy.mu.Unlock()
		return bob.policy.load.Of(alice.Agent()) == agency.Amount{}
	})
}

// TestTellIsCounted: whatever header a request has that tells of a grant, it is a
// request, and counted as one.
func TestTellIsCounted(t *testing.T) {
	t.Parallel()
	n := startRaw(t, func(context.Context, sdk.Host, *sdk.Call) ([]byte, error) { return nil, nil })
	a := n.apps.all()[0]
	who := sdk.AgentID(testPrivateKey(9).Public().(ed25519.PublicKey))
	change(t, n, control.PolicyChange{Limits: []control.AgentLimit{{Agent: who, Name: "agent-requests", Max: 1}}})
	if _, e := n.policy.begin(who, requestAmount(0)); e != nil { // one is under way
		t.Fatal(e)
	}
	header, err := messageHeader{Notified: true, Order: order{run: 1, seq: 1, base: 1}.encode()}.encode(a.hash, a.name, 0)
	if err != nil {
		t.Fatal(err)
	}
	body, err := (&told{DNA: a.hash[:], Grant: make([]byte, 32)}).encode()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	_, err = newStranger(t, 9).session(n).Request(ctx, transport.Outgoing{Kind: kindTell, ID: newMessageID(), Header: header, Body: body})
	refusalOf(t, err, sdk.Busy)
}
