package handlerpb

import (
	"context"
	"sync"
	"time"
)

// Context is the context of one call or callback. It belongs to whoever runs
// that and knows when it ends, so it hears of no parent: End ends it, and every
// one has to be ended. Most are never waited on, and such a one costs neither a
// channel nor a timer.
type Context struct {
	deadline time.Time
	timed    bool // the deadline is its own to keep

	mu    sync.Mutex
	done  chan struct{} // made when somebody asks for it
	timer *time.Timer   // while somebody waits, where timed
	after []*func()     // of contexts derived from this one
	hook  interface{ Ended() }
	err   error
	cause error
}

var _ context.Context = (*Context)(nil)

// Start sets the deadline; the zero time is none. timed tells that the context
// ends at it by itself, and not because its owner does. Start comes before any
// other use.
func (c *Context) Start(deadline time.Time, timed bool) { c.deadline, c.timed = deadline, timed }

// End ends the context with context.Canceled or context.DeadlineExceeded, and
// what brought that about. The first end counts.
func (c *Context) End(err, cause error) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err, c.cause = err, cause
	if c.timer != nil {
		c.timer.Stop()
	}
	if c.done != nil {
		close(c.done)
	}
	after, hook := c.after, c.hook
	c.after, c.hook = nil, nil
	c.mu.Unlock()
	for _, f := range after {
		(*f)()
	}
	if hook != nil {
		hook.Ended()
	}
}

// OnEnd has h called once, when the context ends or at once where it has. There
// is one such h.
func (c *Context) OnEnd(h interface{ Ended() }) {
	c.mu.Lock()
	ended := c.err != nil
	if !ended {
		c.hook = h
		c.hearLocked()
	}
	c.mu.Unlock()
	if ended {
		h.Ended()
	}
}

// Release takes back what OnEnd was given.
func (c *Context) Release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hook = nil
}

// hearLocked sees to it that the end comes at the deadline.
func (c *Context) hearLocked() {
	if c.timed && c.timer == nil && c.err == nil && !c.deadline.IsZero() {
		c.timer = time.AfterFunc(time.Until(c.deadline), func() { c.End(context.DeadlineExceeded, context.DeadlineExceeded) })
	}
}

// Deadline implements context.Context.
func (c *Context) Deadline() (time.Time, bool) { return c.deadline, !c.deadline.IsZero() }

// Done implements context.Context.
func (c *Context) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		c.done = make(chan struct{})
		if c.err != nil {
			close(c.done)
		}
		c.hearLocked()
	}
	return c.done
}

// Err implements context.Context. Where no timer runs the clock is asked: while
// nobody has asked for Done, and where the owner is late to end it.
func (c *Context) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil && c.timer == nil && !c.deadline.IsZero() && !time.Now().Before(c.deadline) {
		return context.DeadlineExceeded
	}
	return c.err
}

// Cause is what End was given, or Err.
func (c *Context) Cause() error {
	c.mu.Lock()
	cause := c.cause
	c.mu.Unlock()
	if cause != nil {
		return cause
	}
	return c.Err()
}

// Value implements context.Context: there are none.
func (c *Context) Value(any) any { return nil }

// AfterFunc is what package context asks of a context of another package, so
// that one derived from it needs no goroutine. f may need a lock that its caller
// holds, as the derived context's does, and so it is never called from here.
func (c *Context) AfterFunc(f func()) (stop func() bool) {
	c.Done() // makes the timer
	c.mu.Lock()
	ended := c.err != nil
	if !ended {
		c.after = append(c.after, &f)
	}
	c.mu.Unlock()
	if ended {
		go f() // it ends a context, and does not wait
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
