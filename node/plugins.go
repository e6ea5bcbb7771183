package node

import (
	"context"
	"errors"
	"sync"

	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/plugin"
	"github.com/parley-p2p/parley/sdk"
)

// maxPluginEvents bounds the events that are kept for those who ask later.
const maxPluginEvents = 256

// pluginEvents are the last things that happened to handlers, numbered from 1.
type pluginEvents struct {
	mu      sync.Mutex
	last    uint64 // number of the newest
	list    []control.PluginEvent
	changed chan struct{} // closed at the next one, and replaced
}

func newPluginEvents() *pluginEvents { return &pluginEvents{changed: make(chan struct{})} }

func (l *pluginEvents) add(e control.PluginEvent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last++
	e.Seq = l.last
	if len(l.list) == maxPluginEvents {
		l.list = append(l.list[:0], l.list[1:]...)
	}
	l.list = append(l.list, e)
	close(l.changed)
	l.changed = make(chan struct{})
}

// after gives the events that follow number seq, as far as they are kept, and
// what is closed when there are more.
func (l *pluginEvents) after(seq uint64) ([]control.PluginEvent, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	first := l.last - uint64(len(l.list)) // number before the oldest that is kept
	if seq > l.last {                     // of an earlier run of the node
		seq = first
	}
	from := max(seq, first) - first
	return append([]control.PluginEvent(nil), l.list[from:]...), l.changed
}

// pluginEvent is called by the plugin manager.
func (n *Node) pluginEvent(e plugin.Event) {
	n.events.add(control.PluginEvent{Time: e.Time, File: e.File, DNA: e.DNA, Kind: string(e.Kind), SHA256: e.SHA256, Text: e.Text})
	if e.Kind == plugin.EventUp || e.Kind == plugin.EventSwapped {
		n.apps.described(e.DNA)
	}
}

// Plugins tells of every file of the plugin directory.
func (n *Node) Plugins(context.Context) ([]control.PluginStatus, error) {
	if n.plugins == nil {
		return nil, nil
	}
	var list []control.PluginStatus
	for _, p := range n.plugins.Status() {
		s := control.PluginStatus{File: p.File, DNA: p.DNA, Integrity: p.Integrity, State: string(p.State), PID: p.PID, SHA256: p.SHA256,
			Since: p.Since, Started: p.Started, Restarts: p.Restarts, LastError: p.LastError, InFlight: p.InFlight, Queued: p.Queued,
			Calls: p.Calls, GivenUp: p.GivenUp, Generation: p.Generation, Probation: p.Probation, Good: p.Good, Trying: p.Trying, Refused: p.Refused}
		for _, d := range p.Draining {
			s.Draining = append(s.Draining, control.DrainingPlugin{PID: d.PID, SHA256: d.SHA256, Calls: d.Calls, Until: d.Until})
		}
		for _, q := range p.Quarantined {
			s.Quarantined = append(s.Quarantined, control.QuarantinedPlugin{SHA256: q.SHA256, Reason: q.Reason, Since: q.Since})
		}
		for _, l := range p.Sandbox {
			s.Layers = append(s.Layers, control.PluginLayer{Name: l.Name, State: string(l.State), Detail: l.Detail})
		}
		list = append(list, s)
	}
	return list, nil
}

var errNoPlugins = &control.InputError{Text: "this node has no plugin directory; run it with --plugins DIR"}

// RestartPlugin starts what lies in the plugin directory anew, for a file or a DNA.
func (n *Node) RestartPlugin(ctx context.Context, name string) error {
	if n.plugins == nil {
		return errNoPlugins
	}
	err := n.plugins.Restart(ctx, name)
	var unknown *plugin.UnknownError
	if errors.As(err, &unknown) {
		return &control.InputError{Text: err.Error()}
	}
	if err != nil && ctx.Err() == nil {
		return &sdk.Error{Code: sdk.NoHandler, Side: sdk.SideHandler, Delivered: sdk.DeliveredNo,
			Text: "what lies in the plugin directory was not taken: " + err.Error()}
	}
	return err
}

// PluginEvents tells of what happened to handlers after event number q.After. With
// q.Follow it goes on until ctx or the node ends, or tell fails.
func (n *Node) PluginEvents(ctx context.Context, q control.EventQuery, tell func(control.PluginEvent) error) error {
	for {
		list, more := n.events.after(q.After)
		for _, e := range list {
			if err := tell(e); err != nil {
				return err
			}
			q.After = e.Seq
		}
		if !q.Follow {
			return nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return ctx.Err()
		case <-n.life.Done():
			return nil
		}
	}
}
