package sdktest

import (
	"context"
	"slices"
	"time"

	"github.com/parley-p2p/parley/sdk"
)

// maxSignals bounds the signals of a node that are kept.
const maxSignals = 16384

// signalled is what a node's handler has emitted.
type signalled struct {
	list []Signal
	last uint64
	more chan struct{} // closed at the next one, and replaced
}

// Signal is what a handler has emitted.
type Signal struct {
	Seq     uint64 // from 1
	Time    time.Time
	Payload []byte
}

// Emit keeps a signal, as sdk.Host says: whatever becomes of the call.
func (r *running) Emit(_ context.Context, payload []byte) error {
	if err := r.live("Emit"); err != nil {
		return err
	}
	x := r.node
	if err := x.net.tooLarge("signal", len(payload)); err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	s := &x.signals
	s.last++
	s.list = append(s.list, Signal{Seq: s.last, Time: time.Now(), Payload: slices.Clone(payload)})
	if len(s.list) > maxSignals {
		s.list = s.list[1:]
	}
	if s.more != nil {
		close(s.more)
		s.more = nil
	}
	return nil
}

// Signals are those that the node's handler has emitted, the last 16,384 at most.
func (x *Node) Signals() []Signal {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.signals.list)
}

// SignalsAs are the node's signals, decoded. One that does not decode fails the test.
func SignalsAs[T any](x *Node) (values []T) {
	x.net.t.Helper()
	for _, s := range x.Signals() {
		var v T
		if err := sdk.Unmarshal(s.Payload, &v); err != nil {
			x.net.t.Fatalf("signal %d of %s: %v", s.Seq, x.name, err)
		}
		values = append(values, v)
	}
	return values
}

// WatchSignals tells of the signals from now on, until ctx ends or tell fails. began
// is called when none is missed any more.
func (x *Node) WatchSignals(ctx context.Context, began func(), tell func(payload []byte) error) error {
	x.mu.Lock()
	seen := x.signals.last
	x.mu.Unlock()
	began()
	for {
		x.mu.Lock()
		var list []Signal
		for _, s := range x.signals.list {
			if s.Seq > seen {
				list = append(list, s)
			}
		}
		if x.signals.more == nil {
			x.signals.more = make(chan struct{})
		}
		more := x.signals.more
		x.mu.Unlock()
		for _, s := range list {
			seen = s.Seq
			if err := tell(s.Payload); err != nil {
				return err
			}
		}
		select {
		case <-more:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Online tells whether two nodes have a session, as sdk.Host says: the first message
// or notification opens it, Cut and Stop end it.
func (r *running) Online(_ context.Context, agent sdk.AgentID) (sdk.Presence, error) {
	if err := r.live("Online"); err != nil {
		return sdk.Presence{}, err
	}
	x := r.node
	if agent == x.id {
		return sdk.Presence{Online: true, LastHeard: time.Now()}, nil
	}
	x.net.mu.Lock()
	defer x.net.mu.Unlock()
	y := x.net.nodes[agent]
	if y == nil {
		return sdk.Presence{}, nil
	}
	l := x.net.linkLocked(x, y)
	if l.met {
		return sdk.Presence{Online: true, LastHeard: time.Now()}, nil // by its heartbeats
	}
	return sdk.Presence{LastHeard: l.heard}, nil
}

// meet opens the session of two nodes.
func (n *Net) meet(a, b *Node) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.linkLocked(a, b).met = true
}

// part ends it.
func (l *linkState) part() {
	if l.met {
		l.met, l.heard = false, time.Now()
	}
}
