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
