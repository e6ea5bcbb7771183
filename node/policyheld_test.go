package node

import (
	"context"
	"crypto/ed25519"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/agency"
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
	answers := make(chan answer, 4)
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
	request(3, first) // once more: there is room for one that waits
	under := func() int {
		n.policy.mu.Lock()
		defer n.policy.mu.Unlock()
		return n.policy.load.Of(who)[agency.Requests]
	}
	await(t, func() bool { return under() == 1 })
	_, err := session.Request(t.Context(), first)
	if e := refusalOf(t, err, sdk.Busy); e.Limit == nil || e.Limit.Setting != "agent-requests" {
		t.Errorf("a second one that waits again: %v", e)
	}
	change(t, n, control.PolicyChange{Block: []sdk.AgentID{who}})
	close(h.open)
	for range 3 {
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
	await(t, func() bool { return under() == 0 })
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
