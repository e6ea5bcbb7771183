package node

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// What an outbox takes, with its goroutine, is among notify-bytes: many agents that
// don't answer take no more than that. Afterwards all of it is given back.
func TestNotifyManyAgentsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(context.Background())
		n := &Node{notices: newNotifier(), cfg: Config{Limits: Limits{NotifyBytes: 10*(outboxOverhead+notifyOverhead) + 100}}.withDefaults()}
		n.tasks.open(ctx)
		n.notices.mu.Lock() // the pumps wait
		wait := &noticeWait{results: make([]error, 20), left: 20, done: make(chan struct{})}
		shared := &sharedPayload{size: 100}
		for i := range 20 {
			l := &letter{outgoing: outgoing{to: sdk.AgentID{byte(i + 1)}, app: &app{log: slog.New(slog.DiscardHandler)}, payload: make([]byte, 100)}, deadline: time.Now().Add(time.Minute),
				shared: shared, wait: wait, index: i}
			if e := n.queueLocked(l); e != nil {
				if e.Code != sdk.Busy || e.Limit == nil || e.Limit.Setting != "notify-bytes" {
					t.Errorf("agent %d: %v", i, e)
				}
				n.tellLocked(l, e)
			}
		}
		if boxes := len(n.notices.boxes); boxes != 10 {
			t.Errorf("%d outboxes, room for 10", boxes)
		}
		stop()
		n.notices.mu.Unlock()
		<-wait.done
		n.tasks.wait()
		if len(n.notices.boxes) != 0 || n.notices.bytes != 0 {
			t.Errorf("%d outboxes and %d bytes are left", len(n.notices.boxes), n.notices.bytes)
		}
	})
}

// The age of one that is sent again is counted from its first sending: to a receiver
// that began to run while it waited to be sent, it can't have come before.
func TestNotifyAgeLeavesOutTheQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := &Node{notices: newNotifier(), cfg: Config{}.withDefaults()}
		r := &outboxRun{wake: make(chan struct{}, 1)}
		l := &letter{outgoing: outgoing{app: &app{name: "d"}, began: time.Now(), header: messageHeader{Notified: true}}, deadline: time.Now().Add(time.Minute), shared: &sharedPayload{}}
		r.push(l)
		time.Sleep(10 * time.Second) // in the bubble: it waits to be sent
		if f, _ := n.takeOff(r, l); f == nil {
			t.Fatal("it is not sent")
		}
		l.left = true
		r.again(time.Now(), l, 0)
		time.Sleep(3 * time.Second)
		if f, _ := n.takeOff(r, l); f == nil {
			t.Fatal("it is not sent again")
		}
		if age := time.Since(l.began); age != 3*time.Second {
			t.Errorf("its age is %s, since it was first sent 3 s ago", age)
		}
	})
}

// What waits behind one that is stuck and was recalled takes no room of the queue, nor
// of memory, however often that happens.
func TestRecalledLettersTakeNoRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const queue = 10
		ctx, stop := context.WithCancel(context.Background())
		n := &Node{notices: newNotifier(), cfg: Config{Limits: Limits{NotifyQueue: queue}}.withDefaults()}
		n.tasks.open(ctx)
		n.notices.mu.Lock()
		a := &app{log: slog.New(slog.DiscardHandler)}
		post := func(size int) (*letter, *sdk.Error) {
			l := &letter{outgoing: outgoing{to: sdk.AgentID{1}, app: a, payload: make([]byte, size)}, deadline: time.Now().Add(time.Minute), shared: &sharedPayload{},
				wait: &noticeWait{results: make([]error, 1), left: 1, done: make(chan struct{})}}
			return l, n.queueLocked(l)
		}
		if _, e := post(notifySmall + 1); e != nil { // nothing is sent behind it
			t.Fatal(e)
		}
		r := n.notices.boxes[outboxKey{to: sdk.AgentID{1}}]
		r.fly(r.pick(time.Now())) // and no answer comes
		gone, cancel := context.WithCancel(ctx)
		cancel()
		for round := range 50 {
			var letters []*letter
			for i := range queue - 1 {
				l, e := post(0)
				if e != nil {
					t.Fatalf("round %d, letter %d: %v", round, i, e)
				}
				letters = append(letters, l)
			}
			if _, e := post(0); e == nil || e.Limit == nil || e.Limit.Setting != "notify-queue" || e.Limit.Value != queue+1 {
				t.Fatalf("round %d: one too many: %v", round, e)
			}
			n.notices.mu.Unlock()
			n.recall(gone, letters)
			n.notices.mu.Lock()
			if len(r.letters) > 2*queue || r.live() != 1 {
				t.Fatalf("round %d: %d letters are held, %d live", round, len(r.letters), r.live())
			}
		}
		if r.flying != 1 || r.letters[0].state != letterFlies || r.bytes != notifyOverhead+notifySmall+1 {
			t.Errorf("%d fly, the first is %d, %d bytes", r.flying, r.letters[0].state, r.bytes)
		}
		stop()
		n.notices.mu.Unlock()
		n.tasks.wait()
	})
}
