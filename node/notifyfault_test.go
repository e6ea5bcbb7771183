package node

import (
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
)

// numbers are the notes that notifications have committed, in the chain's order.
func (c *childNode) numbers() (list []int) {
	c.t.Helper()
	for q := (sdk.Query{Type: "note", Limit: 1000}); ; {
		records, err := c.control.Chain(c.t.Context(), "test", q)
		if err != nil {
			c.t.Fatal(err)
		}
		if len(records) == 0 {
			return list
		}
		for _, r := range records {
			var m testMessage
			err := sdk.Unmarshal(r.Content, &m)
			n, err2 := strconv.Atoi(m.Text)
			if err := errors.Join(err, err2); err != nil {
				c.t.Fatal(err)
			}
			list = append(list, n)
			q.From = r.Header.Seq + 1
		}
	}
}

func trafficOf(t *testing.T, n *testNode) control.Traffic {
	t.Helper()
	s, err := n.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s.Traffic
}

// The receiving node is killed in the middle: what the sender was told is true of each
// notification, and none has run twice.
func TestNotifyReceiverKilled(t *testing.T) {
	t.Parallel()
	const many = 3000 // a second and more of commits, of which the kill has to come in the middle
	alice, bob, p := behindProxy(t)
	done := make(chan []testResult, 1)
	go func() {
		done <- ask[[]testResult](t, alice.Call, "notify", testNotify{To: []sdk.AgentID{bob.peer.Agent}, N: many, Do: "commit", Wait: true})
	}()
	await(t, func() bool { return len(bob.numbers()) >= 100 })
	bob.kill()
	bob.start("-advertise", p.addr().String())
	p.forward(netip.MustParseAddrPort(bob.peer.Host))
	results := <-done
	took := bob.numbers()
	slices.Sort(took)
	if once := slices.Compact(slices.Clone(took)); len(once) != len(took) {
		t.Fatalf("some have run twice: %v", took)
	}
	if len(results) != many {
		t.Fatalf("%d results of %d", len(results), many)
	}
	kinds := map[string]int{}
	for _, r := range results {
		_, ran := slices.BinarySearch(took, r.N)
		switch {
		case r.Err == "" && !ran, r.Sure && !r.Ran && ran, r.Sure && r.Ran && !ran:
			t.Errorf("notification %d: ran %t, and its sender was told %q", r.N, ran, r.Err)
		case r.Err == "":
			kinds["taken"]++
		default:
			kinds[r.Code.Name()]++
		}
	}
	t.Logf("of %d: %v", many, kinds)
	if kinds["taken"] < 100 {
		t.Errorf("only %d were taken", kinds["taken"])
	}
	if kinds["taken"] == many {
		t.Error("the kill came too late: nothing was lost")
	}
	last := ask[[]testResult](t, alice.Call, "notify", testNotify{To: []sdk.AgentID{bob.peer.Agent}, From: many, N: 1, Wait: true})
	if last[0].Err != "" {
		t.Errorf("afterwards: %s", last[0].Err)
	}
}

// Sessions break again and again: those that arrive stay in order, none comes twice.
func TestNotifySessionsBreak(t *testing.T) {
	t.Parallel()
	const many = 600
	alice, bob, p := behindProxy(t)
	to := []sdk.AgentID{bob.peer.Agent}
	ask[[]testResult](t, alice.Call, "notify", testNotify{To: to, N: many, Do: "commit"})
	for i := range 5 {
		await(t, func() bool {
			return len(bob.numbers()) >= min(100*i, int(trafficOf(t, alice).Notifications-trafficOf(t, alice).NotificationsFailed))
		})
		p.cut()
	}
	last := ask[[]testResult](t, alice.Call, "notify", testNotify{To: to, From: many, N: 1, Do: "commit", Wait: true})
	if e := last[0]; e.Err != "" && e.Code != sdk.Unreachable {
		t.Errorf("the last one: %s", e.Err)
	}
	took, tr := bob.numbers(), trafficOf(t, alice)
	for i := 1; i < len(took); i++ {
		if took[i] <= took[i-1] {
			t.Fatalf("notification %d came after %d", took[i], took[i-1])
		}
	}
	if tr.Notifications != many+1 || len(took) < int(tr.Notifications-tr.NotificationsFailed) || len(took) < many/2 {
		t.Errorf("%d were taken; %d of %d were not, as their sender counts", len(took), tr.NotificationsFailed, tr.Notifications)
	}
}

// An agent that stands still costs the others nothing, and what waits for it is
// bounded: over the bound the sender is told.
func TestNotifyStuckReceiver(t *testing.T) {
	t.Parallel()
	w := newTestNetwork(t, testDNA)
	w.base.Limits = Limits{NotifyQueue: 100, NotifyInbox: 10}
	alice, bob, carol := w.start("alice"), w.start("bob"), w.start("carol")
	in := testNotify{To: []sdk.AgentID{bob.ID()}, N: 1, Do: "wait"}
	ask[[]testResult](t, alice.Call, "notify", in)
	in = testNotify{To: []sdk.AgentID{bob.ID(), carol.ID()}, From: 0, N: 90}
	ask[[]testResult](t, alice.Call, "notify", in)
	wantHeard(t, carol.Call, 0, 90)
	results := ask[[]testResult](t, alice.Call, "notify", testNotify{To: in.To, From: 90, N: 30, Wait: true, Within: 5 * time.Second})
	busy := 0
	for _, r := range results {
		switch {
		case r.Agent == carol.ID() && r.Err != "":
			t.Errorf("carol's %d: %s", r.N, r.Err)
		case r.Agent == bob.ID() && r.Err == "":
			t.Errorf("bob's %d was taken, though he stands still", r.N)
		case r.Agent == bob.ID() && r.Code == sdk.Busy:
			busy++
		}
	}
	if busy == 0 {
		t.Errorf("nothing was over the bound: %+v", results)
	}
	if _, err := sendTo(t, alice, bob, testMessage{Do: "echo"}); err != nil {
		t.Errorf("a message to who takes no notifications: %v", err)
	}
}

// Large ones and small ones keep one order.
func TestNotifyLargeInOrder(t *testing.T) {
	t.Parallel()
	w := newTestNetwork(t, testDNA)
	alice, bob := w.start("alice"), w.start("bob")
	n := 0
	for _, size := range []int{0, 100 << 10, 0, 7000, 300 << 10, 9000, 10} {
		in := testNotify{To: []sdk.AgentID{bob.ID(), alice.ID()}, From: n, N: 20, Size: size}
		ask[[]testResult](t, alice.Call, "notify", in)
		n += in.N
	}
	wantHeard(t, bob.Call, 0, n)
	wantHeard(t, alice.Call, 0, n)
}

// Ten thousand from one handler's process to another's, each with a node's process of
// its own: complete and in order.
func TestNotifyProcesses(t *testing.T) {
	t.Parallel()
	const many = 10_000
	plugins, dir := pluginDir(t, "test"), shortTempDir(t)
	bobLine := startRole(t, "node", dir+"/bob", plugins).line()
	startRole(t, "node", dir+"/alice", plugins, bobLine).line()
	to, err := ParsePeer(bobLine)
	if err != nil {
		t.Fatal(err)
	}
	alice, bob := clientOf(t, dir+"/alice"), clientOf(t, dir+"/bob")
	began := time.Now()
	ask[[]testResult](t, alice, "notify", testNotify{To: []sdk.AgentID{to.Agent}, N: many, Size: benchPayload})
	wantHeard(t, bob, 0, many)
	t.Logf("%d in %s", many, time.Since(began))
}
