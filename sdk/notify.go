package sdk

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
)

// Notified takes the notifications of other agents; c.From() is the proven sender.
// One sender's come in the order in which they were sent, one at a time. An error
// tells the sender, if it waits, that f did not take it; nothing comes again.
// Fields that In does not have are left aside.
func Notified[In any](f func(c *Context, in In) error) Part {
	return Part{func(d *Definition) {
		if d.notified != nil {
			d.fault("notified is defined twice")
		}
		if f == nil {
			d.fault("notified has no body")
			return
		}
		d.notified = typed(d, "notified", Unmarshal, func(c *Context, in In) (struct{}, error) { return struct{}{}, f(c, in) })
	}}
}

// Notify sends v to many agents' Notified and returns at once: a slow or absent
// agent costs the others nothing. Its error says that nothing was sent, unless its
// Delivered is unknown; what becomes of the notifications is not told. See
// NotifyAndWait. Of the options there is OnBehalf.
func Notify(c *Context, to []AgentID, v any, options ...SendOption) error {
	_, err := c.notify(to, v, false, options)
	return err
}

// NotifyAndWait is Notify that waits until each agent's result is certain: nil
// where its Notified took v, else an *Error. results[i] is that of to[i].
func NotifyAndWait(c *Context, to []AgentID, v any, options ...SendOption) (results []error, err error) {
	return c.notify(to, v, true, options)
}

func (c *Context) notify(to []AgentID, v any, wait bool, options []SendOption) ([]error, error) {
	if err := c.live("Notify"); err != nil {
		return nil, err
	}
	if len(to) == 0 {
		return nil, nil
	}
	var m Message
	for _, o := range options {
		o(&m)
	}
	if m.Receipt {
		return nil, Fail(HandlerCodeInput, "notify: WithReceipt is of messages that are answered")
	}
	n := Notice{Wait: wait, Behalf: m.Behalf}
	var err error
	if n.Payload, err = Marshal(v); err != nil {
		return nil, Fail(HandlerCodeOutput, "notify: %v", err)
	}
	if wait && len(to) > MaxNotified {
		return c.notifyInParts(to, n)
	}
	for sent := false; ; sent = true {
		n.To = to[:min(len(to), MaxNotified)]
		results, err := c.notifyPart(n)
		if to = to[len(n.To):]; err != nil || len(to) == 0 {
			return results, afterSome(err, sent)
		}
	}
}

// notifyInParts is NotifyAndWait to more than one Notice takes: nobody in one part
// waits for those of another.
func (c *Context) notifyInParts(to []AgentID, n Notice) ([]error, error) {
	results := make([]error, len(to))
	parts := make([]error, (len(to)+MaxNotified-1)/MaxNotified)
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(len(parts), MaxParallel) {
		workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(parts); i = int(next.Add(1)) - 1 {
				from, end := i*MaxNotified, min((i+1)*MaxNotified, len(to))
				part := n
				part.To = to[from:end]
				got, err := c.notifyPart(part)
				copy(results[from:end], got)
				if parts[i] = err; err != nil {
					for j := from; j < end; j++ {
						results[j] = err
					}
				}
			}
		})
	}
	workers.Wait()
	for _, err := range parts {
		if err == nil {
			return results, nil
		}
	}
	return nil, parts[0]
}

func (c *Context) notifyPart(n Notice) ([]error, error) {
	results, err := c.call.host.Notify(c.under(), n)
	if err == nil && n.Wait && len(results) != len(n.To) {
		err = fmt.Errorf("notify: %d results for %d agents", len(results), len(n.To))
	}
	if err != nil {
		return nil, hostError(err, DeliveredUnknown)
	}
	return results, nil
}

// afterSome is the error of a Notify that was refused in a later part.
func afterSome(err error, sent bool) error {
	e, is := errors.AsType[*Error](err)
	if !sent || !is {
		return err
	}
	some := *e
	some.Delivered, some.Retry = DeliveredUnknown, false
	return &some
}

// Emit sends v to this agent's own clients that watch its DNA ("parley watch"). It
// returns at once. A client that is slow loses the oldest ones, and is told how many.
func (c *Context) Emit(v any) error {
	if err := c.live("Emit"); err != nil {
		return err
	}
	b, err := Marshal(v)
	if err != nil {
		return Fail(HandlerCodeOutput, "emit: %v", err)
	}
	if err := c.call.host.Emit(c.under(), b); err != nil {
		return hostError(err, DeliveredNo)
	}
	return nil
}

// Online tells whether another agent can be heard now, and when it last was, from
// what its node has sent over a live session. It asks nobody: an agent with whom
// there is no session is not Online.
func (c *Context) Online(agent AgentID) (Presence, error) {
	if err := c.live("Online"); err != nil {
		return Presence{}, err
	}
	p, err := c.call.host.Online(c.under(), agent)
	if err != nil {
		return Presence{}, hostError(err, DeliveredNo)
	}
	return p, nil
}
