package node

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
)

// caller calls functions of the test DNA: a node, or a client of one.
type caller func(ctx context.Context, function string, payload []byte) ([]byte, error)

func clientOf(tb testing.TB, dir string) caller {
	c, err := control.Dial(dir)
	if err != nil {
		tb.Fatal(err)
	}
	return func(ctx context.Context, function string, payload []byte) ([]byte, error) {
		return c.Call(ctx, "test", function, payload)
	}
}

func ask[Out any](tb testing.TB, c caller, function string, in any) (out Out) {
	tb.Helper()
	payload, err := sdk.Marshal(in)
	if err != nil {
		tb.Fatal(err)
	}
	reply, err := c(context.Background(), function, payload)
	if err == nil {
		err = sdk.Unmarshal(reply, &out)
	}
	if err != nil {
		tb.Fatalf("%s: %v", function, err)
	}
	return out
}

// wantHeard waits until an agent has taken n notifications from number from on, and
// fails if they did not come in order.
func wantHeard(tb testing.TB, c caller, from, n int) {
	tb.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		got := ask[testHeard](tb, c, "heard", testHeard{From: from})
		if got.Wrong != "" || got.N > n {
			tb.Fatalf("%d were taken of %d: %s", got.N, n, got.Wrong)
		}
		if got.N == n {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("%d were taken of %d", got.N, n)
		}
	}
}

// A handler's notifications come complete and in order, also to oneself.
func TestNotifyInOrder(t *testing.T) {
	t.Parallel()
	w := newTestNetwork(t, testDNA)
	alice, bob := w.start("alice"), w.start("bob")
	ask[[]testResult](t, alice.Call, "notify", testNotify{To: []sdk.AgentID{bob.ID(), alice.ID()}, N: 2000})
	wantHeard(t, bob.Call, 0, 2000)
	wantHeard(t, alice.Call, 0, 2000)
}

// Ten thousand notifications from one handler's process to another's: two nodes and
// two handlers, each a process of its own.
func BenchmarkNotify(b *testing.B) {
	const many = 10_000
	plugins := pluginDir(b, "test")
	dir := shortTempDir(b)
	bobDir, aliceDir := filepath.Join(dir, "b"), filepath.Join(dir, "a")
	bobLine := startRole(b, "node", bobDir, plugins).line()
	startRole(b, "node", aliceDir, plugins, bobLine).line()
	to, err := ParsePeer(bobLine)
	if err != nil {
		b.Fatal(err)
	}
	alice, bob := clientOf(b, aliceDir), clientOf(b, bobDir)
	from := 0
	before := processTime()
	var sent time.Duration
	for b.Loop() {
		began := time.Now()
		ask[[]testResult](b, alice, "notify", testNotify{To: []sdk.AgentID{to.Agent}, From: from, N: many, Size: benchPayload})
		sent += time.Since(began)
		wantHeard(b, bob, from, many)
		from += many
	}
	b.ReportMetric(float64(processTime()-before)/float64(time.Microsecond)/float64(from), "cpu-us/notification")
	b.ReportMetric(float64(sent)/float64(from), "ns/Notify")
	b.ReportMetric(float64(from)/b.Elapsed().Seconds(), "notifications/s")
}
