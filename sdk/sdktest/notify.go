package sdktest

import (
	"context"
	"slices"
	"time"

	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/sdk/agency"
)

const (
	// maxNotices is a node's default of notify-queue.
	maxNotices = 16384
	// notifyWindow is how many notifications to one agent a node has under way at once.
	notifyWindow = 64
)

// notice is one notification to one agent.
type notice struct {
	payload  []byte
	behalf   sdk.Proof
	posted   time.Time
	deadline time.Time
	result   func(e *sdk.Error) // nil: nobody waits
	recalled bool               // guarded by Node.mu, as outbox and what follows are
	refused  bool               // by the receiver's limits, and told
	end      func()             // counts it out there; nil: it was not counted
}

// outbox are a node's notifications to one agent, the first one under way. A
// goroutine of the Net's takes them in turn while there are any.
type outbox struct {
	waits []*notice
	sent  int // of waits, the first ones: they wait at the receiver
}

// Notify sends notifications to other nodes of the Net, as sdk.Host says.
func (r *running) Notify(ctx context.Context, n sdk.Notice) ([]error, error) {
	if err := r.live("Notify"); err != nil {
		return nil, err
	}
	x := r.node
	if err := x.net.tooLarge("payload", len(n.Payload)); err != nil {
		return nil, err
	}
	if len(n.To) > sdk.MaxNotified {
		return nil, &sdk.Error{Code: sdk.TooLarge, Side: sdk.SideCaller, Delivered: sdk.DeliveredNo, Retry: true, Text: "a notification to too many agents at once",
			Limit: &sdk.Limit{Name: "agents of one Notify", Value: uint64(len(n.To)), Max: sdk.MaxNotified}}
	}
	if ctx.Err() != nil {
		return nil, ctxError(ctx, sdk.DeliveredNo)
	}
	now := time.Now()
	refused, e := x.mayNotify(now, &n)
	if e != nil {
		return nil, e
	}
	r.effects.Add(1)
	deadline := now.Add(x.net.options.Timeout)
	if d, ok := ctx.Deadline(); ok && n.Wait && d.Before(deadline) {
		deadline = d
	}
	payload, behalf := slices.Clone(n.Payload), slices.Clone(n.Behalf)
	type result struct {
		i int
		e *sdk.Error
	}
	results := make(chan result, len(n.To))
	var posted []*notice
	for i, to := range n.To {
		one := &notice{payload: payload, behalf: behalf, posted: now, deadline: deadline}
		if n.Wait {
			one.result = func(e *sdk.Error) { results <- result{i, e} }
		}
		posted = append(posted, one)
		if refused != nil && refused[i] != nil {
			one.tell(refused[i])
			continue
		}
		x.queue(to, one)
		x.launch(to)
	}
	if !n.Wait {
		return nil, nil
	}
	all, known := make([]error, len(n.To)), make([]bool, len(n.To))
	for range n.To {
		select {
		case got := <-results:
			known[got.i] = true
			if got.e != nil {
				all[got.i] = got.e
			}
			continue
		case <-ctx.Done():
		}
		break
	}
	for i, one := range posted {
		if !known[i] {
			all[i] = ctxError(ctx, x.recall(n.To[i], one))
		}
	}
	return all, nil
}

// queue adds a notification to those that wait.
func (x *Node) queue(to sdk.AgentID, one *notice) {
	x.mu.Lock()
	defer x.mu.Unlock()
	b := x.outboxes[to]
	if b != nil && len(b.waits) >= maxNotices {
		one.tell(&sdk.Error{Code: sdk.Busy, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true, Text: "too much waits to be sent",
			Limit: &sdk.Limit{Name: "notifications that wait for one agent", Setting: "notify-queue", Value: maxNotices + 1, Max: maxNotices, RetryAfter: time.Second}})
		return
	}
	if b != nil {
		b.waits = append(b.waits, one)
		return
	}
	if !x.net.begin() {
		one.tell(&sdk.Error{Code: sdk.Canceled, Side: sdk.SideCaller, Delivered: sdk.DeliveredNo, Text: "the test is over"})
		return
	}
	b = &outbox{waits: []*notice{one}}
	if x.outboxes == nil {
		x.outboxes = map[sdk.AgentID]*outbox{}
	}
	x.outboxes[to] = b
	go x.empty(to, b)
}

func (n *notice) tell(e *sdk.Error) {
	if n.result != nil {
		n.result(e)
	}
}

// recall takes back a notification for which nobody waits any more, if it has not left.
func (x *Node) recall(to sdk.AgentID, one *notice) sdk.Delivered {
	x.mu.Lock()
	defer x.mu.Unlock()
	if b := x.outboxes[to]; b != nil && slices.Contains(b.waits[1:], one) {
		one.recalled = true
		return sdk.DeliveredNo
	}
	return sdk.DeliveredUnknown
}

// empty sends what waits for one agent, one after the other.
func (x *Node) empty(to sdk.AgentID, b *outbox) {
	defer x.net.calls.Done()
	for {
		x.launch(to)
		x.mu.Lock()
		one := b.waits[0]
		recalled, refused := one.recalled, one.refused
		x.mu.Unlock()
		if !recalled && !refused {
			x.notify(to, one)
		}
		x.mu.Lock()
		b.waits[0] = nil
		b.waits = b.waits[1:]
		b.sent = max(0, b.sent-1)
		end := one.end
		x.mu.Unlock()
		if end != nil {
			end()
		}
		x.mu.Lock()
		if len(b.waits) == 0 {
			delete(x.outboxes, to)
			x.mu.Unlock()
			x.net.changed()
			return
		}
		x.mu.Unlock()
	}
}

// launch has those that a node would have under way wait at the receiver, as far as
// its limits for this node let them.
func (x *Node) launch(to sdk.AgentID) {
	x.launching.Lock()
	defer x.launching.Unlock()
	for {
		x.mu.Lock()
		b := x.outboxes[to]
		if b == nil || b.sent >= min(len(b.waits), notifyWindow) {
			x.mu.Unlock()
			return
		}
		one := b.waits[b.sent]
		b.sent++
		recalled := one.recalled
		x.mu.Unlock()
		y, _, err := x.route(to)
		if err != nil || recalled {
			continue // it has that error when it is its turn
		}
		end, e := y.begin(x.id, agency.Amount{agency.Bytes: len(one.payload), agency.Signals: 1})
		x.mu.Lock()
		one.end, one.refused = end, e != nil
		x.mu.Unlock()
		if e != nil {
			one.tell(e.Remote())
		}
	}
}

// notify brings one notification to its end.
func (x *Node) notify(to sdk.AgentID, one *notice) {
	ctx, cancel := context.WithDeadline(x.net.ctx, one.deadline)
	defer func() { cancel() }()
	if ctx.Err() != nil {
		one.tell(ctxError(ctx, sdk.DeliveredNo))
		return
	}
	y, l, err := x.route(to)
	if err != nil {
		one.tell(err)
		return
	}
	way := l
	way.delay = max(0, l.delay-time.Since(one.posted)) // those that are under way together wait together
	if !way.pause(ctx) {
		if ctx.Err() != nil {
			one.tell(ctxError(ctx, sdk.DeliveredNo))
			return
		}
		one.tell(x.unknown(y))
		return
	}
	x.net.meet(x, y)
	r, err := y.admitNotice(one.deadline, x, one)
	if err != nil {
		one.tell(err.Remote())
		return
	}
	if !x.net.begin() {
		r.cancel(ctx)
		one.tell(ctxError(ctx, sdk.DeliveredUnknown))
		return
	}
	release := cancel
	cancel = func() {}
	go func() { // the result is under way while the next one runs
		defer x.net.calls.Done()
		defer release()
		_, e := x.await(ctx, r, y, l)
		one.tell(e)
	}()
	<-r.done
}

// admitNotice is the receiving node's side of a notification.
func (y *Node) admitNotice(deadline time.Time, from *Node, one *notice) (*running, *sdk.Error) {
	if e := y.hears(from.id); e != nil { // since it came: it may have waited
		return nil, e
	}
	switch {
	case y.dna.Hash() != from.dna.Hash():
		return nil, &sdk.Error{Code: sdk.NoHandler, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true, Text: "DNA " + from.dna.Name + " is not running there, or under another hash"}
	case !y.desc.Notified:
		return nil, &sdk.Error{Code: sdk.NoHandler, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true, Text: "DNA " + y.dna.Name + " has no notified"}
	}
	if e := y.errInitializing(); e != nil {
		return nil, e
	}
	in := &running{call: &sdk.Call{Kind: sdk.CallNotified, ID: newMessageID(), From: from.id, Behalf: one.behalf, Payload: one.payload}}
	if _, e := y.authority(from.id, &sdk.Message{To: y.id, Payload: one.payload, Behalf: one.behalf}, in); e != nil {
		return nil, e
	}
	giveBack, e := y.counted(in.behalf)
	if e != nil {
		return nil, e
	}
	r, e := y.startCall(deadline, in)
	if e != nil {
		giveBack()
	}
	return r, e
}

// idle tells that nothing of the node's waits to be sent.
func (x *Node) idle() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.outboxes) == 0
}
