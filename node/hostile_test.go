package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/transport"
)

// stranger is a peer that speaks the transport and sends what no node would.
type stranger struct {
	t        *testing.T
	key      byte
	endpoint *transport.Endpoint
	stop     func()
}

func (*stranger) ServeRequest(context.Context, *transport.Request) ([]byte, error) {
	return nil, &transport.RequestError{Code: transport.Unsupported}
}
func (*stranger) ServeNotify(context.Context, *transport.Request) {}

func newStranger(t *testing.T, key byte) *stranger {
	t.Helper()
	s := &stranger{t: t, key: key}
	var err error
	s.endpoint, err = transport.New(transport.Config{Key: testPrivateKey(key), Network: "test", Handler: s, Listen: "127.0.0.1:0",
		Times: transport.Times{CloseTimeout: time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.endpoint.Bind(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); s.endpoint.Run(ctx) }()
	s.stop = sync.OnceFunc(func() { cancel(); <-ended })
	t.Cleanup(s.stop)
	return s
}

func (s *stranger) session(to *testNode) *transport.Session {
	s.t.Helper()
	session, _, err := s.endpoint.Session(s.t.Context(), transport.PeerKey(to.Agent()), []netip.AddrPort{to.Addr()})
	if err != nil {
		s.t.Fatal(err)
	}
	return session
}

// What a peer sends that makes no sense is answered with an error, and leaves
// nothing behind.
func TestSenselessRequests(t *testing.T) {
	t.Parallel()
	w := newTestNetwork(t, testDNA)
	n := w.start("n")
	a := n.apps.all()[0]
	session := newStranger(t, 9).session(n)
	long := strings.Repeat("x", 900)
	header := func(h messageHeader) []byte {
		b, err := sdk.Marshal(h)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	cases := map[string]transport.Outgoing{
		"no header":          {Kind: kindMessage},
		"garbage":            {Kind: kindMessage, Header: []byte("\xff\xff\xff\xff")},
		"nested":             {Kind: kindMessage, Header: []byte(strings.Repeat("\x91", 1000))},
		"a map of 4 billion": {Kind: kindMessage, Header: []byte{0xdf, 0xff, 0xff, 0xff, 0xff}},
		"short hash":         {Kind: kindMessage, Header: header(messageHeader{DNA: []byte{1}, Name: "test"})},
		"long name":          {Kind: kindMessage, Header: header(messageHeader{DNA: a.hash[:], Name: long})},
		"terminal codes":     {Kind: kindMessage, Header: header(messageHeader{DNA: a.hash[:], Name: "\x1b[2J"})},
		"a name of its own":  {Kind: kindMessage, Header: header(messageHeader{DNA: a.hash[:], Name: "other"})},
		"dht garbage":        {Kind: kindDHT, Body: []byte("\xc1")},
		"dht, large":         {Kind: kindDHT, Body: make([]byte, 100<<10)},
		"unknown kind":       {Kind: 77},
	}
	for name, o := range cases {
		o.ID = newMessageID()
		_, err := session.Request(t.Context(), o)
		var peer *transport.PeerError
		var req *transport.RequestError
		switch {
		case errors.As(err, &peer):
			if e := parsePeerError(peer.Body); e.Code != sdk.NoHandler || strings.Contains(e.Text, "\x1b") || len(e.Text) > 300 {
				t.Errorf("%s: %v", name, e)
			}
		case !errors.As(err, &req) || req.Code != transport.Unsupported:
			t.Errorf("%s: %v", name, err)
		}
		if err := session.Notify(t.Context(), o); err != nil {
			t.Errorf("%s, one-way: %v", name, err)
		}
	}
	for i := range 2000 { // ids and DNAs that nobody has heard of
		h := messageHeader{DNA: make([]byte, 32), Name: fmt.Sprint("dna", i)}
		h.DNA[0], h.DNA[1] = byte(i), byte(i>>8)
		if _, err := session.Request(t.Context(), transport.Outgoing{Kind: kindMessage, ID: newMessageID(), Header: header(h)}); err == nil {
			t.Fatal("answered")
		}
	}
	n.outcomesMu.Lock()
	defer n.outcomesMu.Unlock()
	checkOutcomes(t, n.outcomes)
	if len(n.outcomes.byKey) != 0 || len(n.apps.byHeader) != 1 || len(n.apps.byHash) != 1 {
		t.Errorf("%d outcomes, %d headers, %d hashes", len(n.outcomes.byKey), len(n.apps.byHeader), len(n.apps.byHash))
	}
}

// A peer that opens session after session, begins receives and breaks off, is
// held to a bound, and another one is served meanwhile.
func TestReceivesOfBrokenSessionsAreBounded(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	n := startRaw(t, func(ctx context.Context, _ sdk.Host, call *sdk.Call) ([]byte, error) {
		if len(call.Payload) > 0 {
			<-release
		}
		return nil, nil
	})
	header := n.apps.all()[0].header
	running := func() int {
		n.outcomesMu.Lock()
		defer n.outcomesMu.Unlock()
		checkOutcomes(t, n.outcomes)
		all := 0
		for _, s := range n.outcomes.senders {
			all += s.running
		}
		return all
	}
	const perSession = 200
	for begun := 0; begun < runningPerSender; {
		s := newStranger(t, 9)
		session := s.session(n)
		var wg sync.WaitGroup
		for range min(perSession, runningPerSender-begun) {
			begun++
			wg.Go(func() {
				session.Request(context.Background(), transport.Outgoing{Kind: kindMessage, ID: newMessageID(), Header: header, Body: []byte{1}})
			})
		}
		await(t, func() bool { return running() == begun })
		s.stop()
		wg.Wait()
	}
	_, err := newStranger(t, 9).session(n).Request(t.Context(), transport.Outgoing{Kind: kindMessage, ID: newMessageID(), Header: header, Body: []byte{1}})
	var peer *transport.PeerError
	if !errors.As(err, &peer) {
		t.Fatalf("got %v", err)
	}
	e := wantError(t, parsePeerError(peer.Body), sdk.Busy, sdk.DeliveredNo, true)
	if e.Limit == nil || e.Limit.Max != runningPerSender || e.Limit.RetryAfter == 0 {
		t.Errorf("got %v", e)
	}
	if _, err := newStranger(t, 10).session(n).Request(t.Context(), transport.Outgoing{Kind: kindMessage, ID: newMessageID(), Header: header}); err != nil {
		t.Errorf("another peer: %v", err)
	}
	close(release)
	await(t, func() bool { return running() == 0 })
}

// A peer's message without a deadline, or with one in the far future, keeps the
// node busy for a bounded time.
func TestDeadlineOfAStranger(t *testing.T) {
	t.Parallel()
	left := make(chan time.Duration, 1)
	n := startRaw(t, func(ctx context.Context, _ sdk.Host, _ *sdk.Call) ([]byte, error) {
		d, ok := ctx.Deadline()
		if !ok {
			left <- 0
			return nil, nil
		}
		left <- time.Until(d)
		return nil, nil
	})
	session := newStranger(t, 9).session(n)
	for _, within := range []time.Duration{0, 1000 * time.Hour, time.Minute} {
		ctx := t.Context()
		if within > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, within)
			defer cancel()
		}
		if _, err := session.Request(ctx, transport.Outgoing{Kind: kindMessage, ID: newMessageID(), Header: n.apps.all()[0].header}); err != nil {
			t.Fatal(err)
		}
		limit := maxDeadline
		if within > 0 {
			limit = min(limit, within)
		}
		if got := <-left; got <= 0 || got > limit {
			t.Errorf("deadline of %s: receive had %s left, at most %s", within, got, limit)
		}
	}
}

// Two handlers of one DNA: one runs, whichever comes first, the other is
// rejected with a reason that says what to do.
func TestTwoHandlersOfOneDNA(t *testing.T) {
	t.Parallel()
	plugins := pluginDir(t, "test")
	if err := os.Link(filepath.Join(plugins, "test"), filepath.Join(plugins, "test-copy")); err != nil {
		t.Fatal(err)
	}
	cfg := testConfig()
	cfg.DataDir, cfg.PluginDir = filepath.Join(shortTempDir(t), "n"), plugins
	cfg.handlerEnv = []string{"GORACE=atexit_sleep_ms=0"}
	n := startNode(t, cfg)
	s, err := n.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Handlers) != 1 || len(s.Rejected) != 1 || s.Handlers[0].File == s.Rejected[0].File ||
		!strings.Contains(s.Rejected[0].Reason, "another handler of it runs already") {
		t.Fatalf("handlers %+v, rejected %+v", s.Handlers, s.Rejected)
	}
	if _, err := call[testMessage](t, n, "do", testMessage{Do: "commit", Text: "works"}); err != nil {
		t.Fatal(err)
	}

	// The same at the same moment.
	const others = 8
	var wg sync.WaitGroup
	results := make(chan error, others)
	start := make(chan struct{})
	for range others {
		wg.Go(func() {
			<-start
			a, err := n.newApp(sdk.Description{Name: "twin", Integrity: "1"})
			if err == nil {
				runtime.Gosched()
				n.apps.add(a)
			}
			results <- err
		})
	}
	close(start)
	wg.Wait()
	close(results)
	refused := 0
	for err := range results {
		if err == nil {
			continue
		}
		refused++
		if !strings.Contains(err.Error(), "another handler of it runs already") {
			t.Errorf("refused with %v", err)
		}
	}
	if refused != others-1 {
		t.Errorf("%d of %d were refused", refused, others)
	}
}
