package transport

import (
	"context"
	"sync"
	"time"
)

// serveCtx is the context of a served request. It hears of no parent: end ends
// it, and serveContexts those that still run when the endpoint stops. Many
// handlers never wait on theirs; such a one costs neither channel nor timer.
type serveCtx struct {
	ep       *Endpoint
	deadline time.Time

	mu       sync.Mutex    // guards:
	done     chan struct{} // made when somebody asks for it
	timer    *time.Timer   // with done, where there is a deadline
	after    []*func()     // of contexts derived from this one
	hook     interface{ Ended() }
	heard    bool // somebody waits for the end: it is, or was, in ep.contexts
	answered bool // Reply was called
	err      error
	cause    error

	prev, next *serveCtx // in ep.contexts, guarded by its mu
}

var _ context.Context = (*serveCtx)(nil)

// serveContexts are those whose end somebody may wait for.
type serveContexts struct {
	mu      sync.Mutex // guards what follows, and prev and next of each
	first   *serveCtx
	stopped error // the cause with which all later ones end, too
}

// add links c in, or tells that the endpoint has stopped.
func (l *serveContexts) add(c *serveCtx) (stopped error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped != nil {
		return l.stopped
	}
	if c.next = l.first; c.next != nil {
		c.next.prev = c
	}
	l.first = c
	return nil
}

func (l *serveContexts) remove(c *serveCtx) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case c.prev != nil:
		c.prev.next = c.next
	case l.first == c:
		l.first = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	}
	c.prev, c.next = nil, nil
}

// stop ends all of them, and those that come later.
func (l *serveContexts) stop(cause error) {
	l.mu.Lock()
	l.stopped = cause
	l.mu.Unlock()
	for _, c := range l.all() {
		c.end(cause)
	}
}

// expire ends those whose deadline has passed.
func (l *serveContexts) expire(now time.Time) {
	for _, c := range l.all() {
		c.expire(now)
	}
}

func (l *serveContexts) all() (all []*serveCtx) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := l.first; c != nil; c = c.next {
		all = append(all, c)
	}
	return all
}

func (l *serveContexts) cause() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stopped
}

// end cancels; the first cause counts.
func (c *serveCtx) end(cause error) { c.endWith(context.Canceled, cause) }

func (c *serveCtx) endWith(err, cause error) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err, c.cause = err, cause
	if c.done != nil {
		close(c.done)
	}
	if c.timer != nil {
		c.timer.Stop()
	}
	after, hook, heard := c.after, c.hook, c.heard
	c.after, c.hook = nil, nil
	c.mu.Unlock()
	if heard {
		c.ep.contexts.remove(c)
	}
	for _, f := range after {
		(*f)()
	}
	if hook != nil {
		hook.Ended()
	}
}

// replied ends the context of a request that was answered.
func (c *serveCtx) replied() {
	c.mu.Lock()
	c.hook, c.answered = nil, true
	c.mu.Unlock()
	c.end(context.Canceled)
}

// hearLocked sees to it that the end comes with the endpoint's, and at the tick
// after the deadline. Where the endpoint has stopped it returns the cause with
// which the caller ends the context, without the lock.
func (c *serveCtx) hearLocked() (stopped error) {
	if c.heard || c.err != nil {
		return nil
	}
	c.heard = true
	return c.ep.contexts.add(c)
}

// expire ends c if its deadline has passed.
func (c *serveCtx) expire(now time.Time) {
	if !c.deadline.IsZero() && !now.Before(c.deadline) {
		c.endWith(context.DeadlineExceeded, context.DeadlineExceeded)
	}
}

// causeOf is the cause of the end, once there is one.
func (c *serveCtx) causeOf() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
}

// over tells that the deadline has passed.
func (c *serveCtx) over() bool { return !c.deadline.IsZero() && !time.Now().Before(c.deadline) }

func (c *serveCtx) Deadline() (time.Time, bool) { return c.deadline, !c.deadline.IsZero() }

func (c *serveCtx) Done() <-chan struct{} {
	c.mu.Lock()
	var stopped error
	if c.done == nil {
		c.done = make(chan struct{})
		switch {
		case c.err != nil:
			close(c.done)
		case !c.deadline.IsZero():
			c.timer = time.AfterFunc(time.Until(c.deadline), func() { c.expire(c.deadline) })
		}
		stopped = c.hearLocked()
	}
	done := c.done
	c.mu.Unlock()
	if stopped != nil {
		c.end(stopped)
	}
	return done
}

// OnEnd has h called once, when the context ends or at once where it has: up to a
// Tick after the deadline, since a timer for each request would cost more than
// the rest of this, and who sent the request cancels it at its deadline by itself.
// There is one such h. After a Reply none is called; only where the end comes at
// the same moment, Ended may still run when Reply returns.
func (c *serveCtx) OnEnd(h interface{ Ended() }) {
	c.mu.Lock()
	if c.answered {
		c.mu.Unlock()
		return
	}
	ended := c.err != nil
	if !ended {
		c.hook = h
	}
	stopped := c.hearLocked()
	c.mu.Unlock()
	if ended {
		h.Ended()
	} else if stopped != nil {
		c.end(stopped)
	}
}

// Err asks the clock and the endpoint itself while nobody waits for Done.
func (c *serveCtx) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.err != nil || c.done != nil:
		return c.err
	case c.over():
		return context.DeadlineExceeded
	case c.ep.contexts.cause() != nil:
		return context.Canceled
	}
	return nil
}

func (c *serveCtx) Value(any) any { return nil }

// AfterFunc is what package context asks of a context of another package, so
// that one derived from it needs no goroutine.
func (c *serveCtx) AfterFunc(f func()) (stop func() bool) {
	c.Done()
	c.mu.Lock()
	ended := c.err != nil
	if !ended {
		c.after = append(c.after, &f)
	}
	c.mu.Unlock()
	if ended {
		f()
		return func() bool { return false }
	}
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		for i, g := range c.after {
			if g == &f {
				c.after = append(c.after[:i], c.after[i+1:]...)
				return true
			}
		}
		return false
	}
}
