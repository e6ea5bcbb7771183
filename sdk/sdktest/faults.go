package sdktest

import (
	"bytes"
	"context"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// link is a pair of nodes, the smaller id first.
type link struct{ a, b sdk.AgentID }

// linkState is guarded by Net.mu.
type linkState struct {
	delay time.Duration
	cut   chan struct{} // closed while the link is cut; made anew by Heal
	met   bool          // there is a session
	heard time.Time     // the end of the last one
}

func (n *Net) linkLocked(a, b *Node) *linkState {
	k := link{a.id, b.id}
	if bytes.Compare(a.id[:], b.id[:]) > 0 {
		k = link{b.id, a.id}
	}
	l := n.links[k]
	if l == nil {
		l = &linkState{cut: make(chan struct{})}
		n.links[k] = l
	}
	return l
}

func (n *Net) link(a, b *Node) linkState {
	n.mu.Lock()
	defer n.mu.Unlock()
	return *n.linkLocked(a, b)
}

// Cut breaks the link between two nodes. A message that is under way ends for
// its sender with OutcomeUnknown, while the other agent's receive goes on and
// may commit; later ones end with Unreachable.
func (n *Net) Cut(a, b *Node) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if l := n.linkLocked(a, b); !isClosed(l.cut) {
		close(l.cut)
		l.part()
	}
}

// Heal takes Cut back.
func (n *Net) Heal(a, b *Node) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if l := n.linkLocked(a, b); isClosed(l.cut) {
		l.cut = make(chan struct{})
	}
}

// Delay makes each way between two nodes take d. In a testing/synctest bubble
// that costs no time.
func (n *Net) Delay(a, b *Node, d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.linkLocked(a, b).delay = d
}

// Crash ends the node's handler process: calls that run in it end with
// HandlerCrashed and leave nothing on the chain. The handler starts again at
// once. A handler of a test can't be killed, so the calls' contexts end and
// what they still do has no effect.
func (n *Net) Crash(x *Node) {
	x.mu.Lock()
	live := x.running
	x.running = map[*running]bool{}
	x.mu.Unlock()
	for r := range live {
		r.crash()
	}
}

// Stop shuts the node down: it can't be reached until Start, its running calls
// end as by Crash. The chain stays.
func (n *Net) Stop(x *Node) {
	x.mu.Lock()
	x.stopped = true
	x.mu.Unlock()
	n.mu.Lock()
	for k, l := range n.links {
		if k.a == x.id || k.b == x.id {
			l.part()
		}
	}
	n.mu.Unlock()
	n.Crash(x)
	n.changed() // Settle leaves it out
}

// Start takes Stop back.
func (n *Net) Start(x *Node) {
	x.mu.Lock()
	x.stopped = false
	x.mu.Unlock()
	n.changed()
}

// FailCommits makes every commit fail with this cause, as a full disk would,
// until it is called with nil.
func (x *Node) FailCommits(cause error) { x.chain.fail(cause) }

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// pause waits for one way of a link. It returns false if ctx ended or the link
// was cut meanwhile.
func (l *linkState) pause(ctx context.Context) bool {
	if l.delay == 0 {
		return !isClosed(l.cut) && ctx.Err() == nil
	}
	t := time.NewTimer(l.delay)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-l.cut:
	case <-ctx.Done():
	}
	return false
}
