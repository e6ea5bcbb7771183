package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/parley-p2p/parley/node/control"
	"github.com/parley-p2p/parley/sdk"
	"github.com/parley-p2p/parley/transport"
)

const (
	// notifyGrace is how long after its deadline a notification's result is waited
	// for: the other node tells that the deadline passed, and whether it ran.
	notifyGrace = 5 * time.Second
	// connectAgain is when a connection is tried again that this node was too busy for.
	connectAgain = 200 * time.Millisecond
)

// notifier holds what waits to be sent to others' notified.
type notifier struct {
	run uint64 // of order; random

	mu    sync.Mutex // guards what follows, and all of each outbox and letter
	boxes map[outboxKey]*outboxRun
	seq   uint64 // the highest number that an outbox has used that is no more
	bytes int    // of all letters, and of the payloads that they share

	sent, failed uint64
}

type outboxKey struct {
	to  sdk.AgentID
	dna sdk.DNAHash
}

// outboxRun is an outbox and the goroutine that empties it.
type outboxRun struct {
	outbox
	key  outboxKey
	wake chan struct{} // capacity 1: something has changed

	failed  int // that the log has not been told of
	failure *sdk.Error
	log     *slog.Logger
}

// sharedPayload is one Notify's payload, and its proof, which many letters hold.
type sharedPayload struct {
	size, holders int
}

// noticeWait collects the results of a Notify that waits.
type noticeWait struct {
	results []error
	left    int
	done    chan struct{}
}

// noticeFlight is a letter that was sent once. The session may keep it longer than
// the outbox does.
type noticeFlight struct {
	pending transport.Pending
	node    *Node
	run     *outboxRun
	letter  *letter

	deadline time.Time
	cancel   context.CancelCauseFunc // of one to oneself
}

func newNotifier() *notifier {
	id := newMessageID()
	var run uint64
	for _, b := range id[:8] {
		run = run<<8 | uint64(b)
	}
	return &notifier{run: run, boxes: map[outboxKey]*outboxRun{}}
}

// Notify implements sdk.Host.
func (c *liveCall) Notify(ctx context.Context, notice sdk.Notice) ([]error, error) {
	if !c.beginSend() {
		return nil, errCallOver()
	}
	results, e := c.node.notify(ctx, c.app, &notice)
	c.endSend(e)
	if e != nil {
		return nil, e
	}
	return results, nil
}

func (n *Node) notify(ctx context.Context, a *app, notice *sdk.Notice) ([]error, *sdk.Error) {
	switch {
	case len(notice.To) > sdk.MaxNotified:
		return nil, &sdk.Error{Code: sdk.TooLarge, Side: sdk.SideCaller, Delivered: sdk.DeliveredNo, Retry: true, Text: "a notification to too many agents at once",
			Limit: &sdk.Limit{Name: "agents of one Notify", Value: uint64(len(notice.To)), Max: sdk.MaxNotified}}
	case len(notice.Payload) > n.cfg.MaxPayload:
		return nil, tooLarge("payload", len(notice.Payload), n.cfg.MaxPayload, sdk.SideCaller, sdk.DeliveredNo)
	case ctx.Err() != nil:
		return nil, contextError(ctx, sdk.DeliveredNo, "the notification had not left")
	}
	now := n.now()
	refused, e := n.mayNotify(now, a, notice)
	if e != nil {
		return nil, e
	}
	deadline := now.Add(n.cfg.Deadline)
	var wait *noticeWait
	if notice.Wait {
		if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
			deadline = d
		}
		wait = &noticeWait{results: make([]error, len(notice.To)), left: len(notice.To), done: make(chan struct{})}
	}
	letters := n.post(now, a, notice, refused, deadline, wait)
	if wait == nil || len(notice.To) == 0 {
		return nil, nil
	}
	select {
	case <-wait.done:
	case <-ctx.Done():
		n.recall(ctx, letters)
		n.notices.mu.Lock()
		defer n.notices.mu.Unlock()
	}
	return append([]error(nil), wait.results...), nil
}

// post queues one letter for each agent, but for those who are refused.
func (n *Node) post(now time.Time, a *app, notice *sdk.Notice, refused []*sdk.Error, deadline time.Time, wait *noticeWait) []*letter {
	behalf, payload, body := notice.Behalf, notice.Payload, pack(notice.Behalf, notice.Payload)
	if body != nil { // which is held once
		behalf, payload = body[:len(behalf):len(behalf)], body[len(behalf):]
	}
	shared := &sharedPayload{size: len(payload) + len(behalf)}
	var letters []*letter
	if wait != nil {
		letters = make([]*letter, len(notice.To))
	}
	s := n.notices
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, to := range notice.To {
		l := &letter{outgoing: outgoing{to: to, id: newMessageID(), app: a, payload: payload, body: body, began: now,
			header: messageHeader{Notified: true, Behalf: behalf}},
			deadline: deadline, shared: shared, wait: wait, index: i}
		if wait != nil {
			letters[i] = l
		}
		s.sent++
		var e *sdk.Error
		if refused != nil {
			e = refused[i]
		}
		if e == nil {
			e = n.queueLocked(l)
		}
		if e != nil {
			l.state = letterSettled
			n.tellLocked(l, e)
		}
	}
	return letters
}

// queueLocked takes a letter, or says which bound it is over.
func (n *Node) queueLocked(l *letter) *sdk.Error {
	s, limits := n.notices, &n.cfg.Limits
	key := outboxKey{l.to, l.app.hash}
	r := s.boxes[key]
	size := notifyOverhead
	if l.shared.holders == 0 {
		size += l.shared.size
	}
	if r == nil {
		size += outboxOverhead
	}
	switch {
	case r != nil && r.live() >= limits.NotifyQueue:
		return errQueueFull("notifications that wait for one agent", "notify-queue", r.live()+1, limits.NotifyQueue)
	case r != nil && r.bytes+l.size() > limits.NotifyBytes/4:
		return errQueueFull("bytes of notifications that wait for one agent, a quarter of notify-bytes", "notify-bytes", r.bytes+l.size(), limits.NotifyBytes/4)
	case s.bytes > 0 && s.bytes+size > limits.NotifyBytes:
		return errQueueFull("bytes of notifications that wait", "notify-bytes", s.bytes+size, limits.NotifyBytes)
	}
	if r == nil {
		r = &outboxRun{key: key, wake: make(chan struct{}, 1)}
		r.seq = s.seq
		if !n.tasks.start(func(ctx context.Context) { n.pump(ctx, r) }) {
			return errNodeStopping()
		}
		s.boxes[key] = r
	}
	s.bytes += size
	l.shared.holders++
	r.push(l)
	r.poke()
	return nil
}

func errQueueFull(name, setting string, value, max int) *sdk.Error {
	return &sdk.Error{Code: sdk.Busy, Side: sdk.SideNode, Delivered: sdk.DeliveredNo, Retry: true, Text: "too much waits to be sent",
		Limit: &sdk.Limit{Name: name, Setting: setting, Value: uint64(value), Max: uint64(max), RetryAfter: time.Second}}
}

func (r *outboxRun) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// settleLocked ends a letter of an outbox with its result.
func (n *Node) settleLocked(r *outboxRun, l *letter, e *sdk.Error) {
	s := n.notices
	r.settle(l)
	s.bytes -= notifyOverhead
	if l.shared.holders--; l.shared.holders == 0 {
		s.bytes -= l.shared.size
	}
	n.tellLocked(l, e)
}

// tellLocked tells a letter's result to whoever waits, once.
func (n *Node) tellLocked(l *letter, e *sdk.Error) {
	if e != nil {
		n.notices.failed++
		if r := n.notices.boxes[outboxKey{l.to, l.app.hash}]; r != nil { // the pump logs it: a log may be slow
			r.failed, r.failure, r.log = r.failed+1, e, l.app.log
		}
	}
	w := l.wait
	l.wait, l.payload, l.body, l.header.Behalf = nil, nil, nil, nil
	if w == nil {
		return
	}
	if e != nil {
		w.results[l.index] = e
	}
	if w.left--; w.left == 0 {
		close(w.done)
	}
}

// recall ends the wait for letters. Those that have not left never will.
func (n *Node) recall(ctx context.Context, letters []*letter) {
	s := n.notices
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range letters {
		if l.wait == nil {
			continue
		}
		r := s.boxes[outboxKey{l.to, l.app.hash}]
		if l.state == letterWaits && !l.left {
			n.settleLocked(r, l, contextError(ctx, sdk.DeliveredNo, "the notification waited to be sent"))
			r.poke()
			continue
		}
		w := l.wait
		l.wait = nil
		w.results[l.index] = contextError(ctx, sdk.DeliveredUnknown, "the notification's result was awaited")
	}
}

// landed takes what has become of a letter that was sent.
func (n *Node) landed(f *noticeFlight, err error) {
	s, r, l := n.notices, f.run, f.letter
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.flight != f {
		return // it was given up
	}
	defer r.poke()
	now := n.now()
	e, again, after := l.verdict(err)
	if again {
		r.again(now, l, after)
		return
	}
	if !f.lost(err) {
		r.answered()
	}
	n.settleLocked(r, l, e)
}

// lost tells that an error says nothing of the line.
func (f *noticeFlight) lost(err error) bool {
	var e *transport.RequestError
	return errors.As(err, &e) && !e.Remote
}

// verdict is a letter's result. again tells that it is to be sent again, after the
// time that the other node asks for.
func (l *letter) verdict(err error) (e *sdk.Error, again bool, after time.Duration) {
	if err == nil {
		return nil, false, 0
	}
	var peer *transport.PeerError
	if errors.As(err, &peer) {
		if e := parsePeerError(peer.Body); e.Code == sdk.Busy && e.Limit != nil && e.Limit.Setting == notifyInboxSetting {
			return e, true, e.Limit.RetryAfter
		}
	}
	var req *transport.RequestError
	if errors.As(err, &req) && req.Code == transport.Busy && !req.Served {
		return requestError(req), true, req.RetryAfter
	}
	e, lost := l.judge(err)
	return e, lost, 0
}

// expired is the result of a letter whose deadline has passed before it was sent (again).
func (l *letter) expired() *sdk.Error {
	return &sdk.Error{Code: sdk.Timeout, Side: sdk.SideNode, Delivered: l.delivered(), Retry: !l.left,
		Text: "the deadline passed while the notification waited to be sent to " + l.to.Short(), Limit: &sdk.Limit{Name: "deadline", Setting: "deadline"}}
}

func (n *Node) errLost(l *letter) *sdk.Error {
	return &sdk.Error{Code: sdk.OutcomeUnknown, Side: sdk.SideNode, Delivered: sdk.DeliveredUnknown,
		Text: fmt.Sprintf("the session to %s broke after the notification had left, and for %s no new one could be opened; "+
			"ask the other side before sending it anew", l.to.Short(), n.cfg.ResendFor),
		Limit: &sdk.Limit{Name: "sending again", Setting: "resend-for"}}
}

func (s *notifier) status(st *control.Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Traffic.Notifications, st.Traffic.NotificationsFailed = s.sent, s.failed
}

func (s *notifier) limit(max int) control.LimitStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	return control.LimitStatus{Name: "bytes of notifications that wait", Setting: "notify-bytes", Used: uint64(s.bytes), Max: uint64(max)}
}
